"""Cloud Scheduler through Google's client: the life of a job, when it is due, what it sends, and how often."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud.scheduler_v1 import CloudSchedulerClient, Job, types

from laptop.cron import next_time
from laptop.errors import ServiceError
from laptop.identity import Identity
from laptop.scheduler import SCHEMA, Scheduler, pause_before
from laptop.service import Api, surfaces
from laptop.store import Store
from tests.laptop.in_thread import serving
from tests.pubsub_support import Endpoint, Push, endpoint
from tests.support import ServerProcess, eventually

PARENT = "projects/local-dev/locations/us-central1"
NAME = f"{PARENT}/jobs/weekly"
ACCOUNT = "scheduler@local-dev.iam.gserviceaccount.com"
BODY = json.dumps({"argument": json.dumps({"forced": True})}).encode()
AT_NINE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)  # a Monday


RPCS = surfaces(CloudSchedulerClient)


def client_at(http: str) -> CloudSchedulerClient:
    """Google's client on an address."""
    transport = CloudSchedulerClient.get_transport_class("rest")(host=http, credentials=AnonymousCredentials())
    return CloudSchedulerClient(transport=transport)


def job(uri: str = "http://127.0.0.1:9/", name: str = NAME, **fields: Any) -> dict[str, Any]:
    """A job that posts to ``uri`` on Mondays at ten, as the retraining is started."""
    target = {
        "uri": uri,
        "http_method": types.HttpMethod.POST,
        "body": BODY,
        "headers": {"Content-Type": "application/json"},
        "oauth_token": {"service_account_email": ACCOUNT},
    }
    return {"name": name, "schedule": "0 10 * * 1", "time_zone": "Etc/UTC", "http_target": target, **fields}


