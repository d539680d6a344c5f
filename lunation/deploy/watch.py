"""What is watched: the alerts and the charts, as rows of the table."""

from lunation.deploy.monitoring import AlertPolicy, Dashboard, NotificationChannel, above, logged
from lunation.deploy.resource import Resource
from lunation.settings import Settings

SUBSCRIPTION = 'resource.type = "pubsub_subscription"'
TOPIC = 'resource.type = "pubsub_topic"'
RUN = 'resource.type = "cloud_run_revision"'
JOB = 'resource.type = "dataflow_job" AND resource.labels.job_name = "lunation-archive"'
WORKFLOW = 'resource.type = "workflows.googleapis.com/Workflow" AND resource.labels.workflow_id = "retrain"'
SCHEDULER = 'resource.type = "cloud_scheduler_job" AND resource.labels.job_id = "lunation-retrain"'

POINTER_NOT_FOLLOWED = "the pointer is not followed"
MODEL_NOT_SERVED = "model is not served"
NO_PROBABILITY = "the model gave no probability"
"""What classify logs (functions/classify/serving.py, handler.py); a test holds the two together."""
CYCLE_OVERDUE = "a training cycle is overdue"
"""What the workflow logs (workflows/retrain.yaml), likewise."""


def rows(settings: Settings) -> list[Resource]:
    """The notification channel, if an address is set, the alerts and the dashboard."""
    wanted = settings.monitoring
    channel = NotificationChannel("team", wanted.email) if wanted.email is not None else None
    oldest = f'{SUBSCRIPTION} AND metric.type = "pubsub.googleapis.com/subscription/oldest_unacked_message_age"'
    dead = (
        f'{TOPIC} AND resource.labels.topic_id = "dead-letters" AND '
        'metric.type = "pubsub.googleapis.com/topic/send_request_count"'
    )
    finished = f'{WORKFLOW} AND metric.type = "workflows.googleapis.com/finished_execution_count"'
    lag = f'{JOB} AND metric.type = "dataflow.googleapis.com/job/data_watermark_age"'
    alerts = [
        AlertPolicy(
            "messages wait",
            condition=above(
                f'{oldest} AND resource.labels.subscription_id = monitoring.regex.full_match("records-.*|labels-.*")',
                60 * wanted.oldest_message_minutes,
                aligner="ALIGN_MAX",
                reducer="REDUCE_MAX",
                group_by="resource.labels.subscription_id",
            ),
            advice="Messages of a subscription are not acknowledged. `lunation verify` tells which records are where; "
            "the log of the function, or of the archive job, tells why. Nothing is lost for seven days.",
            channel=channel,
        ),
        AlertPolicy(
            "dead letters",
            condition=above(dead, 0, aligner="ALIGN_DELTA", reducer="REDUCE_SUM", group_by="resource.labels.topic_id"),
            advice="Somebody publishes what no one can read. `lunation verify` lists them with their reasons.",
            channel=channel,
        ),
        AlertPolicy(
            "training failed",
            condition=above(
                f'{finished} AND metric.labels.status = "FAILED"',
                0,
                aligner="ALIGN_DELTA",
                reducer="REDUCE_SUM",
                group_by="resource.labels.workflow_id",
            ),
            advice="The serving model stays. `lunation runs` tells the cause. `lunation retrain` tries again at once; "
            "what was scheduled is tried again in the next week, too.",
            channel=channel,
        ),
        AlertPolicy(
            # Each attempt that fails is an entry of its own, which does not say whether another follows: so this tells
            # of the first one, and of an outage that the retries have outlasted, too.
            "cycle not started",
            condition=logged(f"{SCHEDULER} AND severity >= ERROR"),
            advice="Cloud Scheduler could not start the weekly execution of the workflow. It tries six times in all, "
            "within some two hours. `lunation runs` tells whether one came through; if none did, `lunation retrain` "
            "starts what is due, and so does the next week.",
            channel=channel,
        ),
        AlertPolicy(
            "cycle overdue",
            condition=logged(f'{WORKFLOW} AND severity >= WARNING AND jsonPayload.message = "{CYCLE_OVERDUE}"'),
            advice="The cycle that the log entry names has not succeeded in its week: it FAILED, or was MISSED, as no "
            "execution was started. It is being made up for now. `lunation runs` tells what became of it.",
            channel=channel,
        ),
        AlertPolicy(
            "stale pointer",
            condition=logged(f'{RUN} AND jsonPayload.message = "{POINTER_NOT_FOLLOWED}"'),
            advice="An instance of classify keeps answering with an older model: Datastore is out of reach, or the "
            "pointer cannot be read. Its answers say `stale`. The log entry has the reason; a pointer that cannot be "
            "read is mended by `lunation promote --repair`.",
            channel=channel,
        ),
        AlertPolicy(
            "model does not load",
            condition=logged(f'{RUN} AND jsonPayload.message = ("{MODEL_NOT_SERVED}" OR "{NO_PROBABILITY}")'),
            advice="What the pointer names does not load in an instance of classify, or gives no probability for a "
            "record: the model before it goes on serving where it is loaded, and records wait where none is. The log "
            "entry names the model and the reason, and so does `lunation models`. `lunation rollback` goes back to the "
            "model before; if that is what does not load, `lunation promote` another one.",
            channel=channel,
        ),
        AlertPolicy(
            "archive lags",
            condition=above(
                lag,
                60 * wanted.archive_lag_minutes,
                aligner="ALIGN_MAX",
                reducer="REDUCE_MAX",
                group_by="resource.labels.job_name",
            ),
            advice="The archive job does not keep up, or is stuck. Its page in the console names the slow step. "
            "Messages stay in their subscriptions for seven days.",
            channel=channel,
        ),
    ]
    charts = {
        "Published, a second": (
            f'{TOPIC} AND metric.type = "pubsub.googleapis.com/topic/send_message_operation_count"',
            "ALIGN_RATE",
            "REDUCE_SUM",
            "resource.labels.topic_id",
        ),
        "Oldest message that waits, seconds": (
            oldest,
            "ALIGN_MAX",
            "REDUCE_MAX",
            "resource.labels.subscription_id",
        ),
        "Answers of the functions, a second": (
            f'{RUN} AND metric.type = "run.googleapis.com/request_count"',
            "ALIGN_RATE",
            "REDUCE_SUM",
            "metric.labels.response_code_class",
        ),
        "Latency of the functions, 99th percentile, ms": (
            f'{RUN} AND metric.type = "run.googleapis.com/request_latencies"',
            "ALIGN_PERCENTILE_99",
            "REDUCE_MAX",
            "resource.labels.service_name",
        ),
        "Instances": (
            f'{RUN} AND metric.type = "run.googleapis.com/container/instance_count"',
            "ALIGN_MAX",
            "REDUCE_SUM",
            "resource.labels.service_name",
        ),
        "The archive's lag, seconds": (lag, "ALIGN_MAX", "REDUCE_MAX", "resource.labels.job_name"),
        "Trainings, by outcome": (finished, "ALIGN_DELTA", "REDUCE_SUM", "metric.labels.status"),
        "Dead letters": (dead, "ALIGN_DELTA", "REDUCE_SUM", "resource.labels.topic_id"),
    }
    return [*([channel] if channel is not None else []), *alerts, Dashboard("Lunation", charts)]
