"""The job that starts the workflow, against real Scheduler and Workflows servers."""

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.scheduler_v1 import CloudSchedulerClient
from google.cloud.scheduler_v1.types import Job
from google.cloud.workflows.executions_v1 import Execution

from laptop.scheduler import pause_before
from lunation.deploy.workflows import RETRIES, SchedulerJob, Workflow
from tests.support import ServerProcess, eventually
from tests.workflows.retrain_support import PARENT, PROJECT, Loop

STARTS = "google.cloud.workflows.executions.v1.Executions.CreateExecution"


@pytest.fixture
def job(loop: Loop, serve: Callable[..., ServerProcess]) -> tuple[SchedulerJob, Any]:
    """Deployed for a workflow that is due, and the clients that it was deployed with."""
    loop.deploy()
    transport = CloudSchedulerClient.get_transport_class("rest")(
        host=serve("scheduler").http, credentials=AnonymousCredentials()
    )
    clients = SimpleNamespace(
        project=PROJECT,
        location=PARENT,
        scheduler=CloudSchedulerClient(transport=transport),
        url=lambda service: loop.servers[service].http,
    )
    made = SchedulerJob(
        "lunation-retrain",
        cron="0 3 * * 1",
        workflow=Workflow.named(loop.use_case),
        argument={},
        service_account="lunation-scheduler@local-dev.iam.gserviceaccount.com",
    )
    made.create(clients)
    assert made.differences(clients, made.read(clients)) == []
    return made, clients


def test_an_execution_is_started_although_the_first_attempts_fail(loop: Loop, job: tuple[SchedulerJob, Any]) -> None:
    """As often as the job retries, on a shorter pause; the cycle is trained once."""
    row, clients = job
    name = row.path(clients)
    changed = {"name": name, "retry_config": {"min_backoff_duration": timedelta(milliseconds=20)}}
    mask = {"paths": ["retry_config.min_backoff_duration"]}
    clients.scheduler.update_job(request={"job": changed, "update_mask": mask})
    loop.servers["workflows"].fault(rpc=STARTS, code="UNAVAILABLE", times=RETRIES)
    clients.scheduler.run_job(name=name)

    def ended() -> list[Execution]:
        found = list(loop.clients.executions.list_executions(parent=loop.name))
        return [one for one in found if one.state != Execution.State.ACTIVE]

    (execution,) = eventually(ended, 20, "an execution")
    assert execution.state == Execution.State.SUCCEEDED
    assert [fault["fired"] for fault in loop.servers["workflows"].faults()] == [RETRIES]
    assert len(loop.dataproc.parameters) == 1


def test_the_attempts_outlast_two_hours(job: tuple[SchedulerJob, Any]) -> None:
    """The pauses grow, and end long before the next week's firing."""
    row, clients = job
    policy = Job.pb(clients.scheduler.get_job(name=row.path(clients))).retry_config
    pauses: list[float] = []
    while (pause := pause_before(len(pauses) + 1, policy, sum(pauses))) is not None:
        pauses.append(pause)
    assert [pause / 60 for pause in pauses] == [5, 10, 20, 40, 60]
    assert 2 * 3600 < sum(pauses) < 24 * 3600


def test_a_job_that_somebody_paused_is_no_longer_as_declared(job: tuple[SchedulerJob, Any]) -> None:
    """A plan shows it, and a deployment starts it again: a paused job trains nothing, and nobody is told."""
    row, clients = job
    clients.scheduler.pause_job(name=row.path(clients))
    assert row.differences(clients, row.read(clients)) == [("state", "PAUSED", "ENABLED")]
    row.update(clients, ["state"])
    assert row.differences(clients, row.read(clients)) == []