class Clocked:
    """A server whose clock goes as the test says.

    Args:
        state: the folder of the laptop.
    """

    def __init__(self, state: Path) -> None:
        self.now = AT_NINE
        self._state = state

    def _build(self) -> Api:
        self.store = Store(self._state / "scheduler" / "state.sqlite", SCHEMA)
        service = Scheduler(self.store, Identity(self._state), lambda: self.now, look_every=0.02)
        return Api(RPCS, [service], start=service.start, stop=service.stop)

    def __enter__(self) -> "Clocked":
        self._serving = serving(self._build)
        self.client = client_at(self._serving.__enter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.__exit__(None, None, None)


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[Clocked]:
    """A server on Monday at nine."""
    with Clocked(tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clocked]:
    """A server that no job gets into, for all that is refused."""
    with Clocked(tmp_path_factory.mktemp("refusing")) as server:
        yield server


@pytest.fixture
def target() -> Iterator[Endpoint]:
    """What jobs post to."""
    with endpoint() as known:
        yield known


def pushes(known: Endpoint, count: int = 1) -> list[Push]:
    """The requests that came, once there are ``count``."""
    return eventually(lambda: known.pushes if len(known.pushes) >= count else [])


# --- the life of a job


def test_a_job_is_made_looked_at_changed_and_deleted(clocked: Clocked) -> None:
    """Each call answers the job as it now is; a second one of the name is refused; what is deleted is gone."""
    made = clocked.client.create_job(parent=PARENT, job=job(description="starts the retraining"))
    assert made.state == Job.State.ENABLED
    assert made.schedule_time == datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
    assert made.http_target.body == BODY
    with pytest.raises(exceptions.Conflict, match="weekly"):
        clocked.client.create_job(parent=PARENT, job=job())
    assert clocked.client.get_job(name=NAME) == made
    change = {"name": NAME, "schedule": "30 10 * * 1", "description": "not in the mask"}
    changed = clocked.client.update_job(job=change, update_mask={"paths": ["schedule"]})
    assert (changed.schedule, changed.description) == ("30 10 * * 1", "starts the retraining")
    assert changed.schedule_time == datetime(2026, 3, 2, 10, 30, tzinfo=UTC)
    assert clocked.client.get_job(name=NAME).http_target == made.http_target
    clocked.client.delete_job(name=NAME)
    for call in (clocked.client.get_job, clocked.client.delete_job, clocked.client.run_job, clocked.client.pause_job):
        with pytest.raises(exceptions.NotFound, match="weekly"):
            call(name=NAME)


def test_jobs_are_listed_by_location_and_page(clocked: Clocked) -> None:
    """Every job once, whatever the page size; those of another location not."""
    names = [f"{PARENT}/jobs/j{number}" for number in range(5)]
    for name in names:
        clocked.client.create_job(parent=PARENT, job=job(name=name))
    elsewhere = "projects/local-dev/locations/europe-west1"
    clocked.client.create_job(parent=elsewhere, job=job(name=f"{elsewhere}/jobs/other"))
    pages = list(clocked.client.list_jobs(request={"parent": PARENT, "page_size": 2}).pages)
    assert [[one.name for one in page.jobs] for page in pages] == [names[:2], names[2:4], names[4:]]


def test_a_paused_job_waits_and_does_not_make_up_for_what_it_missed(clocked: Clocked, target: Endpoint) -> None:
    """While paused nothing is sent but by ``run``; after resume it goes on with the next time."""
    clocked.client.create_job(parent=PARENT, job=job(target.url))
    assert clocked.client.pause_job(name=NAME).state == Job.State.PAUSED
    with pytest.raises(exceptions.BadRequest, match="PAUSED, not ENABLED"):
        clocked.client.pause_job(name=NAME)
    clocked.now += timedelta(days=1)
    clocked.client.run_job(name=NAME)
    pushes(target)
    resumed = clocked.client.resume_job(name=NAME)
    assert (resumed.state, resumed.schedule_time) == (Job.State.ENABLED, datetime(2026, 3, 9, 10, 0, tzinfo=UTC))
    with pytest.raises(exceptions.BadRequest, match="ENABLED, not PAUSED"):
        clocked.client.resume_job(name=NAME)
    clocked.now = datetime(2026, 3, 9, 10, 0, tzinfo=UTC)
    pushes(target, 2)
    times = [push.headers["x-cloudscheduler-scheduletime"] for push in target.pushes]
    assert times == ["2026-03-03T09:00:00Z", "2026-03-09T10:00:00Z"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"schedule": "every 4 weeks"}, "English-like form.*unix-cron"),
        ({"schedule": "1st monday of month 09:00"}, "English-like form"),
        ({"schedule": "* * * *"}, "has 4 fields; unix-cron has five"),
        ({"schedule": "0 * * * * *"}, "has 6 fields"),
        ({"schedule": ""}, "has 0 fields"),
        ({"schedule": "61 * * * *"}, "Bad minute"),
        ({"schedule": "0 0 30 2 *"}, "Bad day-of-month"),
        ({"schedule": "0 0 L * *"}, "'L' is no day of the month"),
        ({"schedule": "0 0 * * 5#1"}, "'5#1' is no day of the week"),
        ({"schedule": "@hourly"}, "has 1 fields"),
        ({"time_zone": "Mars/Olympus"}, "'Mars/Olympus' is no time zone"),
        ({"time_zone": "../etc/passwd"}, "is no time zone"),
        ({"name": f"{PARENT}/jobs/a b"}, "'a b' is no id"),
        ({"name": "projects/p/locations/l/jobs/j"}, "is not below"),
        ({"retry_config": {"retry_count": 6}}, "retry_count: 0 to 5"),
        ({"attempt_deadline": {"seconds": 5}}, "attempt_deadline: 15 to 1800 s"),
        ({"http_target": {"uri": "gs://bucket/object"}}, "is no URL"),
        ({"http_target": {"uri": "http://h/", "http_method": 2, "body": b"x"}}, "a GET request has none"),
    ],
)
def test_what_cannot_be_honoured_is_refused_when_it_is_declared(refusing: Clocked, fields: Any, words: str) -> None:
    """INVALID_ARGUMENT names the field, the value and what would do."""
    with pytest.raises(exceptions.BadRequest, match=words):
        refusing.client.create_job(parent=PARENT, job={**job(), **fields})
    assert not list(refusing.client.list_jobs(parent=PARENT))


