"""The streaming job's row: launched once, waited for, launched again when a permission was missing, and replaced."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud.dataflow_v1beta3 import types
from google.protobuf.message import Message

from laptop.errors import ServiceError
from lunation.deploy import dataflow
from lunation.deploy.dataflow import StreamingJob
from lunation.deploy.plan import compare
from lunation.deploy.settling import GRANTED, UNDER_WAY, NotYetError
from rehearsal.judge import Judge
from rehearsal.recorder import Call
from tests.lunation.google import PROJECT, Google, google

State: Any = types.JobState
DENIED = (
    "Workflow failed. Causes: Unable to open template file: gs://example-production-build/dataflow/staging/"
    "template_launches/1/job_object."
)
BROKEN = "Error occurred in the launcher container: Template launch failed. See console logs."


class Launches(Judge):
    """Jobs fail with ``says`` while it says something. A list of jobs tells no labels, as the discovery document says:
    it "always returns summaries now"."""

    says = ""

    def after(self, call: Call, answer: Message) -> Message:
        """The list without labels, a job that has failed, and why."""
        told: Any = type(answer)()
        told.CopyFrom(answer)
        match call.method.rsplit(".", 1)[1]:
            case "ListJobs":
                for job in told.jobs:
                    job.ClearField("labels")
            case "GetJob" if self.says and told.current_state == State.JOB_STATE_RUNNING and not told.replace_job_id:
                told.current_state = State.JOB_STATE_FAILED
            case "ListJobMessages" if self.says:
                importance = call.request.minimum_importance  # type: ignore[union-attr]
                assert importance == types.JobMessageImportance.JOB_MESSAGE_ERROR
                told.job_messages.add(message_text=self.says)
                told.job_messages.add(message_text=self.says)
        return told


@pytest.fixture
def launches() -> Launches:
    """How launches end."""
    return Launches()


@pytest.fixture
def cloud(launches: Launches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """An empty project; nothing was staged in it."""
    with google(tmp_path, monkeypatch, [launches]) as made:
        yield made


def row(source: str = "0a1b") -> StreamingJob:
    """The row that runs a release."""
    return StreamingJob(
        "lunation-archive",
        spec=f"gs://{PROJECT}-build/dataflow/{source}.json",
        parameters={"use_case": "flights"},
        labels={"system": "lunation", "source": source},
        service_account=f"lunation-archive@{PROJECT}.iam.gserviceaccount.com",
        image=f"us-central1-docker.pkg.dev/{PROJECT}/lunation/archive:{source}",
    )


def job(cloud: Google) -> Any:
    """The job that was made last."""
    return cloud.project.below("jobs/")[-1]


def test_a_job_that_runs_is_as_declared(cloud: Google) -> None:
    """Its labels are read from the job itself: a list of jobs tells none."""
    row().create(cloud.clients)
    assert compare(row(), cloud.clients).action == "unchanged"
    assert [found.name for found in StreamingJob.ours(cloud.clients)] == ["lunation-archive"]


@pytest.mark.parametrize("state", ["QUEUED", "PENDING"])
def test_a_job_that_starts_is_waited_for(cloud: Google, state: str) -> None:
    """Launched by a run that was killed, it has no labels yet; a second one of its name would be refused."""
    row().create(cloud.clients)
    job(cloud).current_state = State[f"JOB_STATE_{state}"]
    job(cloud).ClearField("labels")
    change = compare(row(), cloud.clients)
    assert change.action == "change"
    assert ("state", f"JOB_STATE_{state}", "JOB_STATE_RUNNING") in change.fields
    with pytest.raises(NotYetError, match=f"is JOB_STATE_{state}") as told:
        row().update(cloud.clients, ["labels", "state"])
    assert told.value.awaits is UNDER_WAY
    assert len(cloud.asked("LaunchFlexTemplate")) == 1


@pytest.mark.parametrize("state", ["DRAINING", "CANCELLING"])
def test_in_place_of_a_job_that_ends_another_is_launched(cloud: Google, state: str) -> None:
    """When it has ended: until then its name is taken, and it cannot be replaced."""
    row().create(cloud.clients)
    first = job(cloud)
    first.current_state = State[f"JOB_STATE_{state}"]
    assert compare(row(), cloud.clients).fields == [("state", f"JOB_STATE_{state}", "JOB_STATE_RUNNING")]
    for attempt in (lambda: row().update(cloud.clients, ["state"]), lambda: row().delete(cloud.clients)):
        with pytest.raises(NotYetError, match=f"is JOB_STATE_{state}"):
            attempt()
    first.current_state = State.JOB_STATE_DRAINED
    assert compare(row(), cloud.clients).action == "create"
    row().create(cloud.clients)
    assert compare(row(), cloud.clients).action == "unchanged"


def test_a_job_that_failed_is_launched_again(cloud: Google) -> None:
    """It is no longer there: nobody files what is published."""
    row().create(cloud.clients)
    job(cloud).current_state = State.JOB_STATE_FAILED
    assert compare(row(), cloud.clients).action == "create"


def test_a_new_release_replaces_the_job(cloud: Google) -> None:
    """By an update, which hands over what was read."""
    row().create(cloud.clients)
    row("2c3d").update(cloud.clients, ["labels"])
    first, second = cloud.asked("LaunchFlexTemplate")
    assert (first.launch_parameter.update, second.launch_parameter.update) == (False, True)
    assert compare(row("2c3d"), cloud.clients).action == "unchanged"


def test_an_update_that_was_begun_is_waited_for(cloud: Google) -> None:
    """While one job replaces another both are there: the younger one counts."""
    row().create(cloud.clients)
    row("2c3d").update(cloud.clients, ["labels"])
    old, new = cloud.project.below("jobs/")
    old.current_state, new.current_state = State.JOB_STATE_RUNNING, State.JOB_STATE_PENDING
    with pytest.raises(NotYetError, match=f"job {new.id} is JOB_STATE_PENDING"):
        row("2c3d").update(cloud.clients, ["state"])


def test_a_launch_without_a_permission_is_tried_again_for_a_while(
    cloud: Google, launches: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grant takes minutes to reach Dataflow. At last the error holds what Dataflow says, once, and where there is
    more."""
    launches.says = DENIED
    archive = row()
    for _ in range(3):
        with pytest.raises(NotYetError, match="Unable to open template file") as told:
            archive.create(cloud.clients)
        assert told.value.awaits is GRANTED
        job(cloud).current_state = State.JOB_STATE_FAILED
        assert compare(archive, cloud.clients).action == "create"
    monkeypatch.setattr(dataflow, "RELAUNCH_SECONDS", 0.0)  # they are over
    with pytest.raises(RuntimeError, match="ended as JOB_STATE_FAILED: Workflow failed") as failed:
        archive.create(cloud.clients)
    assert str(failed.value).count(DENIED) == 1
    assert f'resource.labels.job_id="{job(cloud).id}"' in str(failed.value)


