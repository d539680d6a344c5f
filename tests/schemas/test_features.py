"""Which values a feature may have."""

import json
import math
import struct
from dataclasses import replace
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError, field_validator

from schemas import USE_CASES, Features, UseCase, use_case
from schemas.dead_letter import explain
from schemas.shapes import json_schema
from tests.use_cases.parcels import PARCELS

PARCEL = {"depot": "LYS1", "weight": 2.4, "items": 3, "express": False}
HOUR = {"airport": "JFK", "wet_hours": 3}


def read(case: UseCase, sample: dict[str, Any], name: str, value: str) -> Any:
    """The feature ``name``, sent as the JSON text ``value`` in a sample that is right otherwise."""
    features = ",".join(f'"{one}":{value if one == name else json.dumps(sample[one])}' for one in {**sample, name: 0})
    text = f'{{"record_id":"a","event_time":"2013-01-01T00:00:00Z","features":{{{features}}}}}'
    return getattr(case.read_record(text.encode()).features, name)


@pytest.mark.parametrize("written", ["3", "3.0", "3e0", "30E-1", "0.3e1"])
def test_a_whole_number_may_be_written_in_any_way_of_json(written: str) -> None:
    """JSON Schema's ``integer`` is a number without a fraction, and the document that a publisher is given says so."""
    assert json_schema(use_case("weather"))["$defs"]["WeatherFeatures"]["properties"]["wet_hours"]["type"] == "integer"
    for case, sample, name in ((use_case("weather"), HOUR, "wet_hours"), (PARCELS, PARCEL, "items")):
        found = read(case, sample, name, written)
        assert found == 3
        assert isinstance(found, int)


@pytest.mark.parametrize(
    ("name", "written", "reason"),
    [
        ("items", "3.5", "features.items: Input should be a valid integer, got a number with a fractional part"),
        ("items", "true", "features.items: Input should be a valid number"),
        ("items", '"3"', "features.items: Input should be a valid number"),
        ("items", "-1", "features.items: Input should be greater than or equal to 0"),
        ("items", "501.0", "features.items: Input should be less than or equal to 500"),
        ("attempts", "9007199254740992", "features.attempts: Input should be less than 9007199254740992"),
        ("attempts", "9007199254740993", "features.attempts: Input should be less than 9007199254740992"),
        ("attempts", "9" * 1001, "features.attempts: Input should be a finite number"),
        ("weight", "9" * 1001, "features.weight: Input should be a finite number"),
        ("weight", "1e400", "features.weight: Input should be a finite number"),
        ("weight", '"2.4"', "features.weight: Input should be a valid number"),
        ("weight", "true", "features.weight: Input should be a valid number"),
        ("weight", "NaN", "features.weight: Input should be a finite number"),
        ("weight", "-Infinity", "features.weight: Input should be a finite number"),
        ("express", "1", "features.express: Input should be a valid boolean"),
        ("express", '"true"', "features.express: Input should be a valid boolean"),
        ("depot", "7", "features.depot: Input should be a valid string"),
    ],
)
def test_what_is_not_of_a_features_kind_is_refused_by_its_name(name: str, written: str, reason: str) -> None:
    """Text is no number, a boolean neither; a number is finite, and a whole one is one that a double holds exactly."""
    with pytest.raises(ValueError, match=r"document|features") as caught:
        read(PARCELS, PARCEL, name, written)
    assert explain(caught.value).startswith(reason)


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("attempts", "9007199254740991", 9007199254740991),
        ("attempts", "null", None),
        ("items", "-0.0", 0),
        ("weight", "3", 3.0),
        ("weight", "5e-324", 5e-324),
        ("weight", "1.7976931348623157e308", 1.7976931348623157e308),
        ("weight", "9007199254740993", 9007199254740992.0),
        ("weight", "0.1000000000000000055511151231257827021181583404541015625", 0.1),
    ],
)
def test_what_fits_is_the_number_that_a_double_holds(name: str, written: str, value: Any) -> None:
    """To the last bit, whatever way it is written in."""
    found = read(PARCELS, PARCEL, name, written)
    assert type(found) is type(value)
    assert found == value if value is None else struct.pack("d", found) == struct.pack("d", value)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("place", ['"unknown":{}', '"unknown":[1,{{"deep":{}}}]', '"NaN":"NaN","unknown": {}'])
def test_a_document_has_finite_numbers_only(word: str, place: str) -> None:
    """Also in fields that the schema does not know: other readers of the archive, and of the mirrored record, stop at
    such a word. In a text it is a text."""
    text = '{"record_id":"a","event_time":"2013-01-01T00:00:00Z",%s}'
    features = f'"features":{json.dumps(PARCEL)}'
    assert PARCELS.read_record((text % f'{features},"note":"{word} NaN Infinity"').encode()).record_id == "a"
    for tail in (f"{features},{place.format(word)}", f"{place.format(word)},{features}"):
        with pytest.raises(ValueError, match="no JSON"):
            PARCELS.read_record((text % tail).encode())
    with pytest.raises(ValueError, match="no JSON"):
        PARCELS.read_label((text % f'"label":"late",{place.format(word)}').encode())


