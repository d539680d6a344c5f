"""What whoever deploys may do: the role that each row is managed with, and what its calls need besides."""

from collections.abc import Iterable

from lunation.deploy.resource import Resource

BESIDE = {
    # Whoever lets something run as an account must be allowed to act as that account:
    # https://cloud.google.com/iam/docs/service-accounts-actas.
    "iam.serviceAccounts.actAs": "roles/iam.serviceAccountUser",
    # An alert that looks at the log is a notification rule of Cloud Logging, too, which no role of Monitoring gives:
    # https://cloud.google.com/iam/docs/roles-permissions/logging.
    "logging.notificationRules.create": "roles/logging.configWriter",
}
"""The smallest role that fits, by the permission that a call needs beside the row's own role."""

NEEDED: dict[str, tuple[str, ...]] = {
    "roles/artifactregistry.admin": (
        "artifactregistry.locations.list",
        "artifactregistry.repositories.create",
        "artifactregistry.repositories.delete",
        "artifactregistry.repositories.get",
        "artifactregistry.repositories.getIamPolicy",
        "artifactregistry.repositories.setIamPolicy",
        "artifactregistry.repositories.update",
        "artifactregistry.tags.delete",
        "artifactregistry.tags.get",
    ),
    "roles/cloudbuild.builds.editor": (
        "cloudbuild.builds.create",
        "cloudbuild.builds.list",
    ),
    "roles/cloudfunctions.developer": (
        "cloudfunctions.functions.create",
        "cloudfunctions.functions.delete",
        "cloudfunctions.functions.get",
        "cloudfunctions.functions.list",
        "cloudfunctions.functions.update",
        "cloudfunctions.locations.list",
        "cloudfunctions.operations.get",
    ),
    "roles/cloudscheduler.admin": (
        "cloudscheduler.jobs.create",
        "cloudscheduler.jobs.delete",
        "cloudscheduler.jobs.enable",
        "cloudscheduler.jobs.get",
        "cloudscheduler.jobs.update",
    ),
    "roles/dataflow.developer": (
        "dataflow.jobs.cancel",
        "dataflow.jobs.create",
        "dataflow.jobs.get",
        "dataflow.jobs.list",
        "dataflow.messages.list",
    ),
    "roles/dataproc.editor": (
        "dataproc.workflowTemplates.create",
        "dataproc.workflowTemplates.delete",
        "dataproc.workflowTemplates.get",
        "dataproc.workflowTemplates.list",
        "dataproc.workflowTemplates.update",
    ),
    "roles/datastore.owner": (
        "datastore.databases.create",
        "datastore.databases.getMetadata",
        "datastore.databases.update",
        "datastore.operations.get",
        "datastore.schemas.create",
        "datastore.schemas.delete",
        "datastore.schemas.get",
        "datastore.schemas.list",
        "datastore.schemas.update",
    ),
    "roles/iam.roleAdmin": (
        "iam.roles.create",
        "iam.roles.delete",
        "iam.roles.get",
        "iam.roles.list",
        "iam.roles.undelete",
        "iam.roles.update",
    ),
    "roles/iam.serviceAccountAdmin": (
        "iam.serviceAccounts.create",
        "iam.serviceAccounts.delete",
        "iam.serviceAccounts.enable",
        "iam.serviceAccounts.get",
        "iam.serviceAccounts.getIamPolicy",
        "iam.serviceAccounts.list",
        "iam.serviceAccounts.setIamPolicy",
        "iam.serviceAccounts.update",
    ),
    "roles/iam.serviceAccountUser": ("iam.serviceAccounts.actAs",),
    "roles/logging.configWriter": (
        "logging.notificationRules.create",
        "logging.notificationRules.update",
    ),
    "roles/monitoring.alertPolicyEditor": (
        "monitoring.alertPolicies.create",
        "monitoring.alertPolicies.delete",
        "monitoring.alertPolicies.get",
        "monitoring.alertPolicies.list",
        "monitoring.alertPolicies.update",
    ),
    "roles/monitoring.dashboardEditor": (
        "monitoring.dashboards.create",
        "monitoring.dashboards.delete",
        "monitoring.dashboards.list",
        "monitoring.dashboards.update",
    ),
    "roles/monitoring.notificationChannelEditor": (
        "monitoring.notificationChannels.create",
        "monitoring.notificationChannels.delete",
        "monitoring.notificationChannels.list",
        "monitoring.notificationChannels.update",
    ),
    "roles/pubsub.admin": (
        "pubsub.schemas.commit",
        "pubsub.schemas.create",
        "pubsub.schemas.delete",
        "pubsub.schemas.get",
        "pubsub.schemas.list",
        "pubsub.schemas.listRevisions",
        "pubsub.subscriptions.create",
        "pubsub.subscriptions.delete",
        "pubsub.subscriptions.get",
        "pubsub.subscriptions.getIamPolicy",
        "pubsub.subscriptions.list",
        "pubsub.subscriptions.setIamPolicy",
        "pubsub.subscriptions.update",
        "pubsub.topics.attachSubscription",
        "pubsub.topics.create",
        "pubsub.topics.delete",
        "pubsub.topics.get",
        "pubsub.topics.getIamPolicy",
        "pubsub.topics.list",
        "pubsub.topics.setIamPolicy",
        "pubsub.topics.update",
    ),
    "roles/resourcemanager.projectIamAdmin": (
        "resourcemanager.projects.get",
        "resourcemanager.projects.getIamPolicy",
        "resourcemanager.projects.setIamPolicy",
    ),
    "roles/run.admin": (
        "run.services.getIamPolicy",
        "run.services.setIamPolicy",
    ),
    "roles/serviceusage.serviceUsageAdmin": (
        "serviceusage.services.enable",
        "serviceusage.services.get",
        "serviceusage.services.use",
    ),
    "roles/storage.admin": (
        "storage.buckets.create",
        "storage.buckets.delete",
        "storage.buckets.get",
        "storage.buckets.getIamPolicy",
        "storage.buckets.list",
        "storage.buckets.setIamPolicy",
        "storage.buckets.update",
        "storage.objects.create",
        "storage.objects.delete",
        "storage.objects.get",
        "storage.objects.list",
    ),
    "roles/workflows.editor": (
        "workflows.locations.list",
        "workflows.workflows.create",
        "workflows.workflows.delete",
        "workflows.workflows.get",
        "workflows.workflows.list",
        "workflows.workflows.update",
    ),
}
"""The permissions that the calls of a deployment need, by the documented role that gives them: what ``lunation doctor``
asks for. The rehearsal holds them against every call that it sees."""
PERMISSIONS: dict[str, str] = {permission: role for role, permissions in NEEDED.items() for permission in permissions}
"""The role, by the permission."""


def roles(rows: Iterable[Resource]) -> set[str]:
    """Every role that deploying, changing and taking down ``rows`` takes. docs/deploy.md grants exactly these."""
    return {row.managed_with for row in rows} | set(BESIDE.values())
