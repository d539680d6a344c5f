"""What Google's predefined roles give, of the permissions that this system knows (``permissions.txt``).

The roles are those that the table grants, that docs/deploy.md and docs/ci/ name, that a new bucket's policy holds, and
those of the service agents that act for us. Written down from Google's index of roles and permissions
(https://cloud.google.com/iam/docs/roles-permissions), and compared, role by role and name by name, with what three
public data sets had read from IAM itself on the day :data:`DATE` (iann0036/iam-dataset at 2073fa5,
UnitVectorY-Labs/gcp-iam-catalog at a9522b4, darkbitio/gcp-iam-role-permissions at 8ab2a6f).

``python -m rehearsal.predefined FOLDER`` compares again, with a folder of what Google says today::

    for role in $(python -m rehearsal.predefined); do
      gcloud iam roles describe $role --format=json > FOLDER/$(basename $role).json
    done
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

DATE = "2026-08-22"
"""As of when, here and in ``permissions.txt``."""

RENAMED = {"datastore.indexes.": "datastore.schemas."}
"""Permissions that got another name, by their beginnings. The roles have held the new names since 2026-02-28; custom
roles may have either (https://firebase.google.com/docs/firestore/security/iam)."""

NOT_IN_A_PROJECT = frozenset({"resourcemanager.projects.list"})
"""What IAM refuses in a custom role of a project, as unknown: it is asked about a folder or an organisation
(https://github.com/terraform-google-modules/terraform-google-iam/issues/158)."""


def current(permission: str) -> str:
    """The name that a permission has today."""
    for old, new in RENAMED.items():
        if permission.startswith(old):
            return new + permission.removeprefix(old)
    return permission


def _known() -> frozenset[str]:
    lines = (Path(__file__).parent / "permissions.txt").read_text().splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


PERMISSIONS = _known()
"""All names that are known."""

_PROJECT = ("resourcemanager.projects.get", "resourcemanager.projects.list")
_SEEN = ("artifactregistry", "cloudbuild", "cloudfunctions", "cloudscheduler", "compute", "dataflow", "dataproc",
         "datastore", "iam", "logging", "monitoring", "orgpolicy", "pubsub", "resourcemanager", "run", "serviceusage",
         "workflows")  # fmt: skip
_READS_IMAGES = ("artifactregistry.*.get", "artifactregistry.*.list", "artifactregistry.repositories.downloadArtifacts")
_WRITES_IMAGES = (*_READS_IMAGES, "artifactregistry.repositories.uploadArtifacts", "artifactregistry.tags.create",
                  "artifactregistry.tags.update")  # fmt: skip
_WRITES_METRICS = (
    "monitoring.metricDescriptors.*",
    "monitoring.monitoredResourceDescriptors.*",
    "monitoring.timeSeries.create",
)
_READS_SERVICES = ("serviceusage.quotas.get", "serviceusage.services.get", "serviceusage.services.list")
_TOKENS = ("iam.serviceAccounts.getAccessToken", "iam.serviceAccounts.getOpenIdToken")
_OBJECTS = tuple(f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list"))

_PATTERNS: dict[str, tuple[str, ...]] = {
    # Basic roles. In Cloud Storage the viewer sees nothing by itself: a bucket's own policy lets it read.
    "roles/viewer": (
        *(f"{service}.*.{verb}" for service in _SEEN for verb in ("get", "list")),
        *("artifactregistry.repositories.downloadArtifacts", "artifactregistry.repositories.getIamPolicy"),
        *("autoscaling.sites.readRecommendations", "cloudfunctions.functions.getIamPolicy"),
        *("cloudfunctions.functions.sourceCodeGet", "dataproc.tasks.listInvalidatedLeases"),
        *("datastore.databases.getMetadata", "iam.serviceAccounts.getIamPolicy", "pubsub.schemas.attach"),
        "pubsub.schemas.listRevisions",
        *("pubsub.schemas.validate", "resourcemanager.projects.getIamPolicy", "run.services.getIamPolicy"),
        "storage.buckets.list",
    ),
    "roles/browser": (*_PROJECT, "resourcemanager.projects.getIamPolicy"),
    "roles/iam.securityReviewer": ("*.list", "*.getIamPolicy", "iam.roles.get", "iam.serviceAccounts.get"),
    # Accounts, roles and policies.
    "roles/iam.roleAdmin": ("iam.roles.*", "resourcemanager.projects.get", "resourcemanager.projects.getIamPolicy"),
    "roles/iam.serviceAccountAdmin": (
        *(
            f"iam.serviceAccounts.{verb}"
            for verb in (
                "create",
                "delete",
                "disable",
                "enable",
                "get",
                "getIamPolicy",
                "list",
                "setIamPolicy",
                "undelete",
                "update",
            )
        ),
        *_PROJECT,
    ),
    "roles/iam.serviceAccountUser": (
        *(f"iam.serviceAccounts.{verb}" for verb in ("actAs", "get", "list")),
        *_PROJECT,
    ),
    "roles/iam.serviceAccountOpenIdTokenCreator": ("iam.serviceAccounts.getOpenIdToken",),
    "roles/iam.serviceAccountTokenCreator": (
        *_TOKENS,
        *(f"iam.serviceAccounts.{verb}" for verb in ("get", "implicitDelegation", "list", "signBlob", "signJwt")),
        *_PROJECT,
    ),
    "roles/resourcemanager.projectIamAdmin": (
        "resourcemanager.projects.get",
        "resourcemanager.projects.getIamPolicy",
        "resourcemanager.projects.setIamPolicy",
    ),
    "roles/serviceusage.serviceUsageAdmin": ("serviceusage.*", "monitoring.timeSeries.list"),
    "roles/serviceusage.serviceUsageConsumer": (
        *_READS_SERVICES,
        *("serviceusage.operations.get", "serviceusage.services.use", "monitoring.timeSeries.list"),
    ),
    # Artifact Registry and Cloud Build.
    "roles/artifactregistry.admin": ("artifactregistry.*", "resourcemanager.projects.get"),
    "roles/artifactregistry.reader": (*_READS_IMAGES, "resourcemanager.projects.get"),
    "roles/artifactregistry.writer": (*_WRITES_IMAGES, "resourcemanager.projects.get"),
    "roles/cloudbuild.builds.editor": ("cloudbuild.*", *_PROJECT),
    "roles/cloudbuild.builds.builder": (
        *(*_WRITES_IMAGES, "artifactregistry.repositories.deleteArtifacts", "cloudbuild.*", *_PROJECT, *_OBJECTS),
        *("logging.logEntries.create", "logging.logEntries.list", "pubsub.topics.create", "pubsub.topics.publish"),
        *("storage.buckets.create", "storage.buckets.get", "storage.buckets.list", "storage.objects.update"),
    ),
    # What runs.
    "roles/cloudfunctions.developer": (
        *(*_READS_IMAGES, *_PROJECT, *_READS_SERVICES, "cloudbuild.*.get", "cloudbuild.*.list"),
        *(
            f"cloudfunctions.functions.{verb}"
            for verb in ("create", "delete", "get", "invoke", "list", "update", "sourceCodeGet", "sourceCodeSet")
        ),
        *("cloudfunctions.locations.list", "cloudfunctions.operations.*", "run.jobs.run", "run.routes.invoke"),
        *(f"run.services.{verb}" for verb in ("create", "delete", "get", "getIamPolicy", "list", "update")),
    ),
    "roles/cloudscheduler.admin": (
        *("cloudscheduler.*", *_PROJECT, "serviceusage.services.get", "serviceusage.services.list"),
    ),
    "roles/dataflow.developer": (
        *("cloudbuild.*", "compute.projects.get", "dataflow.jobs.*", "dataflow.messages.*", "dataflow.metrics.*"),
        *_PROJECT,
    ),
    "roles/dataflow.worker": (
        *("autoscaling.*", "compute.instanceGroupManagers.update", "compute.instances.delete"),
        *("compute.instances.setDiskAutoDelete", "dataflow.jobs.get", "dataflow.shuffle.*"),
        *("dataflow.streamingWorkItems.*", "dataflow.workItems.*"),
        *("logging.logEntries.create", "logging.logEntries.route", "monitoring.timeSeries.create"),
        *("storage.buckets.get", "storage.objects.create", "storage.objects.get"),
    ),
    "roles/dataproc.editor": (
        *("compute.networks.get", "compute.projects.get", "compute.regions.get", "dataproc.clusters.*"),
        *("dataproc.jobs.*", "dataproc.operations.*", "dataproc.workflowTemplates.*", *_PROJECT),
    ),
    "roles/dataproc.worker": (
        *("dataproc.agents.*", "dataproc.tasks.*", "logging.logEntries.create", "logging.logEntries.route"),
        *(*_WRITES_METRICS, "storage.buckets.get", "storage.objects.*"),
    ),
    "roles/run.admin": ("run.*", *_PROJECT),
    "roles/run.invoker": ("run.jobs.run", "run.routes.invoke"),
    "roles/workflows.editor": ("workflows.*", *_PROJECT),
    "roles/workflows.invoker": ("workflows.executions.*", "workflows.stepEntries.*", *_PROJECT),
    # What is kept.
    "roles/datastore.owner": ("datastore.*", *_PROJECT),
    "roles/datastore.indexAdmin": (
        *("datastore.databases.getMetadata", "datastore.operations.get", "datastore.operations.list"),
        *("datastore.schemas.*", *_PROJECT),
    ),
    "roles/pubsub.admin": ("pubsub.*", "resourcemanager.projects.get", *_READS_SERVICES),
    "roles/pubsub.publisher": ("pubsub.topics.publish",),
    "roles/pubsub.subscriber": ("pubsub.subscriptions.consume", "pubsub.topics.attachSubscription"),
    "roles/storage.admin": (
        *("storage.*", "orgpolicy.policy.get", *_PROJECT, "monitoring.timeSeries.*"),
        *("monitoring.metricDescriptors.list", "monitoring.monitoredResourceDescriptors.list"),
    ),
    "roles/storage.objectCreator": ("storage.objects.create", "orgpolicy.policy.get", *_PROJECT),
    "roles/storage.objectViewer": ("storage.objects.get", "storage.objects.list", *_PROJECT),
    "roles/storage.objectUser": (
        *(*_OBJECTS, "storage.objects.update", "orgpolicy.policy.get", "monitoring.timeSeries.create", *_PROJECT),
    ),
    "roles/storage.legacyBucketOwner": (
        *(f"storage.buckets.{verb}" for verb in ("get", "getIamPolicy", "setIamPolicy", "update")),
        *("storage.objects.create", "storage.objects.delete", "storage.objects.list"),
    ),
    "roles/storage.legacyBucketReader": ("storage.buckets.get", "storage.objects.list"),
    "roles/storage.legacyObjectOwner": (
        *(f"storage.objects.{verb}" for verb in ("get", "getIamPolicy", "setIamPolicy", "update")),
    ),
    "roles/storage.legacyObjectReader": ("storage.objects.get",),
    # What is told.
    "roles/logging.configWriter": ("logging.notificationRules.*", *_PROJECT),
    "roles/logging.logWriter": ("logging.logEntries.create", "logging.logEntries.route"),
    "roles/monitoring.alertPolicyEditor": ("monitoring.alertPolicies.*",),
    "roles/monitoring.dashboardEditor": ("monitoring.dashboards.*",),
    "roles/monitoring.metricWriter": _WRITES_METRICS,
    "roles/monitoring.notificationChannelEditor": ("monitoring.notificationChannels.*",),
    "roles/telemetry.metricsWriter": ("monitoring.timeSeries.create",),
    # Service agents: what Google grants them on the project (https://cloud.google.com/iam/docs/service-agents).
    "roles/artifactregistry.serviceAgent": (
        *("artifactregistry.repositories.downloadArtifacts", "artifactregistry.repositories.get"),
        "pubsub.topics.publish",
    ),
    "roles/cloudbuild.serviceAgent": (
        *(*_WRITES_IMAGES, "artifactregistry.repositories.deleteArtifacts", "cloudbuild.*", *_PROJECT, *_OBJECTS),
        *("compute.networks.get", "compute.subnetworks.get", "iam.serviceAccounts.get", *_TOKENS),
        *("logging.logEntries.create", "logging.logEntries.list", "serviceusage.services.use"),
        *(f"pubsub.subscriptions.{verb}" for verb in ("create", "delete", "get", "update")),
        *(f"pubsub.topics.{verb}" for verb in ("attachSubscription", "create", "get", "publish")),
        *("storage.buckets.create", "storage.buckets.get", "storage.buckets.list", "storage.objects.update"),
    ),
    "roles/cloudfunctions.serviceAgent": (
        *("artifactregistry.*", "cloudbuild.*", "cloudfunctions.operations.*", *_PROJECT, *_OBJECTS),
        *(f"cloudfunctions.functions.{verb}" for verb in ("get", "invoke", "list")),
        *("iam.serviceAccounts.actAs", "iam.serviceAccounts.signBlob", *_TOKENS, "pubsub.subscriptions.*"),
        *(f"pubsub.topics.{verb}" for verb in ("attachSubscription", "create", "get", "list")),
        *("resourcemanager.projects.getIamPolicy", "run.jobs.run", "run.routes.invoke"),
        *(f"run.services.{verb}" for verb in ("create", "delete", "get", "getIamPolicy", "list", "update")),
        *("serviceusage.quotas.get", "serviceusage.services.disable", "serviceusage.services.enable"),
        *("serviceusage.services.get", "serviceusage.services.use"),
        *(f"storage.buckets.{verb}" for verb in ("create", "delete", "get", "update")),
    ),
    "roles/cloudscheduler.serviceAgent": (
        *(*_TOKENS, "logging.logEntries.create", "logging.logEntries.route", "pubsub.topics.publish"),
    ),
    "roles/dataflow.serviceAgent": (
        *("compute.*", "dataflow.jobs.*", "dataflow.messages.*", "dataflow.metrics.*", "pubsub.*", "storage.*"),
        *(
            f"iam.serviceAccounts.{verb}"
            for verb in ("actAs", "get", "getAccessToken", "implicitDelegation", "list", "signBlob", "signJwt")
        ),
        *("logging.logEntries.create", "logging.logEntries.route", "logging.notificationRules.*"),
        *("monitoring.*.get", "monitoring.*.list", *_WRITES_METRICS, "orgpolicy.policy.get", *_PROJECT),
        *(*_READS_SERVICES, "serviceusage.services.use"),
    ),
    "roles/dataproc.serviceAgent": (
        *("compute.instanceGroupManagers.update", "compute.instances.*", "compute.networks.get"),
        *("compute.projects.get", "compute.regions.get", "compute.subnetworks.*", "dataproc.clusters.*"),
        *("dataproc.jobs.*", "dataproc.operations.cancel", "iam.serviceAccounts.actAs"),
        *("iam.serviceAccounts.getAccessToken", "monitoring.metricDescriptors.list", "monitoring.timeSeries.*"),
        *("monitoring.monitoredResourceDescriptors.list", "orgpolicy.policy.get", *_PROJECT, *_READS_SERVICES),
        *("serviceusage.services.use", "storage.*"),
    ),
    "roles/pubsub.serviceAgent": (
        *(*_TOKENS, *_PROJECT, "serviceusage.services.use"),
        *(f"iam.serviceAccounts.{verb}" for verb in ("get", "implicitDelegation", "list", "signBlob", "signJwt")),
    ),
    "roles/run.serviceAgent": (
        *(*_READS_IMAGES, "artifactregistry.repositories.uploadArtifacts", "cloudbuild.builds.create"),
        *("cloudbuild.builds.get", "compute.networks.get", "compute.subnetworks.get", "compute.subnetworks.use"),
        *("iam.serviceAccounts.actAs", "iam.serviceAccounts.signBlob", *_TOKENS, *_PROJECT, *_OBJECTS),
        *("resourcemanager.projects.getIamPolicy", "run.routes.invoke", "serviceusage.services.get"),
        *("serviceusage.services.use", "storage.buckets.create", "storage.buckets.get", "storage.buckets.update"),
        "storage.objects.update",
    ),
    "roles/workflows.serviceAgent": ("iam.serviceAccounts.get", *_TOKENS, "serviceusage.services.use"),
}
"""``*`` is anything. A role that holds more holds what this system does not know."""


def _expanded(patterns: Iterable[str]) -> frozenset[str]:
    return frozenset(name for name in PERMISSIONS for pattern in patterns if fnmatchcase(name, pattern))


ROLES: dict[str, frozenset[str]] = {role: _expanded(patterns) for role, patterns in _PATTERNS.items()}
"""The known permissions of each role."""


def differences(described: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """What is otherwise in the roles that Google describes, a line each.

    Args:
        described: all permissions of each role.
    """
    there = {name for permissions in described.values() for name in permissions}
    yield from (f"{name}: no role holds it" for name in sorted(PERMISSIONS - there))
    for role, ours in ROLES.items():
        if role not in described:
            yield f"{role}: it is not there"
            continue
        theirs = {current(name) for name in described[role]} & PERMISSIONS
        yield from (f"{role}: no longer gives {name}" for name in sorted(ours - theirs))
        yield from (f"{role}: gives {name}, too" for name in sorted(theirs - ours))


def main(folders: list[str]) -> int:
    """Print the roles that are kept here or, given a folder of Google's, what differs from it; answers an exit code."""
    if not folders:
        print("\n".join(ROLES))
        return 0
    documents = [json.loads(path.read_text()) for path in sorted(Path(folders[0]).glob("*.json"))]
    found = list(differences({one["name"]: one.get("includedPermissions", ()) for one in documents}))
    print("\n".join(found) or f"{len(ROLES)} roles and {len(PERMISSIONS)} permissions are as they were on {DATE}.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
