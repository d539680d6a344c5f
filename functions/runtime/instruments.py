"""The counters of the functions, and the start of their telemetry."""

from functions.runtime.settings import Settings
from telemetry import logs
from telemetry.counters import Counter

MESSAGES = Counter("lunation.messages", "Pushed messages by what became of them: done, refused, again, failed")
ANSWERS = Counter("lunation.answers", "Records that were answered, by model version and label")
SUBMITTED = Counter("lunation.submitted", "Records that callers submitted, by what became of them")
LOADS = Counter("lunation.model_loads", "Models that were loaded, or refused")


def start_telemetry(unit: str, settings: Settings) -> None:
    """Configure the log lines of ``unit``, and export metrics if the settings name an endpoint. Call this once."""
    logs.configure(settings.project, unit=unit)
    if settings.otel_exporter_otlp_metrics_endpoint:
        from telemetry.export import Exporter

        Exporter(
            settings.otel_exporter_otlp_metrics_endpoint,
            unit,
            project=settings.project,
            interval_seconds=settings.otel_metric_export_interval / 1000,
        ).start()
