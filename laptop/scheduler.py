"""Cloud Scheduler: jobs that send an HTTP request when their time has come, at least once.

A job that is due is written down before its first attempt and crossed out after its last one, so a server that is
killed in between sends the request (again) when it is back.
"""

import asyncio
import logging
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import aiohttp
from google.cloud.scheduler_v1 import CloudSchedulerClient, types
from google.protobuf import empty_pb2, field_mask_pb2

from laptop.cron import next_time
from laptop.errors import HTTP_STATUS, ServiceError, already_exists, invalid, not_found
from laptop.identity import Identity
from laptop.service import Api, Context, main, surfaces
from laptop.store import Store

Job: Any = types.Job.pb()
ListJobsResponse: Any = types.ListJobsResponse.pb()
State = types.Job.State

SCHEMA = """
CREATE TABLE IF NOT EXISTS job (name TEXT PRIMARY KEY, message BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS firing (  -- a job that is due and not done
    id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, due TEXT NOT NULL, attempt INTEGER NOT NULL,
    began REAL);                     -- seconds since 1970 of the first attempt
"""
FIELDS = {"description", "schedule", "time_zone", "http_target", "retry_config", "attempt_deadline"}
JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")
ATTEMPT_SECONDS = 180.0
ATTEMPT_SECONDS_ALLOWED = (15.0, 1800.0)
MAX_RETRIES = 5
MAX_PAGE = 500
WITH_BODY = {types.HttpMethod.POST, types.HttpMethod.PUT, types.HttpMethod.PATCH}
# Of several codes with the same HTTP status the first is the usual one; 499 and 504 have their own.
CODES = {status: code for code, status in reversed(HTTP_STATUS.items())}
log = logging.getLogger("laptop")


@dataclass
class Firing:
    """A job that is due: its requests go out until one is answered with 2xx, or the retries are used up.

    Args:
        id: its row.
        job: name of the job.
        due: the time it was due, RFC 3339.
        attempt: number of the next attempt, from 0 on.
        began: when the first attempt began, in seconds since 1970; None before it.
    """

    id: int
    job: str
    due: str
    attempt: int = 0
    began: float | None = None


