"""The table of resources: everything that a deployment is made of, in the order in which it is made.

What lets somebody do something comes before what is done by it, and as early as can be: a grant takes minutes until all
of Google knows it, so who may read a bucket is told directly after the bucket, and everything that runs as somebody (a
build, a function, a job) is launched last.

A row belongs to a unit (:func:`lunation.deploy.resource.owned`), whose account and role come from
:mod:`lunation.deploy.units`. Another function is a unit there and, here, a ``Function``, the :class:`Access` that lets
somebody invoke it, and the ``Access`` that lets it do its work. A row of a service that the target does not have is
left out: a laptop has no IAM, no monitoring, no builds.
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from lunation.clients import Clients
from lunation.deploy import watch
from lunation.deploy.access import (
    Access,
    BucketPolicy,
    Condition,
    Grant,
    account_policy,
    function_policy,
    project_policy,
    repository_policy,
    subscription_policy,
    topic_policy,
)
from lunation.deploy.accounts import CustomRole, ServiceAccount, account
from lunation.deploy.apis import Api
from lunation.deploy.dataflow import StreamingJob
from lunation.deploy.dataproc import WorkflowTemplate
from lunation.deploy.datastore import CompositeIndex, Database, TimeToLive
from lunation.deploy.functions import Function
from lunation.deploy.images import Image, Repository, image_uri
from lunation.deploy.message_schemas import PREFIX as SCHEMA_PREFIX
from lunation.deploy.message_schemas import MessageSchema
from lunation.deploy.pubsub import Subscription, Topic
from lunation.deploy.releases import Release, staged
from lunation.deploy.resource import SYSTEM, Resource, owned
from lunation.deploy.service_agents import PUBSUB, ServiceAgents, agent
from lunation.deploy.staging import Artefact, read_entry
from lunation.deploy.storage import Bucket, StagedFile
from lunation.deploy.units import SHARED_ROLES, UNITS
from lunation.deploy.workflows import SchedulerJob, Workflow
from lunation.settings import FunctionSize, Settings, Target
from schemas import USE_CASES, Classification, Comparison, DeadLetter, Label
from schemas.shapes import proto_definition

APIS = (
    "cloudresourcemanager",
    "iam",
    "iamcredentials",
    "storage",
    "pubsub",
    "firestore",
    "datastore",
    "artifactregistry",
    "cloudbuild",
    "cloudfunctions",
    "run",
    "compute",
    "dataflow",
    "dataproc",
    "workflows",
    "workflowexecutions",
    "cloudscheduler",
    "logging",
    "monitoring",
    "telemetry",
)
LOCATED: dict[str, Callable[[Clients], Any]] = {
    "artifactregistry": lambda clients: clients.artifact_registry,
    "cloudfunctions": lambda clients: clients.functions,
    "workflows": lambda clients: clients.workflows,
}
"""Those whose clients tell in which regions they are."""
TOPICS = ("records", "labels", "classifications", "dead-letters", "comparisons")
WORKFLOW = "retrain"
TEMPLATE = "lunation-train"
ARCHIVE_JOB = "lunation-archive"
SCHEDULER_JOB = "lunation-retrain"
CLASSIFY_HTTP = "classify-http"
REPOSITORY = "lunation"
WEEK_SECONDS = 7 * 24 * 3600


def archive_bucket(target: Target) -> str:
    """The bucket with every record and label, and the Parquet that Spark makes of them."""
    return f"{target.project}-archive"


def models_bucket(target: Target) -> str:
    """The bucket with the models."""
    return f"{target.project}-models"


def build_bucket(target: Target) -> str:
    """The bucket with what is deployed."""
    return f"{target.project}-build"


def template_spec(source: str) -> str:
    """Name of the build bucket's object that tells Dataflow what the archive pipeline's template is.

    Args:
        source: the label of the template's content.
    """
    return f"dataflow/{source}.json"


def template_image(target: Target, source: str) -> str:
    """The archive pipeline's image; empty on a laptop, which has no container engine.

    Args:
        source: the label of the template's content.
    """
    return image_uri(target, REPOSITORY, f"archive:{source}") if target.serves(Image.service) else ""


def resources(settings: Settings, target: Target, shipped: Release | None = None) -> list[Resource]:
    """The table for one target.

    Args:
        shipped: what is deployed. None: what is staged now from the sources, under ``build/``.
    """
    settings = settings.of(target)
    shipped = shipped or staged()
    archive, models, build = archive_bucket(target), models_bucket(target), build_bucket(target)

    def runs_as(unit: str) -> str:
        return account(target.project, unit)

    def member(unit: str) -> str:
        return f"serviceAccount:{runs_as(unit)}"

    own_roles = {
        unit.role_id: CustomRole(unit.role_id, (*unit.uses, *unit.platform), unit.purpose)
        for unit in UNITS.values()
        if unit.uses or unit.platform
    } | {
        role_id: CustomRole(role_id, permissions, "what is granted on single buckets and subscriptions")
        for role_id, permissions in SHARED_ROLES.items()
    }

    def shared(role_id: str, unit: str, why: str) -> Grant:
        return Grant(own_roles[role_id], member(unit), why)

    def publishes(unit: str) -> Grant:
        return Grant("roles/pubsub.publisher", member(unit), "publishes")

    def consumes(unit: str) -> Grant:
        return shared("lunationSubscriptionReader", unit, "reads and acknowledges; Dataflow looks at it before")

    artefacts = shipped.artefacts
    zips, dataflow_zip, spark_files = artefacts.functions, artefacts.dataflow, artefacts.spark
    spark_code = f"gs://{build}/{spark_files[0].object_name.rsplit('/', 1)[0]}"
    spec_name = template_spec(dataflow_zip.label)
    repository = Repository(REPOSITORY, running=(f"archive:{dataflow_zip.label}",))
    image = Image(
        f"archive:{dataflow_zip.label}",
        repository=repository,
        source=(build, dataflow_zip.object_name),
        build_account=runs_as("build"),
        copied_from=shipped.image,
    )
    spec = {
        # A laptop's Dataflow takes the zip that the image would be built from.
        "image": template_image(target, dataflow_zip.label) or f"gs://{build}/{dataflow_zip.object_name}",
        "sdkInfo": {"language": "PYTHON"},
        "metadata": json.loads(read_entry(dataflow_zip, "dataflow/metadata.json")),
    }

    def metrics_endpoint(clients: Clients) -> str:
        """Where metrics go. A laptop has no such service, so nowhere."""
        return f"{clients.url('telemetry')}/v1/metrics" if target.serves("telemetry") else ""

    def metrics(clients: Clients) -> dict[str, str]:
        """The same, by OpenTelemetry's own name for it."""
        endpoint = metrics_endpoint(clients)
        return {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": endpoint} if endpoint else {}

    def environment(clients: Clients) -> dict[str, str]:
        return {
            "PROJECT": target.project,
            "USE_CASE": settings.use_case,
            "DATASTORE_ENDPOINT": clients.grpc_url("datastore"),
            "PUBSUB_ENDPOINT": clients.grpc_url("pubsub"),
            # Undeclared, the service adds it as "true", which every plan would show; our lines have the trace already.
            "LOG_EXECUTION_ID": "false",
            **metrics(clients),
        }

    def classify_environment(clients: Clients) -> dict[str, str]:
        return {**environment(clients), "MODELS_BUCKET": models}

    def function(name: str, entry_point: str, source: Artefact, size: FunctionSize, **more: Any) -> Function:
        return Function(
            name,
            entry_point=entry_point,
            source=source,
            bucket=build,
            size=size,
            service_account=runs_as(name),
            build_account=runs_as("build"),
            repository=repository.path(target),
            **more,
        )

    sizes = settings.functions
    ingest = function(
        "ingest-fast",
        "ingest_fast",
        zips["ingest_fast"],
        sizes.ingest_fast,
        environment=lambda clients: {**environment(clients), "RECORD_TTL_DAYS": str(settings.records.ttl_days)},
    )
    classify = function("classify", "classify_push", zips["classify"], sizes.classify, environment=classify_environment)
    classify_http = function(
        CLASSIFY_HTTP,
        "classify_http",
        zips["classify"],
        sizes.classify,
        environment=classify_environment,
        internal=False,
    )
    submit = function("submit", "submit", zips["submit"], sizes.submit, environment=environment, internal=False)

    def workflow_variables(clients: Clients, current: dict[str, str]) -> dict[str, str]:
        first = settings.schedule.first_cycle
        if first is not None:
            week = str(int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()) // WEEK_SECONDS)
        else:
            week = current.get("FIRST_CYCLE_WEEK") or str(int(time.time()) // WEEK_SECONDS)
        return {
            "DATASTORE_ENDPOINT": clients.url("datastore"),
            "DATAPROC_ENDPOINT": clients.url("dataproc"),
            "STORAGE_ENDPOINT": clients.url("storage"),
            "EXECUTIONS_ENDPOINT": clients.url("workflows"),
            "REGION": target.region,
            "TEMPLATE": TEMPLATE,
            "ARCHIVE_BUCKET": archive,
            "MODELS_BUCKET": models,
            "USE_CASE": settings.use_case,
            "FIRST_CYCLE_WEEK": week,
            "CYCLE_WEEKS": str(settings.schedule.cycle_weeks),
        }

    workflow = Workflow(
        WORKFLOW,
        artefacts.workflow,
        service_account=runs_as("retrain"),
        variables=workflow_variables,
    )
    archive_parameters = {
        "records_subscription": f"projects/{target.project}/subscriptions/records-archive",
        "labels_subscription": f"projects/{target.project}/subscriptions/labels-archive",
        "dead_letters_subscription": f"projects/{target.project}/subscriptions/dead-letters-archive",
        "comparisons_subscription": f"projects/{target.project}/subscriptions/comparisons-archive",
        "dead_letters_topic": f"projects/{target.project}/topics/dead-letters",
        "archive_bucket": archive,
        "use_case": settings.use_case,
        "window_seconds": str(settings.archive.window_seconds),
    }
    pulled = {"records-archive": "records", "labels-archive": "labels", "dead-letters-archive": "dead-letters",
              "comparisons-archive": "comparisons"}  # fmt: skip
    rows = [
        *owned(
            "project", *(Api(f"{name}.googleapis.com", LOCATED.get(name)) for name in APIS), ServiceAgents("google")
        ),
        *(ServiceAccount(unit.name, unit.purpose) for unit in UNITS.values()),
        *own_roles.values(),
        *owned("project", _project_access(member, own_roles)),
        # --- what is kept, each with who may do what there
        *owned(
            "archive",
            Bucket(archive, versioned=True),
            Access(
                BucketPolicy(archive),
                shared("lunationObjectCreator", "archive", "writes objects, and never over one that is there"),
                shared("lunationObjectWriter", "train", "reads what was filed, writes Parquet"),
                # Not the records: what a condition is made of, uniform access, the bucket has.
                Grant(
                    own_roles["lunationObjectReader"],
                    member("retrain"),
                    "reads why a training failed",
                    Condition("runs", f'resource.name.startsWith("projects/_/buckets/{archive}/objects/parquet/")'),
                ),
            ),
        ),
        *owned(
            "train",
            Bucket(models, versioned=True),
            Access(
                BucketPolicy(models),
                shared("lunationObjectAppender", "train", "writes models, reads the serving one"),
                shared("lunationObjectReader", "classify", "loads the model"),
                shared("lunationObjectReader", "classify-http", "loads the model"),
                shared("lunationObjectReader", "retrain", "reads the verdict"),
            ),
        ),
        *owned(
            "build",
            Bucket(build, keeps_data=False),
            Access(
                BucketPolicy(build),
                shared("lunationSourceReader", "build", "reads the source"),
                shared("lunationObjectWriter", "archive", "Dataflow's staging and temporary files"),
                shared("lunationObjectWriter", "train", "Dataproc's staging files, and the drivers"),
            ),
            repository,
            Access(
                repository_policy(REPOSITORY),
                Grant("roles/artifactregistry.writer", member("build"), "pushes what it built"),
                Grant("roles/artifactregistry.reader", member("archive"), "Dataflow's launcher pulls the template"),
            ),
            *(StagedFile.of(build, one) for one in artefacts.all()),
            StagedFile(build, shipped.object_name, shipped.to_bytes()),
        ),
        *owned("archive", StagedFile(build, spec_name, json.dumps(spec, indent=1).encode())),
        *owned(
            "project",
            MessageSchema(f"{SCHEMA_PREFIX}record", proto_definition(USE_CASES[settings.use_case].record, "Record")),
            MessageSchema(f"{SCHEMA_PREFIX}label", proto_definition(Label, "Label")),
            MessageSchema(f"{SCHEMA_PREFIX}classification", proto_definition(Classification, "Classification")),
            MessageSchema(f"{SCHEMA_PREFIX}dead-letter", proto_definition(DeadLetter, "DeadLetter")),
            MessageSchema(f"{SCHEMA_PREFIX}comparison", proto_definition(Comparison, "Comparison")),
            *(Topic(name) for name in TOPICS),
        ),
        *owned(
            "classify",
            Access(topic_policy("classifications"), publishes("classify")),
            Access(topic_policy("comparisons"), publishes("classify")),
        ),
        *owned("submit", Access(topic_policy("records"), publishes("submit"))),
        *owned(
            "archive",
            Access(topic_policy("dead-letters"), publishes("ingest-fast"), publishes("classify"), publishes("archive")),
            *(Subscription(name, topic) for name, topic in pulled.items()),
            *(Access(subscription_policy(name), consumes("archive")) for name in pulled),
        ),
        *owned(
            "project",
            Subscription("dead-letters-review", "dead-letters"),
            Subscription("classifications-review", "classifications"),
        ),
        *owned(
            "push",
            Access(
                account_policy("push"),
                Grant(
                    "roles/iam.serviceAccountOpenIdTokenCreator",
                    lambda clients: agent(clients, PUBSUB),
                    "signs the pushes' tokens",
                ),
            ),
        ),
        *owned(
            "train",
            Access(
                account_policy("train"),
                Grant("roles/iam.serviceAccountUser", member("retrain"), "starts the cluster that runs as it"),
            ),
        ),
        *owned(
            "project",
            Database("(default)"),
            TimeToLive("Record", "expire_at"),
            CompositeIndex("Classification", "label", "-classified_at"),
            CompositeIndex("Classification", "model_version", "-classified_at"),
            CompositeIndex("ModelPromotion", "use_case", "-generation"),
            CompositeIndex("TrainingRun", "use_case", "-claimed_at"),
        ),
        # --- what runs as somebody
        *owned("build", image),
        *owned("ingest-fast", ingest, Access(function_policy(ingest.name), _invokes(member("push")))),
        *owned("classify", classify, Access(function_policy(classify.name), _invokes(member("push")))),
        *owned("submit", submit, Access(function_policy(submit.name), _invokes(member("caller")))),
        *owned("classify-http", classify_http, Access(function_policy(classify_http.name), _invokes(member("caller")))),
        *owned(
            "ingest-fast",
            Subscription("records-ingest-fast", "records", push_to=ingest.url, push_as=runs_as("push")),
        ),
        *owned(
            "classify",
            Subscription("records-classify", "records", push_to=classify.url, push_as=runs_as("push")),
        ),
        *owned(
            "archive",
            StreamingJob(
                ARCHIVE_JOB,
                spec=f"gs://{build}/{spec_name}",
                parameters=archive_parameters,
                labels={
                    **SYSTEM,
                    "source": dataflow_zip.label,
                    "window-seconds": str(settings.archive.window_seconds),
                },
                service_account=runs_as("archive"),
                image=template_image(target, dataflow_zip.label),
                max_workers=settings.archive.max_workers,
            ),
        ),
        *owned(
            "train",
            WorkflowTemplate(
                TEMPLATE,
                artefacts.template,
                lambda clients: {
                    "PROJECT": target.project,
                    "REGION": target.region,
                    "ARCHIVE_BUCKET": archive,
                    "MODELS_BUCKET": models,
                    "BUILD_BUCKET": build,
                    "SPARK_CODE": spark_code,
                    "USE_CASE": settings.use_case,
                    "CHECKS": settings.checks.model_dump_json(),
                    "EVALUATION_DAYS": str(settings.schedule.evaluation_days),
                    "INSTANCE_MIB": str(settings.functions.classify.memory_mib),
                    "SERVICE_ACCOUNT": runs_as("train"),
                    "METRICS_ENDPOINT": metrics_endpoint(clients),
                },
            ),
        ),
        *owned("retrain", workflow),
        *owned(
            "scheduler",
            SchedulerJob(
                SCHEDULER_JOB,
                cron=settings.schedule.cron,
                workflow=workflow,
                argument={},
                service_account=runs_as("scheduler"),
            ),
        ),
        *owned("project", *watch.rows(settings)),
    ]
    for row in rows:
        if isinstance(row, ServiceAccount):
            row.owner = row.name.removeprefix("lunation-")
        elif isinstance(row, CustomRole):
            row.owner = next((unit.name for unit in UNITS.values() if unit.role_id == row.name), "project")
    return [row for row in rows if target.serves(row.service)]


def _project_access(member: Callable[[str], str], own_roles: dict[str, CustomRole]) -> Access:
    grants = [
        Grant(own_roles[unit.role_id], member(unit.name), unit.purpose)
        for unit in UNITS.values()
        if unit.role_id in own_roles
    ]
    grants += [Grant(role, member(unit.name), why) for unit in UNITS.values() for role, why in unit.roles]
    # Cloud Functions hands a source to its build through a bucket that it makes itself.
    staged = Condition("sources-of-functions", 'resource.name.startsWith("projects/_/buckets/gcf-v2-sources-")')
    grants.append(Grant(own_roles["lunationSourceReader"], member("build"), "reads a function's source", staged))
    return Access(project_policy(), *grants)


def _invokes(member: str) -> Grant:
    return Grant("roles/run.invoker", member, "calls it")
