"""The workflow that runs a training cycle and moves the model pointer."""

import time
from datetime import UTC, datetime

from lunation.clients import Clients
from lunation.deploy.access import Condition
from lunation.deploy.names import TEMPLATE, WORKFLOW, archive_bucket, models_bucket
from lunation.deploy.resource import Resource, owned
from lunation.deploy.stack.deployment import Deployment
from lunation.deploy.stack.unit import Permit, Unit
from lunation.deploy.workflows import Workflow
from lunation.settings import Schedule, Target

WEEK_SECONDS = 7 * 24 * 3600


def _permits(target: Target) -> dict[str, Permit]:
    archive = archive_bucket(target)
    # Not the records: what a condition is made of, uniform access, the bucket has.
    runs = Condition("runs", f'resource.name.startsWith("projects/_/buckets/{archive}/objects/parquet/")')
    return {
        f"bucket/{archive}": Permit("lunationObjectReader", "reads why a training failed", runs),
        f"bucket/{models_bucket(target)}": Permit("lunationObjectReader", "reads the verdict"),
        "service-account/lunation-train": Permit("roles/iam.serviceAccountUser", "starts the cluster that runs as it"),
    }


UNIT = Unit(
    "retrain",
    "runs a training cycle and moves the model pointer",
    uses=(
        "dataproc.operations.get",
        "dataproc.workflowTemplates.instantiate",
        "datastore.entities.create",
        "datastore.entities.get",
        "datastore.entities.update",
        "workflows.executions.get",
    ),
    platform=("logging.logEntries.create",),
    permits=_permits,
)


def _first_cycle_week(schedule: Schedule, deployed: str | None) -> str:
    """The week that cycles are counted from: that of the settings, else the one of the first deployment.

    Args:
        schedule: when a cycle starts.
        deployed: what the deployed workflow has; None before the first deployment.
    """
    first = schedule.first_cycle
    if first is not None:
        return str(int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()) // WEEK_SECONDS)
    return deployed or str(int(time.time()) // WEEK_SECONDS)


def workflow_row(deployment: Deployment) -> Workflow:
    """The workflow, as the row that whoever starts it refers to."""
    settings = deployment.settings

    def variables(clients: Clients, current: dict[str, str]) -> dict[str, str]:
        return {
            "DATASTORE_ENDPOINT": clients.url("datastore"),
            "DATAPROC_ENDPOINT": clients.url("dataproc"),
            "STORAGE_ENDPOINT": clients.url("storage"),
            "EXECUTIONS_ENDPOINT": clients.url("workflows"),
            "REGION": deployment.target.region,
            "TEMPLATE": TEMPLATE,
            "ARCHIVE_BUCKET": deployment.archive_bucket,
            "MODELS_BUCKET": deployment.models_bucket,
            "USE_CASE": settings.use_case,
            "FIRST_CYCLE_WEEK": _first_cycle_week(settings.schedule, current.get("FIRST_CYCLE_WEEK")),
            "CYCLE_WEEKS": str(settings.schedule.cycle_weeks),
        }

    return Workflow(
        WORKFLOW,
        deployment.release.artefacts.workflow,
        service_account=deployment.runs_as(UNIT.name),
        variables=variables,
    )


def workflow(deployment: Deployment) -> tuple[Resource, ...]:
    """The workflow."""
    return owned(UNIT.name, workflow_row(deployment))
