"""How each service gives back what it was told: what it normalises, fills in and rewrites, with where that is said."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rehearsal.project import NUMBER, Project

MAGIC = "https://github.com/GoogleCloudPlatform/magic-modules/blob/main/mmv1"
"""What a Terraform provider has learnt of these services: ``custom_flatten``, ``diff_suppress_func`` and
``default_from_api`` are there because something reads back otherwise."""
DESCRIBED = "https://cloud.google.com/functions/docs/reference/rest/v2/projects.locations.functions"
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
TIME = 1_780_000_000
"""When all was made, in seconds since 1970: the time that a service tells is of no interest here."""


@dataclass(frozen=True)
class Rewrite:
    """One way in which a thing reads back.

    Args:
        kind: the message's full name, or the ``kind`` of a document of Cloud Storage's.
        what: in words.
        source: where it is documented, or was seen.
        change: makes it so, in a copy of the answer.
        sure: False: the source does not say it plainly, or only that it may happen.
    """

    kind: str
    what: str
    source: str
    change: Callable[[Any, Project], None]
    sure: bool = True


# --- functions


def _source(function: Any, _: Project) -> None:
    _, _, _, region, _, name = function.name.split("/")
    source = function.build_config.source.storage_source
    given = f"{source.bucket}/{source.object_}"
    source.bucket = f"gcf-v2-sources-{NUMBER}-{region}"
    source.object_ = f"{name}/function-source.zip"
    source.generation = _number(given)
    function.build_config.source_provenance.resolved_storage_source.CopyFrom(source)


def _build(function: Any, _: Project) -> None:
    build = function.build_config
    region = function.name.split("/")[3]
    build.build = f"projects/{NUMBER}/locations/{region}/builds/{_uuid(f'{function.name} {build.source}')}"
    build.docker_registry = 2  # ARTIFACT_REGISTRY
    build.automatic_update_policy.SetInParent()
    _add(function.service_config.environment_variables, "LOG_EXECUTION_ID", "true")
    function.service_config.all_traffic_on_latest_revision = True


# --- Pub/Sub


def _topic(topic: Any, _: Project) -> None:
    topic.state = topic.state or 1


def _regions(topic: Any, _: Project) -> None:
    if not topic.message_storage_policy.allowed_persistence_regions:
        topic.message_storage_policy.allowed_persistence_regions.append("us-central1")


def _subscription(subscription: Any, _: Project) -> None:
    subscription.state = subscription.state or 1
    if subscription.push_config.push_endpoint:
        _add(subscription.push_config.attributes, "x-goog-version", "v1")
    if not subscription.HasField("expiration_policy"):
        subscription.expiration_policy.ttl.FromSeconds(31 * 24 * 3600)
    if subscription.HasField("retry_policy"):
        for field, seconds in (("minimum_backoff", 10), ("maximum_backoff", 600)):
            if not subscription.retry_policy.HasField(field):
                getattr(subscription.retry_policy, field).FromSeconds(seconds)


def _schema(schema: Any, _: Project) -> None:
    schema.revision_create_time.FromSeconds(TIME)


# --- IAM


def _account(account: Any, project: Project) -> None:
    account.project_id = project.project
    account.etag = _hash(account.name)[:8].encode()


def _role(role: Any, _: Project) -> None:
    permissions = sorted(role.included_permissions, reverse=True)
    del role.included_permissions[:]
    role.included_permissions.extend(permissions)


def _policy(policy: Any, _: Project) -> None:
    """Merged by role and condition, the members in small letters but for what an identifier has."""
    merged: dict[tuple[str, str], Any] = {}
    for binding in policy.bindings:
        key = (binding.role, binding.condition.SerializeToString().hex())
        kept = merged.setdefault(key, binding)
        if kept is not binding:
            kept.members.extend(binding.members)
    bindings = [merged[key] for key in sorted(merged, reverse=True)]
    for binding in bindings:
        members = sorted({_small(member) for member in binding.members}, reverse=True)
        del binding.members[:]
        binding.members.extend(members)
    copies = [type(one).FromString(one.SerializeToString()) for one in bindings]
    del policy.bindings[:]
    policy.bindings.extend(copies)


def _small(member: str) -> str:
    """NormalizeIamPrincipalCasing of the provider: the address, not what stands before it, nor an id after it."""
    if ":" not in member or member.startswith(("principal:", "principalSet:", "principalHierarchy:")):
        return member
    kind, _, address = member.rpartition(":")
    address, question, uid = address.partition("?")
    return f"{kind}:{address.lower()}{question}{uid}"


# --- Cloud Storage, whose documents are JSON


def _bucket(bucket: dict[str, Any], _: Project) -> None:
    bucket["location"] = bucket["location"].upper()
    bucket.setdefault("storageClass", "STANDARD")
    bucket["projectNumber"] = NUMBER
    configuration = bucket.setdefault("iamConfiguration", {})
    uniform = configuration.get("uniformBucketLevelAccess", {})
    if uniform.get("enabled"):
        uniform["lockedTime"] = "2026-08-30T00:00:00.000Z"
        configuration["bucketPolicyOnly"] = dict(uniform)
    soft = bucket.setdefault("softDeletePolicy", {"retentionDurationSeconds": "604800"})
    soft["retentionDurationSeconds"] = str(soft["retentionDurationSeconds"])
    soft["effectiveTime"] = "2026-06-01T00:00:00.000Z"


def _left_out(bucket: dict[str, Any], _: Project) -> None:
    for name, nothing in (("labels", {}), ("versioning", {"enabled": False}), ("lifecycle", {"rule": []})):
        if bucket.get(name) == nothing:
            del bucket[name]


def _bucket_policy(policy: dict[str, Any], project: Project) -> None:
    policy["kind"] = "storage#policy"
    bindings = [
        {**binding, "members": sorted((_small(one) for one in binding["members"]), reverse=True)}
        for binding in policy.get("bindings", [])
    ]
    for role, basic in (
        ("roles/storage.legacyBucketOwner", ("projectEditor", "projectOwner")),
        ("roles/storage.legacyBucketReader", ("projectViewer",)),
    ):
        members = [f"{one}:{project.project}" for one in basic]
        if not any(binding["role"] == role for binding in bindings):
            bindings.append({"role": role, "members": members})
    policy["bindings"] = sorted(bindings, key=lambda one: str(one["role"]), reverse=True)


# --- Artifact Registry, Firestore, Datastore


def _repository(repository: Any, _: Project) -> None:
    _, project, _, region, _, name = repository.name.split("/")
    repository.create_time.FromSeconds(TIME)
    repository.update_time.FromSeconds(TIME)
    repository.mode = repository.mode or 1  # STANDARD_REPOSITORY
    repository.size_bytes = 123456
    repository.registry_uri = f"{region}-docker.pkg.dev/{project}/{name}"
    repository.vulnerability_scanning_config.enablement_state = 2  # SCANNING_DISABLED
    for policy in repository.cleanup_policies.values():
        if policy.HasField("condition") and not policy.condition.tag_state:
            policy.condition.tag_state = 3  # ANY


def _database(database: Any, _: Project) -> None:
    database.uid = _uuid(database.name)
    database.create_time.FromSeconds(TIME)
    database.update_time.FromSeconds(TIME)
    kept = 7 * 24 if database.point_in_time_recovery_enablement == 1 else 1
    database.version_retention_period.FromSeconds(kept * 3600)
    database.earliest_version_time.FromSeconds(TIME)
    database.app_engine_integration_mode = database.app_engine_integration_mode or 2  # DISABLED
    database.concurrency_mode = database.concurrency_mode or 1
    database.key_prefix = "s~"
    database.database_edition = database.database_edition or 1  # STANDARD
    database.free_tier = True


def _field(field: Any, _: Project) -> None:
    if not field.HasField("index_config"):
        field.index_config.uses_ancestor_config = True
    if field.HasField("ttl_config"):
        field.ttl_config.state = field.ttl_config.state or 2


def _index(index: Any, project: Project) -> None:
    index.project_id = project.project
    index.state = index.state or 2
    index.ancestor = index.ancestor or 1  # NONE


# --- Workflows, Scheduler, Dataproc, Dataflow


def _workflow(workflow: Any, _: Project) -> None:
    workflow.state = workflow.state or 1
    workflow.revision_create_time.FromSeconds(TIME)
    if workflow.service_account and not workflow.service_account.startswith("projects/"):
        project = workflow.name.split("/")[1]
        workflow.service_account = f"projects/{project}/serviceAccounts/{workflow.service_account}"


def _job(job: Any, _: Project) -> None:
    job.state = job.state or 1
    job.user_update_time.FromSeconds(TIME)
    if not job.HasField("attempt_deadline"):
        job.attempt_deadline.FromSeconds(180)
    if job.HasField("http_target"):
        _add(job.http_target.headers, "User-Agent", "Google-Cloud-Scheduler")
        if job.http_target.HasField("oauth_token") and not job.http_target.oauth_token.scope:
            job.http_target.oauth_token.scope = CLOUD_PLATFORM


def _retries(job: Any, _: Project) -> None:
    """As the discovery document says of each field of RetryConfig."""
    for field, seconds in (("min_backoff_duration", 5), ("max_backoff_duration", 3600), ("max_retry_duration", 0)):
        if not job.retry_config.HasField(field):
            getattr(job.retry_config, field).FromSeconds(seconds)
    job.retry_config.max_doublings = job.retry_config.max_doublings or 5


def _authorization(job: Any, _: Project) -> None:
    if job.HasField("http_target") and (
        job.http_target.HasField("oauth_token") or job.http_target.HasField("oidc_token")
    ):
        _add(job.http_target.headers, "Authorization", "Bearer <redacted>")


def _template(template: Any, _: Project) -> None:
    template.create_time.FromSeconds(TIME)
    template.update_time.FromSeconds(TIME)
    template.version = template.version or 1


def _dataflow_job(job: Any, _: Project) -> None:
    _add(job.labels, "goog-dataflow-provided-template-type", "flex")
    _add(job.labels, "goog-dataflow-provided-template-name", job.name)
    job.create_time.FromSeconds(TIME)
    job.current_state_time.FromSeconds(TIME)


# --- Monitoring, Service Usage


def _alert(policy: Any, _: Project) -> None:
    for record in (policy.creation_record, policy.mutation_record):
        record.mutate_time.FromSeconds(TIME)
        record.mutated_by = "lunation-deployer@example.iam.gserviceaccount.com"
    if not policy.HasField("enabled"):
        policy.enabled.value = True
    if policy.HasField("documentation") and not policy.documentation.mime_type:
        policy.documentation.mime_type = "text/markdown"


def _reducers(policy: Any, _: Project) -> None:
    for condition in policy.conditions:
        threshold = condition.condition_threshold
        if condition.HasField("condition_threshold"):
            for aggregation in threshold.aggregations:
                aggregation.cross_series_reducer = aggregation.cross_series_reducer or 0  # REDUCE_NONE is left out


def _channel(channel: Any, _: Project) -> None:
    if not channel.HasField("enabled"):
        channel.enabled.value = True
    channel.creation_record.mutate_time.FromSeconds(TIME)


def _dashboard(dashboard: Any, _: Project) -> None:
    for index, tile in enumerate(dashboard.mosaic_layout.tiles):
        tile.widget.id = tile.widget.id or str(index)
        for data_set in tile.widget.xy_chart.data_sets:
            data_set.target_axis = data_set.target_axis or 1  # Y1
        if tile.widget.HasField("xy_chart"):
            tile.widget.xy_chart.chart_options.mode = tile.widget.xy_chart.chart_options.mode or 1  # COLOR


def _service(service: Any, _: Project) -> None:
    api = service.name.rsplit("/", 1)[1]
    service.name = f"projects/{NUMBER}/services/{api}"
    service.parent = f"projects/{NUMBER}"
    service.config.name = api


FUNCTION = "google.cloud.functions.v2.Function"
TOPIC = "google.pubsub.v1.Topic"
SUBSCRIPTION = "google.pubsub.v1.Subscription"
POLICY = "google.iam.v1.Policy"
INDEX = "google.datastore.admin.v1.Index"
FIELD = "google.firestore.admin.v1.Field"
WORKFLOW = "google.cloud.workflows.v1.Workflow"
SCHEDULER_JOB = "google.cloud.scheduler.v1.Job"
TEMPLATE = "google.cloud.dataproc.v1.WorkflowTemplate"
DATAFLOW_JOB = "google.dataflow.v1beta3.Job"
ALERT = "google.monitoring.v3.AlertPolicy"
FLATTEN = f"{MAGIC}/templates/terraform/custom_flatten"
SUPPRESS = f"{MAGIC}/templates/terraform/constants"

REWRITES = (
    Rewrite(
        FUNCTION,
        "the source is an object of the service's own, gcf-v2-sources-NUMBER-REGION/FUNCTION/function-source.zip, with "
        "a generation",
        f"{FLATTEN}/cloudfunctions2_function_source_bucket.go.tmpl",
        _source,
    ),
    Rewrite(
        FUNCTION,
        "the build, the registry, the update policy and LOG_EXECUTION_ID are added; labels are not: deployment-tool is "
        "what gcloud and the console send",
        f"{DESCRIBED}, {SUPPRESS}/cloudfunctions2_function.go.tmpl",
        _build,
    ),
    Rewrite(TOPIC, "a state", "https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.topics", _topic),
    Rewrite(
        TOPIC,
        "the regions that the organisation's policy allows, where it has one",
        "https://github.com/google/knative-gcp/issues/1701",
        _regions,
        sure=False,
    ),
    Rewrite(
        SUBSCRIPTION,
        "a state, x-goog-version among the push attributes, an expiry if none was declared, both backoffs",
        f"{MAGIC}/products/pubsub/Subscription.yaml",
        _subscription,
    ),
    Rewrite(
        "google.pubsub.v1.Schema",
        "the revision's id and time",
        "https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.schemas",
        _schema,
    ),
    Rewrite(
        "google.iam.admin.v1.ServiceAccount",
        "id, project and etag",
        "https://cloud.google.com/iam/docs/reference/rest/v1/projects.serviceAccounts",
        _account,
    ),
    Rewrite(
        "google.iam.admin.v1.Role",
        "the permissions in another order: a set, for the provider",
        f"{MAGIC}/third_party/terraform/services/resourcemanager/resource_google_project_iam_custom_role.go",
        _role,
    ),
    Rewrite(
        POLICY,
        "bindings merged and in another order, members in another order and in small letters",
        f"{MAGIC}/third_party/terraform/tpgiamresource/iam.go.tmpl, and NormalizeIamPrincipalCasing in "
        f"{MAGIC}/third_party/terraform/tpgresource/utils.go",
        _policy,
    ),
    Rewrite(
        "storage#bucket",
        "location in capitals, the class, the project's number, the old name of uniform access, when the soft delete "
        "began",
        "https://cloud.google.com/storage/docs/json_api/v1/buckets#resource",
        _bucket,
    ),
    Rewrite(
        "storage#bucket",
        "what is empty or off is left out",
        f"{MAGIC}/third_party/terraform/services/storage/resource_storage_bucket.go.tmpl",
        _left_out,
        sure=False,
    ),
    Rewrite(
        "storage#policy",
        "the project's basic roles have the legacy ones; members and bindings in another order",
        "https://cloud.google.com/storage/docs/access-control/iam#project-level_roles_and_permissions",
        _bucket_policy,
    ),
    Rewrite(
        "google.devtools.artifactregistry.v1.Repository",
        "mode, size, address, times, the scanning and the tag state of a clean-up policy",
        f"{MAGIC}/products/artifactregistry/Repository.yaml",
        _repository,
    ),
    Rewrite(
        "google.firestore.admin.v1.Database",
        "id, times, retention of versions, edition, key prefix, App Engine's mode",
        f"{MAGIC}/products/firestore/Database.yaml",
        _database,
    ),
    Rewrite(
        FIELD,
        "what is inherited, and the state of the time to live",
        f"{MAGIC}/templates/terraform/custom_check_destroy/firestore_field.go.tmpl",
        _field,
    ),
    Rewrite(
        INDEX,
        "project, state and ancestor mode. Firestore's own API adds __name__ to the fields; Datastore's document does "
        "not say so, so it is not added here",
        "https://cloud.google.com/datastore/docs/reference/admin/rest/v1/projects.indexes",
        _index,
    ),
    Rewrite(
        WORKFLOW,
        "state, revision, the service account in its full form",
        f"{MAGIC}/products/workflows/Workflow.yaml",
        _workflow,
    ),
    Rewrite(
        SCHEDULER_JOB,
        "the attempt's deadline, the state, a User-Agent header, the token's scope",
        f"{MAGIC}/products/cloudscheduler/Job.yaml, {SUPPRESS}/scheduler.tmpl",
        _job,
    ),
    Rewrite(
        SCHEDULER_JOB,
        "each field of the retries",
        "https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs#RetryConfig",
        _retries,
    ),
    Rewrite(
        SCHEDULER_JOB,
        "an Authorization header, where a token was asked for",
        f"{FLATTEN}/http_headers.tmpl",
        _authorization,
    ),
    Rewrite(
        TEMPLATE,
        "times and version. Whether the cluster's configuration is completed, too, is not said anywhere: the provider "
        "calls nearly all of it computed, and a test of gcloud's reads back what it made",
        f"{MAGIC}/third_party/terraform/services/dataproc/resource_dataproc_workflow_template.go.tmpl",
        _template,
        sure=False,
    ),
    Rewrite(
        DATAFLOW_JOB,
        "labels that begin with goog-dataflow-provided",
        f"{MAGIC}/third_party/terraform/services/dataflow/resource_dataflow_job.go",
        _dataflow_job,
    ),
    Rewrite(
        ALERT,
        "who made and who changed it, enabled, the advice's type",
        f"{MAGIC}/products/monitoring/AlertPolicy.yaml",
        _alert,
    ),
    Rewrite(ALERT, "REDUCE_NONE is left out", f"{SUPPRESS}/monitoring_alert_policy.go.tmpl", _reducers),
    Rewrite(
        "google.monitoring.v3.NotificationChannel",
        "enabled, and when it was made",
        f"{MAGIC}/products/monitoring/NotificationChannel.yaml",
        _channel,
    ),
    Rewrite(
        "google.monitoring.dashboard.v1.Dashboard",
        "defaults at any depth: the provider drops whatever was not declared (removeComputedKeys); which they are, it "
        "does not say",
        f"{MAGIC}/third_party/terraform/services/monitoring/resource_monitoring_dashboard.go",
        _dashboard,
        sure=False,
    ),
    Rewrite(
        "google.api.serviceusage.v1.Service",
        "the project's number in the name, the configuration",
        "https://cloud.google.com/service-usage/docs/reference/rest/v1/services",
        _service,
    ),
)


def _add(entries: Any, key: str, value: str) -> None:
    """Into a map, unless it is there."""
    if key not in entries:
        entries[key] = value


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _number(text: str) -> int:
    """A number of sixteen digits: one that a service would choose, and always the same."""
    return 10**15 + int(_hash(text)[:12], 16) % (9 * 10**15)


def _uuid(text: str) -> str:
    digits = _hash(text)
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))
