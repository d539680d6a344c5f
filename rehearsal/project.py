"""A project at Google's, as far as a deployment talks to it and the laptop's servers do not stand in: kept in memory.

It answers what the services answer to the calls that a deployment makes, with names, etags and operations in their
form, and refuses any other call by its name. What it is asked to keep has been judged already (:mod:`.validation`).
"""

import hashlib
import itertools
import time
from collections.abc import Callable
from typing import Any

from google.iam.v1 import policy_pb2
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.protobuf.message import Message

from laptop.errors import ServiceError, already_exists, invalid, not_found
from laptop.surface import Rpc
from rehearsal.clock import Clock
from rehearsal.revisions import MOST_REVISIONS, refused
from rehearsal.surroundings import Surroundings

NUMBER = "123456789012"
"""The project's number."""
DAY = 24 * 3600
ROLE_BACK_DAYS, ROLE_TAKEN_DAYS = 7, 37
"""For how long a deleted custom role can be had back, and for how long its id is taken: after the 7 days the role "is
scheduled for permanent deletion. This process takes 30 days. During the 30 day window … you cannot create a new role
with the same role ID" (https://cloud.google.com/iam/docs/creating-custom-roles#deleting-custom-role, quoted in
https://github.com/terraform-google-modules/terraform-google-bastion-host/issues/14)."""
ACCOUNT_BACK_DAYS = 30
"""https://cloud.google.com/iam/docs/reference/rest/v1/projects.serviceAccounts/delete"""

Handler = Callable[["Project", Any], Message]
_HANDLERS: dict[str, Handler] = {}


def answers(*methods: str) -> Callable[[Handler], Handler]:
    """Register what answers ``methods``, full names such as ``google.iam.admin.v1.IAM.GetRole``."""

    def register(handler: Handler) -> Handler:
        for method in methods:
            _HANDLERS[method] = handler
        return handler

    return register


