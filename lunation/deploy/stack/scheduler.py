"""The Cloud Scheduler job that starts the retraining workflow once a week."""

from lunation.deploy.names import SCHEDULER_JOB
from lunation.deploy.resource import Resource, owned
from lunation.deploy.stack import retrain
from lunation.deploy.stack.deployment import Deployment
from lunation.deploy.stack.unit import Unit
from lunation.deploy.workflows import SchedulerJob

UNIT = Unit("scheduler", "starts the retraining workflow", uses=("workflows.executions.create",))


def job(deployment: Deployment) -> tuple[Resource, ...]:
    """The job."""
    made = SchedulerJob(
        SCHEDULER_JOB,
        cron=deployment.settings.schedule.cron,
        workflow=retrain.workflow_row(deployment),
        argument={},
        service_account=deployment.runs_as(UNIT.name),
    )
    return owned(UNIT.name, made)
