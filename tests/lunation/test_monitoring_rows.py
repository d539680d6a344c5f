"""Alerts and who gets them, as Monitoring gives them back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lunation.deploy.monitoring import NotificationChannel
from lunation.deploy.plan import compare, left_over
from lunation.deploy.stack import alerts, dashboard
from lunation.settings import load
from tests.lunation.google import PROJECT, Google, Rewriting, google


def _alerts(told: Any) -> None:
    """What was added: magic-modules, AlertPolicy.yaml; and the recorded answers of k8s-config-connector."""
    for policy in told.alert_policies:
        policy.creation_record.mutated_by = policy.mutation_record.mutated_by = "user@example.com"
        for condition in policy.conditions:
            condition.name = f"{policy.name}/conditions/17"


def _channels(told: Any) -> None:
    for channel in told.notification_channels:
        channel.creation_record.mutate_time.GetCurrentTime()
        channel.mutation_records.add().mutate_time.GetCurrentTime()


def _dashboards(told: Any) -> None:
    """Computed at any depth: monitoringDashboardDiffSuppress of the same."""
    for one in told.dashboards:
        for tile in one.mosaic_layout.tiles:
            tile.widget.xy_chart.chart_options.mode = 1
            for data_set in tile.widget.xy_chart.data_sets:
                data_set.target_axis = 1


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """With lists as Google gives them."""
    judge = Rewriting(ListAlertPolicies=_alerts, ListNotificationChannels=_channels, ListDashboards=_dashboards)
    with google(tmp_path, monkeypatch, [judge]) as made:
        yield made


def test_what_monitoring_adds_is_no_change(cloud: Google) -> None:
    """All that is watched, made and compared again."""
    settings = load()
    monitoring = settings.monitoring.model_copy(update={"email": "team@example.com"})
    rows = [*alerts.alerts(monitoring), *dashboard.dashboard()]
    for row in rows:
        row.create(cloud.clients)
    assert [compare(row, cloud.clients).action for row in rows] == ["unchanged"] * len(rows)


def test_a_channel_that_somebody_silenced_is_a_change(cloud: Google) -> None:
    """It tells nobody."""
    row = NotificationChannel("team", "team@example.com")
    row.create(cloud.clients)
    (channel,) = cloud.project.below(f"projects/{PROJECT}/notificationChannels/")
    channel.enabled.value = False
    assert compare(row, cloud.clients).fields == [("enabled", False, True)]
    row.update(cloud.clients, ["enabled"])
    assert compare(row, cloud.clients).action == "unchanged"


def test_a_channel_that_only_looks_like_ours_is_left_alone(cloud: Google) -> None:
    """It has our label, and no row: somebody made it by hand."""
    row = NotificationChannel("team", "team@example.com")
    row.create(cloud.clients)
    (channel,) = cloud.project.below(f"projects/{PROJECT}/notificationChannels/")
    del channel.user_labels["row"]
    assert left_over([row], cloud.clients) == []
