"""The loop again, with another use case's records: nothing in it knows about flights."""

import contextlib
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from demo.narrator import Narrator
from demo.story import Scale, tell
from demo.summary import print_summary


@pytest.mark.system
@pytest.mark.spark
def test_the_loop_serves_the_weather(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does flights: both models are promoted and serve, no record is lost, no caller sees the switch; and it is
    told in the use case's own words."""
    monkeypatch.setenv("LUNATION_USE_CASE", "weather")
    told = io.StringIO()
    report = tell(tmp_path / "state", Scale(), Narrator(Console(file=told, width=200, highlight=False)))
    assert report.missing == {}
    assert report.broken() == []
    assert report.mirrored == report.classified == report.published - report.dead_lettered > 216
    assert report.archived == report.backfilled + report.published - report.dead_lettered
    assert [cycle.verdict for cycle in report.cycles] == ["PROMOTE", "PROMOTE"]
    for cycle in report.cycles:
        assert cycle.parity_max_abs_diff <= 1e-9
        assert 0.7 < cycle.auc < 0.97  # more would be a leak
    assert report.switch.requests > 100
    assert report.switch.errors == 0, report.switch.first_error

    with contextlib.redirect_stdout(told):
        print_summary(report, None, "weather")
    assert "Cut the history of weather into the parts of the story: " in told.getvalue()
    assert "flight" not in told.getvalue() + json.dumps(report.to_json())
