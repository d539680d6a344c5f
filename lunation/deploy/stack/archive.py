"""The Dataflow job that files every message, the bucket that it files them in, and what it reads from."""

import json

from lunation.deploy.access import BucketPolicy, subscription_policy, topic_policy
from lunation.deploy.artefacts import read_entry
from lunation.deploy.dataflow import StreamingJob
from lunation.deploy.names import (
    ARCHIVE_JOB,
    REPOSITORY,
    archive_bucket,
    build_bucket,
    template_image,
    template_spec,
)
from lunation.deploy.pubsub import Subscription
from lunation.deploy.resource import SYSTEM, Resource, owned
from lunation.deploy.stack.deployment import Deployment
from lunation.deploy.stack.unit import Permit, Unit
from lunation.deploy.storage import Bucket, StagedFile
from lunation.settings import Target

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

FILED = ("records", "labels", "dead-letters", "comparisons")
"""The topics whose messages are filed, each by a subscription ``<topic>-archive``."""


def _permits(target: Target) -> dict[str, Permit]:
    consumes = Permit("lunationSubscriptionReader", "reads and acknowledges; Dataflow looks at it before")
    return {
        f"bucket/{archive_bucket(target)}": Permit(
            "lunationObjectCreator", "writes objects, and never over one that is there"
        ),
        f"bucket/{build_bucket(target)}": Permit("lunationObjectWriter", "Dataflow's staging and temporary files"),
        f"repository/{REPOSITORY}": Permit("roles/artifactregistry.reader", "Dataflow's launcher pulls the template"),
        "topic/dead-letters": Permit("roles/pubsub.publisher", "publishes"),
        **{f"subscription/{topic}-archive": consumes for topic in FILED},
    }


UNIT = Unit("archive", "files every message in the archive", platform=DATAFLOW_WORKER, permits=_permits)


def bucket(deployment: Deployment) -> tuple[Resource, ...]:
    """The bucket with every record and label, and who may do what there."""
    name = deployment.archive_bucket
    return owned(UNIT.name, Bucket(name, versioned=True), deployment.grants.on(BucketPolicy(name), first=UNIT.name))


def spec(deployment: Deployment) -> tuple[Resource, ...]:
    """What tells Dataflow where the pipeline's image is, and which parameters it takes."""
    shipped, build = deployment.release.artefacts.dataflow, deployment.build_bucket
    content = {
        # A laptop's Dataflow takes the zip that the image would be built from.
        "image": template_image(deployment.target, shipped.label) or f"gs://{build}/{shipped.object_name}",
        "sdkInfo": {"language": "PYTHON"},
        "metadata": json.loads(read_entry(shipped, "dataflow/metadata.json")),
    }
    file = StagedFile(build, template_spec(shipped.label), json.dumps(content, indent=1).encode())
    return owned(UNIT.name, file)


def subscriptions(deployment: Deployment) -> tuple[Resource, ...]:
    """What it reads, who may read that, and who may add to the dead letters."""
    return owned(
        UNIT.name,
        deployment.grants.on(topic_policy("dead-letters")),
        *(Subscription(f"{topic}-archive", topic) for topic in FILED),
        *(deployment.grants.on(subscription_policy(f"{topic}-archive")) for topic in FILED),
    )


def job(deployment: Deployment) -> tuple[Resource, ...]:
    """The streaming job."""
    project, settings, source = (
        deployment.target.project,
        deployment.settings.archive,
        deployment.release.artefacts.dataflow.label,
    )
    window_seconds = str(settings.window_seconds)
    made = StreamingJob(
        ARCHIVE_JOB,
        spec=f"gs://{deployment.build_bucket}/{template_spec(source)}",
        parameters={
            "records_subscription": f"projects/{project}/subscriptions/records-archive",
            "labels_subscription": f"projects/{project}/subscriptions/labels-archive",
            "dead_letters_subscription": f"projects/{project}/subscriptions/dead-letters-archive",
            "comparisons_subscription": f"projects/{project}/subscriptions/comparisons-archive",
            "dead_letters_topic": f"projects/{project}/topics/dead-letters",
            "archive_bucket": deployment.archive_bucket,
            "use_case": deployment.settings.use_case,
            "window_seconds": window_seconds,
        },
        labels={**SYSTEM, "source": source, "window-seconds": window_seconds},
        service_account=deployment.runs_as(UNIT.name),
        image=template_image(deployment.target, source),
        max_workers=settings.max_workers,
    )
    return owned(UNIT.name, made)
