"""The dashboard, with its charts."""

from lunation.deploy.monitoring import Dashboard
from lunation.deploy.resource import Resource, owned
from lunation.deploy.stack.alerts import ARCHIVE_LAG, DEAD_LETTERS, OLDEST_MESSAGE, RUN, TOPIC, TRAININGS

CHARTS = {
    "Published, a second": (
        f'{TOPIC} AND metric.type = "pubsub.googleapis.com/topic/send_message_operation_count"',
        "ALIGN_RATE",
        "REDUCE_SUM",
        "resource.labels.topic_id",
    ),
    "Oldest message that waits, seconds": (
        OLDEST_MESSAGE,
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
    "The archive's lag, seconds": (ARCHIVE_LAG, "ALIGN_MAX", "REDUCE_MAX", "resource.labels.job_name"),
    "Trainings, by outcome": (TRAININGS, "ALIGN_DELTA", "REDUCE_SUM", "metric.labels.status"),
    "Dead letters": (DEAD_LETTERS, "ALIGN_DELTA", "REDUCE_SUM", "resource.labels.topic_id"),
}
"""The filter of each chart's metric, how it is aligned and reduced, and by what its lines are told apart."""


def dashboard() -> tuple[Resource, ...]:
    """The dashboard."""
    return owned("project", Dashboard("Lunation", CHARTS))
