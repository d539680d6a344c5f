"""Dataflow through Google's clients: launched from a Flex Template, watched, drained, cancelled, updated, killed."""

import io
import json
import os
import signal
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud.dataflow_v1beta3 import (
    FlexTemplatesServiceClient,
    Job,
    JobState,
    JobsV1Beta3Client,
    MessagesV1Beta3Client,
    types,
)
from google.cloud.storage import Client as StorageClient

from tests.pubsub_support import Clients
from tests.support import ServerProcess, eventually

PROJECT, REGION = "local-dev", "us-central1"
SPEC = "gs://build/archive.json"
Filter = types.ListJobsRequest.Filter
DOCKERFILE = """FROM somewhere
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/template/launch.py
ENV PYTHONPATH=/template
"""
# Stands for a pipeline on its runner: it takes a batch, works on it, writes, and then acknowledges. SIGTERM ends it
# after the batch; a file called crash ends it in the middle of one.
LAUNCHER = """
import argparse, os, pathlib, signal, sys, time
import words
parser = argparse.ArgumentParser()
for name in ("output", "mode", "runner", "project", "region", "job_name"):
    parser.add_argument("--" + name)
given = parser.parse_args()
output = pathlib.Path(given.output)
note = lambda text: output.open("a").write(text + "\\n")
note(f"start {os.getpid()} {given.runner} {given.project} {given.region} {given.job_name} {words.WORD}")
if given.mode == "bad":
    print("no such mode", file=sys.stderr)
    sys.exit(2)
if given.mode == "batch":
    pathlib.Path(os.environ["LAPTOP_DATAFLOW_KIND"]).write_text("batch")
    sys.exit(0 if not output.with_name("crash").exists() else 1)
from google.cloud.pubsub_v1 import SubscriberClient
from google.api_core.exceptions import DeadlineExceeded
client = SubscriberClient()
path = client.subscription_path(given.project, "reader")
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
note("ready")
while not stopped:
    try:
        held = client.pull(subscription=path, max_messages=10, timeout=0.5, return_immediately=True).received_messages
    except DeadlineExceeded:
        continue
    if not held:
        time.sleep(0.05)
        continue
    note("read")
    if output.with_name("crash").exists():
        output.with_name("crash").unlink()
        os._exit(3)
    while output.with_name("hold").exists():
        time.sleep(0.02)
    for one in held:
        note("wrote " + one.message.data.decode())
    client.acknowledge(subscription=path, ack_ids=[one.ack_id for one in held])
note("end")
"""
METADATA = {
    "name": "archive",
    "streaming": True,
    "parameters": [
        {"name": "output", "helpText": "where to write", "regexes": ["^/.*$"]},
        {"name": "mode", "helpText": "how", "isOptional": True, "regexes": ["stream|batch|bad"]},
    ],
}


@dataclass
class Google:
    """Google's clients, and the servers behind them."""

    server: ServerProcess
    templates: FlexTemplatesServiceClient
    jobs: JobsV1Beta3Client
    pubsub: Clients
    storage: Any
    folder: Path
    topic: str = ""

    @property
    def output(self) -> Path:
        """What the launcher writes."""
        return self.folder / "output"

    def launch(self, name: str = "archive", **fields: Any) -> Job:
        """Launch a job."""
        parameter = {
            "job_name": name,
            "container_spec_gcs_path": SPEC,
            "parameters": {"output": str(self.output)},
            **fields,
        }
        request = {"project_id": PROJECT, "location": REGION, "launch_parameter": parameter}
        return self.templates.launch_flex_template(request=request).job

    def get(self, job: Job) -> Job:
        """The job as it is now."""
        return self.jobs.get_job(request={"project_id": PROJECT, "location": REGION, "job_id": job.id})

    def request(self, job: Job, state: str) -> Job:
        """Ask for a state."""
        wanted = {"requested_state": JobState[f"JOB_STATE_{state}"]}
        return self.jobs.update_job(
            request={"project_id": PROJECT, "location": REGION, "job_id": job.id, "job": wanted}
        )

    def until(self, job: Job, state: str) -> Job:
        """The job once it is in a state."""
        return eventually(
            lambda: found if (found := self.get(job)).current_state.name == f"JOB_STATE_{state}" else None
        )

    def lines(self, word: str) -> list[str]:
        """What the launcher noted, the lines that begin so."""
        text = self.output.read_text() if self.output.exists() else ""
        return [line.partition(" ")[2] for line in text.splitlines() if line.split(" ")[0] == word]

    def started(self, count: int = 1) -> list[int]:
        """The processes that were started, once there are ``count`` that read."""
        eventually(lambda: len(self.lines("ready")) >= count, what=f"{count} launchers read")
        return [int(line.split()[0]) for line in self.lines("start")]


