"""Alerts, who gets them, and the dashboard."""

from collections.abc import Iterator
from typing import Any

from lunation.clients import Clients
from lunation.deploy.resource import SYSTEM, UNKNOWN, Resource, State, message_of, state_of


class NotificationChannel(Resource):
    """An e-mail address that alerts go to."""

    kind = "notification-channel"
    about = "who is told of an alert"
    service = "monitoring"
    api = "monitoring.googleapis.com"
    managed_with = "roles/monitoring.notificationChannelEditor"

    def __init__(self, name: str, email: str) -> None:
        super().__init__(name)
        self._email = email

    def desired(self, clients: Clients) -> State:
        """Its address."""
        return {
            "type_": "email",
            "display_name": f"Lunation: {self.name}",
            "labels": {"email_address": self._email},
            "user_labels": {**SYSTEM, "row": self.name},
            "enabled": True,
        }

    def summary(self, clients: Clients) -> str:
        """Its address."""
        return self._email

    def full_name(self, clients: Clients) -> str | None:
        """Its resource name, which the service chooses; None while it is not there."""
        found = self._find(clients)
        return None if found is None else found.name

    def read(self, clients: Clients) -> State | None:
        """As it is."""
        found = self._find(clients)
        return None if found is None else state_of(found)

    def create(self, clients: Clients) -> None:
        """Create it."""
        clients.notification_channels.create_notification_channel(
            name=f"projects/{clients.project}", notification_channel=self._message(clients)
        )

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Set the fields that changed."""
        paths = [field.rstrip("_") for field in changed]  # the package calls it type_, the API type
        request = {"notification_channel": self._message(clients), "update_mask": {"paths": paths}}
        clients.notification_channels.update_notification_channel(request=request)

    def delete(self, clients: Clients) -> None:
        """Delete it."""
        clients.notification_channels.delete_notification_channel(name=self.full_name(clients), force=True)

    @classmethod
    def ours(cls, clients: Clients) -> Iterator[Resource]:
        """Those with our label."""
        for found in clients.notification_channels.list_notification_channels(name=f"projects/{clients.project}"):
            if found.user_labels.get("system") == SYSTEM["system"] and "row" in found.user_labels:
                yield cls.named(found.user_labels["row"])

    def _find(self, clients: Clients) -> Any:
        for found in clients.notification_channels.list_notification_channels(name=f"projects/{clients.project}"):
            if found.user_labels.get("row") == self.name and found.user_labels.get("system") == SYSTEM["system"]:
                return found
        return None

    def _message(self, clients: Clients) -> Any:
        from google.cloud.monitoring_v3.types import NotificationChannel as Message

        found = self._find(clients)
        return message_of(Message, {**self.desired(clients), **({"name": found.name} if found else {})})


class AlertPolicy(Resource):
    """One condition that somebody should know of.

    Args:
        name: its row; the display name is made of it.
        condition: as ``google.monitoring.v3.AlertPolicy.Condition`` in JSON, without its name.
        advice: what to do about it, in Markdown: it is in the alert.
        channel: who is told; None: nobody, it is only seen in the console.
    """

    kind = "alert"
    about = "what somebody should know of"
    service = "monitoring"
    api = "monitoring.googleapis.com"
    managed_with = "roles/monitoring.alertPolicyEditor"
    needed_by_none = True

    def __init__(self, name: str, *, condition: State, advice: str, channel: NotificationChannel | None) -> None:
        super().__init__(name)
        self._condition = condition
        self._advice = advice
        self._channel = channel

    def desired(self, clients: Clients) -> State:
        """Condition, advice and who is told, as the API spells them."""
        from google.cloud.monitoring_v3.types import AlertPolicy as Message

        wanted: State = {
            "display_name": f"Lunation: {self.name}",
            "documentation": {"content": self._advice, "mime_type": "text/markdown"},
            "conditions": [{"display_name": self.name, **self._condition}],
            "combiner": "OR",
            "enabled": True,
            "user_labels": {**SYSTEM, "row": self.name},
        }
        if "condition_matched_log" in self._condition:
            wanted["alert_strategy"] = {"notification_rate_limit": {"period": "3600s"}, "auto_close": "86400s"}
        if self._channel is not None:
            wanted["notification_channels"] = [self._channel.full_name(clients) or UNKNOWN]
        return state_of(message_of(Message, wanted))

    def summary(self, clients: Clients) -> str:
        """Its condition in short."""
        (kind, condition), *_ = self._condition.items()
        limit = f" above {condition['threshold_value']:g}" if "threshold_value" in condition else ""
        told = self._channel.address if self._channel is not None else "nobody"
        return f"{kind.removeprefix('condition_')}{limit}, tells {told}"

    def read(self, clients: Clients) -> State | None:
        """As it is."""
        found = self._find(clients)
        return None if found is None else state_of(found)

    def create(self, clients: Clients) -> None:
        """Create it."""
        clients.alert_policies.create_alert_policy(
            name=f"projects/{clients.project}", alert_policy=self._message(clients)
        )

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Set the fields that changed."""
        fields = [field.partition("[")[0] for field in changed]
        request = {"alert_policy": self._message(clients), "update_mask": {"paths": list(dict.fromkeys(fields))}}
        clients.alert_policies.update_alert_policy(request=request)

    def delete(self, clients: Clients) -> None:
        """Delete it."""
        found = self._find(clients)
        if found is not None:
            clients.alert_policies.delete_alert_policy(name=found.name)

    @classmethod
    def ours(cls, clients: Clients) -> Iterator[Resource]:
        """Those with our label."""
        for found in clients.alert_policies.list_alert_policies(name=f"projects/{clients.project}"):
            if found.user_labels.get("system") == SYSTEM["system"] and "row" in found.user_labels:
                yield cls.named(found.user_labels["row"])

    def _find(self, clients: Clients) -> Any:
        for found in clients.alert_policies.list_alert_policies(name=f"projects/{clients.project}"):
            if found.user_labels.get("row") == self.name and found.user_labels.get("system") == SYSTEM["system"]:
                return found
        return None

    def _message(self, clients: Clients) -> Any:
        from google.cloud.monitoring_v3.types import AlertPolicy as Message

        found = self._find(clients)
        return message_of(Message, {**self.desired(clients), **({"name": found.name} if found else {})})


