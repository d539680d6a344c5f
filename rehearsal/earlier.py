"""What an earlier release would have left: the table as it could have been, so that the one of today has much to do.

It changes rows of most kinds, replaces a subscription that takes from another topic, and deletes a twin of each kind
that can be told to be ours.
"""

import copy
from collections.abc import Iterator

from lunation.clients import Clients
from lunation.deploy.access import Access
from lunation.deploy.accounts import CustomRole, ServiceAccount
from lunation.deploy.message_schemas import MessageSchema
from lunation.deploy.monitoring import Dashboard
from lunation.deploy.names import models_bucket
from lunation.deploy.pubsub import Subscription
from lunation.deploy.resource import Resource
from lunation.deploy.storage import Bucket
from lunation.deploy.table import resources
from lunation.settings import Settings

WAS = "as it was"


def earlier(settings: Settings, clients: Clients) -> list[Resource]:
    """Its rows.

    Args:
        settings: those of today.
        clients: of the target.
    """
    rows = resources(_settings(settings), clients.target)
    seen: set[type[Resource]] = set()
    found: list[Resource] = []
    for row in rows:
        found.append(_as_it_was(row, clients) or row)
        if type(row) not in seen:
            seen.add(type(row))
            found += _twin(row)
    return found


def _settings(settings: Settings) -> Settings:
    size = settings.functions.classify
    smaller = size.model_copy(update={"max_instances": size.max_instances + 1})
    return settings.model_copy(
        update={
            "records": settings.records.model_copy(update={"ttl_days": settings.records.ttl_days + 1}),
            "archive": settings.archive.model_copy(update={"window_seconds": settings.archive.window_seconds + 1}),
            "schedule": settings.schedule.model_copy(update={"cron": "30 4 * * 2"}),
            "functions": settings.functions.model_copy(update={"classify": smaller}),
            "checks": settings.checks.model_copy(update={"drift_index": settings.checks.drift_index + 0.1}),
            "monitoring": settings.monitoring.model_copy(
                update={"oldest_message_minutes": settings.monitoring.oldest_message_minutes + 1}
            ),
        }
    )


def _as_it_was(row: Resource, clients: Clients) -> Resource | None:
    """The row with other content; None if that comes from the settings, or it has none."""
    match row:
        case ServiceAccount(name="lunation-push"):
            return ServiceAccount("push", WAS)
        case CustomRole(name="lunationObjectReader"):
            return CustomRole(row.name, row.permissions[:1], WAS)
        case Bucket() if row.name == models_bucket(clients.target):
            return Bucket(row.name)
        case Subscription(name="records-archive"):
            return Subscription(row.name, "labels")
        case Subscription(name="labels-archive"):
            return Subscription(row.name, row.topic, ack_seconds=30)
        case MessageSchema(name="lunation-label"):
            lines = row.desired(clients)["definition"].splitlines(keepends=True)
            last = max(index for index, line in enumerate(lines) if " = " in line)
            return MessageSchema(row.name, "".join(lines[:last] + lines[last + 1 :]))
        case Access(name="project" | "topic/dead-letters"):
            return Access(row.policy, *row.grants[1:])
        case Dashboard():
            return Dashboard(row.name, {WAS: ('metric.type = "pubsub.googleapis.com/topic/send_request_count"',
                                              "ALIGN_RATE", "REDUCE_SUM", "resource.labels.topic_id")})  # fmt: skip
    return None


def _twin(row: Resource) -> Iterator[Resource]:
    """Another of the same kind, which today's table does not have and would find."""
    if type(row).ours.__func__ is Resource.ours.__func__:  # type: ignore[attr-defined]
        return
    twin = copy.copy(row)
    twin.name = f"{row.name}Gone" if isinstance(row, CustomRole) else f"{row.name}-gone"
    yield twin