def test_many_capitals_hide_no_word() -> None:
    """A document full of what the words begin with is searched to its end."""
    text = '{"record_id":"a","event_time":"2013-01-01T00:00:00Z","label":"late","x":"%s","y":%s}'
    assert PARCELS.read_label((text % ("NI" * 500, "1")).encode()).label == "late"
    for word in ("NaN", "Infinity"):
        with pytest.raises(ValueError, match="no JSON"):
            PARCELS.read_label((text % ("NI" * 500, word)).encode())


@pytest.mark.parametrize(
    "sent",
    [
        '"\\ud800"',
        '{"a":"\\udc00\\ud800"}',
        '"\xff"',
        "[" * 300 + "]" * 300,
        "01",
        "1.",
        "+1",
        "'a'",
        "Inf",
        "nan",
        "[1,]",
    ],
)
def test_what_is_no_json_in_an_unknown_field_is_refused(sent: str) -> None:
    """Half a surrogate pair, a byte that is no UTF-8, brackets without end: nobody could read the whole document."""
    text = '{"record_id":"a","event_time":"2013-01-01T00:00:00Z","label":"late","unknown":%s}'
    with pytest.raises(ValueError, match="Invalid JSON"):
        PARCELS.read_label((text % sent).encode("latin-1"))


def test_a_validator_of_the_class_that_fails_refuses_the_document() -> None:
    """With a reason, whatever it raises: at the door it would be a fault of the service, and the message would come
    again for ever."""

    class Split(Features):
        code: str

        @field_validator("code")
        @classmethod
        def _two_parts(cls, value: str) -> str:
            assert value != "x"
            return value if value.split("-")[1] else ""

    case = replace(PARCELS, features=Split)
    for sent, reason in (('"a"', "a validator of the class fails: IndexError"), ('"x"', "Assertion failed")):
        with pytest.raises(ValidationError) as caught:
            read(case, {}, "code", sent)
        assert reason in explain(caught.value)
    assert read(case, {}, "code", '"a-b"') == "a-b"


GIVEN = [("7", "valid number"), (math.nan, "finite number"), (True, "valid number")]


@pytest.mark.parametrize(
    ("mode", "given", "reason"),
    [
        *((mode, *one) for mode in ("after", "wrap", "plain") for one in GIVEN),
        *((mode, -1.0, "greater than or equal to 0") for mode in ("after", "wrap")),  # plain is in the bounds' place
    ],
)
def test_what_a_validator_gives_is_of_the_declared_type_and_bounds(mode: Any, given: Any, reason: str) -> None:
    """No column and no model's input could keep anything else, so it is refused at the door, and not in a training."""

    def plain(cls: Any, _value: Any) -> Any:
        return given

    def wrap(cls: Any, _value: Any, _handler: Any) -> Any:
        return given

    class Changed(Features):
        size: Annotated[float, Field(ge=0)] = 1.0
        _other = field_validator("size", mode=mode)(classmethod(wrap if mode == "wrap" else plain))

    case = replace(PARCELS, features=Changed, rates=())
    for value in (lambda: read(case, {}, "size", "2"), lambda: case.read_features({"size": 2.0})):
        with pytest.raises(ValidationError, match=reason):
            value()
    assert Changed.model_json_schema()["properties"]["size"]["type"] == "number"


def test_want_of_memory_is_no_fault_of_the_document() -> None:
    """It is not refused, which would be for good: the message comes again."""

    class Hungry(Features):
        code: str

        @field_validator("code")
        @classmethod
        def _takes_all(cls, value: str) -> str:
            raise MemoryError

    case = replace(PARCELS, features=Hungry)
    with pytest.raises(MemoryError):
        read(case, {}, "code", '"a"')
    with pytest.raises(MemoryError):
        case.read_features({"code": "a"})


def test_a_key_that_is_there_twice_counts_by_its_last_value() -> None:
    """As in every JSON reader of ours."""
    text = '{"record_id":"a","event_time":"2013-01-01T00:00:00Z","features":{"depot":7,%s,"depot":"B"}}'
    found = PARCELS.read_record((text % json.dumps(PARCEL)[1:-1]).encode())
    assert found.features.depot == "B"


def test_every_class_of_the_table_has_what_all_parts_read_alike() -> None:
    """The shipped use cases and the tests' own are what a use case may be."""
    for name in USE_CASES:
        assert use_case(name).name == name
