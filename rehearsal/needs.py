"""Which permissions a call needs, on what, and who else needs which: the one table of that.

Each service's page says it: Pub/Sub https://cloud.google.com/pubsub/docs/access-control · Storage
https://cloud.google.com/storage/docs/access-control/iam-json · Datastore
https://cloud.google.com/datastore/docs/access/iam · Firestore https://firebase.google.com/docs/firestore/security/iam ·
Artifact Registry https://cloud.google.com/artifact-registry/docs/access-control · Cloud Build
https://cloud.google.com/build/docs/iam-roles-permissions · Functions
https://cloud.google.com/functions/docs/reference/iam/permissions · Run
https://cloud.google.com/run/docs/reference/iam/permissions · Dataflow
https://cloud.google.com/dataflow/docs/concepts/access-control · Dataproc
https://cloud.google.com/dataproc/docs/concepts/iam/iam · Workflows
https://cloud.google.com/workflows/docs/access-control · Scheduler
https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs · Monitoring
https://cloud.google.com/monitoring/access-control · IAM https://cloud.google.com/iam/docs/permissions-reference ·
Service Usage https://cloud.google.com/service-usage/docs/access-control · Resource Manager
https://cloud.google.com/resource-manager/docs/access-control-proj.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from lunation.deploy.stack import UNITS
from rehearsal.agents import AGENTS
from rehearsal.project import NUMBER
from rehearsal.recorder import Call
from schemas.storage_uri import StorageUri


class UnknownMethodError(Exception):
    """There is no row for a method."""


@dataclass(frozen=True, order=True)
class Need:
    """A permission on a resource.

    Args:
        permission: for example ``pubsub.topics.publish``.
        resource: its full name, for example ``projects/p/topics/t`` or ``projects/_/buckets/b/objects/o``.
        account: whose, by its address; empty: the caller's own.
        by: the service that acts as that account or looks at what it may, by the first part of its API's name; empty
            where the caller's own call is checked.
        must: False for what is done without where it is refused.
        follows: True for what happens when the call has been answered already: it cannot be refused any more.
    """

    permission: str
    resource: str
    account: str = ""
    by: str = ""
    must: bool = True
    follows: bool = False


Known = Mapping[str, Any]
"""What calls have told of resources, by their full names: subscriptions, functions, templates, workflows, jobs; for an
operation, the service that runs it."""

_PLAIN: dict[str, dict[str, tuple[str, str]]] = {
    "google.api.serviceusage.v1.ServiceUsage": {
        "GetService": ("serviceusage.services.get", "name"),
        "EnableService": ("serviceusage.services.enable", "name"),
        "DisableService": ("serviceusage.services.disable", "name"),
    },
    "google.cloud.resourcemanager.v3.Projects": {
        "GetProject": ("resourcemanager.projects.get", "name"),
        "GetIamPolicy": ("resourcemanager.projects.getIamPolicy", "resource"),
        "SetIamPolicy": ("resourcemanager.projects.setIamPolicy", "resource"),
    },
    "google.iam.admin.v1.IAM": {
        "GetServiceAccount": ("iam.serviceAccounts.get", "name"),
        "ListServiceAccounts": ("iam.serviceAccounts.list", "name"),
        "CreateServiceAccount": ("iam.serviceAccounts.create", "name"),
        "PatchServiceAccount": ("iam.serviceAccounts.update", "service_account.name"),
        "EnableServiceAccount": ("iam.serviceAccounts.enable", "name"),
        "DeleteServiceAccount": ("iam.serviceAccounts.delete", "name"),
        "GetIamPolicy": ("iam.serviceAccounts.getIamPolicy", "resource"),
        "SetIamPolicy": ("iam.serviceAccounts.setIamPolicy", "resource"),
        "GetRole": ("iam.roles.get", "name"),
        "ListRoles": ("iam.roles.list", "parent"),
        "CreateRole": ("iam.roles.create", "parent"),
        "UpdateRole": ("iam.roles.update", "name"),
        "DeleteRole": ("iam.roles.delete", "name"),
        "UndeleteRole": ("iam.roles.undelete", "name"),
    },
    "google.pubsub.v1.SchemaService": {
        "GetSchema": ("pubsub.schemas.get", "name"),
        "ListSchemas": ("pubsub.schemas.list", "parent"),
        "CreateSchema": ("pubsub.schemas.create", "parent"),
        "CommitSchema": ("pubsub.schemas.commit", "name"),
        "ListSchemaRevisions": ("pubsub.schemas.listRevisions", "name"),
        "DeleteSchemaRevision": ("pubsub.schemas.delete", "name"),
        "DeleteSchema": ("pubsub.schemas.delete", "name"),
    },
    "google.pubsub.v1.Publisher": {
        "GetTopic": ("pubsub.topics.get", "topic"),
        "ListTopics": ("pubsub.topics.list", "project"),
        "CreateTopic": ("pubsub.topics.create", "name"),
        "UpdateTopic": ("pubsub.topics.update", "topic.name"),
        "DeleteTopic": ("pubsub.topics.delete", "topic"),
        "Publish": ("pubsub.topics.publish", "topic"),
    },
    "google.pubsub.v1.Subscriber": {
        "GetSubscription": ("pubsub.subscriptions.get", "subscription"),
        "ListSubscriptions": ("pubsub.subscriptions.list", "project"),
        "CreateSubscription": ("pubsub.subscriptions.create", "name"),
        "UpdateSubscription": ("pubsub.subscriptions.update", "subscription.name"),
        "DeleteSubscription": ("pubsub.subscriptions.delete", "subscription"),
        "Pull": ("pubsub.subscriptions.consume", "subscription"),
        "StreamingPull": ("pubsub.subscriptions.consume", "subscription"),
        "Acknowledge": ("pubsub.subscriptions.consume", "subscription"),
        "ModifyAckDeadline": ("pubsub.subscriptions.consume", "subscription"),
    },
    "google.firestore.admin.v1.FirestoreAdmin": {
        # datastore.databases.get, of all things, is for transactions.
        "GetDatabase": ("datastore.databases.getMetadata", "name"),
        "CreateDatabase": ("datastore.databases.create", "parent"),
        "UpdateDatabase": ("datastore.databases.update", "database.name"),
        "DeleteDatabase": ("datastore.databases.delete", "name"),
        # datastore.indexes.*, by its new name: a field's time to live is a part of its indexes' configuration.
        "GetField": ("datastore.schemas.get", "name"),
        "UpdateField": ("datastore.schemas.update", "field.name"),
    },
    "google.devtools.artifactregistry.v1.ArtifactRegistry": {
        "GetRepository": ("artifactregistry.repositories.get", "name"),
        "CreateRepository": ("artifactregistry.repositories.create", "parent"),
        "UpdateRepository": ("artifactregistry.repositories.update", "repository.name"),
        "DeleteRepository": ("artifactregistry.repositories.delete", "name"),
        "GetIamPolicy": ("artifactregistry.repositories.getIamPolicy", "resource"),
        "SetIamPolicy": ("artifactregistry.repositories.setIamPolicy", "resource"),
        "GetTag": ("artifactregistry.tags.get", "name"),
        "DeleteTag": ("artifactregistry.tags.delete", "name"),
    },
    "google.devtools.cloudbuild.v1.CloudBuild": {
        "CreateBuild": ("cloudbuild.builds.create", "parent"),
        "ListBuilds": ("cloudbuild.builds.list", "parent"),
    },
    "google.cloud.functions.v2.FunctionService": {
        "GetFunction": ("cloudfunctions.functions.get", "name"),
        "ListFunctions": ("cloudfunctions.functions.list", "parent"),
        "CreateFunction": ("cloudfunctions.functions.create", "parent"),
        "UpdateFunction": ("cloudfunctions.functions.update", "function.name"),
        "DeleteFunction": ("cloudfunctions.functions.delete", "name"),
    },
    "google.cloud.run.v2.Services": {
        "GetIamPolicy": ("run.services.getIamPolicy", "resource"),
        "SetIamPolicy": ("run.services.setIamPolicy", "resource"),
    },
    "google.cloud.dataproc.v1.WorkflowTemplateService": {
        "GetWorkflowTemplate": ("dataproc.workflowTemplates.get", "name"),
        "ListWorkflowTemplates": ("dataproc.workflowTemplates.list", "parent"),
        "CreateWorkflowTemplate": ("dataproc.workflowTemplates.create", "parent"),
        "UpdateWorkflowTemplate": ("dataproc.workflowTemplates.update", "template.name"),
        "DeleteWorkflowTemplate": ("dataproc.workflowTemplates.delete", "name"),
        "InstantiateWorkflowTemplate": ("dataproc.workflowTemplates.instantiate", "name"),
    },
    "google.cloud.workflows.v1.Workflows": {
        "GetWorkflow": ("workflows.workflows.get", "name"),
        "ListWorkflows": ("workflows.workflows.list", "parent"),
        "CreateWorkflow": ("workflows.workflows.create", "parent"),
        "UpdateWorkflow": ("workflows.workflows.update", "workflow.name"),
        "DeleteWorkflow": ("workflows.workflows.delete", "name"),
    },
    "google.cloud.workflows.executions.v1.Executions": {
        "CreateExecution": ("workflows.executions.create", "parent"),
        "GetExecution": ("workflows.executions.get", "name"),
        "ListExecutions": ("workflows.executions.list", "parent"),
    },
    "google.cloud.scheduler.v1.CloudScheduler": {
        "GetJob": ("cloudscheduler.jobs.get", "name"),
        "ListJobs": ("cloudscheduler.jobs.list", "parent"),
        "CreateJob": ("cloudscheduler.jobs.create", "parent"),
        "UpdateJob": ("cloudscheduler.jobs.update", "job.name"),
        "DeleteJob": ("cloudscheduler.jobs.delete", "name"),
        "RunJob": ("cloudscheduler.jobs.run", "name"),
        "ResumeJob": ("cloudscheduler.jobs.enable", "name"),
    },
    "google.monitoring.v3.MetricService": {"ListTimeSeries": ("monitoring.timeSeries.list", "name")},
    "google.monitoring.v3.AlertPolicyService": {
        "ListAlertPolicies": ("monitoring.alertPolicies.list", "name"),
        "GetAlertPolicy": ("monitoring.alertPolicies.get", "name"),
        "CreateAlertPolicy": ("monitoring.alertPolicies.create", "name"),
        "UpdateAlertPolicy": ("monitoring.alertPolicies.update", "alert_policy.name"),
        "DeleteAlertPolicy": ("monitoring.alertPolicies.delete", "name"),
    },
    "google.monitoring.v3.NotificationChannelService": {
        "ListNotificationChannels": ("monitoring.notificationChannels.list", "name"),
        "CreateNotificationChannel": ("monitoring.notificationChannels.create", "name"),
        "UpdateNotificationChannel": ("monitoring.notificationChannels.update", "notification_channel.name"),
        "DeleteNotificationChannel": ("monitoring.notificationChannels.delete", "name"),
    },
    "google.monitoring.dashboard.v1.DashboardsService": {
        "ListDashboards": ("monitoring.dashboards.list", "parent"),
        "GetDashboard": ("monitoring.dashboards.get", "name"),
        "CreateDashboard": ("monitoring.dashboards.create", "parent"),
        "UpdateDashboard": ("monitoring.dashboards.update", "dashboard.name"),
        "DeleteDashboard": ("monitoring.dashboards.delete", "name"),
    },
}
"""The caller's permission, and the field of the request that names the resource: what most methods need."""

