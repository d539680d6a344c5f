"""The table of resources: everything that a deployment is made of, in the order in which it is made."""

import json
import time
from datetime import UTC, datetime

from lunation.clients import Clients
from lunation.deploy.dataflow import StreamingJob
from lunation.deploy.dataproc import WorkflowTemplate
from lunation.deploy.datastore import CompositeIndex
from lunation.deploy.functions import Function
from lunation.deploy.pubsub import Subscription, Topic
from lunation.deploy.resource import Resource
from lunation.deploy.staging import stage_dataflow, stage_function, stage_spark
from lunation.deploy.storage import Bucket, StagedFile
from lunation.deploy.workflows import SchedulerJob, Workflow
from lunation.settings import ROOT, Settings, Target

TOPICS = ("records", "labels", "classifications", "dead-letters", "comparisons")
WORKFLOW = "retrain"
TEMPLATE = "lunation-train"
ARCHIVE_JOB = "lunation-archive"
SCHEDULER_JOB = "lunation-retrain"
CLASSIFY_HTTP = "classify-http"
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


def template_spec(target: Target) -> str:
    """Name of the build bucket's object that tells Dataflow what the archive pipeline's template is."""
    return f"dataflow/{stage_dataflow().sha256[:12]}.json"


def resources(settings: Settings, target: Target) -> list[Resource]:
    """The table for one target. Stages what is shipped, under ``build/``.

    What only a project at Google's has (APIs, service accounts and their roles, monitoring) is not in it yet.
    """
    archive, models, build = archive_bucket(target), models_bucket(target), build_bucket(target)

    def account(unit: str) -> str:
        return f"lunation-{unit}@{target.project}.iam.gserviceaccount.com"

    ingest_zip, classify_zip = stage_function("ingest_fast"), stage_function("classify")
    dataflow_zip, spark_files = stage_dataflow(), stage_spark()
    spark_code = f"gs://{build}/{spark_files[0].object_name.rsplit('/', 1)[0]}"
    spec_name = template_spec(target)
    spec = {
        "image": f"gs://{build}/{dataflow_zip.object_name}",
        "sdkInfo": {"language": "PYTHON"},
        "metadata": json.loads((ROOT / "dataflow" / "metadata.json").read_text()),
    }

    def environment(clients: Clients) -> dict[str, str]:
        return {
            "PROJECT": target.project,
            "USE_CASE": settings.use_case,
            "DATASTORE_ENDPOINT": clients.grpc_url("datastore"),
            "PUBSUB_ENDPOINT": clients.grpc_url("pubsub"),
        }

    def classify_environment(clients: Clients) -> dict[str, str]:
        return {**environment(clients), "MODELS_BUCKET": models}

    ingest = Function(
        "ingest-fast",
        entry_point="ingest_fast",
        source=ingest_zip,
        bucket=build,
        size=settings.functions.ingest_fast,
        service_account=account("ingest-fast"),
        environment=lambda clients: {
            **environment(clients),
            "RECORD_TTL_DAYS": str(settings.records.ttl_days),
        },
        invokers=[f"serviceAccount:{account('push')}"],
    )
    classify = Function(
        "classify",
        entry_point="classify_push",
        source=classify_zip,
        bucket=build,
        size=settings.functions.classify,
        service_account=account("classify"),
        environment=classify_environment,
        invokers=[f"serviceAccount:{account('push')}"],
    )
    classify_http = Function(
        CLASSIFY_HTTP,
        entry_point="classify_http",
        source=classify_zip,
        bucket=build,
        size=settings.functions.classify,
        service_account=account("classify"),
        environment=classify_environment,
        invokers=[f"serviceAccount:{account('caller')}"],
    )

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
            "MODELS_BUCKET": models,
            "USE_CASE": settings.use_case,
            "FIRST_CYCLE_WEEK": week,
        }

    workflow = Workflow(
        WORKFLOW,
        ROOT / "workflows" / "retrain.yaml",
        service_account=account("retrain"),
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
    return [
        Bucket(archive, versioned=True),
        Bucket(models, versioned=True),
        Bucket(build, keeps_data=False),
        *(StagedFile.of(build, artefact) for artefact in (ingest_zip, classify_zip, dataflow_zip, *spark_files)),
        StagedFile(build, spec_name, json.dumps(spec, indent=1).encode()),
        *(Topic(name) for name in TOPICS),
        CompositeIndex("Classification", "label", "-classified_at"),
        CompositeIndex("Classification", "model_version", "-classified_at"),
        CompositeIndex("ModelPromotion", "use_case", "-generation"),
        CompositeIndex("TrainingRun", "use_case", "-claimed_at"),
        ingest,
        classify,
        classify_http,
        Subscription("records-archive", "records"),
        Subscription("labels-archive", "labels"),
        Subscription(
            "records-ingest-fast",
            "records",
            push_to=ingest.url,
            push_as=account("push"),
            dead_letters="dead-letters",
        ),
        Subscription(
            "records-classify",
            "records",
            push_to=classify.url,
            push_as=account("push"),
            dead_letters="dead-letters",
        ),
        Subscription("dead-letters-archive", "dead-letters"),
        Subscription("comparisons-archive", "comparisons"),
        Subscription("dead-letters-review", "dead-letters"),
        Subscription("classifications-review", "classifications"),
        StreamingJob(
            ARCHIVE_JOB,
            spec=f"gs://{build}/{spec_name}",
            parameters=archive_parameters,
            labels={
                "system": "lunation",
                "source": dataflow_zip.label,
                "window-seconds": str(settings.archive.window_seconds),
            },
            service_account=account("archive"),
        ),
        WorkflowTemplate(
            TEMPLATE,
            ROOT / "spark" / "template.yaml",
            {
                "PROJECT": target.project,
                "REGION": target.region,
                "ARCHIVE_BUCKET": archive,
                "MODELS_BUCKET": models,
                "BUILD_BUCKET": build,
                "SPARK_CODE": spark_code,
                "USE_CASE": settings.use_case,
                "SERVICE_ACCOUNT": account("train"),
            },
        ),
        workflow,
        SchedulerJob(
            SCHEDULER_JOB,
            cron=settings.schedule.cron,
            workflow=workflow,
            argument={},
            service_account=account("scheduler"),
        ),
    ]