class Project:
    """What there is, by resource name.

    Args:
        project: its id. A request for another one is answered as for a project that is not there.
        clock: tells how long ago a thing was deleted.
    """

    def __init__(self, project: str, clock: Clock | None = None) -> None:
        self.project = project
        self.clock = clock or Clock()
        self.things: dict[str, Any] = {}
        self.policies: dict[str, policy_pb2.Policy] = {}
        self.deleted: list[str] = []
        self.deleted_at: dict[str, float] = {}
        """When what can be had back, or whose name stays taken, was deleted, by its name; an account's by its id."""
        self.agents: set[str] = set()
        """The e-mail addresses of Google's service agents that are there: none, until something makes them."""
        self.operations: dict[str, operations_pb2.Operation] = {}
        """Those that somebody may ask for again."""
        self.surroundings = Surroundings()
        self.exists = True
        """Whether the project is there, or may be seen."""
        self.state = "ACTIVE"
        """As Resource Manager calls it; ``DELETE_REQUESTED`` is another."""
        self.lacks: set[str] = set()
        """Permissions that whoever asks does not have on the project."""
        self._ids = itertools.count(1)

    async def answer(self, rpc: Rpc, request: Message) -> Message:
        """Answer one call.

        Raises:
            ServiceError: as the service would, or UNIMPLEMENTED.
        """
        method = f"{rpc.service}.{rpc.name}"
        handler = _HANDLERS.get(method)
        if rpc.name == "TestIamPermissions":
            return self.permissions(rpc, request)
        if rpc.name == "GetIamPolicy":
            return self.policy(request.resource)  # type: ignore[attr-defined]
        if rpc.name == "SetIamPolicy":
            return self.set_policy(request.resource, request.policy)  # type: ignore[attr-defined]
        if handler is None:
            raise ServiceError("UNIMPLEMENTED", f"{method}: the rehearsal does not answer this call")
        return handler(self, request)

    # --- things

    def next_id(self) -> int:
        """A number that the service would choose."""
        return next(self._ids)

    def get(self, name: str) -> Any:
        """The thing called ``name``.

        Raises:
            ServiceError: NOT_FOUND.
        """
        if name not in self.things:
            raise not_found(name)
        return self.things[name]

    def add(self, name: str, thing: Any) -> Any:
        """Keep a new thing.

        Raises:
            ServiceError: ALREADY_EXISTS.
        """
        if name in self.things:
            raise already_exists(name)
        return self.put(name, thing)

    def put(self, name: str, thing: Any) -> Any:
        """Keep a thing as it is now, with a new etag if its kind has one."""
        kept = type(thing)()
        kept.CopyFrom(thing)
        if "etag" in kept.DESCRIPTOR.fields_by_name:
            kept.ClearField("etag")
            digest = hashlib.sha256(kept.SerializeToString(deterministic=True)).hexdigest()[:16]
            kept.etag = digest.encode() if isinstance(kept.etag, bytes) else digest
        self.things[name] = kept
        return kept

    def change(self, name: str, wanted: Any, paths: list[str]) -> Any:
        """Take the fields ``paths`` of ``wanted``; all it fills, without paths.

        Raises:
            ServiceError: NOT_FOUND, or ABORTED for an etag that is not the current one.
        """
        current = self.get(name)
        if getattr(wanted, "etag", None) and wanted.etag != current.etag:
            raise ServiceError("ABORTED", f"{name}: it was changed since it was read (etag)")
        changed = type(current)()
        changed.CopyFrom(current)
        for path in paths or [field.name for field, _ in wanted.ListFields()]:
            field = changed.DESCRIPTOR.fields_by_name.get(path) or changed.DESCRIPTOR.fields_by_name.get(path + "_")
            if field is None:
                raise invalid(f"update_mask: {path} is no field of {changed.DESCRIPTOR.name}")
            changed.ClearField(field.name)
            part = type(current)()
            for filled, value in wanted.ListFields():
                if filled.name == field.name:
                    if filled.is_repeated:
                        getattr(part, filled.name).MergeFrom(value)
                    elif filled.message_type is not None:
                        getattr(part, filled.name).CopyFrom(value)
                    else:
                        setattr(part, filled.name, value)
            changed.MergeFrom(part)
        return self.put(name, changed)

    def remove(self, name: str) -> empty_pb2.Empty:
        """Take a thing away.

        Raises:
            ServiceError: NOT_FOUND.
        """
        self.get(name)
        del self.things[name]
        self.deleted.append(name)
        self.deleted_at[name] = self.clock.now
        self.policies = {key: one for key, one in self.policies.items() if not key.startswith(name)}
        return empty_pb2.Empty()

    def days_deleted(self, name: str) -> float:
        """For how many days a thing has been deleted; endless for one that never was."""
        return (self.clock.now - self.deleted_at[name]) / DAY if name in self.deleted_at else float("inf")

    def uid(self, email: str) -> str | None:
        """The id of the service account that has the address now; None if none has it."""
        found = self.things.get(f"projects/{self.project}/serviceAccounts/{email}")
        return None if found is None else str(found.unique_id)

    def below(self, prefix: str) -> list[Any]:
        """The things whose names begin with ``prefix``."""
        return [thing for name, thing in sorted(self.things.items()) if name.startswith(prefix)]

    # --- policies

    def policy(self, resource: str) -> policy_pb2.Policy:
        """The policy of a thing that is there; an empty one if none was set."""
        if resource != f"projects/{self.project}":
            self.get(resource)
        return self.policies.get(resource, policy_pb2.Policy(version=1, etag=b"0"))

    def set_policy(self, resource: str, policy: policy_pb2.Policy) -> policy_pb2.Policy:
        """Replace a policy.

        Raises:
            ServiceError: ABORTED, if it was changed since its etag was read; INVALID_ARGUMENT for an unknown member.
        """
        if policy.etag != self.policy(resource).etag:
            raise ServiceError("ABORTED", f"{resource}: the policy was changed since it was read (etag)")
        for binding in policy.bindings:
            if binding.HasField("condition") and policy.version != 3:
                raise invalid(f"{resource}: a policy with conditions has version 3")
            for member in binding.members:
                self._check_member(member)
        kept = policy_pb2.Policy()
        kept.CopyFrom(policy)
        # Without an update_mask, the request replaces `bindings` and the etag only (SetIamPolicyRequest in
        # https://cloud.google.com/resource-manager/reference/rest/v3/projects/setIamPolicy).
        kept.ClearField("audit_configs")
        kept.audit_configs.extend(self.policy(resource).audit_configs)
        kept.etag = hashlib.sha256(kept.SerializeToString(deterministic=True)).hexdigest()[:16].encode()
        self.policies[resource] = kept
        return kept

    def permissions(self, rpc: Rpc, request: Any) -> Message:
        """Those of the asked ones that whoever asks has."""
        self.policy(request.resource)
        return rpc.response(permissions=[one for one in request.permissions if one not in self.lacks])

    def _check_member(self, member: str) -> None:
        email = member.removeprefix("serviceAccount:")
        if member.startswith("serviceAccount:") and email.endswith(f"@{self.project}.iam.gserviceaccount.com"):
            try:
                self.get(f"projects/{self.project}/serviceAccounts/{email}")
            except ServiceError:
                raise invalid(f"Service account {email} does not exist.") from None


