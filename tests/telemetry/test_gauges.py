"""Gauges hold what was measured last, and OpenTelemetry exports it beside the counters."""

from telemetry.counters import Counter
from telemetry.export import Exporter
from telemetry.gauges import Gauge
from tests.telemetry_support import Collector


def test_the_last_value_is_exported_with_its_unit(collector: Collector) -> None:
    """By attributes, beside what is counted; a gauge that was never set says nothing."""
    gauge, _ = Gauge("lunation.test.duration", "Tests", "s"), Gauge("lunation.test.never", "Tests", "1")
    Counter("lunation.test", "Tests").add()
    gauge.set(3.0, outcome="done")
    gauge.set(1.5, outcome="done")
    gauge.set(2.0, outcome="failed")
    Exporter(collector.url, "convert", instance="run-1").export()
    points = collector.points()
    assert points.pop("lunation.test.duration") == {"outcome=done": 1.5, "outcome=failed": 2.0}
    assert points == {"lunation.test": {"": 1}}
    (metrics,) = collector.received[-1].resource_metrics[0].scope_metrics
    assert {one.name: one.unit for one in metrics.metrics}["lunation.test.duration"] == "s"


def test_who_exports_can_be_said_by_the_environment(collector: Collector, monkeypatch) -> None:
    """By OpenTelemetry's own variable, as on a cluster; what the unit says of itself stands."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "gcp.project_id=acme,service.name=other")
    Gauge("lunation.test", "Tests", "1").set(1)
    Exporter(collector.url, "convert", instance="run-1").export()
    told = collector.resource()
    assert (told["gcp.project_id"], told["service.name"], told["service.instance.id"]) == ("acme", "convert", "run-1")
