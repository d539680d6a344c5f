"""The workflow's row and its scheduler job's: what is there and does not work is mended."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud.scheduler_v1.types import Job
from google.cloud.workflows_v1.types import Workflow as WorkflowMessage
from google.protobuf.message import Message

from lunation.deploy.artefacts import Artefact
from lunation.deploy.plan import compare
from lunation.deploy.workflows import SchedulerJob, Workflow
from rehearsal.judge import Judge
from rehearsal.recorder import Call
from tests.lunation.google import Google, google
from tests.support import ServerProcess

SOURCE = "main:\n  steps:\n    - done:\n        return: 1\n"


class Broken(Judge):
    """Answers with a bad state until somebody updates the thing.

    Reads have what Scheduler adds (https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs).
    """

    def __init__(self) -> None:
        self.state: Any = None

    def before(self, call: Call) -> None:
        """An update mends it."""
        if call.method.rsplit(".", 1)[1].startswith("Update"):
            self.state = None

    def after(self, call: Call, answer: Message) -> Message:
        """As it is."""
        method = call.method.rsplit(".", 1)[1]
        if method not in ("GetJob", "GetWorkflow"):
            return answer
        told: Any = type(answer)()
        told.CopyFrom(answer)
        if method == "GetJob":
            told.http_target.headers["User-Agent"] = "Google-Cloud-Scheduler"
            told.attempt_deadline.FromSeconds(180)
        if self.state is not None:
            told.state = self.state
        return told


@pytest.fixture
def broken() -> Broken:
    """What breaks it."""
    return Broken()


@pytest.fixture
def cloud(
    broken: Broken, serve: Callable[[str], ServerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Google]:
    """With the laptop's servers behind it."""
    servers = {name: serve(name) for name in ("scheduler", "workflows")}
    laptop = {name: {"http": one.http, "grpc": one.grpc} for name, one in servers.items()}
    with google(tmp_path, monkeypatch, [broken], laptop=laptop) as made:
        yield made


def workflow(tmp_path: Path) -> Workflow:
    """The row."""
    path = tmp_path / "retrain.yaml"
    path.write_text(SOURCE)
    account = "lunation-retrain@example-production.iam.gserviceaccount.com"
    return Workflow(
        "retrain",
        Artefact(path, "retrain.yaml", "1a2b"),
        service_account=account,
        variables=lambda clients, current: {"ONE": "1"},
    )


@pytest.fixture
def job(cloud: Google, tmp_path: Path) -> SchedulerJob:
    """The other one, made."""
    account = "lunation-scheduler@example-production.iam.gserviceaccount.com"
    row = SchedulerJob(
        "lunation-retrain", cron="0 3 * * 1", workflow=workflow(tmp_path), argument={}, service_account=account
    )
    row.create(cloud.clients)
    return row


def test_a_workflow_that_is_unavailable_is_deployed_again(cloud: Google, broken: Broken, tmp_path: Path) -> None:
    """All that is declared is sent, and not the state."""
    row = workflow(tmp_path)
    row.create(cloud.clients)
    assert compare(row, cloud.clients).action == "unchanged"
    broken.state = WorkflowMessage.State.UNAVAILABLE
    assert compare(row, cloud.clients).fields == [("state", "UNAVAILABLE", "ACTIVE")]
    row.update(cloud.clients, ["state"])
    (request,) = cloud.asked("UpdateWorkflow")
    assert set(request.update_mask.paths) == row.sent(cloud.clients).keys()
    assert not request.workflow.state
    assert compare(row, cloud.clients).action == "unchanged"


def test_a_job_that_somebody_paused_fires_again(cloud: Google, job: SchedulerJob) -> None:
    """A training that does not come fails at nothing, so no alert tells it."""
    cloud.clients.scheduler.pause_job(name=job.path(cloud.clients))
    assert compare(job, cloud.clients).fields == [("state", "PAUSED", "ENABLED")]
    job.update(cloud.clients, ["state"])
    assert len(cloud.asked("ResumeJob")) == 1
    assert compare(job, cloud.clients).action == "unchanged"


def test_a_paused_job_with_another_schedule_is_changed_too(cloud: Google, job: SchedulerJob, tmp_path: Path) -> None:
    """An update leaves it paused."""
    name = job.path(cloud.clients)
    cloud.clients.scheduler.pause_job(name=name)
    changed = {"job": {"name": name, "schedule": "0 4 * * *"}, "update_mask": {"paths": ["schedule"]}}
    cloud.clients.scheduler.update_job(request=changed)
    found = compare(job, cloud.clients)
    assert {field for field, _, _ in found.fields} == {"schedule", "state"}
    job.update(cloud.clients, ["schedule", "state"])
    assert compare(job, cloud.clients).action == "unchanged"


@pytest.mark.parametrize("state", ["UPDATE_FAILED", "DISABLED"])
def test_a_job_that_an_update_broke_is_updated_again(
    cloud: Google, broken: Broken, job: SchedulerJob, state: str
) -> None:
    """With all that is declared, and without the state."""
    broken.state = getattr(Job.State, state)
    assert compare(job, cloud.clients).fields == [("state", state, "ENABLED")]
    job.update(cloud.clients, ["state"])
    (request,) = cloud.asked("UpdateJob")
    assert set(request.update_mask.paths) == job.sent(cloud.clients).keys()
    assert not request.job.state
    assert compare(job, cloud.clients).action == "unchanged"
