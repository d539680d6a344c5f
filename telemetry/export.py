"""Exports counters and gauges by OpenTelemetry (OTLP over HTTP): now and then, while requests keep an instance awake,
or once, at the end of a job.

OpenTelemetry's own reader exports from a thread that sleeps, which an instance without a processor between requests
never wakes. So each addition looks at the clock. What is exported is the total since the process began: an export that
fails, or an instance that ends in between, loses the last minute at most.
"""

import logging
import threading
import time
import uuid
from functools import partial
from typing import Any

from telemetry.counters import Counter
from telemetry.gauges import Gauge

log = logging.getLogger(__name__)


class Exporter:
    """Sends the counters and gauges to an OTLP endpoint.

    Args:
        endpoint: for example ``https://telemetry.googleapis.com/v1/metrics``; by https with Google's credentials.
        service: the unit, as ``service.name``.
        instance: as ``service.instance.id``; empty: a new one.
        project: as ``gcp.project_id``; empty: ``OTEL_RESOURCE_ATTRIBUTES`` says it, or nobody does.
        interval_seconds: at most so often, once it is started.
    """

    def __init__(
        self, endpoint: str, service: str, instance: str = "", project: str = "", interval_seconds: float = 60.0
    ) -> None:
        self._endpoint = endpoint
        self._interval = interval_seconds
        self._resource = {
            "service.name": service,
            "service.namespace": "lunation",
            "service.instance.id": instance or str(uuid.uuid4()),
            **({"gcp.project_id": project} if project else {}),
        }
        self._due = time.monotonic() + interval_seconds
        self._busy = threading.Lock()
        self._reader: Any = None

    def start(self) -> None:
        """Look at the clock at each addition from now on."""
        Counter.after_add = staticmethod(self._look)  # type: ignore[assignment]

    def export(self) -> None:
        """Send what there is. A failure is logged, and the next export says the same and more."""
        try:
            if self._reader is None:
                self._reader = self._make_reader()
            self._reader.collect(timeout_millis=10_000)
        except Exception as error:
            # Telemetry must not harm the unit that it tells of.
            log.warning("metrics were not exported: %s", type(error).__name__)

    def _look(self) -> None:
        if time.monotonic() >= self._due and self._busy.acquire(blocking=False):
            self._due = time.monotonic() + self._interval
            threading.Thread(target=self._export_and_release, name="metrics", daemon=True).start()

    def _export_and_release(self) -> None:
        try:
            self.export()
        finally:
            self._busy.release()

    def _make_reader(self) -> Any:
        """The SDK is a tenth of a second of imports, which no request waits for here."""
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.metrics import Observation
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource

        def observe(one: Counter | Gauge, _: Any) -> list[Any]:
            return [Observation(value, dict(attributes)) for attributes, value in one.values().items()]

        exporter = OTLPMetricExporter(self._endpoint, session=_session(self._endpoint), timeout=10)
        # Its own interval is endless: we say when.
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf"))
        provider = MeterProvider([reader], Resource.create(self._resource), shutdown_on_exit=False)
        meter = provider.get_meter("lunation")
        for counter in Counter.all.values():
            meter.create_observable_counter(counter.name, [partial(observe, counter)], description=counter.description)
        for gauge in Gauge.all.values():
            meter.create_observable_gauge(gauge.name, [partial(observe, gauge)], gauge.unit, gauge.description)
        return reader


def _session(endpoint: str) -> Any:
    """By https with Google's credentials; by http plainly, as everywhere in the functions."""
    import requests

    if endpoint.startswith("http://"):
        return requests.Session()
    import google.auth
    from google.auth.transport.requests import AuthorizedSession

    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    return AuthorizedSession(credentials)