class Empty:
    """Answers for a service in which there is nothing yet."""

    async def answer(self, rpc: Rpc, request: Message) -> Message:
        """NOT_FOUND for what is asked by name, nothing for a list.

        Raises:
            ServiceError: NOT_FOUND, or UNIMPLEMENTED for a call that changes something.
        """
        if rpc.name.startswith("List"):
            return rpc.response()
        if rpc.name.startswith("Get"):
            raise not_found(str(getattr(request, "name", "") or getattr(request, "resource", "")))
        raise ServiceError("UNIMPLEMENTED", f"{rpc.service}.{rpc.name}: this is a plan, nothing is made")


def done(response: Message) -> operations_pb2.Operation:
    """An operation that is over."""
    operation = operations_pb2.Operation(name=f"operations/{time.time_ns()}", done=True)
    operation.response.Pack(response)
    return operation


# --- Resource Manager and Service Usage

RESOURCE_MANAGER = "google.cloud.resourcemanager.v3.Projects"
SERVICE_USAGE = "google.api.serviceusage.v1.ServiceUsage"


@answers(f"{RESOURCE_MANAGER}.GetProject")
def _get_project(project: Project, request: Any) -> Message:
    from google.cloud.resourcemanager_v3 import types

    if not project.exists or request.name not in (f"projects/{project.project}", f"projects/{NUMBER}"):
        raise ServiceError(
            "PERMISSION_DENIED",
            "Permission 'resourcemanager.projects.get' denied on resource '//cloudresourcemanager.googleapis.com/"
            f"{request.name}' (or it may not exist).",
        )
    state = getattr(types.Project.State, project.state)
    return types.Project.pb()(name=f"projects/{NUMBER}", project_id=project.project, state=state)


@answers(f"{SERVICE_USAGE}.GetService")
def _get_service(project: Project, request: Any) -> Message:
    from google.cloud.service_usage_v1 import types

    return types.Service.pb()(name=request.name, state=2 if request.name in project.things else 1)


@answers(f"{SERVICE_USAGE}.BatchGetServices")
def _get_services(project: Project, request: Any) -> Message:
    from google.cloud.service_usage_v1 import types

    found = [types.Service.pb()(name=name, state=2 if name in project.things else 1) for name in request.names]
    return types.BatchGetServicesResponse.pb()(services=found)


@answers(f"{SERVICE_USAGE}.EnableService")
def _enable_service(project: Project, request: Any) -> Message:
    from google.cloud.service_usage_v1 import types

    service = types.Service.pb()(name=request.name, state=2)
    project.put(request.name, service)
    return done(types.EnableServiceResponse.pb()(service=service))


@answers(f"{SERVICE_USAGE}.DisableService")
def _disable_service(project: Project, request: Any) -> Message:
    from google.cloud.service_usage_v1 import types

    project.remove(request.name)
    return done(types.DisableServiceResponse.pb()())


