"""The jobs that convert, train and evaluate, on a Dataproc cluster of their own, and the bucket with their models."""

from lunation.clients import Clients
from lunation.deploy.access import BucketPolicy, account_policy
from lunation.deploy.dataproc import WorkflowTemplate
from lunation.deploy.names import TEMPLATE, archive_bucket, build_bucket, models_bucket
from lunation.deploy.resource import Resource, owned
from lunation.deploy.stack.deployment import Deployment
from lunation.deploy.stack.unit import METRICS_WRITER, Permit, Unit
from lunation.deploy.storage import Bucket
from lunation.settings import Target

DATAPROC_WORKER = (
    "dataproc.agents.create",
    "dataproc.agents.delete",
    "dataproc.agents.get",
    "dataproc.agents.list",
    "dataproc.agents.update",
    "dataproc.tasks.lease",
    "dataproc.tasks.listInvalidatedLeases",
    "dataproc.tasks.reportStatus",
    "logging.logEntries.create",
    "logging.logEntries.route",
    "monitoring.metricDescriptors.create",
    "monitoring.metricDescriptors.get",
    "monitoring.metricDescriptors.list",
    "monitoring.monitoredResourceDescriptors.get",
    "monitoring.monitoredResourceDescriptors.list",
    "monitoring.timeSeries.create",
)
"""roles/dataproc.worker without its access to every bucket of the project, which is granted on ours instead."""


def _permits(target: Target) -> dict[str, Permit]:
    return {
        f"bucket/{archive_bucket(target)}": Permit("lunationObjectWriter", "reads what was filed, writes Parquet"),
        f"bucket/{models_bucket(target)}": Permit("lunationObjectAppender", "writes models, reads the serving one"),
        f"bucket/{build_bucket(target)}": Permit("lunationObjectWriter", "Dataproc's staging files, and the drivers"),
    }


UNIT = Unit(
    "train",
    "converts, trains and evaluates on a cluster of its own",
    platform=DATAPROC_WORKER,
    roles=(METRICS_WRITER,),
    permits=_permits,
)


def bucket(deployment: Deployment) -> tuple[Resource, ...]:
    """The bucket with the models, and who may do what there."""
    name = deployment.models_bucket
    return owned(UNIT.name, Bucket(name, versioned=True), deployment.grants.on(BucketPolicy(name), first=UNIT.name))


def account_access(deployment: Deployment) -> tuple[Resource, ...]:
    """Who may start something that runs as it."""
    return owned(UNIT.name, deployment.grants.on(account_policy(UNIT.name)))


def template(deployment: Deployment) -> tuple[Resource, ...]:
    """The workflow template that starts the cluster with its jobs, and ends it."""
    settings = deployment.settings
    code = deployment.release.artefacts.spark[0].object_name.rsplit("/", 1)[0]

    def parameters(clients: Clients) -> dict[str, str]:
        return {
            "PROJECT": deployment.target.project,
            "REGION": deployment.target.region,
            "ARCHIVE_BUCKET": deployment.archive_bucket,
            "MODELS_BUCKET": deployment.models_bucket,
            "BUILD_BUCKET": deployment.build_bucket,
            "SPARK_CODE": f"gs://{deployment.build_bucket}/{code}",
            "USE_CASE": settings.use_case,
            "CHECKS": settings.checks.model_dump_json(),
            "EVALUATION_DAYS": str(settings.schedule.evaluation_days),
            "INSTANCE_MIB": str(settings.functions.classify.memory_mib),
            "SERVICE_ACCOUNT": deployment.runs_as(UNIT.name),
            "METRICS_ENDPOINT": deployment.metrics_endpoint(clients),
        }

    return owned(UNIT.name, WorkflowTemplate(TEMPLATE, deployment.release.artefacts.template, parameters))
