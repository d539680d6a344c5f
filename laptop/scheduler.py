"""Cloud Scheduler: jobs that send an HTTP request when their time has come."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import aiohttp
from cronsim import CronSim, CronSimError
from google.cloud.scheduler_v1 import CloudSchedulerClient, types
from google.protobuf import empty_pb2, field_mask_pb2

from laptop.errors import ServiceError, already_exists, invalid, not_found
from laptop.identity import Identity
from laptop.service import Api, Context, main, surfaces
from laptop.store import Store

Job: Any = types.Job.pb()
ListJobsResponse: Any = types.ListJobsResponse.pb()
State = types.Job.State

SCHEMA = "CREATE TABLE IF NOT EXISTS job (name TEXT PRIMARY KEY, message BLOB NOT NULL);"
FIELDS = {"description", "schedule", "time_zone", "http_target", "retry_config", "attempt_deadline"}
ATTEMPT_SECONDS = 180.0
log = logging.getLogger("laptop")


class Scheduler:
    """RPC handlers.

    Args:
        store: its state.
        identity: signs the tokens that requests carry.
    """

    def __init__(self, store: Store, identity: Identity) -> None:
        self._store = store
        self._identity = identity
        self._jobs: dict[str, Any] = {
            row["name"]: Job.FromString(row["message"]) for row in store.read("SELECT * FROM job")
        }
        self._attempts: set[asyncio.Task[None]] = set()
        self._clock: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Begin to look at the clock."""
        self._session = aiohttp.ClientSession()
        self._clock = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """Stop."""
        tasks = [*self._attempts, *([self._clock] if self._clock else [])]
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
        if not job.name.startswith(f"{request.parent}/jobs/"):
            raise invalid(f"job.name {job.name!r} is not below {request.parent}/jobs/")
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
            if path.split(".")[0] not in FIELDS:
                raise invalid(f"update_mask: {path} cannot be changed; these can: {', '.join(sorted(FIELDS))}")
            if "." not in path:
                job.ClearField(path)
        field_mask_pb2.FieldMask(paths=paths).MergeMessage(request.job, job, True, True)
        return await self._declare(job)

    async def _declare(self, job: Any) -> Any:
        if job.WhichOneof("target") != "http_target":
            raise ServiceError("UNIMPLEMENTED", "a laptop serves jobs with an http_target only (LIMITATIONS.md)")
        if not job.http_target.uri.startswith(("http://", "https://")):
            raise invalid(f"http_target.uri {job.http_target.uri!r} is no URL")
        if not job.http_target.http_method:
            job.http_target.http_method = types.HttpMethod.POST
        job.time_zone = job.time_zone or "UTC"
        _plan(job)
        job.user_update_time.GetCurrentTime()
        return await self._keep(job)

    async def get_job(self, request: Any) -> Any:
        """Look at a job."""
        return self._job(request.name)

    async def list_jobs(self, request: Any) -> Any:
        """The jobs of a location."""
        found = [job for name, job in sorted(self._jobs.items()) if name.startswith(request.parent + "/")]
        return ListJobsResponse(jobs=found)

    async def delete_job(self, request: Any) -> empty_pb2.Empty:
        """Forget a job."""
        self._job(request.name)
        del self._jobs[request.name]
        await self._store.write(
            lambda connection: connection.execute("DELETE FROM job WHERE name = ?", (request.name,))
        )
        return empty_pb2.Empty()

    async def pause_job(self, request: Any) -> Any:
        """Stop firing."""
        job = self._job(request.name)
        job.state = State.PAUSED
        return await self._keep(job)

    async def resume_job(self, request: Any) -> Any:
        """Fire again, from the next time on."""
        job = self._job(request.name)
        job.state = State.ENABLED
        _plan(job)
        return await self._keep(job)

    async def run_job(self, request: Any) -> Any:
        """Fire now, whatever the schedule says."""
        job = self._job(request.name)
        self._fire(job)
        return job

    # --- inside

    def _job(self, name: str) -> Any:
        if name not in self._jobs:
            raise not_found(name)
        return self._jobs[name]

    async def _keep(self, job: Any) -> Any:
        self._jobs[job.name] = job
        row = (job.name, job.SerializeToString())
        await self._store.write(lambda connection: connection.execute("INSERT OR REPLACE INTO job VALUES (?, ?)", row))
        return job

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            now = datetime.now(UTC)
            for job in list(self._jobs.values()):
                if job.state == State.ENABLED and job.schedule_time.ToDatetime(UTC) <= now:
                    # Planned on before the attempt: a crash in between skips one, and never fires twice.
                    _plan(job)
                    await self._keep(job)
                    self._fire(job)

    def _fire(self, job: Any) -> None:
        attempt = asyncio.create_task(self._attempt(job))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)

    async def _attempt(self, job: Any) -> None:
        retries = job.retry_config.retry_count
        pause = job.retry_config.min_backoff_duration.ToTimedelta().total_seconds() or 5.0
        longest = job.retry_config.max_backoff_duration.ToTimedelta().total_seconds() or 3600.0
        for number in range(retries + 1):
            job.last_attempt_time.GetCurrentTime()
            code, message = await self._send(job)
            job.status.code, job.status.message = code, message
            await self._keep(job)
            if code == 0:
                return
            log.warning("%s: attempt %d: %s", job.name, number + 1, message)
            if number < retries:
                await asyncio.sleep(min(longest, pause * 2**number))

    async def _send(self, job: Any) -> tuple[int, str]:
        assert self._session is not None
        target = job.http_target
        headers = {"User-Agent": "Google-Cloud-Scheduler", **target.headers}
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
                return (0, "") if 200 <= response.status < 300 else (2, f"HTTP {response.status} from {target.uri}")
        except (aiohttp.ClientError, TimeoutError) as error:
            return 14, f"{target.uri}: {type(error).__name__}: {error}"


def _plan(job: Any) -> None:
    """Set the next time of a job.

    Raises:
        ServiceError: INVALID_ARGUMENT: no time zone of that name, or no schedule in unix-cron form.
    """
    try:
        zone = ZoneInfo(job.time_zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise invalid(f"time_zone {job.time_zone!r} is no time zone") from error
    try:
        following = next(CronSim(job.schedule, datetime.now(zone).replace(microsecond=0)))
    except CronSimError as error:
        raise invalid(f"schedule {job.schedule!r} is no unix-cron expression (five fields): {error}") from error
    job.schedule_time.FromDatetime(following.astimezone(UTC))


def build(context: Context) -> Api:
    """Cloud Scheduler on loopback."""
    store = Store(context.folder("scheduler") / "state.sqlite", SCHEMA)
    service = Scheduler(store, Identity(context.state))
    return Api(rpcs=surfaces(CloudSchedulerClient), handlers=[service], start=service.start, stop=service.stop)


if __name__ == "__main__":
    main("scheduler", build)
