"""Stands where an OpenTelemetry collector stands."""

import gzip
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest


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

    def resource(self) -> dict[str, str]:
        """The newest export: whose it is."""
        (metrics,) = self.received[-1].resource_metrics
        return {one.key: one.value.string_value for one in metrics.resource.attributes}

    def points(self) -> dict[str, dict[str, float]]:
        """The newest export: values by counter or gauge, and attributes."""
        found: dict[str, dict[str, float]] = {}
        for resource in self.received[-1].resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    kind = metric.WhichOneof("data")
                    assert kind == "gauge" or metric.sum.is_monotonic
                    found[metric.name] = {
                        ",".join(f"{one.key}={one.value.string_value}" for one in point.attributes): getattr(
                            point, point.WhichOneof("value")
                        )
                        for point in getattr(metric, kind).data_points
                    }
        return found

    @contextmanager
    def serving(self) -> Iterator["Collector"]:
        """Take what comes, for a while."""
        thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()
