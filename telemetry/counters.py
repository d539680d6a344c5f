"""Counters. Adding to one is an addition; OpenTelemetry reads them when it exports (:mod:`telemetry.export`)."""

from collections.abc import Callable, Mapping
from typing import ClassVar

Attributes = tuple[tuple[str, str], ...]


class Counter:
    """A number that only grows, by attributes.

    Args:
        name: as it appears in the metrics, for example ``lunation.messages``.
        description: what is counted.
    """

    all: ClassVar[dict[str, "Counter"]] = {}
    """Every counter of the process, by name."""
    after_add: ClassVar[Callable[[], None]] = staticmethod(lambda: None)
    """Called after each addition: a serverless instance has the processor only while it is called."""

    def __init__(self, name: str, description: str) -> None:
        self.name = name
        self.description = description
        self._values: dict[Attributes, int] = {}
        Counter.all[name] = self

    def add(self, number: int = 1, **attributes: str) -> None:
        """Count ``number`` more. Attributes have few values: a version, an outcome, never an id."""
        self.count(tuple(attributes.items()), number)

    def count(self, attributes: Attributes, number: int = 1) -> None:
        """The same with attributes that are put together once, for what is counted at each request."""
        self._values[attributes] = self._values.get(attributes, 0) + number
        Counter.after_add()

    def values(self) -> Mapping[Attributes, int]:
        """What was counted since the process began."""
        return dict(self._values)
