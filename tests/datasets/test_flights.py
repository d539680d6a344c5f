"""Promises of the flights' records: what one says was known two hours before the departure, and nothing later."""

import json
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from datasets.flights import PUBLISHED_BEFORE, examples, history
from datasets.nycflights13 import rows
from schemas import Label, use_case

NOW = datetime(2013, 1, 6, 20, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def flights() -> list[dict[str, str]]:
    """The first nine days of the year."""
    return [row for row in rows("flights.csv.zip") if row["time_hour"] < "2013-01-10"]


def test_the_history_is_real_ordered_and_valid() -> None:
    """The first thousand flights validate as they are, are in order of time, and some were late."""
    examples = list(islice(history(datetime(2013, 1, 3, tzinfo=UTC)), 1000))
    times = [record["event_time"] for record, _ in examples]
    assert times == sorted(times)
    assert len({record["record_id"] for record, _ in examples}) == 1000
    late, case = 0, use_case("flights")
    for record, label in examples:
        case.read_record(json.dumps(record).encode())
        if label is not None:
            read_label = case.check_label(Label.model_validate(label))
            assert read_label.event_time >= datetime.fromisoformat(record["event_time"])
            late += read_label.label == "late"
    assert 100 < late < 500


def test_the_history_stops_where_it_is_told() -> None:
    """Nothing that departs at ``until`` or later."""
    until = datetime(2013, 1, 2, 12, 30, tzinfo=UTC)
    times = [datetime.fromisoformat(record["event_time"]) for record, _ in history(until)]
    assert max(times) < until
    assert len(times) > 800


def published(document: dict) -> datetime:
    """When the record was published."""
    return datetime.fromisoformat(document["event_time"]) - PUBLISHED_BEFORE


def later(row: dict[str, str]) -> dict[str, str]:
    """The row with another outcome, if that outcome was not known by NOW."""
    departs = datetime.fromisoformat(row["time_hour"]).replace(minute=int(row["minute"]))
    changed = dict(row)
    if row["dep_delay"] not in ("", "NA") and departs + timedelta(minutes=float(row["dep_delay"])) > NOW:
        changed["dep_delay"] = str(float(row["dep_delay"]) + 333)
    if row["arr_delay"] not in ("", "NA"):
        changed["arr_delay"] = str(float(row["arr_delay"]) + 333)
    return changed


def test_the_future_changes_nothing(flights: list[dict[str, str]]) -> None:
    """Other delays, or no flights, after a time: every record published up to then is the same, byte for byte."""
    first = list(examples(flights))
    landed = {record["record_id"]: label["event_time"] for record, label in first if label}
    seen = [record for record, _ in first if published(record) <= NOW]
    unknown = {one for one, when in landed.items() if datetime.fromisoformat(when) > NOW}
    by_id = {record["record_id"]: place for place, (record, _) in enumerate(first)}
    ordered = sorted(flights, key=lambda row: by_id[record_id(row)])
    changed = [later(row) if record_id(row) in unknown else row for row in ordered]
    gone = [row for row in ordered if row["time_hour"] <= (NOW + PUBLISHED_BEFORE).isoformat()]
    assert changed != ordered
    for other in (changed, gone):
        again = [record for record, _ in examples(other) if published(record) <= NOW]
        assert again == seen


def record_id(row: dict[str, str]) -> str:
    """The record's id, from the row."""
    day = f"2013-{int(row['month']):02d}-{int(row['day']):02d}"
    return f"{day}.{row['carrier']}.{row['flight']}.{row['origin']}.{int(row['sched_dep_time']):04d}"


def test_the_delays_are_those_of_their_definitions(flights: list[dict[str, str]]) -> None:
    """A sample of records, each looked up in the table of flights by brute force."""
    found = list(examples(flights))
    by_id = {record_id(row): row for row in flights}
    left, landed = [], []
    for record, label in found:
        row = by_id[record["record_id"]]
        if row["dep_delay"] not in ("", "NA"):
            when = datetime.fromisoformat(record["event_time"]) + timedelta(minutes=float(row["dep_delay"]))
            left.append((when, float(row["dep_delay"]), row))
        if label:
            landed.append((datetime.fromisoformat(label["event_time"]), float(row["arr_delay"]), row))
    for record, _ in found[2000:7000:97]:
        row, now = by_id[record["record_id"]], published(record)

        def mean(events: list, hours: int, *same: str, row: dict = row, now: datetime = now) -> float | None:
            known = [
                delay
                for when, delay, other in events
                if now - timedelta(hours=hours) < when <= now and all(other[name] == row[name] for name in same)
            ]
            return sum(known) / len(known) if known else None

        features = record["features"]
        for name, expected in {
            "city_departure_delay": mean(left, 1),
            "carrier_departure_delay": mean(left, 6, "carrier", "origin"),
            "city_arrival_delay": mean(landed, 3),
            "dest_arrival_delay": mean(landed, 6, "dest"),
        }.items():
            assert features[name] == (None if expected is None else pytest.approx(expected, abs=0.051)), name
        mine = [(when, delay) for when, delay, other in left if other["tailnum"] == row["tailnum"] and when <= now]
        if mine:
            when, delay = max(mine)
            assert features["plane_departure_delay"] == delay
            assert features["plane_departure_hours"] == pytest.approx((now - when) / timedelta(hours=1), abs=0.051)
        else:
            assert features["plane_departure_delay"] is None


def test_a_label_is_known_when_the_flight_has_landed(flights: list[dict[str, str]]) -> None:
    """The scheduled arrival is a time of day at the destination, in its own zone; the delay comes on top."""
    labels = {record["record_id"]: label for record, label in examples(flights)}
    # Honolulu is ten hours behind UTC, and flights from New York land on the same day.
    row = next(row for row in flights if row["dest"] == "HNL" and row["arr_delay"] not in ("", "NA"))
    hour, minute = divmod(int(row["sched_arr_time"]), 100)
    due = datetime(2013, int(row["month"]), int(row["day"]), hour, minute, tzinfo=UTC) + timedelta(hours=10)
    expected = due + timedelta(minutes=float(row["arr_delay"]))
    assert datetime.fromisoformat(labels[record_id(row)]["event_time"]) == expected
