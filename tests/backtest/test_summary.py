"""Promises of the backtest's figures: the JSON that was promised, honest means, a chart that opens."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from backtest.archive import History
from backtest.cycles import Cycle, Gain, Measured
from backtest.summary import as_rows, chart, summarise
from lunation.settings import Schedule


def cycle(number: int, retrained: float, frozen: float, low: float, high: float) -> Cycle:
    """A cycle whose gain is ``retrained - frozen``, with its bounds."""
    gain = Gain(retrained - frozen, low, high, -0.01, -0.02, 0.0)
    return Cycle(
        cycle=number,
        begins=f"2013-0{number}-01",
        rows=1000,
        train_rows=2000,
        positive_share=0.25,
        verdict="PROMOTE",
        reason="better",
        retrained=Measured(retrained, 0.5, 0.01),
        frozen=Measured(frozen, 0.51, 0.02),
        policy=Measured(retrained, 0.5, 0.01),
        served=None if number == 2 else Measured(frozen, 0.51, 0.02),
        pointer=f"2013-0{number}-28/cycle-0{number}",
        gain=gain,
        parity=3e-16,
    )


CYCLES = [
    Cycle(1, "2013-01-01", 0, 0, float("nan"), "FAILED", "nothing to train on"),
    cycle(2, 0.70, 0.70, 0.0, 0.0),
    cycle(3, 0.74, 0.70, 0.02, 0.06),
    cycle(4, 0.72, 0.70, 0.00, 0.04),
]


def test_the_json_is_a_list_with_what_was_promised() -> None:
    """Each cycle has its number, rows, measures and verdict; before there was a model, a measure is null."""
    rows = json.loads(json.dumps(as_rows(CYCLES), allow_nan=False))
    promised = {"cycle", "rows", "auc_retrained", "auc_frozen", "auc_policy", "log_loss_retrained", "log_loss_frozen",
                "verdict"}  # fmt: skip
    assert all(promised <= set(row) for row in rows)
    assert [row["cycle"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["auc_retrained"] is None
    assert rows[0]["verdict"] == "FAILED"
    assert (rows[2]["auc_retrained"], rows[2]["auc_frozen"]) == (0.74, 0.70)


def test_the_gain_leaves_out_the_cycle_in_which_both_are_one_model() -> None:
    """Its mean is over the later cycles, with the interval of independent errors."""
    found = summarise(CYCLES)
    assert found.cycles == 3
    assert found.auc_retrained == pytest.approx(0.72)
    assert found.gain_auc.value == pytest.approx(0.03)
    # Two errors of 0.02 half-width each: that of the mean is 0.02 / sqrt(2).
    assert found.gain_auc.high - found.gain_auc.value == pytest.approx(0.02 / math.sqrt(2), rel=1e-6)
    assert found.gain_auc.low < found.gain_auc.value < found.gain_auc.high


def test_the_chart_is_one_svg_that_needs_nothing_else() -> None:
    """Well-formed, with the cycles on its axis, and no script or address in it."""
    content = chart("flights", CYCLES, Schedule())
    root = ElementTree.fromstring(content)
    assert root.tag.endswith("svg")
    text = content.decode()
    assert "2 (02-01)" in text
    assert "<script" not in text or "src" not in text.partition("<script")[2].partition(">")[0]


def test_the_archive_has_records_by_their_time_and_labels_by_when_they_were_known(tmp_path: Path) -> None:
    """What was not known yet is not there: a label of the period's last record comes with the next."""
    examples = [
        (
            {"record_id": "a", "event_time": "2024-03-01T23:10:00Z"},
            {"record_id": "a", "event_time": "2024-03-02T00:05:00Z"},
        ),
        # The second of March, in UTC.
        ({"record_id": "b", "event_time": "2024-03-01T23:00:00-02:00"}, None),
    ]
    history = History(examples)
    first, second, third = (datetime(2024, 3, day, tzinfo=UTC) for day in (1, 2, 3))
    assert history.file(tmp_path, first, second) == 1
    assert not (tmp_path / "archive/labels").exists()
    assert history.file(tmp_path, second, third) == 2
    assert len(list((tmp_path / "archive/labels/dt=2024-03-02").iterdir())) == 1
    assert sorted(path.name for path in (tmp_path / "archive/records").iterdir()) == ["dt=2024-03-01", "dt=2024-03-02"]
