"""What Dataflow jobs stage: kept for as long as a job may need it, however old it is, and taken away after that."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud.dataflow_v1beta3 import types
from google.protobuf.message import Message

from laptop.errors import ServiceError
from lunation.deploy.dataflow import StreamingJob
from lunation.deploy.job_files import UnseenJobsError, sweep
from lunation.deploy.plan import apply
from lunation.deploy.resource import Resource
from lunation.deploy.storage import Bucket
from lunation.deploy.table import resources
from lunation.settings import load
from rehearsal.judge import Judge
from rehearsal.recorder import Call
from tests.lunation.google import PROJECT, Google, google
from tests.support import ServerProcess

BUCKET = f"{PROJECT}-build"
NOW = datetime(2026, 11, 30, tzinfo=UTC)
STAGING, TEMP = "dataflow/staging", "dataflow/temp"
# As Beam 2.77 and a template's launcher name them; see lunation/deploy/job_files.py.
RUNNING_ID, RUNNING = "2026-11-01_00_00_00-11", "lunation-archive.1793491230.482913"
RUNNING_FILES = (
    f"{STAGING}/template_launches/{RUNNING_ID}/job_object",
    f"{STAGING}/{RUNNING}/pipeline.pb",
    f"{STAGING}/{RUNNING}/dataflow_graph.json",
    f"{TEMP}/{RUNNING}/tmp-0001",
)


class Ages(Judge):
    """Objects are as many days old as the test says; jobs tell their options, and when they were made."""

    def __init__(self) -> None:
        self.days: dict[str, float] = {}
        self.jobs: dict[str, tuple[str, float, dict[str, Any]]] = {}
        self.silent = ""
        """A region that does not respond: a list of all regions' jobs lacks its own."""
        self.refused = False
        """Whether that list is refused."""

    def before(self, call: Call) -> None:
        """Refuse the list of all regions' jobs."""
        if self.refused and call.method.endswith(".AggregatedListJobs"):
            raise ServiceError("PERMISSION_DENIED", f"Permission 'dataflow.jobs.list' denied on project: '{PROJECT}'")

    def after(self, call: Call, answer: Message) -> Message:
        """A job, with what its options name."""
        told: Any = type(answer)()
        told.CopyFrom(answer)
        if call.method.endswith("ListJobs"):
            del told.jobs[:]
            for job_id, (name, days, _) in self.jobs.items():
                made = NOW - timedelta(days=days)
                told.jobs.add(id=job_id, name=name, location="us-central1", current_state=2, create_time=made)
            if self.silent and call.method.endswith(".AggregatedListJobs"):
                del told.jobs[:]
                told.failed_location.add(name=self.silent)
        if call.method.endswith("GetJob"):
            _, _, options = self.jobs[call.request.job_id]  # type: ignore[union-attr]
            told.environment.sdk_pipeline_options.update({"display_data": [], "options": options})
        return told

    def after_storage(self, call: Call, status: int, body: bytes) -> bytes:
        """A list of objects of that age."""
        if call.method != "storage.objects.list":
            return body
        document = json.loads(body)
        for item in document.get("items", ()):
            made = NOW - timedelta(days=self.days[item["name"]])
            item["timeCreated"] = made.isoformat().replace("+00:00", "Z")
        return json.dumps(document).encode()


@pytest.fixture
def ages() -> Ages:
    """How old everything is."""
    return Ages()


