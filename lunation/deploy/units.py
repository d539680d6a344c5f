"""The units: what runs, as whom, and what each may do in the whole project.

A unit has a service account and, for what can only be granted on a project, a custom role with exactly the permissions
that it uses; a predefined one where that gives no more. What can be granted on a single bucket, topic, subscription or
function is granted there, by the table.
``python -m rehearsal`` records the calls of each unit and holds them against all of this, in both directions.
"""

from dataclasses import dataclass

DATAFLOW_WORKER = (
    "autoscaling.sites.readRecommendations",
    "autoscaling.sites.writeMetrics",
    "autoscaling.sites.writeState",
    "compute.instanceGroupManagers.update",
    "compute.instances.delete",
    "compute.instances.setDiskAutoDelete",
    "dataflow.jobs.get",
    "dataflow.shuffle.read",
    "dataflow.shuffle.write",
    "dataflow.streamingWorkItems.ImportState",
    "dataflow.streamingWorkItems.commitWork",
    "dataflow.streamingWorkItems.getData",
    "dataflow.streamingWorkItems.getWork",
    "dataflow.streamingWorkItems.getWorkerMetadata",
    "dataflow.workItems.lease",
    "dataflow.workItems.sendMessage",
    "dataflow.workItems.update",
    "logging.logEntries.create",
    "logging.logEntries.route",
    "monitoring.timeSeries.create",
)
"""roles/dataflow.worker without its access to every bucket of the project, which is granted on ours instead."""

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


METRICS_WRITER = ("roles/telemetry.metricsWriter", "exports its metrics")
"""What that takes had a permission of its own and has another one now (it is ``monitoring.timeSeries.create`` since
2026: https://cloud.google.com/iam/docs/roles-permissions/telemetry). Google keeps the role up to date, not us."""


@dataclass(frozen=True)
class Unit:
    """One of them.

    Args:
        name: its service account is ``lunation-<name>``.
        purpose: what it does, in half a sentence.
        uses: permissions that its own calls need and that only a project can grant.
        platform: permissions that Google's own agent needs, which runs beside it on the unit's machines.
        roles: predefined roles that are small enough, with what the unit does by them.
    """

    name: str
    purpose: str
    uses: tuple[str, ...] = ()
    platform: tuple[str, ...] = ()
    roles: tuple[tuple[str, str], ...] = ()

    @property
    def role_id(self) -> str:
        """The id of its custom role."""
        return "lunation" + "".join(part.capitalize() for part in self.name.split("-"))


UNITS: dict[str, Unit] = {
    unit.name: unit
    for unit in (
        Unit(
            "ingest-fast",
            "mirrors records into Datastore",
            uses=("datastore.entities.create", "datastore.entities.update"),
            roles=(METRICS_WRITER,),
        ),
        Unit(
            "classify",
            "classifies pushed records, stores and publishes the answers",
            uses=("datastore.entities.create", "datastore.entities.get"),
            roles=(METRICS_WRITER,),
        ),
        Unit(
            "classify-http",
            "answers requests for a classification",
            uses=("datastore.entities.get",),
            roles=(METRICS_WRITER,),
        ),
        Unit(
            "submit",
            "publishes records for callers, and shows what became of them",
            uses=("datastore.entities.get",),
            roles=(METRICS_WRITER,),
        ),
        Unit("archive", "files every message in the archive", platform=DATAFLOW_WORKER),
        Unit(
            "train",
            "converts, trains and evaluates on a cluster of its own",
            platform=DATAPROC_WORKER,
            roles=(METRICS_WRITER,),
        ),
        Unit(
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
        ),
        Unit("scheduler", "starts the retraining workflow", uses=("workflows.executions.create",)),
        Unit("push", "is whom Pub/Sub calls the functions as"),
        Unit("caller", "may submit records and ask for classifications over HTTP"),
        Unit("build", "builds the functions and the archive's image", platform=("logging.logEntries.create",)),
    )
}
"""Another unit is a row here, and its grants in the table."""

SHARED_ROLES: dict[str, tuple[str, ...]] = {
    "lunationObjectReader": ("storage.objects.get",),
    # Cloud Build resolves a source by its bucket, too; with get alone it ends in «does not have storage.objects.list
    # access» (GoogleCloudPlatform/bigquery-dlp-remote-function#70).
    "lunationSourceReader": ("storage.objects.get", "storage.objects.list"),
    "lunationObjectCreator": ("storage.objects.create",),
    "lunationObjectAppender": ("storage.objects.create", "storage.objects.get", "storage.objects.list"),
    "lunationObjectWriter": (
        # The Cloud Storage connector looks the bucket up when it finds no object of a name at its root
        # (GoogleCloudDataproc/hadoop-connectors#135), and so do Dataflow and Dataproc with their staging bucket.
        "storage.buckets.get",
        "storage.objects.create",
        "storage.objects.delete",
        "storage.objects.get",
        "storage.objects.list",
    ),
    "lunationSubscriptionReader": ("pubsub.subscriptions.consume", "pubsub.subscriptions.get"),
}
"""What is granted on single buckets and subscriptions: the predefined roles all give something too much there."""
