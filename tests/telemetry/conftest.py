"""A collector, to which a test exports."""

from collections.abc import Iterator

import pytest

from telemetry.counters import Counter
from telemetry.gauges import Gauge
from tests.telemetry_support import Collector


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector, and counters and gauges of this test's own."""
    monkeypatch.setattr(Counter, "all", {})
    monkeypatch.setattr(Counter, "after_add", staticmethod(lambda: None))
    monkeypatch.setattr(Gauge, "all", {})
    with Collector().serving() as made:
        yield made