def test_a_launch_that_fails_for_another_cause_is_told_at_once(cloud: Google, launches: Launches) -> None:
    """Waiting would mend nothing."""
    launches.says = BROKEN
    with pytest.raises(RuntimeError, match=r"ended as JOB_STATE_FAILED: .*See console logs.*gcloud logging read"):
        row().create(cloud.clients)


def test_a_failure_is_told_though_its_messages_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is what matters."""

    class Closed(Launches):
        says = DENIED

        def before(self, call: Call) -> None:
            if call.method.endswith("ListJobMessages"):
                raise ServiceError("PERMISSION_DENIED", "no dataflow.messages.list")

    with google(tmp_path, monkeypatch, [Closed()]) as cloud, pytest.raises(RuntimeError, match="cannot be read"):
        row().create(cloud.clients)


@pytest.mark.parametrize(
    "said",
    [
        # As Google's pages and those who met them have them; see lunation/deploy/dataflow.py.
        "PERMISSION_DENIED: (Could not create workflow; user does not have write access to project: p",
        "Permission 'dataflow.jobs.create' denied on project: 'p'",
        "lunation-archive@p.iam.gserviceaccount.com does not have storage.objects.create access to the Google Cloud "
        "Storage object.",
        "Staged package pickled_main_session at location 'gs://b/staging/x/pickled_main_session' is inaccessible.",
        "Unable to open file: gs://b/staging/ch04timecorr.1656567385.996847/pipeline.pb.",
        DENIED,
    ],
)
def test_what_a_missing_permission_sounds_like(cloud: Google, launches: Launches, said: str) -> None:
    """In all of these words it passes."""
    launches.says = said
    with pytest.raises(NotYetError):
        row().create(cloud.clients)
