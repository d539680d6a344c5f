"""The messages' schemas in Pub/Sub's form are the records themselves, field by field."""

import re

import pytest
from pydantic import BaseModel

from schemas import USE_CASES, Classification, Comparison, DeadLetter, Label
from schemas.shapes import proto_definition

RECORDS = {name: case.record for name, case in USE_CASES.items()}


def test_a_record_is_one_message_with_its_fields_in_order() -> None:
    """Text for times, ``optional`` for what may be missing, a message in a message for the features."""
    assert proto_definition(Label, "Label").splitlines() == [
        'syntax = "proto3";',
        "",
        "message Label {",
        "  string record_id = 1;",
        "  string label = 2;",
        "  string event_time = 3;",
        "}",
    ]

    class Inner(BaseModel):
        size: float
        seats: int | None = None

    class Outer(BaseModel):
        flight_data: Inner
        late: bool = False
        attributes: dict[str, str] = {}

    assert proto_definition(Outer, "Outer").splitlines()[2:] == [
        "message Outer {",
        "  message FlightData {",
        "    double size = 1;",
        "    optional int64 seats = 2;",
        "  }",
        "  FlightData flight_data = 1;",
        "  optional bool late = 2;",
        "  map<string, string> attributes = 3;",
        "}",
    ]


@pytest.mark.parametrize(
    "model", [*RECORDS.values(), Classification, Comparison, DeadLetter], ids=lambda one: one.__name__
)
def test_every_message_has_a_definition_with_all_its_fields(model: type[BaseModel]) -> None:
    """Of each use case, too: a field that could not be said would refuse a deployment."""
    text = proto_definition(model, "Message")
    outermost = re.sub(r"(?ms)^  message .*?^  \}\n", "", text)
    assert re.findall(r"^  (?:optional )?\S.* (\w+) = \d+;$", outermost, flags=re.M) == list(model.model_fields)


def test_a_field_that_no_message_can_hold_is_refused_by_name() -> None:
    """Not dropped."""

    class Odd(BaseModel):
        pair: tuple[int, int]

    with pytest.raises(TypeError, match=r"Odd\.pair is a tuple"):
        proto_definition(Odd, "Odd")