def image(**files: str) -> bytes:
    """A template's zip."""
    content = {"Dockerfile": DOCKERFILE, "launch.py": LAUNCHER, "words.py": "WORD = 'packaged'", **files}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return packed.getvalue()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ServerProcess]]:
    """Pub/Sub, Cloud Storage and Dataflow on one state."""
    state = tmp_path_factory.mktemp("dataflow")
    started = {name: ServerProcess(name, state) for name in ("pubsub", "storage", "dataflow")}
    for server in started.values():
        server.start()
    yield started
    for server in reversed(started.values()):
        server.stop()


@pytest.fixture
def google(servers: dict[str, ServerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """The clients, a template, a topic with a subscription; jobs that a test leaves behind are cancelled."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", servers["storage"].http)
    storage = StorageClient(project=PROJECT)
    bucket = storage.bucket("build")
    if not bucket.exists():
        storage.create_bucket("build")
    bucket.blob("archive.zip").upload_from_string(image())
    bucket.blob("archive.json").upload_from_string(
        json.dumps({"image": "gs://build/archive.zip", "metadata": METADATA})
    )

    def client(kind: Any) -> Any:
        transport = kind.get_transport_class("rest")(host=servers["dataflow"].http, credentials=AnonymousCredentials())
        return kind(transport=transport)

    pubsub = Clients(servers["pubsub"].grpc, PROJECT)
    found = Google(
        servers["dataflow"], client(FlexTemplatesServiceClient), client(JobsV1Beta3Client), pubsub, bucket, tmp_path
    )
    found.topic = pubsub.topic()
    pubsub.subscription(found.topic, "reader", ack_deadline_seconds=10)
    yield found
    for job in found.jobs.list_jobs(request={"project_id": PROJECT, "location": REGION, "filter": Filter.ACTIVE}):
        (tmp_path / "hold").unlink(missing_ok=True)
        found.request(job, "CANCELLED")
        found.until(job, "CANCELLED")
    pubsub.subscriber.delete_subscription(subscription=f"projects/{PROJECT}/subscriptions/reader")
    pubsub.publisher.delete_topic(topic=found.topic)
    pubsub.close()


# --- launching


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"parameters": {}}, r"output is missing \(where to write\)"),
        ({"parameters": {"output": "/x", "inptu": "y"}}, "has no inptu; it has: mode, output"),
        ({"parameters": {"output": "relative"}}, r"output: 'relative' does not match \^/"),
        ({"parameters": {"output": "/x", "mode": "upside-down"}}, "mode: 'upside-down' does not match"),
        ({"job_name": "Archive"}, "job_name 'Archive'"),
        ({"container_spec_gcs_path": ""}, "container_spec_gcs_path is required"),
        ({"container_spec_gcs_path": "gs://build/nothing.json"}, "gs://build/nothing.json cannot be read: 404"),
        ({"container_spec_gcs_path": "gs://build/archive.zip"}, "is no container spec"),
        ({"update": True}, "no running job named archive to update"),
    ],
)
def test_a_launch_that_does_not_fit_the_template_starts_nothing(
    google: Google, fields: dict[str, Any], words: str
) -> None:
    """Refused at once, with the parameter, the value and what the template's metadata says."""
    with pytest.raises(exceptions.BadRequest, match=words):
        google.launch(**{"name": fields.pop("job_name", "archive"), **fields})
    assert not google.output.exists()


@pytest.mark.parametrize(
    ("zipped", "words"),
    [
        (b"no zip", "is no zip"),
        (image(Dockerfile="FROM x"), "sets no FLEX_TEMPLATE_PYTHON_PY_FILE"),
        (image(**{"../escaped.py": "x"}), "leaves its folder"),
    ],
)
def test_an_image_that_is_no_template_is_refused(google: Google, zipped: bytes, words: str) -> None:
    """With the reason, and nothing unpacked."""
    google.storage.blob("archive.zip").upload_from_string(zipped)
    with pytest.raises(exceptions.BadRequest, match=words):
        google.launch()
    assert not list(google.server.state.rglob("escaped.py"))


def test_what_a_laptop_does_not_serve_is_refused_by_name(google: Google) -> None:
    """Container images, options that would change the job, calls of no handler."""
    spec = {"image": "gcr.io/project/archive", "metadata": METADATA}
    google.storage.blob("container.json").upload_from_string(json.dumps(spec))
    for fields, words in (
        ({"container_spec_gcs_path": "gs://build/container.json"}, "no container engine"),
        ({"launch_options": {"a": "b"}}, "launch_options"),
        ({"environment": {"additional_experiments": ["x"]}}, "additional_experiments"),
    ):
        with pytest.raises(exceptions.MethodNotImplemented, match=words):
            google.launch(**fields)
    with pytest.raises(exceptions.MethodNotImplemented, match="SnapshotJob"):
        google.jobs.snapshot_job(request={"project_id": PROJECT, "location": REGION, "job_id": "x"})


def test_a_launch_can_be_tried_without_a_job(google: Google) -> None:
    """``validate_only`` checks all of it, and starts nothing."""
    request = {
        "project_id": PROJECT, "location": REGION, "validate_only": True,
        "launch_parameter": {"job_name": "archive", "container_spec_gcs_path": SPEC,
                             "parameters": {"output": str(google.output)}},
    }  # fmt: skip
    before = set((google.server.state / "dataflow").iterdir())
    assert not google.templates.launch_flex_template(request=request).job.id
    assert set((google.server.state / "dataflow").iterdir()) == before
    assert not google.output.exists()


# --- running


def test_a_stream_runs_until_it_is_drained(google: Google) -> None:
    """It is told its runner, project and name, finds what is packaged beside it, and finishes what it has read."""
    job = google.launch(environment={"additional_user_labels": {"system": "lunation"}})
    assert job.current_state == JobState.JOB_STATE_PENDING
    running = google.until(job, "RUNNING")
    assert (running.name, running.type_.name, running.labels) == (
        "archive",
        "JOB_TYPE_STREAMING",
        {"system": "lunation"},
    )
    google.started()
    assert google.lines("start")[0].split()[1:] == [
        "laptop.micro_batch.MicroBatchRunner", PROJECT, REGION, "archive", "packaged",
    ]  # fmt: skip
    with pytest.raises(exceptions.Conflict, match="runs already"):
        google.launch()
    (google.folder / "hold").touch()
    google.pubsub.publish(google.topic, b"one")
    eventually(lambda: google.lines("read"))
    draining = google.request(job, "DRAINED")
    assert draining.current_state == JobState.JOB_STATE_DRAINING
    assert not google.lines("wrote")
    (google.folder / "hold").unlink()
    google.until(job, "DRAINED")
    assert (google.lines("wrote"), google.lines("end")) == (["one"], [""])
    with pytest.raises(exceptions.BadRequest, match="has ended: JOB_STATE_DRAINED"):
        google.request(job, "CANCELLED")
    with pytest.raises(exceptions.BadRequest, match="requested_state"):
        google.request(google.launch("other"), "FAILED")


def test_a_cancelled_job_ends_and_another_may_take_its_name(google: Google) -> None:
    """Also while it drains; what it held is delivered again, to the next one."""
    job = google.launch()
    google.started()
    google.request(job, "CANCELLED")
    google.until(job, "CANCELLED")
    again = google.launch()
    assert again.id != job.id
    google.started(2)
    found = google.jobs.list_jobs(request={"project_id": PROJECT, "location": REGION, "filter": Filter.ACTIVE})
    assert [one.id for one in found] == [again.id]


def test_a_job_that_crashes_is_started_again_and_loses_nothing(google: Google) -> None:
    """Killed, or ended by itself in the middle of a batch: what was read and not acknowledged comes again."""
    job = google.launch()
    (first,) = google.started()
    (google.folder / "crash").touch()
    google.pubsub.publish(google.topic, b"one", b"two")
    google.started(2)
    (google.folder / "hold").touch()
    google.pubsub.publish(google.topic, b"three")
    os.kill(google.started(2)[1], signal.SIGKILL)
    (google.folder / "hold").unlink()
    google.started(3)
    eventually(lambda: set(google.lines("wrote")) == {"one", "two", "three"}, 40, "all is written")
    assert google.get(job).current_state == JobState.JOB_STATE_RUNNING
    assert not psutil.pid_exists(first)


def test_an_update_hands_over(google: Google) -> None:
    """The new job starts when the old one has finished what it read; each names the other; nothing is lost."""
    old = google.launch()
    google.started()
    (google.folder / "hold").touch()
    google.pubsub.publish(google.topic, b"one")
    eventually(lambda: google.lines("read"))
    new = google.launch(update=True)
    assert google.get(new).current_state == JobState.JOB_STATE_PENDING
    google.pubsub.publish(google.topic, b"two")
    (google.folder / "hold").unlink()
    google.until(new, "RUNNING")
    eventually(lambda: sorted(google.lines("wrote")) == ["one", "two"])
    text = google.output.read_text()
    assert text.index("wrote one") < text.index("end") < text.rindex("start")
    ended = google.get(old)
    assert (ended.current_state, ended.replaced_by_job_id) == (JobState.JOB_STATE_UPDATED, new.id)
    assert google.get(new).replace_job_id == old.id


def test_a_batch_job_runs_once(google: Google) -> None:
    """The pipeline tells its kind: done when it ends well, failed when not; it cannot be drained."""
    parameters = {"output": str(google.output), "mode": "batch"}
    done = google.until(google.launch("backfill", parameters=parameters), "DONE")
    assert done.type_.name == "JOB_TYPE_BATCH"
    (google.folder / "crash").touch()
    google.until(google.launch("backfill", parameters=parameters), "FAILED")
    assert len(google.lines("start")) == 2
    bad = google.launch("bad", parameters={**parameters, "mode": "bad"})
    google.until(bad, "FAILED")
    assert len(google.lines("start")) == 3


def test_why_a_job_failed_is_told(google: Google) -> None:
    """As its messages, which the deployment shows; a job that did not fail has none."""
    messages = MessagesV1Beta3Client(
        transport=MessagesV1Beta3Client.get_transport_class("rest")(
            host=google.server.http, credentials=AnonymousCredentials()
        )
    )

    def told(job: Job) -> list[str]:
        request = {"project_id": PROJECT, "location": REGION, "job_id": job.id}
        return [one.message_text for one in messages.list_job_messages(request=request)]

    parameters = {"output": str(google.output), "mode": "batch"}
    assert told(google.until(google.launch("well", parameters=parameters), "DONE")) == []
    failed = google.launch("failed", parameters={**parameters, "mode": "bad"})
    assert told(google.until(failed, "FAILED")) == ["no such mode"]


def test_jobs_are_listed_newest_first(google: Google) -> None:
    """By project, region, state and name, over pages; one of another project is not found."""
    parameters = {"output": str(google.output), "mode": "batch"}
    made = [google.until(google.launch(f"listed-{n}", parameters=parameters), "DONE").id for n in range(3)]
    where = {"project_id": PROJECT, "location": REGION}
    found = [one.id for one in google.jobs.list_jobs(request={**where, "page_size": 1}) if one.id in made]
    assert found == made[::-1]
    named = google.jobs.list_jobs(request={**where, "name": "listed-1"})
    assert [one.id for one in named] == [made[1]]
    assert made[0] in [one.id for one in google.jobs.aggregated_list_jobs(request={"project_id": PROJECT})]
    for elsewhere in ({"project_id": "other"}, {"location": "europe-west1"}, {"filter": Filter.ACTIVE}):
        assert not list(google.jobs.list_jobs(request={**where, **elsewhere}))
    with pytest.raises(exceptions.NotFound):
        google.jobs.get_job(request={**where, "project_id": "other", "job_id": made[0]})


def test_jobs_go_on_after_the_server_was_killed(google: Google) -> None:
    """The process ends with the server and is started again by the next; nothing that was read is lost."""
    job = google.launch()
    (first,) = google.started()
    (google.folder / "hold").touch()
    google.pubsub.publish(google.topic, b"one")
    eventually(lambda: google.lines("read"))
    google.server.kill()
    google.server.start()
    (google.folder / "hold").unlink()
    google.started(2)
    eventually(lambda: "one" in google.lines("wrote"), 40)
    eventually(lambda: not psutil.pid_exists(first), 40)
    assert google.get(job).current_state == JobState.JOB_STATE_RUNNING
    google.request(job, "DRAINED")
    google.until(job, "DRAINED")