def test_what_is_not_served_is_refused_by_name(clocked: Clocked) -> None:
    """Other targets, and masks that name no field or one that cannot be changed."""
    without = {key: value for key, value in job().items() if key != "http_target"}
    for kind in ({"pubsub_target": {"topic_name": "projects/p/topics/t"}}, {"app_engine_http_target": {}}):
        with pytest.raises(exceptions.MethodNotImplemented, match="http_target only"):
            clocked.client.create_job(parent=PARENT, job={**without, **kind})
    clocked.client.create_job(parent=PARENT, job=job())
    for path in ("state", "http_target.colour"):
        with pytest.raises(exceptions.BadRequest, match=path):
            clocked.client.update_job(job={"name": NAME}, update_mask={"paths": [path]})
    with pytest.raises(exceptions.MethodNotImplemented, match="ListLocations"):
        clocked.client.list_locations({"name": "projects/local-dev"})


# --- when


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "expected"),
    [
        ("* * * * *", "UTC", "2026-03-02T09:00:59", "2026-03-02T09:01:00"),
        ("*/15 9-17 * * MON-FRI", "UTC", "2026-03-06T17:45:00", "2026-03-09T09:00:00"),
        ("0 0 1,15 * *", "UTC", "2026-03-02T00:00:00", "2026-03-15T00:00:00"),
        ("0 0 13 * 5", "UTC", "2026-03-02T00:00:00", "2026-03-06T00:00:00"),  # either of the two days
        ("0 0 29 FEB *", "UTC", "2026-03-02T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 * * 7", "UTC", "2026-03-02T00:00:00", "2026-03-08T00:00:00"),
        ("0 9 * * *", "America/New_York", "2026-03-07T15:00:00", "2026-03-08T13:00:00"),  # summer time begins
        ("0 9 * * *", "America/New_York", "2026-10-31T15:00:00", "2026-11-01T14:00:00"),  # and ends
        ("0 9 * * *", "Asia/Kolkata", "2026-03-02T00:00:00", "2026-03-02T03:30:00"),
    ],
)
def test_a_schedule_names_the_next_time_in_its_zone(schedule: str, zone: str, after: str, expected: str) -> None:
    """Unix-cron: names, lists, ranges, steps, and the wall clock of the zone on both sides of its changes."""
    found = next_time(schedule, zone, datetime.fromisoformat(after).replace(tzinfo=UTC))
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_a_bad_schedule_is_told_from_a_bad_zone() -> None:
    """Both are INVALID_ARGUMENT with their own words."""
    with pytest.raises(ServiceError, match="no time zone"):
        next_time("* * * * *", "", AT_NINE)
    with pytest.raises(ServiceError, match="5-1"):
        next_time("5-1 * * * *", "UTC", AT_NINE)


# --- what is sent