_OF_A_PROJECT: dict[str, tuple[str, ...]] = {
    "google.datastore.v1.Datastore.Lookup": ("datastore.entities.get",),
    # Keys alone need the first only.
    "google.datastore.v1.Datastore.RunQuery": ("datastore.entities.list", "datastore.entities.get"),
    "google.datastore.v1.Datastore.RunAggregationQuery": ("datastore.entities.list", "datastore.entities.get"),
    "google.datastore.v1.Datastore.BeginTransaction": ("datastore.databases.get",),
    "google.datastore.v1.Datastore.Rollback": ("datastore.databases.get",),
    "google.datastore.v1.Datastore.AllocateIds": ("datastore.entities.allocateIds",),
    "google.datastore.admin.v1.DatastoreAdmin.GetIndex": ("datastore.schemas.get",),
    "google.datastore.admin.v1.DatastoreAdmin.ListIndexes": ("datastore.schemas.list",),
    "google.datastore.admin.v1.DatastoreAdmin.CreateIndex": ("datastore.schemas.create",),
    "google.datastore.admin.v1.DatastoreAdmin.DeleteIndex": ("datastore.schemas.delete",),
    "google.dataflow.v1beta3.FlexTemplatesService.LaunchFlexTemplate": ("dataflow.jobs.create",),
    "google.dataflow.v1beta3.JobsV1Beta3.CreateJob": ("dataflow.jobs.create",),
    "google.dataflow.v1beta3.JobsV1Beta3.GetJob": ("dataflow.jobs.get",),
    "google.dataflow.v1beta3.JobsV1Beta3.ListJobs": ("dataflow.jobs.list",),
    "google.dataflow.v1beta3.JobsV1Beta3.AggregatedListJobs": ("dataflow.jobs.list",),
    "google.dataflow.v1beta3.MessagesV1Beta3.ListJobMessages": ("dataflow.messages.list",),
    # Draining is a way to cancel.
    "google.dataflow.v1beta3.JobsV1Beta3.UpdateJob": ("dataflow.jobs.cancel",),
}
"""The caller's permissions on the project that the request's ``project_id`` names."""