# --- IAM

IAM = "google.iam.admin.v1.IAM"


@answers(f"{IAM}.GetServiceAccount")
def _get_account(project: Project, request: Any) -> Message:
    return project.get(request.name)


@answers(f"{IAM}.CreateServiceAccount")
def _create_account(project: Project, request: Any) -> Message:
    """The address of a deleted one is free at once, and the new one is somebody else: it has another id."""
    account = type(request.service_account)()
    account.CopyFrom(request.service_account)
    account.email = f"{request.account_id}@{project.project}.iam.gserviceaccount.com"
    account.name = f"{request.name}/serviceAccounts/{account.email}"
    account.project_id = project.project
    account.unique_id = account.oauth2_client_id = f"1{project.next_id():020d}"
    return project.add(account.name, account)


@answers(f"{IAM}.PatchServiceAccount")
def _patch_account(project: Project, request: Any) -> Message:
    return project.change(request.service_account.name, request.service_account, list(request.update_mask.paths))


@answers(f"{IAM}.EnableServiceAccount")
def _enable_account(project: Project, request: Any) -> Message:
    account = project.get(request.name)
    account.disabled = False
    return empty_pb2.Empty()


@answers(f"{IAM}.DeleteServiceAccount")
def _delete_account(project: Project, request: Any) -> Message:
    account = project.get(request.name)
    done = project.remove(request.name)
    kept = f"projects/{project.project}/deletedServiceAccounts/{account.unique_id}"
    project.things[kept], project.deleted_at[kept] = account, project.clock.now
    return done


@answers(f"{IAM}.UndeleteServiceAccount")
def _undelete_account(project: Project, request: Any) -> Message:
    """By its id; nothing has its address in the meantime."""
    from google.cloud.iam_admin_v1 import types

    kept = f"projects/{project.project}/deletedServiceAccounts/{request.name.rsplit('/', 1)[1]}"
    if project.days_deleted(kept) >= ACCOUNT_BACK_DAYS:
        raise not_found(request.name)
    account = project.get(kept)
    project.add(account.name, account)
    del project.things[kept]
    return types.UndeleteServiceAccountResponse.pb()(restored_account=account)


@answers(f"{IAM}.ListServiceAccounts")
def _list_accounts(project: Project, request: Any) -> Message:
    from google.cloud.iam_admin_v1 import types

    return types.ListServiceAccountsResponse.pb()(accounts=project.below(f"{request.name}/serviceAccounts/"))


@answers(f"{IAM}.GetRole")
def _get_role(project: Project, request: Any) -> Message:
    """A deleted one, too, while it can be had back; afterwards it is not found, though its id is taken.

    Seen in https://github.com/terraform-google-modules/terraform-google-bastion-host/issues/14: a provider that looks
    first (https://github.com/hashicorp/terraform-provider-google/pull/1681) goes on to create it, and is refused.
    """
    role = project.get(request.name)
    if role.deleted and project.days_deleted(request.name) >= ROLE_BACK_DAYS:
        raise not_found(request.name)
    return role


@answers(f"{IAM}.CreateRole")
def _create_role(project: Project, request: Any) -> Message:
    role = type(request.role)()
    role.CopyFrom(request.role)
    role.name = f"{request.parent}/roles/{request.role_id}"
    old = project.things.get(role.name)
    if old is not None and old.deleted:
        if project.days_deleted(role.name) < ROLE_TAKEN_DAYS:
            raise ServiceError(
                "FAILED_PRECONDITION",
                f"You can't create a role_id ({request.role_id}) which has been marked for deletion.",
            )
        del project.things[role.name]
    return project.add(role.name, role)


@answers(f"{IAM}.UpdateRole")
def _update_role(project: Project, request: Any) -> Message:
    if project.get(request.name).deleted:
        raise ServiceError("FAILED_PRECONDITION", f"{request.name}: a deleted role cannot be changed, only undeleted")
    return project.change(request.name, request.role, list(request.update_mask.paths))


