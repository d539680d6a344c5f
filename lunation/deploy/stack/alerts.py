"""The alerts, and who gets them. The dashboard shows the same metrics (:mod:`lunation.deploy.stack.dashboard`)."""

from lunation.deploy.monitoring import AlertPolicy, NotificationChannel, above, logged
from lunation.deploy.resource import Resource, owned
from lunation.settings import Monitoring

SUBSCRIPTION = 'resource.type = "pubsub_subscription"'
TOPIC = 'resource.type = "pubsub_topic"'
RUN = 'resource.type = "cloud_run_revision"'
JOB = 'resource.type = "dataflow_job" AND resource.labels.job_name = "lunation-archive"'
WORKFLOW = 'resource.type = "workflows.googleapis.com/Workflow" AND resource.labels.workflow_id = "retrain"'
SCHEDULER = 'resource.type = "cloud_scheduler_job" AND resource.labels.job_id = "lunation-retrain"'

OLDEST_MESSAGE = f'{SUBSCRIPTION} AND metric.type = "pubsub.googleapis.com/subscription/oldest_unacked_message_age"'
"""How long the oldest message of a subscription has waited, in seconds."""
DEAD_LETTERS = (
    f'{TOPIC} AND resource.labels.topic_id = "dead-letters" AND '
    'metric.type = "pubsub.googleapis.com/topic/send_request_count"'
)
"""Requests that published dead letters."""
TRAININGS = f'{WORKFLOW} AND metric.type = "workflows.googleapis.com/finished_execution_count"'
"""Executions of the workflow that ended, by status."""
ARCHIVE_LAG = f'{JOB} AND metric.type = "dataflow.googleapis.com/job/data_watermark_age"'
"""How far the archive job is behind, in seconds."""

POINTER_NOT_FOLLOWED = "the pointer is not followed"
MODEL_NOT_SERVED = "model is not served"
NO_PROBABILITY = "the model gave no probability"
"""What classify logs (functions/classify/serving.py, handler.py); a test holds the two together."""
CYCLE_OVERDUE = "a training cycle is overdue"
"""What the workflow logs (workflows/retrain.yaml), likewise."""


def alerts(wanted: Monitoring) -> tuple[Resource, ...]:
    """The notification channel, if an address is set, and the alerts."""
    channel = NotificationChannel("team", wanted.email) if wanted.email is not None else None
    return owned(
        "project",
        *([channel] if channel is not None else []),
        _messages_wait(wanted, channel),
        _dead_letters(channel),
        _training_failed(channel),
        _cycle_not_started(channel),
        _cycle_overdue(channel),
        _stale_pointer(channel),
        _model_does_not_load(channel),
        _archive_lags(wanted, channel),
    )


def _messages_wait(wanted: Monitoring, channel: NotificationChannel | None) -> AlertPolicy:
    read_by_ours = 'resource.labels.subscription_id = monitoring.regex.full_match("records-.*|labels-.*")'
    return AlertPolicy(
        "messages wait",
        condition=above(
            f"{OLDEST_MESSAGE} AND {read_by_ours}",
            60 * wanted.oldest_message_minutes,
            aligner="ALIGN_MAX",
            reducer="REDUCE_MAX",
            group_by="resource.labels.subscription_id",
        ),
        advice="Messages of a subscription are not acknowledged. `lunation verify` tells which records are where; "
        "the log of the function, or of the archive job, tells why. Nothing is lost for seven days.",
        channel=channel,
    )


def _dead_letters(channel: NotificationChannel | None) -> AlertPolicy:
    return AlertPolicy(
        "dead letters",
        condition=above(
            DEAD_LETTERS, 0, aligner="ALIGN_DELTA", reducer="REDUCE_SUM", group_by="resource.labels.topic_id"
        ),
        advice="Somebody publishes what no one can read. `lunation verify` lists them with their reasons.",
        channel=channel,
    )


def _training_failed(channel: NotificationChannel | None) -> AlertPolicy:
    return AlertPolicy(
        "training failed",
        condition=above(
            f'{TRAININGS} AND metric.labels.status = "FAILED"',
            0,
            aligner="ALIGN_DELTA",
            reducer="REDUCE_SUM",
            group_by="resource.labels.workflow_id",
        ),
        advice="The serving model stays. `lunation runs` tells the cause. `lunation retrain` tries again at once; "
        "what was scheduled is tried again in the next week, too.",
        channel=channel,
    )


def _cycle_not_started(channel: NotificationChannel | None) -> AlertPolicy:
    """Each attempt that fails is a log entry of its own, which does not say whether another follows: so this tells of
    the first one, and of an outage that the retries have outlasted, too."""
    return AlertPolicy(
        "cycle not started",
        condition=logged(f"{SCHEDULER} AND severity >= ERROR"),
        advice="Cloud Scheduler could not start the weekly execution of the workflow. It tries six times in all, "
        "within some two hours. `lunation runs` tells whether one came through; if none did, `lunation retrain` "
        "starts what is due, and so does the next week.",
        channel=channel,
    )


def _cycle_overdue(channel: NotificationChannel | None) -> AlertPolicy:
    return AlertPolicy(
        "cycle overdue",
        condition=logged(f'{WORKFLOW} AND severity >= WARNING AND jsonPayload.message = "{CYCLE_OVERDUE}"'),
        advice="The cycle that the log entry names has not succeeded in its week: it FAILED, or was MISSED, as no "
        "execution was started. It is being made up for now. `lunation runs` tells what became of it.",
        channel=channel,
    )


def _stale_pointer(channel: NotificationChannel | None) -> AlertPolicy:
    return AlertPolicy(
        "stale pointer",
        condition=logged(f'{RUN} AND jsonPayload.message = "{POINTER_NOT_FOLLOWED}"'),
        advice="An instance of classify keeps answering with an older model: Datastore is out of reach, or the "
        "pointer cannot be read. Its answers say `stale`. The log entry has the reason; a pointer that cannot be "
        "read is mended by `lunation promote --repair`.",
        channel=channel,
    )


def _model_does_not_load(channel: NotificationChannel | None) -> AlertPolicy:
    return AlertPolicy(
        "model does not load",
        condition=logged(f'{RUN} AND jsonPayload.message = ("{MODEL_NOT_SERVED}" OR "{NO_PROBABILITY}")'),
        advice="What the pointer names does not load in an instance of classify, or gives no probability for a "
        "record: the model before it goes on serving where it is loaded, and records wait where none is. The log "
        "entry names the model and the reason, and so does `lunation models`. `lunation rollback` goes back to the "
        "model before; if that is what does not load, `lunation promote` another one.",
        channel=channel,
    )


def _archive_lags(wanted: Monitoring, channel: NotificationChannel | None) -> AlertPolicy:
    return AlertPolicy(
        "archive lags",
        condition=above(
            ARCHIVE_LAG,
            60 * wanted.archive_lag_minutes,
            aligner="ALIGN_MAX",
            reducer="REDUCE_MAX",
            group_by="resource.labels.job_name",
        ),
        advice="The archive job does not keep up, or is stuck. Its page in the console names the slow step. "
        "Messages stay in their subscriptions for seven days.",
        channel=channel,
    )
