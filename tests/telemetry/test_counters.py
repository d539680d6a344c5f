"""Counters cost an addition, and OpenTelemetry exports what they hold, over its own protocol."""

import gzip
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from telemetry.counters import Counter
from telemetry.export import Exporter
from tests.support import ROOT, eventually


class Collector:
    """A server that keeps what is exported to it; it refuses the first ``refused`` requests."""

    def __init__(self) -> None:
        self.received: list[ExportMetricsServiceRequest] = []
        self.refused = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if outer.refused:
                    outer.refused -= 1
                    self.send_response(400)
                else:
                    outer.received.append(ExportMetricsServiceRequest.FromString(body))
                    self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/metrics"

    def points(self) -> dict[str, dict[str, int]]:
        """The newest export: values by counter and attributes."""
        found: dict[str, dict[str, int]] = {}
        for resource in self.received[-1].resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    assert metric.sum.is_monotonic
                    found[metric.name] = {
                        ",".join(f"{one.key}={one.value.string_value}" for one in point.attributes): point.as_int
                        for point in metric.sum.data_points
                    }
        return found


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector, and counters of this test's own."""
    monkeypatch.setattr(Counter, "all", {})
    monkeypatch.setattr(Counter, "after_add", staticmethod(lambda: None))
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_an_addition_exports_when_it_is_time(collector: Collector) -> None:
    """The totals since the process began, with the unit's name; also what was counted before the first export."""
    counter = Counter("lunation.test", "Tests")
    counter.add(outcome="done")
    Exporter(collector.url, 0.0, "classify", "p").start()
    counter.add(2, outcome="done")
    eventually(lambda: collector.received)
    counter.add(outcome="again")

    def told() -> bool:
        counter.add(0, outcome="done")  # what makes it look at the clock again
        return collector.points() == {"lunation.test": {"outcome=done": 3, "outcome=again": 1}}

    eventually(told)
    resource = {
        one.key: one.value.string_value for one in collector.received[-1].resource_metrics[0].resource.attributes
    }
    assert (resource["service.name"], resource["gcp.project_id"]) == ("classify", "p")


def test_an_export_that_fails_harms_nobody_and_the_next_one_says_it_all(collector: Collector) -> None:
    """Nothing is lost by it, and nothing is raised where it was counted."""
    counter = Counter("lunation.test", "Tests")
    collector.refused = 1
    exporter = Exporter(collector.url, 60.0, "classify", "p")
    counter.add(outcome="done")
    exporter.export()
    assert collector.received == []
    counter.add(outcome="done")
    exporter.export()
    assert collector.points() == {"lunation.test": {"outcome=done": 2}}
    exporter.export()
    begun = {
        point.start_time_unix_nano
        for export in collector.received
        for resource in export.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.sum.data_points
    }
    assert len(begun) == 1, "the totals are of one and the same beginning"


def test_counting_loads_nothing_but_the_standard_library() -> None:
    """A new instance does not pay for OpenTelemetry until it exports."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import telemetry.counters, telemetry.logs, telemetry.export; "
        "telemetry.counters.Counter('a', 'b').add(); "
        "print([name for name in sys.modules if name.split('.')[0] in ('opentelemetry', 'requests')])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program, str(ROOT)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