@answers(f"{IAM}.DeleteRole", f"{IAM}.UndeleteRole")
def _delete_role(project: Project, request: Any) -> Message:
    current = project.get(request.name)
    if current.deleted and project.days_deleted(request.name) >= ROLE_BACK_DAYS:
        raise not_found(request.name)
    role = type(current)()
    role.CopyFrom(current)
    role.deleted = not role.deleted  # its name stays taken, as it does at Google's
    if role.deleted:
        project.deleted.append(request.name)
        project.deleted_at[request.name] = project.clock.now
    return project.put(request.name, role)


@answers(f"{IAM}.ListRoles")
def _list_roles(project: Project, request: Any) -> Message:
    from google.cloud.iam_admin_v1 import types

    roles = [role for role in project.below(f"{request.parent}/roles/") if not role.deleted]
    return types.ListRolesResponse.pb()(roles=roles)


# --- Pub/Sub schemas

SCHEMAS = "google.pubsub.v1.SchemaService"


@answers(f"{SCHEMAS}.GetSchema")
def _get_schema(project: Project, request: Any) -> Message:
    return project.get(request.name)


@answers(f"{SCHEMAS}.CreateSchema")
def _create_schema(project: Project, request: Any) -> Message:
    schema = type(request.schema)()
    schema.CopyFrom(request.schema)
    schema.name = f"{request.parent}/schemas/{request.schema_id}"
    schema.revision_id = f"{project.next_id():08x}"
    return _new_revision(project, project.add(schema.name, schema))


@answers(f"{SCHEMAS}.CommitSchema")
def _commit_schema(project: Project, request: Any) -> Message:
    current = project.get(request.name)
    if len(_revisions(project, request.name)) >= MOST_REVISIONS:
        raise ServiceError(
            "FAILED_PRECONDITION",
            f"{request.name}: a schema has at most {MOST_REVISIONS} revisions at a time; delete one first",
        )
    reason = refused(current.definition, request.schema.definition)
    if reason:
        raise invalid(f"{request.name}: {reason}")
    schema = type(current)()
    schema.CopyFrom(request.schema)
    schema.name, schema.revision_id = request.name, f"{project.next_id():08x}"
    return _new_revision(project, project.put(schema.name, schema))


def _new_revision(project: Project, schema: Any) -> Message:
    project.things[f"{schema.name}@{schema.revision_id}"] = schema
    return schema


def _revisions(project: Project, name: str) -> list[Any]:
    """Newest first."""
    found = [thing for key, thing in project.things.items() if key.startswith(f"{name}@")]
    return sorted(found, key=lambda one: one.revision_id, reverse=True)


@answers(f"{SCHEMAS}.ListSchemaRevisions")
def _list_revisions(project: Project, request: Any) -> Message:
    from google.pubsub_v1 import types

    project.get(request.name)
    return types.ListSchemaRevisionsResponse.pb()(schemas=_revisions(project, request.name))


@answers(f"{SCHEMAS}.DeleteSchemaRevision")
def _delete_revision(project: Project, request: Any) -> Message:
    name = request.name.partition("@")[0]
    if len(_revisions(project, name)) == 1:
        raise ServiceError("FAILED_PRECONDITION", f"{request.name}: the only revision cannot be deleted")
    project.get(request.name)
    del project.things[request.name]
    return project.put(name, _revisions(project, name)[0])


@answers(f"{SCHEMAS}.DeleteSchema")
def _delete_schema(project: Project, request: Any) -> Message:
    for revision in [key for key in project.things if key.startswith(f"{request.name}@")]:
        del project.things[revision]
    return project.remove(request.name)


@answers(f"{SCHEMAS}.ListSchemas")
def _list_schemas(project: Project, request: Any) -> Message:
    from google.pubsub_v1 import types

    found = [one for name, one in sorted(project.things.items())
             if name.startswith(f"{request.parent}/schemas/") and "@" not in name]  # fmt: skip
    return types.ListSchemasResponse.pb()(schemas=found)


# --- Firestore

FIRESTORE = "google.firestore.admin.v1.FirestoreAdmin"


