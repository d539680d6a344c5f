"""Gauges: what was measured last. OpenTelemetry reads them when it exports (:mod:`telemetry.export`)."""

from collections.abc import Mapping
from typing import ClassVar

from telemetry.counters import Attributes


class Gauge:
    """A number that goes up and down, by attributes.

    Args:
        name: as it appears in the metrics, for example ``lunation.job.duration``.
        description: what is measured.
        unit: in UCUM's notation, ``s`` or ``1``, say; what is counted stands in braces, as in ``{row}``.
    """

    all: ClassVar[dict[str, "Gauge"]] = {}
    """Every gauge of the process, by name."""

    def __init__(self, name: str, description: str, unit: str) -> None:
        self.name = name
        self.description = description
        self.unit = unit
        self._values: dict[Attributes, float] = {}
        Gauge.all[name] = self

    def set(self, value: float, **attributes: str) -> None:
        """What it is now. Attributes have few values: an outcome, a verdict, never an id."""
        self._values[tuple(attributes.items())] = value

    def values(self) -> Mapping[Attributes, float]:
        """What was measured last; nothing for what never was."""
        return dict(self._values)