_OPERATIONS = {
    "google.api.serviceusage.v1.ServiceUsage": ("serviceusage.operations.get",),
    "google.cloud.dataproc.v1.WorkflowTemplateService": ("dataproc.operations.get",),
    "google.cloud.functions.v2.FunctionService": ("cloudfunctions.operations.get",),
    "google.cloud.workflows.v1.Workflows": ("workflows.operations.get",),
    "google.datastore.admin.v1.DatastoreAdmin": ("datastore.operations.get",),
    "google.devtools.artifactregistry.v1.ArtifactRegistry": (),  # none is documented
    "google.devtools.cloudbuild.v1.CloudBuild": ("cloudbuild.operations.get",),
    "google.firestore.admin.v1.FirestoreAdmin": ("datastore.operations.get",),
}
"""What looking at an operation needs, by the service that runs it."""

_FILES = ("storage.buckets.get", *(f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list")))
_LOGS = ("logging.logEntries.create", "logging.logEntries.route")

_DATAFLOW_WORKER = (
    *("autoscaling.sites.readRecommendations", "autoscaling.sites.writeMetrics", "autoscaling.sites.writeState"),
    *("compute.instanceGroupManagers.update", "compute.instances.delete", "compute.instances.setDiskAutoDelete"),
    *("dataflow.jobs.get", "dataflow.shuffle.read", "dataflow.shuffle.write"),
    *(f"dataflow.streamingWorkItems.{verb}" for verb in ("ImportState", "commitWork", "getData", "getWork",
                                                         "getWorkerMetadata")),
    *("dataflow.workItems.lease", "dataflow.workItems.sendMessage", "dataflow.workItems.update"),
    *(*_LOGS, "monitoring.timeSeries.create"),
)  # fmt: skip
"""On the project: what roles/dataflow.worker holds, Cloud Storage apart. A custom role may stand in for it
(https://cloud.google.com/dataflow/docs/concepts/security-and-permissions)."""

_DATAPROC_CHECKS = (
    *("dataproc.agents.create", "dataproc.agents.get", "dataproc.agents.update"),
    *("dataproc.tasks.lease", "dataproc.tasks.listInvalidatedLeases", "dataproc.tasks.reportStatus"),
)
"""What Dataproc looks for before it makes a cluster: it names these in its refusal."""

_DATAPROC_WORKER = (
    *(*_DATAPROC_CHECKS, "dataproc.agents.delete", "dataproc.agents.list", *_LOGS, "monitoring.timeSeries.create"),
    *(f"monitoring.metricDescriptors.{verb}" for verb in ("create", "get", "list")),
    *("monitoring.monitoredResourceDescriptors.get", "monitoring.monitoredResourceDescriptors.list"),
)
"""On the project: what roles/dataproc.worker holds for a cluster on virtual machines, Cloud Storage apart. A custom
role may stand in for it (https://cloud.google.com/dataproc/docs/concepts/configuring-clusters/service-accounts)."""


def needs(call: Call, known: Known, project: str) -> list[Need]:
    """All that ``call`` needs, of its caller and of others.

    Args:
        known: what earlier calls told.
        project: the project's id.

    Raises:
        UnknownMethodError: no row says it.
    """
    return list(_needs(call, known, project))


def _needs(call: Call, known: Known, project: str) -> Iterator[Need]:  # noqa: C901  # a branch for each form in which a service names what it needs
    request: Any = call.request
    service, _, name = call.method.rpartition(".")
    if name == "TestIamPermissions" or name.lower() == "generateserviceidentity":
        return  # anybody may ask what it may do; and making an agent needs nothing
    if call.method.startswith("storage."):
        yield from _storage(call, known)
    elif name == "GetOperation":
        runs = known.get(request.name)
        if runs is None:
            raise UnknownMethodError(f"{request.name}: no call of this rehearsal started that operation")
        yield from (Need(permission, request.name) for permission in _OPERATIONS[runs])
    elif call.method == "google.cloud.location.Locations.ListLocations" and call.judged_as:
        # Every service has this one; which it is tells the document that the request was held against.
        yield Need(f"{call.judged_as.partition('.')[0]}.locations.list", request.name)
    elif service == "google.iam.v1.IAMPolicy":  # Pub/Sub's, for each of its kinds
        kind = request.resource.split("/")[2]
        yield Need(f"pubsub.{kind}.{name[0].lower()}{name[1:]}", request.resource)
    elif call.method in _OF_A_PROJECT:
        for permission in _OF_A_PROJECT[call.method]:
            yield Need(permission, f"projects/{request.project_id}")
    elif call.method == "google.datastore.v1.Datastore.Commit":
        yield from _commit(request)
    elif call.method == "telemetry.metrics.write":
        # roles/telemetry.metricsWriter is this one permission.
        yield Need("monitoring.timeSeries.create", f"projects/{project}")
    elif call.method == "functions.invoke":
        yield Need("run.routes.invoke", _service(str(request), known))
    elif name in _PLAIN.get(service, {}):
        permission, field = _PLAIN[service][name]
        yield Need(permission, _value(request, field))
    else:
        raise UnknownMethodError(f"{call.method}: rehearsal/needs.py does not say which permissions it needs")
    others = _OTHERS.get(call.method)
    if others is not None:
        yield from others(request, known, project)


def _value(request: Any, path: str) -> str:
    for part in path.split("."):
        request = getattr(request, part)
    return str(request)


# --- Datastore


def _commit(request: Any) -> Iterator[Need]:
    verbs = {"insert": ("create",), "update": ("update",), "upsert": ("create", "update"), "delete": ("delete",)}
    named = {verb for one in request.mutations for verb in verbs[one.WhichOneof("operation")]}
    for verb in sorted(named):
        yield Need(f"datastore.entities.{verb}", f"projects/{request.project_id}")
    if not named:
        yield Need("datastore.databases.get", f"projects/{request.project_id}")


# --- Cloud Storage


def _storage(call: Call, known: Known) -> Iterator[Need]:
    path, query = storage_path(call), parse_qs(urlsplit(str(call.request)).query)
    _, kind, verb = call.method.split(".")
    if kind == "buckets":
        permission = {"insert": "create", "patch": "update", "getStorageLayout": "get"}.get(verb, verb)
        resource = f"projects/{query['project'][0]}" if verb in ("insert", "list") else path
        # Google's client looks a bucket up in the background, for its traces; refused, it does without
        # (google/cloud/storage/_bucket_metadata_cache.py).
        yield Need(f"storage.buckets.{permission}", resource, must=verb != "get" or call.caller not in UNITS)
    elif verb == "list":
        yield Need("storage.objects.list", path)
    elif "upload_id" not in query:  # that upload was allowed when it began
        permissions = {"insert": ("create",), "patch": ("update",), "rewrite": ("get", "create"),
                       "copy": ("get", "create"), "compose": ("get", "create")}.get(verb, (verb,))  # fmt: skip
        for permission in permissions:
            yield Need(f"storage.objects.{permission}", path)
        # Taking an object's place deletes it; a writer that wants none to be there asks for that.
        if verb == "insert" and path in known and query.get("ifGenerationMatch") != ["0"]:
            yield Need("storage.objects.delete", path)


def storage_path(call: Call) -> str:
    """The full name of the bucket or object that a call to Cloud Storage names; that of its bucket for a list."""
    address = urlsplit(str(call.request))
    parts = address.path.split("/")
    parts = [unquote(part) for part in parts[parts.index("b") + 1 :]]
    bucket = f"projects/_/buckets/{parts[0]}" if parts else ""
    if call.method == "storage.objects.insert":
        named = parse_qs(address.query).get("name", [""])[0] or _named(call.body)
        return f"{bucket}/objects/{named}"
    if call.method.startswith("storage.objects.") and len(parts) > 2:
        return f"{bucket}/objects/{parts[2]}"
    return bucket


def _named(body: bytes) -> str:
    """The name in an upload's description, which is the whole body or the first part of it."""
    start = body.find(b"{")
    try:
        document, _ = json.JSONDecoder().raw_decode(body[start:].decode("utf-8", "replace"))
    except ValueError:
        return ""
    return str(document.get("name", ""))


# --- what others need


def _account(name: str) -> str:
    """An address, from itself or from a full resource name."""
    return name.rsplit("/", 1)[-1]


def _acts_as(account: str, project: str) -> Iterator[Need]:
    """Whoever makes something run as an account must be allowed to act as it
    (https://cloud.google.com/iam/docs/attach-service-accounts)."""
    if account:
        yield Need("iam.serviceAccounts.actAs", f"projects/{project}/serviceAccounts/{_account(account)}")


def _agent(service: str, permission: str, resource: str, *, follows: bool = False) -> Need:
    return Need(permission, resource, AGENTS[service].email, follows=follows)


def _object(uri: str) -> str:
    parsed = StorageUri.parse(uri)
    return f"projects/_/buckets/{parsed.bucket}/objects/{parsed.path}"


def _repository(image: str) -> str:
    """The repository that an image's name begins with; empty if it lies elsewhere."""
    host, *rest = image.split("/")
    location = host.removesuffix("-docker.pkg.dev")
    return "" if location == host else f"projects/{rest[0]}/locations/{location}/repositories/{rest[1]}"


def _builds(account: str, source: str, repositories: list[str], project: str) -> Iterator[Need]:
    """What a build account needs: https://cloud.google.com/functions/docs/securing/build-custom-sa names
    roles/logging.logWriter, artifactregistry.writer and storage.objectViewer, of which a list of the bucket's objects
    is not seen to be needed."""
    yield Need("storage.objects.get", source, account, "cloudbuild")
    yield Need("storage.objects.list", source.partition("/objects/")[0], account, "cloudbuild", must=False)
    yield Need("logging.logEntries.create", f"projects/{project}", account, "cloudbuild")
    for repository in repositories:
        if repository.startswith(f"projects/{project}/"):  # what another project allows is kept there
            yield Need("artifactregistry.repositories.uploadArtifacts", repository, account, "cloudbuild")
            yield Need("artifactregistry.repositories.downloadArtifacts", repository, account, "cloudbuild")


def _build(request: Any, known: Known, project: str) -> Iterator[Need]:
    build = request.build
    yield from _acts_as(build.service_account, project)
    source = build.source.storage_source
    account = _account(build.service_account)
    yield _agent("cloudbuild", "iam.serviceAccounts.getAccessToken", f"projects/{project}/serviceAccounts/{account}")
    uri = f"gs://{source.bucket}/{source.object_}"
    yield from _builds(account, _object(uri), [_repository(image) for image in build.images], project)


def _function(request: Any, known: Known, project: str) -> Iterator[Need]:
    """A function is built, put into a repository, and made a service of Cloud Run."""
    function = request.function
    runs, built = function.service_config.service_account_email, function.build_config.service_account
    yield from _acts_as(runs, project)
    yield from _acts_as(built, project)
    place = f"projects/{project}"
    yield _agent("cloudfunctions", "cloudbuild.builds.create", place)
    yield _agent("cloudfunctions", "run.services.create", place)
    if runs:
        yield _agent("cloudfunctions", "iam.serviceAccounts.actAs", f"{place}/serviceAccounts/{runs}")
        yield _agent("run", "iam.serviceAccounts.getAccessToken", f"{place}/serviceAccounts/{runs}")
    if built:
        region = (getattr(request, "parent", "") or function.name).split("/locations/")[1].split("/")[0]
        short = getattr(request, "function_id", "") or function.name.rsplit("/", 1)[1]
        source = f"projects/_/buckets/gcf-v2-sources-{NUMBER}-{region}/objects/{short}/function-source.zip"
        yield from _builds(_account(built), source, [function.build_config.docker_repository], project)


def _launch(request: Any, known: Known, project: str) -> Iterator[Need]:
    """The launcher and the workers run as the job's account; the service makes the machines
    (https://cloud.google.com/dataflow/docs/guides/templates/run-flex-templates)."""
    wanted = request.launch_parameter
    account = wanted.environment.service_account_email
    yield from _acts_as(account, project)
    place = f"projects/{project}"
    yield _agent("dataflow", "compute.instances.create", place)
    yield _agent("dataflow", "iam.serviceAccounts.getAccessToken", f"{place}/serviceAccounts/{account}")
    if wanted.container_spec_gcs_path:
        yield _agent("dataflow", "storage.objects.get", _object(wanted.container_spec_gcs_path))
    for permission in _DATAFLOW_WORKER:
        yield Need(permission, place, account, "dataflow")
    image = _repository(wanted.environment.sdk_container_image)
    if image:
        yield Need("artifactregistry.repositories.downloadArtifacts", image, account, "dataflow")
    folders = (wanted.environment.temp_location, wanted.environment.staging_location)
    for bucket in sorted({_object(one).partition("/objects/")[0] for one in folders if one}):
        for permission in _FILES:
            yield Need(permission, bucket, account, "dataflow")
    for value in sorted(set(wanted.parameters.values())):
        if value.startswith(f"{place}/subscriptions/"):
            # Dataflow looks at a subscription before it reads.
            yield Need("pubsub.subscriptions.get", value, account, "dataflow")
            yield Need("pubsub.subscriptions.consume", value, account, "dataflow")
        elif value.startswith(f"{place}/topics/"):
            yield Need("pubsub.topics.publish", value, account, "dataflow")


def _cluster(request: Any, known: Known, project: str) -> Iterator[Need]:
    """A template's cluster runs as the account that it names."""
    template = known.get(request.name)
    if template is None:
        return
    config = template.placement.managed_cluster.config
    account = config.gce_cluster_config.service_account
    yield from _acts_as(account, project)
    place = f"projects/{project}"
    yield _agent("dataproc", "compute.instances.create", place)
    yield _agent("dataproc", "iam.serviceAccounts.actAs", f"{place}/serviceAccounts/{account}")
    for permission in _DATAPROC_WORKER:
        yield Need(permission, place, account, "dataproc")
    staging = {f"projects/_/buckets/{name}" for name in (config.config_bucket, config.temp_bucket) if name}
    read = {one for job in template.jobs for one in (job.pyspark_job.main_python_file_uri,
                                                     *job.pyspark_job.python_file_uris)}  # fmt: skip
    for uri in sorted(read):
        yield Need("storage.objects.get", _object(uri), account, "dataproc")
    arguments = [dict(zip(job.pyspark_job.args[::2], job.pyspark_job.args[1::2], strict=False))
                 for job in template.jobs]  # fmt: skip
    # The Cloud Storage connector lists, reads and renames, and falls back to looking at the bucket
    # (https://github.com/GoogleCloudDataproc/hadoop-connectors/issues/135).
    staging |= {_object(one["--archive"]).partition("/objects/")[0] for one in arguments if "--archive" in one}
    for bucket in sorted(staging):
        for permission in _FILES:
            yield Need(permission, bucket, account, "dataproc")
    # No Spark reads or writes the models: spark/objects.py does, by Google's client for single objects.
    for bucket in sorted(
        {_object(one["--models"]).partition("/objects/")[0] for one in arguments if "--models" in one}
    ):
        for verb in ("create", "get", "list"):
            yield Need(f"storage.objects.{verb}", bucket, account, "dataproc")


def _workflow(request: Any, known: Known, project: str) -> Iterator[Need]:
    yield from _acts_as(request.workflow.service_account, project)


def _execution(request: Any, known: Known, project: str) -> Iterator[Need]:
    """The workflow runs as its account, and writes its log as that."""
    workflow = known.get(request.parent)
    account = _account(workflow.service_account) if workflow is not None else ""
    if account:
        resource = f"projects/{project}/serviceAccounts/{account}"
        yield _agent("workflows", "iam.serviceAccounts.getAccessToken", resource, follows=True)
        place = f"projects/{project}"
        yield Need("logging.logEntries.create", place, account, "workflows", follows=True)


def _job(request: Any, known: Known, project: str) -> Iterator[Need]:
    yield from _acts_as(request.job.http_target.oauth_token.service_account_email, project)


def _run_job(request: Any, known: Known, project: str) -> Iterator[Need]:
    job = known.get(request.name)
    account = job.http_target.oauth_token.service_account_email if job is not None else ""
    if account:
        resource = f"projects/{project}/serviceAccounts/{account}"
        yield _agent("cloudscheduler", "iam.serviceAccounts.getAccessToken", resource, follows=True)


def _subscription(request: Any, known: Known, project: str) -> Iterator[Need]:
    """https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions: who sets up a push acts as its account."""
    wanted = request.subscription if "subscription" in request.DESCRIPTOR.fields_by_name else request
    if request is wanted:
        yield Need("pubsub.topics.attachSubscription", wanted.topic)
    yield from _acts_as(wanted.push_config.oidc_token.service_account_email, project)


def _publish(request: Any, known: Known, project: str) -> Iterator[Need]:
    """What is published is pushed: the agent signs a token, and calls the function as the account of the push. What is
    refused too often it takes out and publishes as a dead letter
    (https://cloud.google.com/pubsub/docs/handling-failures#grant_forwarding_permissions)."""
    for name, one in list(known.items()):
        if "/subscriptions/" not in name or getattr(one, "topic", "") != request.topic:
            continue
        account = one.push_config.oidc_token.service_account_email
        if account:
            resource = f"projects/{project}/serviceAccounts/{account}"
            yield _agent("pubsub", "iam.serviceAccounts.getOpenIdToken", resource, follows=True)
            called = _service(one.push_config.push_endpoint.rstrip("/"), known)
            if called:
                yield Need("run.routes.invoke", called, account, "pubsub", follows=True)
        if one.dead_letter_policy.dead_letter_topic:
            yield _agent("pubsub", "pubsub.subscriptions.consume", name, follows=True)
            topic = one.dead_letter_policy.dead_letter_topic
            yield _agent("pubsub", "pubsub.topics.publish", topic, follows=True)


def _service(function: str, known: Known) -> str:
    """The Cloud Run service beneath a function, by the function's short name or by its address; empty if unknown."""
    for name, one in list(known.items()):
        if "/functions/" in name and function in (name.rsplit("/", 1)[1], one.service_config.uri.rstrip("/")):
            return name.replace("/functions/", "/services/")
    return ""


def _alert(verb: str) -> Any:
    """An alert that matches log entries keeps a rule of Cloud Logging's, which no role of Monitoring's lets one make
    (https://cloud.google.com/logging/docs/alerting/log-based-alerts)."""

    def of(request: Any, known: Known, project: str) -> Iterator[Need]:
        conditions = request.alert_policy.conditions
        if any(one.WhichOneof("condition") == "condition_matched_log" for one in conditions):
            yield Need(f"logging.notificationRules.{verb}", f"projects/{project}")

    return of


_OTHERS = {
    "google.cloud.dataproc.v1.WorkflowTemplateService.InstantiateWorkflowTemplate": _cluster,
    "google.cloud.functions.v2.FunctionService.CreateFunction": _function,
    "google.cloud.functions.v2.FunctionService.UpdateFunction": _function,
    "google.cloud.scheduler.v1.CloudScheduler.CreateJob": _job,
    "google.cloud.scheduler.v1.CloudScheduler.RunJob": _run_job,
    "google.cloud.scheduler.v1.CloudScheduler.UpdateJob": _job,
    "google.cloud.workflows.executions.v1.Executions.CreateExecution": _execution,
    "google.cloud.workflows.v1.Workflows.CreateWorkflow": _workflow,
    "google.cloud.workflows.v1.Workflows.UpdateWorkflow": _workflow,
    "google.dataflow.v1beta3.FlexTemplatesService.LaunchFlexTemplate": _launch,
    "google.devtools.cloudbuild.v1.CloudBuild.CreateBuild": _build,
    "google.monitoring.v3.AlertPolicyService.CreateAlertPolicy": _alert("create"),
    "google.monitoring.v3.AlertPolicyService.UpdateAlertPolicy": _alert("update"),
    "google.pubsub.v1.Publisher.Publish": _publish,
    "google.pubsub.v1.Subscriber.CreateSubscription": _subscription,
    "google.pubsub.v1.Subscriber.UpdateSubscription": _subscription,
}
"""What is needed beside the caller's own permission for the method."""