@answers(f"{FIRESTORE}.GetDatabase")
def _get_database(project: Project, request: Any) -> Message:
    return project.get(request.name)


@answers(f"{FIRESTORE}.GetField")
def _get_field(project: Project, request: Any) -> Message:
    """A field that nobody configured is there, with what it inherits, wherever the database is.

    https://github.com/GoogleCloudPlatform/magic-modules/blob/main/mmv1/templates/terraform/custom_check_destroy/firestore_field.go.tmpl
    """
    from google.cloud.firestore_admin_v1 import types

    if request.name in project.things:
        return project.get(request.name)
    if "/".join(request.name.split("/")[:4]) not in project.things:
        raise ServiceError("NOT_FOUND", f"Project '{project.project}' or database '(default)' does not exist.")
    return types.Field.pb()(name=request.name, index_config={"uses_ancestor_config": True})


@answers(f"{FIRESTORE}.CreateDatabase")
def _create_database(project: Project, request: Any) -> Message:
    database = type(request.database)()
    database.CopyFrom(request.database)
    database.name = f"{request.parent}/databases/{request.database_id}"
    return done(project.add(database.name, database))


@answers(f"{FIRESTORE}.UpdateDatabase")
def _update_database(project: Project, request: Any) -> Message:
    return done(project.change(request.database.name, request.database, list(request.update_mask.paths)))


@answers(f"{FIRESTORE}.DeleteDatabase")
def _delete_database(project: Project, request: Any) -> Message:
    database = project.get(request.name)
    if database.delete_protection_state == 2:
        raise ServiceError("FAILED_PRECONDITION", f"{request.name}: delete protection is enabled")
    project.remove(request.name)
    project.things = {key: one for key, one in project.things.items() if not key.startswith(f"{request.name}/")}
    return done(database)


@answers(f"{FIRESTORE}.UpdateField")
def _update_field(project: Project, request: Any) -> Message:
    field = type(request.field)()
    field.CopyFrom(request.field)
    if field.HasField("ttl_config"):
        field.ttl_config.state = 2
    operation = done(project.put(field.name, field))
    operation.name = f"{'/'.join(field.name.split('/')[:4])}/operations/{project.next_id()}"
    project.operations[operation.name] = operation
    return operation


@answers("google.longrunning.Operations.GetOperation")
def _get_operation(project: Project, request: Any) -> Message:
    if request.name not in project.operations:
        raise not_found(request.name)
    return project.operations[request.name]


# --- Artifact Registry and Cloud Build

REGISTRY = "google.devtools.artifactregistry.v1.ArtifactRegistry"
BUILD = "google.devtools.cloudbuild.v1.CloudBuild"


@answers(f"{REGISTRY}.GetRepository", f"{REGISTRY}.GetTag")
def _get_registry(project: Project, request: Any) -> Message:
    return project.get(request.name)


@answers(f"{REGISTRY}.CreateRepository")
def _create_repository(project: Project, request: Any) -> Message:
    repository = type(request.repository)()
    repository.CopyFrom(request.repository)
    repository.name = f"{request.parent}/repositories/{request.repository_id}"
    return done(project.add(repository.name, repository))


@answers(f"{REGISTRY}.UpdateRepository")
def _update_repository(project: Project, request: Any) -> Message:
    return project.change(request.repository.name, request.repository, list(request.update_mask.paths))


@answers(f"{REGISTRY}.DeleteRepository")
def _delete_repository(project: Project, request: Any) -> Message:
    for tag in [name for name in project.things if name.startswith(f"{request.name}/packages/")]:
        project.remove(tag)
    return done(project.remove(request.name))


@answers(f"{REGISTRY}.DeleteTag")
def _delete_tag(project: Project, request: Any) -> Message:
    return project.remove(request.name)


