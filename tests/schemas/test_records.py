"""Records, labels and the shapes that are derived from them."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from schemas import USE_CASES, Label, use_case
from schemas.dead_letter import explain
from schemas.shapes import json_schema, model_inputs
from spark.features import features_ddl

CASE = use_case("flights")
RECORD = {
    "record_id": "2013-01-01.UA.1545.EWR.0515",
    "event_time": "2013-01-01T10:15:00Z",
    "features": {
        "carrier": "UA",
        "origin": "EWR",
        "dest": "IAH",
        "sched_dep_minute": 315,
        "sched_arr_minute": 499,
        "weekday": 1,
        "distance": 1400,
    },
}


def read(**changes: object) -> object:
    """The sample record with changes, validated from bytes as the functions do."""
    return CASE.read_record(json.dumps({**RECORD, **changes}).encode())


def test_a_record_is_read_and_unknown_fields_are_ignored() -> None:
    """A newer publisher does not break an older model."""
    record = read(invented_later={"a": 1}, features={**RECORD["features"], "also_new": 3})
    assert record.record_id == RECORD["record_id"]
    assert record.features.temp is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"record_id": ""}, "record_id"),
        ({"record_id": "a/b"}, "record_id"),
        ({"record_id": "x" * 129}, "record_id"),
        ({"record_id": "naïve"}, "record_id"),
        ({"record_id": "a\n"}, "record_id"),
        ({"record_id": "__a__"}, "record_id"),
        ({"event_time": "2013-01-01T10:15:00"}, "event_time"),
        ({"event_time": "soon"}, "event_time"),
        ({"event_time": "2013-01-01"}, "event_time"),
        ({"event_time": "2013-01-01 10:15:00Z"}, "event_time"),
        ({"event_time": "2013-01-01T10:15Z"}, "event_time"),
        ({"event_time": "2013-02-29T10:15:00Z"}, "event_time"),
        ({"event_time": 1357035300}, "event_time"),
        ({"event_time": "1357035300"}, "event_time"),
        ({"event_time": "0001-01-01T00:00:00+14:00"}, "event_time"),
        ({"event_time": "9999-12-31T23:59:59-14:00"}, "event_time"),
        ({"features": None}, "features"),
        ({"features": {**RECORD["features"], "distance": float("inf")}}, ""),
        ({"features": {**RECORD["features"], "distance": "far"}}, "features.distance"),
        ({"features": {**RECORD["features"], "distance": "10"}}, "features.distance"),
        ({"features": {**RECORD["features"], "distance": True}}, "features.distance"),
        ({"features": {**RECORD["features"], "weekday": 7}}, "features.weekday"),
        ({"features": {**RECORD["features"], "carrier": 5}}, "features.carrier"),
    ],
)
def test_a_malformed_record_is_refused_by_the_name_of_its_field(changes: dict, field: str) -> None:
    """The reason names the field, and never repeats the value."""
    with pytest.raises(ValidationError) as caught:
        read(**changes)
    reason = explain(caught.value)
    assert field in reason
    for value in changes.values():
        if isinstance(value, str) and len(value) > 3:
            assert value not in reason


@pytest.mark.parametrize(
    ("written", "seconds", "micros"),
    [
        ("2013-01-01T00:00:00.123456789Z", 1356998400, 123456),
        ("2013-01-01T00:00:00+23:59", 1356998400 - 86340, 0),
        ("2013-01-01T00:00:00-19:00", 1356998400 + 68400, 0),
        ("1970-01-01T00:00:00-00:00", 0, 0),
        ("1899-12-30T00:00:00Z", -2209161600, 0),
        ("1850-01-01T00:00:00Z", -3786825600, 0),
        ("1601-01-01T00:00:00Z", -11644473600, 0),
        ("0002-01-01T00:00:00Z", -62104060800, 0),
        ("9998-12-31T23:59:59.999999999Z", 253370764799, 999999),
    ],
)
def test_any_moment_of_the_calendar_is_read_with_any_offset(written: str, seconds: int, micros: int) -> None:
    """A spreadsheet's zero, the first day of Windows, a zone of its own: to the microsecond, of records and labels."""
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=micros)
    label = {"record_id": "a", "label": "late", "event_time": written}
    assert read(event_time=written).event_time == expected
    assert CASE.read_label(json.dumps(label).encode()).event_time == expected


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("2016-12-31T23:59:60Z", "seconds 00 to 59 (no leap second"),
        ("2013-01-01T24:00:00Z", "hours 00 to 23"),
        ("2013-01-01T00:60:00Z", "minutes and seconds 00 to 59"),
        ("2013-01-01T00:00:00+24:00", "hours 00 to 23"),
        ("2013-01-01T00:00:00+01:60", "minutes and seconds 00 to 59"),
        ("0001-12-31T23:59:59Z", "0002-01-01"),
        ("9998-12-31T23:59:59-23:59", "9999-01-01"),
        ("2013-02-29T00:00:00Z", "day value is outside expected range"),
    ],
)
def test_what_is_no_moment_is_refused_with_the_part_that_is_wrong(written: str, names: str) -> None:
    """Leap seconds and 24:00 too, which no reader behind the door knows: of records and of labels."""
    label = {"record_id": "a", "label": "late", "event_time": written}
    for refused in (lambda: read(event_time=written), lambda: CASE.read_label(json.dumps(label).encode())):
        with pytest.raises(ValidationError) as caught:
            refused()
        assert explain(caught.value).startswith("event_time: ")
        assert names in explain(caught.value)


def test_a_label_is_one_of_the_use_case() -> None:
    """Another word is refused, and the reason says which there are."""
    label = Label(record_id="a", label="late", event_time=datetime(2013, 1, 1, tzinfo=UTC))
    assert CASE.check_label(label) is label
    with pytest.raises(ValueError, match="on_time, late"):
        CASE.check_label(label.model_copy(update={"label": "lost"}))


def test_a_use_case_that_is_not_there_is_refused_with_those_that_are() -> None:
    """So that a typo in a setting explains itself."""
    with pytest.raises(KeyError, match="flights"):
        use_case("flihgts")


def test_every_use_case_derives_its_shapes() -> None:
    """Model inputs, Spark's columns and the JSON Schema name the same features in the same order."""
    for case in USE_CASES.values():
        names = [item.name for item in model_inputs(case)]
        assert names == list(case.features.model_fields)
        assert all(f"`{name}`" in features_ddl(case) for name in names)
        schema = json_schema(case)
        assert set(next(iter(schema["$defs"].values()))["properties"]) == set(names)
