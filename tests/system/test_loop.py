"""The real loop on a small slice: deploy, backfill, train, go live, train again under traffic, account."""

from pathlib import Path

import pytest

from demo.history import malformed
from demo.story import Scale, tell
from schemas import use_case
from tests.functions.doubles import models


@pytest.mark.system
@pytest.mark.spark
def test_the_loop_loses_nothing_and_switches_without_an_error(tmp_path: Path) -> None:
    """Every record is where it should be, both models reproduce Spark, and no caller sees the switch."""
    report = tell(tmp_path / "state", Scale(sample=5))
    assert report.missing == {}
    assert report.lost == 0
    assert report.archived == report.backfilled + report.published - report.dead_lettered
    assert report.mirrored == report.classified == report.published - report.dead_lettered
    assert report.dead_lettered == len(list(malformed(use_case("flights"), models.record())))
    assert report.broken() == []
    assert [cycle.verdict for cycle in report.cycles] == ["PROMOTE", "PROMOTE"]
    assert report.cycles[0].model_version != report.cycles[1].model_version
    for cycle in report.cycles:
        assert cycle.parity_max_abs_diff <= 1e-9
        assert 0.5 < cycle.auc < 0.85  # more would be a leak
    assert report.switch.requests > 100
    assert report.switch.errors == 0, report.switch.first_error
    assert report.switch.seconds_to_last_old_answer <= report.switch.bound_seconds