@answers(f"{BUILD}.CreateBuild")
def _create_build(project: Project, request: Any) -> Message:
    from google.cloud.artifactregistry_v1 import types

    account = request.build.service_account
    project.get(account)
    for image in request.build.images:
        host, own, repository, rest = image.split("/", 3)
        package, _, tag = rest.partition(":")
        location = host.removesuffix("-docker.pkg.dev")
        parent = f"projects/{own}/locations/{location}/repositories/{repository}"
        project.get(parent)
        name = f"{parent}/packages/{package}/tags/{tag}"
        project.put(name, types.Tag.pb()(name=name, version=f"{parent}/packages/{package}/versions/sha256:0"))
    build = type(request.build)()
    build.CopyFrom(request.build)
    build.id, build.status = str(project.next_id()), 3
    return done(project.add(f"builds/{build.id}", build))


@answers(f"{BUILD}.ListBuilds")
def _list_builds(project: Project, request: Any) -> Message:
    from google.cloud.devtools.cloudbuild_v1 import types

    newest = sorted(project.below("builds/"), key=lambda build: -int(build.id))
    return types.ListBuildsResponse.pb()(builds=newest)


# --- Monitoring

ALERTS = "google.monitoring.v3.AlertPolicyService"
CHANNELS = "google.monitoring.v3.NotificationChannelService"
DASHBOARDS = "google.monitoring.dashboard.v1.DashboardsService"


@answers(f"{ALERTS}.ListAlertPolicies")
def _list_alerts(project: Project, request: Any) -> Message:
    from google.cloud.monitoring_v3 import types

    return types.ListAlertPoliciesResponse.pb()(alert_policies=project.below(f"{request.name}/alertPolicies/"))


@answers(f"{ALERTS}.CreateAlertPolicy")
def _create_alert(project: Project, request: Any) -> Message:
    policy = type(request.alert_policy)()
    policy.CopyFrom(request.alert_policy)
    policy.name = f"{request.name}/alertPolicies/{project.next_id()}"
    for index, condition in enumerate(policy.conditions):
        condition.name = f"{policy.name}/conditions/{index}"
    return project.add(policy.name, policy)


@answers(f"{ALERTS}.UpdateAlertPolicy")
def _update_alert(project: Project, request: Any) -> Message:
    return project.change(request.alert_policy.name, request.alert_policy, list(request.update_mask.paths))


@answers(f"{ALERTS}.DeleteAlertPolicy", f"{CHANNELS}.DeleteNotificationChannel", f"{DASHBOARDS}.DeleteDashboard")
def _delete_monitoring(project: Project, request: Any) -> Message:
    return project.remove(request.name)


@answers(f"{CHANNELS}.ListNotificationChannels")
def _list_channels(project: Project, request: Any) -> Message:
    from google.cloud.monitoring_v3 import types

    channels = project.below(f"{request.name}/notificationChannels/")
    return types.ListNotificationChannelsResponse.pb()(notification_channels=channels)


@answers(f"{CHANNELS}.CreateNotificationChannel")
def _create_channel(project: Project, request: Any) -> Message:
    channel = type(request.notification_channel)()
    channel.CopyFrom(request.notification_channel)
    channel.name = f"{request.name}/notificationChannels/{project.next_id()}"
    return project.add(channel.name, channel)


@answers(f"{CHANNELS}.UpdateNotificationChannel")
def _update_channel(project: Project, request: Any) -> Message:
    wanted = request.notification_channel
    return project.change(wanted.name, wanted, list(request.update_mask.paths))


@answers("google.monitoring.v3.MetricService.ListTimeSeries")
def _list_series(project: Project, request: Any) -> Message:
    from google.cloud.monitoring_v3 import types

    if any(part in request.filter for part in project.surroundings.bad_filters):
        raise invalid(f"Field filter had an invalid value of {request.filter!r}")
    return types.ListTimeSeriesResponse.pb()()


@answers(f"{DASHBOARDS}.ListDashboards")
def _list_dashboards(project: Project, request: Any) -> Message:
    from google.cloud.monitoring_dashboard_v1 import types

    return types.ListDashboardsResponse.pb()(dashboards=project.below(f"{request.parent}/dashboards/"))


