"""What the predefined roles give that the table uses, as far as it can be used on the resource they are granted on.

Written down without a network, so not compared with Google's index of roles
(https://cloud.google.com/iam/docs/roles-permissions), which is to be done once on a
real project (docs/deploy.md).
A permission for another kind of resource, such as ``resourcemanager.projects.get`` of a role that is granted on a
topic, gives nothing there and is left out.
"""

DATE = "2025-07-01"
"""As of when."""

ROLES: dict[str, tuple[str, ...]] = {
    "roles/pubsub.publisher": ("pubsub.topics.publish",),
    "roles/telemetry.metricsWriter": ("monitoring.timeSeries.create",),
    "roles/run.invoker": ("run.routes.invoke",),
    "roles/iam.serviceAccountUser": ("iam.serviceAccounts.actAs",),
    "roles/artifactregistry.reader": ("artifactregistry.repositories.downloadArtifacts",),
    "roles/artifactregistry.writer": (
        "artifactregistry.repositories.downloadArtifacts",
        "artifactregistry.repositories.uploadArtifacts",
    ),
}
