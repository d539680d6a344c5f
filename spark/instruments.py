"""What the jobs measure for whoever runs them, and its export at the end of each job, however that ends.

Exported by OpenTelemetry to ``OTEL_EXPORTER_OTLP_METRICS_ENDPOINT``; not set or empty: nowhere. A job ends by itself,
so it exports once. The run is ``service.instance.id``, and the job ``service.name``.
"""

import os
import time
from collections.abc import Callable, Mapping

from spark.job import Job
from telemetry.export import Exporter
from telemetry.gauges import Gauge

DURATION = Gauge("lunation.job.duration", "How long a job took, by how it ended: done, failed", "s")
ARCHIVE = Gauge("lunation.archive.lines", "What all conversions so far have read, by what became of it", "{line}")
OBJECTS = Gauge("lunation.archive.new_objects", "Objects that this conversion was the first to read", "{object}")
TRAINING = Gauge("lunation.training.rows", "Labelled rows by their use: train, evaluate", "{row}")
AUC = Gauge("lunation.model.auc", "On the latest labelled window, by model and the verdict on the challenger", "1")
LOG_LOSS = Gauge("lunation.model.log_loss", "The same window's, likewise", "1")


def instrumented(
    unit: str, job: Job, work: Callable[[], None], environment: Mapping[str, str] = os.environ
) -> Callable[[], None]:
    """``work`` that, returning or raising, tells how long it took, and exports what it measured."""

    def timed() -> None:
        began = time.monotonic()
        outcome = "failed"
        try:
            work()
            outcome = "done"
        finally:
            DURATION.set(time.monotonic() - began, use_case=job.case.name, outcome=outcome)
            endpoint = environment.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
            if endpoint:
                Exporter(endpoint, unit, instance=job.run_id).export()

    return timed