@answers(f"{DASHBOARDS}.CreateDashboard")
def _create_dashboard(project: Project, request: Any) -> Message:
    dashboard = type(request.dashboard)()
    dashboard.CopyFrom(request.dashboard)
    dashboard.name = f"{request.parent}/dashboards/{project.next_id()}"
    return project.add(dashboard.name, dashboard)


@answers(f"{DASHBOARDS}.UpdateDashboard")
def _update_dashboard(project: Project, request: Any) -> Message:
    if request.dashboard.etag != project.get(request.dashboard.name).etag:
        raise ServiceError("ABORTED", f"{request.dashboard.name}: it was changed since it was read (etag)")
    return project.put(request.dashboard.name, request.dashboard)


# --- Dataflow: at Google's it takes a container image, which the laptop cannot run

DATAFLOW = "google.dataflow.v1beta3"
RUNNING, UPDATED, DRAINED = 2, 6, 8  # google.dataflow.v1beta3.JobState
ENDED = {3, 4, 5, UPDATED, DRAINED}


@answers(f"{DATAFLOW}.FlexTemplatesService.LaunchFlexTemplate")
def _launch(project: Project, request: Any) -> Message:
    from google.cloud.dataflow_v1beta3 import types

    wanted = request.launch_parameter
    if not wanted.job_name or not wanted.container_spec_gcs_path.startswith("gs://"):
        raise invalid("launch_parameter: job_name and container_spec_gcs_path are required")
    running = [job for job in project.below("jobs/") if job.name == wanted.job_name and job.current_state == RUNNING]
    if bool(running) != wanted.update:
        raise ServiceError("FAILED_PRECONDITION", f"{wanted.job_name}: {len(running)} run, update is {wanted.update}")
    job = types.Job.pb()(
        id=f"2026-01-01_00_00_00-{project.next_id():06d}",
        project_id=request.project_id,
        location=request.location,
        name=wanted.job_name,
        type_=2,
        current_state=RUNNING,
        labels=wanted.environment.additional_user_labels,
    )
    job.create_time.GetCurrentTime()
    for old in running:
        old.current_state = UPDATED
    return types.LaunchFlexTemplateResponse.pb()(job=project.add(f"jobs/{job.id}", job))


@answers(f"{DATAFLOW}.JobsV1Beta3.CreateJob")
def _create_job(project: Project, request: Any) -> Message:
    """What Beam's own runner submits, from an operator's machine."""
    from google.cloud.dataflow_v1beta3 import types

    job = types.Job.pb()()
    job.CopyFrom(request.job)
    job.id, job.current_state = f"2026-01-01_00_00_00-{project.next_id():06d}", RUNNING
    return project.add(f"jobs/{job.id}", job)


@answers(f"{DATAFLOW}.JobsV1Beta3.GetJob")
def _get_job(project: Project, request: Any) -> Message:
    return project.get(f"jobs/{request.job_id}")


@answers(f"{DATAFLOW}.JobsV1Beta3.ListJobs", f"{DATAFLOW}.JobsV1Beta3.AggregatedListJobs")
def _list_jobs(project: Project, request: Any) -> Message:
    from google.cloud.dataflow_v1beta3 import types

    active = request.filter == types.ListJobsRequest.Filter.ACTIVE
    jobs = [job for job in project.below("jobs/") if not active or job.current_state not in ENDED]
    return types.ListJobsResponse.pb()(jobs=jobs)


@answers(f"{DATAFLOW}.MessagesV1Beta3.ListJobMessages")
def _list_job_messages(project: Project, request: Any) -> Message:
    """None: a judge says what went wrong."""
    from google.cloud.dataflow_v1beta3 import types

    project.get(f"jobs/{request.job_id}")
    return types.ListJobMessagesResponse.pb()()


@answers(f"{DATAFLOW}.JobsV1Beta3.UpdateJob")
def _update_job(project: Project, request: Any) -> Message:
    job = project.get(f"jobs/{request.job_id}")
    if request.job.requested_state != DRAINED:
        raise invalid("requested_state: a streaming job is drained, never cancelled")
    job.current_state = DRAINED
    project.deleted.append(f"jobs/{job.id}")
    return job