class Dashboard(Resource):
    """The page one looks at.

    Args:
        name: its display name.
        charts: title to ``(metric filter, aligner, reducer, grouping)``.
    """

    kind = "dashboard"
    about = "the page one looks at"
    service = "monitoring"
    api = "monitoring.googleapis.com"
    managed_with = "roles/monitoring.dashboardEditor"
    needed_by_none = True

    def __init__(self, name: str, charts: dict[str, tuple[str, str, str, str]]) -> None:
        super().__init__(name)
        self._charts = charts

    def desired(self, clients: Clients) -> State:
        """Two charts a row."""
        from google.cloud.monitoring_dashboard_v1.types import Dashboard as Message

        tiles = [
            {
                "x_pos": 6 * (index % 2),
                "y_pos": 4 * (index // 2),
                "width": 6,
                "height": 4,
                "widget": {"title": title, "xy_chart": {"data_sets": [_data_set(*chart)]}},
            }
            for index, (title, chart) in enumerate(self._charts.items())
        ]
        wanted = {
            "display_name": self.name,
            "mosaic_layout": {"columns": 12, "tiles": tiles},
            "labels": {"lunation": ""},
        }
        return state_of(message_of(Message, wanted))

    def summary(self, clients: Clients) -> str:
        """Its charts."""
        return ", ".join(self._charts)

    def read(self, clients: Clients) -> State | None:
        """As it is."""
        found = self._find(clients)
        return None if found is None else state_of(found)

    def create(self, clients: Clients) -> None:
        """Create it."""
        clients.dashboards.create_dashboard(
            request={"parent": f"projects/{clients.project}", "dashboard": self._message(clients)}
        )

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Replace it, unless somebody else changed it in between (its etag)."""
        clients.dashboards.update_dashboard(request={"dashboard": self._message(clients)})

    def delete(self, clients: Clients) -> None:
        """Delete it."""
        found = self._find(clients)
        if found is not None:
            clients.dashboards.delete_dashboard(request={"name": found.name})

    @classmethod
    def ours(cls, clients: Clients) -> Iterator[Resource]:
        """Those with our label."""
        for found in clients.dashboards.list_dashboards(request={"parent": f"projects/{clients.project}"}):
            if "lunation" in found.labels:
                yield cls.named(found.display_name)

    def _find(self, clients: Clients) -> Any:
        for found in clients.dashboards.list_dashboards(request={"parent": f"projects/{clients.project}"}):
            if found.display_name == self.name and "lunation" in found.labels:
                return found
        return None

    def _message(self, clients: Clients) -> Any:
        from google.cloud.monitoring_dashboard_v1.types import Dashboard as Message

        found = self._find(clients)
        known = {"name": found.name, "etag": found.etag} if found else {}
        return message_of(Message, {**self.desired(clients), **known})


def above(metric_filter: str, limit: float, *, aligner: str, reducer: str, group_by: str, minutes: int = 5) -> State:
    """A condition: a metric, aligned over ``minutes`` and reduced over the rest, is above ``limit``."""
    return {
        "condition_threshold": {
            "filter": metric_filter,
            "aggregations": [
                {
                    "alignment_period": f"{60 * minutes}s",
                    "per_series_aligner": aligner,
                    "cross_series_reducer": reducer,
                    "group_by_fields": [group_by],
                }
            ],
            "comparison": "COMPARISON_GT",
            "threshold_value": limit,
            "duration": "0s",
            "trigger": {"count": 1},
        }
    }


def logged(log_filter: str) -> State:
    """A condition: a log entry that fits."""
    return {"condition_matched_log": {"filter": log_filter}}


def _data_set(metric_filter: str, aligner: str, reducer: str, group_by: str) -> State:
    return {
        "plot_type": "LINE",
        "time_series_query": {
            "time_series_filter": {
                "filter": metric_filter,
                "aggregation": {
                    "alignment_period": "60s",
                    "per_series_aligner": aligner,
                    "cross_series_reducer": reducer,
                    "group_by_fields": [group_by],
                },
            }
        },
    }