class Scheduler:
    """RPC handlers.

    Args:
        store: its state.
        identity: signs the tokens that requests carry.
        now: the time that schedules go by.
        look_every: seconds between two looks at the clock.
    """

    def __init__(
        self,
        store: Store,
        identity: Identity,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        look_every: float = 1.0,
    ) -> None:
        self._store = store
        self._identity = identity
        self._now = now
        self._look_every = look_every
        self._jobs: dict[str, Any] = {
            row["name"]: Job.FromString(row["message"]) for row in store.read("SELECT * FROM job")
        }
        self._firings: dict[asyncio.Task[None], str] = {}
        """What is under way, and the name of its job."""
        self._clock: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Take up what was under way, and begin to look at the clock."""
        self._session = aiohttp.ClientSession()
        for row in self._store.read("SELECT * FROM firing ORDER BY id"):
            self._go(Firing(row["id"], row["job"], row["due"], row["attempt"], row["began"]))
        self._clock = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """Stop; what is under way goes on when the server is started again."""
        tasks = [*self._firings, *([self._clock] if self._clock else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        self._store.close()

    async def create_job(self, request: Any) -> Any:
        """Create a job; a schedule that cannot be read is refused."""
        job = Job()
        job.CopyFrom(request.job)
        prefix, _, identifier = job.name.rpartition("/")
        if prefix != f"{request.parent}/jobs":
            raise invalid(f"job.name {job.name!r} is not below {request.parent}/jobs/")
        if not JOB_ID.fullmatch(identifier):
            raise invalid(f"job.name: {identifier!r} is no id: up to 500 letters, digits, - and _")
        if job.name in self._jobs:
            raise already_exists(job.name)
        job.state = State.ENABLED
        return await self._declare(job)

    async def update_job(self, request: Any) -> Any:
        """Change what the mask names."""
        job = Job()
        job.CopyFrom(self._job(request.job.name))
        paths = list(request.update_mask.paths) or sorted(FIELDS)
        for path in paths:
            known = field_mask_pb2.FieldMask(paths=[path]).IsValidForDescriptor(Job.DESCRIPTOR)
            if not known or path.split(".")[0] not in FIELDS:
                raise invalid(f"update_mask: {path} cannot be changed; these can: {', '.join(sorted(FIELDS))}")
            if "." not in path:
                job.ClearField(path)
        field_mask_pb2.FieldMask(paths=paths).MergeMessage(request.job, job, True, True)
        return await self._declare(job)

    async def _declare(self, job: Any) -> Any:
        if job.WhichOneof("target") != "http_target":
            raise ServiceError("UNIMPLEMENTED", "a laptop serves jobs with an http_target only (LIMITATIONS.md)")
        target = job.http_target
        if not target.uri.startswith(("http://", "https://")):
            raise invalid(f"http_target.uri {target.uri!r} is no URL")
        target.http_method = target.http_method or types.HttpMethod.POST
        if target.body and target.http_method not in WITH_BODY:
            raise invalid(f"http_target.body: a {types.HttpMethod(target.http_method).name} request has none")
        if not 0 <= job.retry_config.retry_count <= MAX_RETRIES:
            raise invalid(f"retry_config.retry_count: 0 to {MAX_RETRIES}, not {job.retry_config.retry_count}")
        deadline = job.attempt_deadline.ToTimedelta().total_seconds() or ATTEMPT_SECONDS
        least, most = ATTEMPT_SECONDS_ALLOWED
        if not least <= deadline <= most:
            raise invalid(f"attempt_deadline: {least:.0f} to {most:.0f} s, not {deadline:g} s")
        job.time_zone = job.time_zone or "UTC"
        self._plan(job)
        job.user_update_time.GetCurrentTime()
        await self._keep(job)
        return job

    async def get_job(self, request: Any) -> Any:
        """Look at a job."""
        return self._job(request.name)

    async def list_jobs(self, request: Any) -> Any:
        """The jobs of a location, by name."""
        names = sorted(name for name in self._jobs if name.startswith(request.parent + "/"))
        size = min(request.page_size or MAX_PAGE, MAX_PAGE)
        rest = [name for name in names if name > request.page_token]
        page = [self._jobs[name] for name in islice(rest, size)]
        return ListJobsResponse(jobs=page, next_page_token=rest[size - 1] if len(rest) > size else "")

    async def delete_job(self, request: Any) -> empty_pb2.Empty:
        """Forget a job, and what is under way for it."""
        self._job(request.name)
        del self._jobs[request.name]
        for task, name in self._firings.items():
            if name == request.name:
                task.cancel()

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM job WHERE name = ?", (request.name,))
            connection.execute("DELETE FROM firing WHERE job = ?", (request.name,))

        await self._store.write(work)
        return empty_pb2.Empty()

    async def pause_job(self, request: Any) -> Any:
        """Stop firing."""
        job = self._job(request.name)
        if job.state != State.ENABLED:
            raise ServiceError("FAILED_PRECONDITION", f"{job.name} is {State(job.state).name}, not ENABLED")
        job.state = State.PAUSED
        await self._keep(job)
        return job

    async def resume_job(self, request: Any) -> Any:
        """Fire again, from the next time on: what was missed is not made up for."""
        job = self._job(request.name)
        if job.state != State.PAUSED:
            raise ServiceError("FAILED_PRECONDITION", f"{job.name} is {State(job.state).name}, not PAUSED")
        job.state = State.ENABLED
        self._plan(job)
        await self._keep(job)
        return job

    async def run_job(self, request: Any) -> Any:
        """Fire now, whatever the schedule says and although the job is paused."""
        job = self._job(request.name)
        await self._fire(job, self._now())
        return job

    # --- inside

    def _job(self, name: str) -> Any:
        if name not in self._jobs:
            raise not_found(name)
        return self._jobs[name]

    def _plan(self, job: Any) -> None:
        job.schedule_time.FromDatetime(next_time(job.schedule, job.time_zone, self._now()))

    async def _keep(self, job: Any) -> None:
        self._jobs[job.name] = job
        row = (job.name, job.SerializeToString())
        await self._store.write(lambda connection: connection.execute("INSERT OR REPLACE INTO job VALUES (?, ?)", row))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._look_every)
            now = self._now()
            for job in list(self._jobs.values()):
                if job.state == State.ENABLED and job.schedule_time.ToDatetime(UTC) <= now:
                    due = job.schedule_time.ToDatetime(UTC)
                    try:
                        self._plan(job)
                        await self._fire(job, due)
                    except Exception:  # the disk is full, for example: it stays due, and the others are looked at
                        job.schedule_time.FromDatetime(due)
                        log.exception("%s is due and could not be fired", job.name)

    async def _fire(self, job: Any, due: datetime) -> None:
        """Write down that a job is due, with its next time, and begin."""
        stamp = due.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        row = (job.name, job.SerializeToString())

        def work(connection: sqlite3.Connection) -> int:
            connection.execute("INSERT OR REPLACE INTO job VALUES (?, ?)", row)
            made = connection.execute("INSERT INTO firing (job, due, attempt) VALUES (?, ?, 0)", (job.name, stamp))
            return int(made.lastrowid or 0)

        self._go(Firing(await self._store.write(work), job.name, stamp))

    def _go(self, firing: Firing) -> None:
        task = asyncio.create_task(self._attempts(firing))
        self._firings[task] = firing.job
        task.add_done_callback(lambda _: self._firings.pop(task, None))

    async def _attempts(self, firing: Firing) -> None:
        firing.began = firing.began or self._now().timestamp()
        while (job := self._jobs.get(firing.job)) is not None:
            code, message = await self._send(job, firing)
            job = self._jobs.get(firing.job)  # it may have been changed, or deleted, since
            if job is None:
                return
            job.last_attempt_time.GetCurrentTime()
            job.status.code, job.status.message = code, message
            firing.attempt += 1
            elapsed = self._now().timestamp() - firing.began
            pause = None if code == 0 else pause_before(firing.attempt, job.retry_config, elapsed)
            await self._note(job, firing, over=pause is None)
            if code:
                log.warning("%s: attempt %d: %s", job.name, firing.attempt, message)
            if pause is None:
                return
            await asyncio.sleep(pause)

    async def _note(self, job: Any, firing: Firing, over: bool) -> None:
        row = (job.name, job.SerializeToString())
        progress = (firing.attempt, firing.began, firing.id)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE job SET message = ?2 WHERE name = ?1", row)
            if over:
                connection.execute("DELETE FROM firing WHERE id = ?", (firing.id,))
            else:
                connection.execute("UPDATE firing SET attempt = ?, began = ? WHERE id = ?", progress)

        await self._store.write(work)

    async def _send(self, job: Any, firing: Firing) -> tuple[int, str]:
        """One request; answers the code and text of a ``google.rpc.Status``."""
        assert self._session is not None
        target = job.http_target
        headers = {
            **target.headers,
            "User-Agent": "Google-Cloud-Scheduler",
            "X-CloudScheduler": "true",
            "X-CloudScheduler-JobName": job.name.rsplit("/", 1)[1],
            "X-CloudScheduler-ScheduleTime": firing.due,
        }
        kind = target.WhichOneof("authorization_header")
        if kind == "oidc_token":
            audience = target.oidc_token.audience or target.uri
            headers["Authorization"] = (
                f"Bearer {self._identity.token(target.oidc_token.service_account_email, audience)}"
            )
        elif kind == "oauth_token":
            token = self._identity.token(target.oauth_token.service_account_email, "laptop")
            headers["Authorization"] = f"Bearer {token}"
        seconds = job.attempt_deadline.ToTimedelta().total_seconds() or ATTEMPT_SECONDS
        try:
            async with self._session.request(
                types.HttpMethod(target.http_method).name,
                target.uri,
                data=target.body or None,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as response:
                await response.read()
                if 200 <= response.status < 300:
                    return 0, ""
                code = CODES.get(response.status)
                return code.value[0] if code else 2, f"HTTP {response.status} from {target.uri}"
        except TimeoutError:
            return 4, f"{target.uri}: no answer within {seconds:g} s"
        except (aiohttp.ClientError, ValueError) as error:
            return 14, f"{target.uri}: {type(error).__name__}: {error}"


def pause_before(attempt: int, config: Any, elapsed: float) -> float | None:
    """Seconds to wait before a retry; None if there is none.

    The pause doubles ``max_doublings`` times, then grows by what the last doubling added up to, to a maximum.

    Args:
        attempt: number of the retry, from 1 on.
        config: a ``google.cloud.scheduler.v1.RetryConfig``.
        elapsed: seconds since the first attempt began.
    """
    limit = config.max_retry_duration.ToTimedelta().total_seconds()
    within = bool(limit) and elapsed < limit
    # "If specified with retry_count, the job will be retried until both limits are reached."
    if attempt > config.retry_count and not within:
        return None
    return next(islice(_pauses(config), attempt - 1, None))


def _pauses(config: Any) -> Iterator[float]:
    pause = config.min_backoff_duration.ToTimedelta().total_seconds() or 5.0
    longest = config.max_backoff_duration.ToTimedelta().total_seconds() or 3600.0
    for _ in range(config.max_doublings or 5):
        yield min(longest, pause)
        pause *= 2
    step = pause
    while True:
        yield min(longest, pause)
        pause += step


def build(context: Context) -> Api:
    """Cloud Scheduler on loopback."""
    store = Store(context.folder("scheduler") / "state.sqlite", SCHEMA)
    service = Scheduler(store, Identity(context.state))
    return Api(rpcs=surfaces(CloudSchedulerClient), handlers=[service], start=service.start, stop=service.stop)


if __name__ == "__main__":
    main("scheduler", build)