@pytest.fixture
def cloud(
    ages: Ages, serve: Callable[[str], ServerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Google]:
    """A project with a build bucket."""
    server = serve("storage")
    laptop = {"storage": {"http": server.http, "grpc": server.grpc}}
    with google(tmp_path, monkeypatch, [ages], laptop=laptop) as made:
        Bucket(BUCKET, keeps_data=False).create(made.clients)
        yield made


def stage(cloud: Google, ages: Ages, days: float, *names: str) -> None:
    """Put objects there, so many days ago."""
    for name in names:
        cloud.clients.storage.bucket(BUCKET).blob(name).upload_from_string(b"x")
        ages.days[name] = days


def run(cloud: Google, ages: Ages, job_id: str, name: str, days: float, **options: Any) -> None:
    """A job that runs, since so many days."""
    ages.jobs[job_id] = (name, days, options)
    made = types.Job.pb()(id=job_id, name=name, location="us-central1", current_state=2)
    cloud.project.put(f"jobs/{job_id}", made)


def left(cloud: Google) -> set[str]:
    """What there is."""
    return {blob.name for blob in cloud.clients.storage.list_blobs(BUCKET)}


# --- rules of the bucket, on a clock of weeks


def taken(rules: list[dict[str, Any]], names: tuple[str, ...], age: int) -> set[str]:
    """What the rules of a bucket delete of current objects that are ``age`` days old
    (https://cloud.google.com/storage/docs/lifecycle#conditions)."""
    found = set()
    for rule in rules:
        condition = rule["condition"]
        if rule["action"]["type"] != "Delete" or "age" not in condition or condition.get("isLive") is False:
            continue
        prefixes = tuple(condition.get("matchesPrefix", ("",)))
        found |= {name for name in names if age >= condition["age"] and name.startswith(prefixes)}
    return found


def test_a_running_job_keeps_what_it_staged(cloud: Google) -> None:
    """A worker that is replaced in any week reads ``pipeline.pb`` again: no rule of the declared bucket takes it."""
    rows = resources(load(), cloud.clients.target)
    (bucket,) = [row for row in rows if row.address == f"bucket/{BUCKET}"]
    rules = bucket.desired(cloud.clients)["lifecycle"]
    for age in range(0, 400, 8):
        assert taken(rules, RUNNING_FILES, age) == set(), f"on day {age}"


def test_the_rule_of_an_earlier_release_is_taken_off(cloud: Google) -> None:
    """It deleted what lay there for a week."""
    old = {"action": {"type": "Delete"}, "condition": {"age": 7, "matchesPrefix": [f"{STAGING}/"]}}
    made = cloud.clients.storage.get_bucket(BUCKET)
    made.lifecycle_rules = [*made.lifecycle_rules, old]
    made.patch()
    row = Bucket(BUCKET, keeps_data=False)
    assert [path for path, _, _ in row.differences(cloud.clients, row.read(cloud.clients) or {})] == ["lifecycle"]
    row.update(cloud.clients, ["lifecycle"])
    kept = [dict(rule) for rule in cloud.clients.storage.get_bucket(BUCKET).lifecycle_rules]
    assert taken(kept, RUNNING_FILES, 8) == set()


# --- clearing up


def test_what_ended_jobs_left_is_deleted(cloud: Google, ages: Ages) -> None:
    """Of the job that was replaced, of one with another name, and of a launch; nothing of the one that runs."""
    run(cloud, ages, RUNNING_ID, "lunation-archive", 29)
    ended = (
        f"{STAGING}/template_launches/2026-09-01_00_00_00-10/job_object",
        f"{STAGING}/lunation-archive.1788220830.111111/pipeline.pb",
        f"{TEMP}/lunation-archive.1788220830.111111/tmp-0001",
        f"{STAGING}/lunation-backfill-0a1b2c3d.1788220830.222222/pipeline.pb",
    )
    stage(cloud, ages, 90, *ended)
    stage(cloud, ages, 29, *RUNNING_FILES)
    assert set(sweep(cloud.clients, BUCKET, NOW)) == set(ended)
    assert left(cloud) == set(RUNNING_FILES)


def test_what_a_running_jobs_options_name_stays_whatever_its_age(cloud: Google, ages: Ages) -> None:
    """A job that somebody launched from files staged long before."""
    run(
        cloud, ages, RUNNING_ID, "lunation-archive", 1,
        staging_location=f"gs://{BUCKET}/{STAGING}/{RUNNING}", temp_location=f"gs://{BUCKET}/{TEMP}/{RUNNING}",
        pipelineUrl=f"gs://{BUCKET}/{STAGING}/{RUNNING}/pipeline.pb",
        templateLocation=f"gs://{BUCKET}/{STAGING}/template_launches/{RUNNING_ID}/job_object",
    )  # fmt: skip
    stage(cloud, ages, 200, *RUNNING_FILES)
    assert sweep(cloud.clients, BUCKET, NOW) == []
    assert left(cloud) == set(RUNNING_FILES)


def test_a_job_that_says_it_may_need_all_of_it_keeps_all(cloud: Google, ages: Ages) -> None:
    """Java's SDK stages the files of several jobs in one place, and names that."""
    run(cloud, ages, "2026-11-29_00_00_00-12", "words", 1, stagingLocation=f"gs://{BUCKET}/{STAGING}/")
    stage(cloud, ages, 200, f"{STAGING}/words.1788220830.111111/pipeline.pb")
    assert sweep(cloud.clients, BUCKET, NOW) == []


def test_what_is_staged_now_and_what_is_named_otherwise_stays(cloud: Google, ages: Ages) -> None:
    """A job whose files lie there and that is not in the list yet; anything whose name tells of no job; the release."""
    run(cloud, ages, RUNNING_ID, "lunation-archive", 29)
    stage(cloud, ages, 0.1, f"{STAGING}/lunation-backfill-0a1b2c3d.1795910000.1/pipeline.pb",
          f"{STAGING}/template_launches/2026-11-29_23_00_00-13/job_object")  # fmt: skip
    stage(cloud, ages, 29.5, f"{STAGING}/{RUNNING}/pipeline.pb")  # before its job, from somebody's machine
    stage(cloud, ages, 300, f"{STAGING}/notes.txt", f"{STAGING}/artifact_cache/0a/0a1b", "dataflow/0a1b2c3d4e5f.json",
          "dataflow/0a1b2c3d4e5f.zip", "releases/0a1b2c3d4e5f.json")  # fmt: skip
    before = left(cloud)
    assert sweep(cloud.clients, BUCKET, NOW) == []
    assert left(cloud) == before


def test_while_a_region_does_not_tell_its_jobs_nothing_is_deleted(cloud: Google, ages: Ages) -> None:
    """The answer is in order all the same: it only names the region, and its jobs, which may need their files, are not
    in it."""
    run(cloud, ages, RUNNING_ID, "lunation-archive", 29)
    stage(cloud, ages, 29, *RUNNING_FILES)
    ages.silent = "us-central1"
    with pytest.raises(UnseenJobsError, match="us-central1"):
        sweep(cloud.clients, BUCKET, NOW)
    assert left(cloud) == set(RUNNING_FILES)
    ages.silent = ""
    assert sweep(cloud.clients, BUCKET, NOW) == []


@pytest.fixture
def rows(ages: Ages, monkeypatch: pytest.MonkeyPatch) -> list[Resource]:
    """The table: the row that runs a job."""
    monkeypatch.setattr(ages, "after", lambda call, answer: answer)
    return [
        StreamingJob(
            "lunation-archive", spec=f"gs://{BUCKET}/dataflow/a.json", parameters={}, labels={"system": "lunation"},
            service_account=f"lunation-archive@{PROJECT}.iam.gserviceaccount.com",
        )
    ]  # fmt: skip


def test_each_deployment_clears_up(cloud: Google, ages: Ages, rows: list[Resource]) -> None:
    """So a project does not fill with the files of every release; also one that launches nothing."""
    old = [f"{place}/lunation-archive.1788220830.111111/pipeline.pb" for place in (STAGING, TEMP)]
    for name, action in zip(old, ("create", "unchanged"), strict=True):
        stage(cloud, ages, 9000, name)
        assert [change.action for change in apply(rows, cloud.clients)] == [action]
        assert left(cloud) == set()


def test_what_cannot_be_cleared_up_fails_no_deployment(cloud: Google, ages: Ages, rows: list[Resource]) -> None:
    """The job runs. The failure is told with its cause, and the next deployment clears up."""
    stage(cloud, ages, 9000, f"{STAGING}/lunation-archive.1788220830.111111/pipeline.pb")
    said: list[str] = []
    ages.refused = True
    assert [change.action for change in apply(rows, cloud.clients, say=said.append)] == ["create"]
    (line,) = said
    assert line.startswith("dataflow-job/lunation-archive: permission dataflow.jobs.list is missing")
    assert line.endswith("What is left to clear up stays until the next deployment")
    assert len(left(cloud)) == 1
    ages.refused = False
    assert [change.action for change in apply(rows, cloud.clients, say=said.append)] == ["unchanged"]
    assert (said, left(cloud)) == ([line], set())
