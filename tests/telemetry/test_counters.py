"""Counters cost an addition, and OpenTelemetry exports what they hold, over its own protocol."""

import subprocess
import sys

from telemetry.counters import Counter
from telemetry.export import Exporter
from tests.support import ROOT, eventually
from tests.telemetry_support import Collector


def test_an_addition_exports_when_it_is_time(collector: Collector) -> None:
    """The totals since the process began, with the unit's name; also what was counted before the first export."""
    counter = Counter("lunation.test", "Tests")
    counter.add(outcome="done")
    Exporter(collector.url, "classify", project="p", interval_seconds=0.0).start()
    counter.add(2, outcome="done")
    eventually(lambda: collector.received)
    counter.add(outcome="again")

    def told() -> bool:
        counter.add(0, outcome="done")  # what makes it look at the clock again
        return collector.points() == {"lunation.test": {"outcome=done": 3, "outcome=again": 1}}

    eventually(told)
    resource = collector.resource()
    assert (resource["service.name"], resource["gcp.project_id"]) == ("classify", "p")


def test_an_export_that_fails_harms_nobody_and_the_next_one_says_it_all(collector: Collector) -> None:
    """Nothing is lost by it, and nothing is raised where it was counted."""
    counter = Counter("lunation.test", "Tests")
    collector.refused = 1
    exporter = Exporter(collector.url, "classify")
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