def test_a_due_job_sends_its_exact_body_with_a_token_once(clocked: Clocked, target: Endpoint, tmp_path: Path) -> None:
    """At its time, not before; method, body, headers and the account's OAuth token as declared; then the next time."""
    clocked.client.create_job(parent=PARENT, job=job(target.url))
    clocked.now = datetime(2026, 3, 2, 9, 59, 59, tzinfo=UTC)
    clocked.client.get_job(name=NAME)
    assert not target.pushes
    clocked.now += timedelta(seconds=1)
    push = pushes(target)[0]
    assert push.body == BODY
    assert push.headers["content-type"] == "application/json"
    assert push.headers["user-agent"] == "Google-Cloud-Scheduler"
    assert push.headers["x-cloudscheduler-jobname"] == "weekly"
    assert push.headers["x-cloudscheduler-scheduletime"] == "2026-03-02T10:00:00Z"
    claims = Identity(tmp_path).verify(push.headers["authorization"].removeprefix("Bearer "), "laptop")
    assert claims["email"] == ACCOUNT
    after = eventually(lambda: found if "last_attempt_time" in (found := clocked.client.get_job(name=NAME)) else None)
    assert after.status.code == 0
    assert after.schedule_time == datetime(2026, 3, 9, 10, 0, tzinfo=UTC)
    clocked.now += timedelta(days=6)
    clocked.client.get_job(name=NAME)
    assert len(target.pushes) == 1


def test_an_oidc_token_is_for_the_audience_that_the_job_names(
    clocked: Clocked, target: Endpoint, tmp_path: Path
) -> None:
    """For the URL itself if it names none, so that a function's door accepts it."""
    for audience in ("", "https://the.service"):
        token = {"service_account_email": ACCOUNT, "audience": audience}
        name = f"{PARENT}/jobs/oidc{len(audience)}"
        wanted = {"uri": target.url, "body": b"raw", "oidc_token": token}
        clocked.client.create_job(parent=PARENT, job=job(name=name, http_target=wanted))
        clocked.client.run_job(name=name)
        push = pushes(target)[-1]
        assert push.headers["content-type"] == "application/octet-stream"
        Identity(tmp_path).verify(push.headers["authorization"].removeprefix("Bearer "), audience or target.url)
        target.pushes.clear()


# --- how often


def quick(**fields: Any) -> dict[str, Any]:
    """A retry configuration that does not keep a test waiting."""
    brief = {"nanos": 1_000_000}
    return {"min_backoff_duration": brief, "max_backoff_duration": brief, **fields}


def test_a_failure_is_tried_again_as_often_as_declared_and_told(clocked: Clocked, target: Endpoint) -> None:
    """Two failures, then an answer: three requests. Failures only: the first and its retries, and a status."""
    target.answer = lambda _: 503 if len(target.pushes) < 3 else 200
    clocked.client.create_job(parent=PARENT, job=job(target.url, retry_config=quick(retry_count=5)))
    clocked.client.run_job(name=NAME)
    eventually(lambda: len(target.pushes) == 3 and not clocked.client.get_job(name=NAME).status.code)
    target.answer = lambda _: 404
    clocked.client.update_job(
        job={"name": NAME, "retry_config": quick(retry_count=1)}, update_mask={"paths": ["retry_config"]}
    )
    clocked.client.run_job(name=NAME)
    found = eventually(lambda: one if (one := clocked.client.get_job(name=NAME)).status.code else None)
    assert (found.status.code, found.status.message) == (5, f"HTTP 404 from {target.url}")
    pushes(target, 5)
    clocked.client.delete_job(name=NAME)
    assert len(target.pushes) == 5


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # The example of https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs#RetryConfig
        (
            {"retry_count": 8, "min_backoff_duration": {"seconds": 10}, "max_backoff_duration": {"seconds": 300},
             "max_doublings": 3},
            [10, 20, 40, 80, 160, 240, 300, 300, None],
        ),
        ({"retry_count": 3}, [5, 10, 20, None]),
        ({}, [None]),
        ({"max_retry_duration": {"seconds": 60}}, [5, 10, 20, 40, None]),
        ({"max_retry_duration": {"seconds": 10}, "retry_count": 3}, [5, 10, 20, None]),
    ],
)  # fmt: skip
def test_retries_back_off_as_documented(config: dict[str, Any], expected: list[float | None]) -> None:
    """Doubling, then growing evenly, to the maximum; until both the count and the duration are used up."""
    message = types.RetryConfig.pb(types.RetryConfig(config))
    elapsed, found = 0.0, []
    for attempt in range(1, len(expected) + 1):
        pause = pause_before(attempt, message, elapsed)
        found.append(pause)
        elapsed += pause or 0
    assert found == expected


