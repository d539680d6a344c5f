"""Records, labels and the shapes that are derived from them."""

import json
from datetime import UTC, datetime
from itertools import islice

import pytest
from pydantic import ValidationError

from schemas import USE_CASES, Label, use_case
from schemas.dead_letter import explain
from schemas.shapes import json_schema, label_ddl, model_inputs, spark_ddl

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
    return CASE.record.model_validate_json(json.dumps({**RECORD, **changes}).encode())


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
    """Model inputs, Spark's schema and the JSON Schema name the same features in the same order."""
    for case in USE_CASES.values():
        names = [item.name for item in model_inputs(case)]
        assert names == list(case.features.model_fields)
        assert all(f"`{name}`" in spark_ddl(case) for name in names)
        assert "`record_id` STRING" in label_ddl()
        schema = json_schema(case)
        assert set(next(iter(schema["$defs"].values()))["properties"]) == set(names)


def test_the_history_is_real_ordered_and_valid() -> None:
    """The first thousand flights validate as they are, are in order of time, and some were late."""
    examples = list(islice(CASE.history(datetime(2013, 1, 3, tzinfo=UTC)), 1000))
    times = [record["event_time"] for record, _ in examples]
    assert times == sorted(times)
    assert len({record["record_id"] for record, _ in examples}) == 1000
    late = 0
    for record, label in examples:
        CASE.record.model_validate_json(json.dumps(record))
        if label is not None:
            read_label = CASE.check_label(Label.model_validate(label))
            assert read_label.event_time >= datetime.fromisoformat(record["event_time"])
            late += read_label.label == "late"
    assert 100 < late < 500


def test_the_history_stops_where_it_is_told() -> None:
    """Nothing that departs at ``until`` or later."""
    until = datetime(2013, 1, 2, 12, 30, tzinfo=UTC)
    times = [datetime.fromisoformat(record["event_time"]) for record, _ in CASE.history(until)]
    assert max(times) < until
    assert len(times) > 800
