"""Which rows a model is to reproduce, of a class that anybody may have written."""

from dataclasses import replace
from typing import Any, Self

from pydantic import field_validator, model_validator

from functions.classify.trial import synthetic_records
from schemas import UseCase
from schemas.features import Features
from spark.golden import golden
from tests.use_cases.parcels import PARCELS

STORED: list[dict[str, Any]] = [{"weight": float(number), "items": 2.0} for number in range(1, 4)]


class Fragile(Features):
    """Its author did not think of weights of 1e308, nor of none at all."""

    weight: float | None = None
    items: int = 1

    @model_validator(mode="after")
    def _sane(self) -> Self:
        assert int(10 * self.weight) // self.items < 10**6  # type: ignore[operator]
        return self


class Fahrenheit(Features):
    """It takes its own values for others."""

    weight: float
    items: float

    @field_validator("weight")
    @classmethod
    def _in_celsius(cls, value: float) -> float:
        return value if value == 1.0 else (value - 32.0) / 1.8


def case_of(features: type[Features]) -> UseCase:
    return replace(PARCELS, features=features)


def test_a_validator_that_fails_at_a_synthetic_records_row_ends_no_training() -> None:
    """Whatever it raises, no publisher may send such a record: it is no golden row, and none that is tried."""
    case = case_of(Fragile)
    found = golden(case, STORED, {})
    assert found.documents[:3] == [{"weight": float(number), "items": 2} for number in range(1, 4)]
    assert all(document.get("weight") is not None for document in found.documents)
    assert {"weight": 1.0} in [document for document in found.documents if "items" not in document]
    assert found.refused == []
    assert {one.weight for _, one in synthetic_records(case, {"weight": 1.0, "items": 2})} >= {1.0, -1.0}  # type: ignore[attr-defined]


def test_what_a_class_makes_another_value_of_is_no_golden_row() -> None:
    """Sent again, it would be another record, of which Spark has said nothing; the reason names the field."""
    found = golden(case_of(Fahrenheit), STORED, {})
    assert found.documents[0] == {"weight": 1.0, "items": 2.0}
    assert found.values[0] == STORED[0]
    assert found.refused == 2 * ["weight: a validator of the class makes something else of what it has given"]
