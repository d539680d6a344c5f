"""Promises of the weather's records and labels."""

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from datasets import nycflights13, weather
from schemas import Label, use_case

CASE = use_case("weather")
UNTIL = datetime(2013, 2, 1, tzinfo=UTC)


def test_the_history_is_real_ordered_and_valid() -> None:
    """A month of hours at three airports validates as it is, in order of time, up to where it is told."""
    examples = list(weather.history(UNTIL))
    times = [record["event_time"] for record, _ in examples]
    assert times == sorted(times)
    assert datetime.fromisoformat(times[-1]) < UNTIL
    assert len({record["record_id"] for record, _ in examples}) == len(examples) > 2000
    for record, label in examples:
        CASE.read_record(json.dumps(record).encode())
        if label is not None:
            CASE.check_label(Label.model_validate(label))
    assert 0.05 < sum(label is not None and label["label"] == "wet" for _, label in examples) / len(examples) < 0.4


def test_a_record_knows_nothing_of_the_hours_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other weather after a time changes labels, and no record of that time or before."""
    then = datetime(2013, 1, 15, 12, tzinfo=UTC)
    first = list(weather.history(UNTIL))
    real = nycflights13.rows

    def stormy(name: str):
        for row in real(name):
            later = datetime.fromisoformat(row["time_hour"]) >= then
            yield row | {"precip": "1.0", "temp": "99", "pressure": "NA"} if later else row

    monkeypatch.setattr(weather, "rows", stormy)
    again = list(weather.history(UNTIL))

    def before(examples: list) -> list:
        return [record for record, _ in examples if datetime.fromisoformat(record["event_time"]) <= then]

    assert len(before(first)) > 1000
    assert before(again) == before(first)
    assert again != first


def test_a_label_says_whether_one_of_the_next_six_hours_was_wet() -> None:
    """Looked up in the table by brute force; where nothing wet was seen and an hour is missing, there is no label."""
    wet: defaultdict[str, dict[datetime, bool]] = defaultdict(dict)
    for row in nycflights13.rows("weather.csv"):
        wet[row["origin"]][datetime.fromisoformat(row["time_hour"])] = float(row["precip"]) > 0
    unknown = 0
    for record, label in weather.history(UNTIL):
        now = datetime.fromisoformat(record["event_time"])
        ahead = [wet[record["features"]["airport"]].get(now + timedelta(hours=step)) for step in range(6)]
        if any(ahead):
            assert label is not None
            assert label["label"] == "wet"
        elif None in ahead:
            unknown += 1
            assert label is None
        else:
            assert label is not None
            assert label["label"] == "dry"
        assert label is None or datetime.fromisoformat(label["event_time"]) == now + timedelta(hours=6)
    assert unknown > 0