def test_an_attempt_under_way_does_not_undo_a_change_or_a_deletion(clocked: Clocked, target: Endpoint) -> None:
    """The job that is changed, or deleted, while its request waits for an answer stays so."""
    answered = threading.Event()
    target.answer = lambda _: 200 if answered.wait(20) else 500
    clocked.client.create_job(parent=PARENT, job=job(target.url))
    clocked.client.run_job(name=NAME)
    pushes(target)
    clocked.client.update_job(job={"name": NAME, "description": "new"}, update_mask={"paths": ["description"]})
    answered.set()
    eventually(lambda: "last_attempt_time" in clocked.client.get_job(name=NAME))
    assert clocked.client.get_job(name=NAME).description == "new"
    answered.clear()
    clocked.client.run_job(name=NAME)
    pushes(target, 2)
    clocked.client.delete_job(name=NAME)
    answered.set()
    assert not list(clocked.client.list_jobs(parent=PARENT))


def test_a_job_that_cannot_be_written_down_stays_due(
    clocked: Clocked, target: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk delays it, and does not lose it."""
    clocked.client.create_job(parent=PARENT, job=job(target.url))
    write, failures = clocked.store.write, [sqlite3.OperationalError("database or disk is full")] * 2

    async def full(work: Any) -> Any:
        if failures:
            raise failures.pop()
        return await write(work)

    monkeypatch.setattr(clocked.store, "write", full)
    clocked.now = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
    assert pushes(target)[0].headers["x-cloudscheduler-scheduletime"] == "2026-03-02T10:00:00Z"
    assert not failures


# --- kill -9


def test_what_was_under_way_or_missed_when_the_server_was_killed_is_sent_after_it(
    serve: Any, tmp_path: Path, target: Endpoint
) -> None:
    """At least once: an unanswered request is sent again, one that was answered is not; the jobs are as they were."""
    server: ServerProcess = serve("scheduler")
    client = client_at(server.http)
    answered = threading.Event()
    target.answer = lambda push: 200 if b"quick" in push.body or answered.wait(20) else 500
    slow = job(target.url)
    brief = job(target.url, name=f"{PARENT}/jobs/quick", http_target={"uri": target.url, "body": b"quick"})
    for one in (slow, brief):
        client.create_job(parent=PARENT, job=one)
    client.pause_job(name=f"{PARENT}/jobs/quick")
    client.run_job(name=f"{PARENT}/jobs/quick")
    eventually(lambda: "last_attempt_time" in client.get_job(name=f"{PARENT}/jobs/quick"))
    client.run_job(name=NAME)
    pushes(target, 2)
    server.kill()
    answered.set()
    server.start()
    pushes(target, 3)
    assert [push.body for push in target.pushes] == [b"quick", BODY, BODY]
    eventually(lambda: "last_attempt_time" in client.get_job(name=NAME))
    assert client.get_job(name=f"{PARENT}/jobs/quick").state == Job.State.PAUSED


def test_a_time_that_passed_while_the_server_was_down_fires_once_after_it(tmp_path: Path, target: Endpoint) -> None:
    """Three Mondays missed: one request, for the first of them; then the schedule goes on."""
    with Clocked(tmp_path) as before:
        before.client.create_job(parent=PARENT, job=job(target.url))
    with Clocked(tmp_path) as after:
        after.now = AT_NINE + timedelta(days=15)
        push = pushes(target)[0]
        assert push.headers["x-cloudscheduler-scheduletime"] == "2026-03-02T10:00:00Z"
        assert after.client.get_job(name=NAME).schedule_time == datetime(2026, 3, 23, 10, 0, tzinfo=UTC)
        assert len(target.pushes) == 1
