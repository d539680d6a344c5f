"""A use case that some part could not keep is refused when it is loaded, with the field and the fix."""

from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from schemas import USE_CASES, Features, UseCase, UseCaseError, use_case
from schemas.contract import check_use_case
from schemas.rate import Rate, Step
from schemas.shapes import json_schema, model_inputs, proto_definition
from spark.features import features_ddl
from tests.use_cases.parcels import PARCELS


class Colour(Enum):
    """Two of them."""

    RED = "red"


def case(features: type[BaseModel] = PARCELS.features, **other: Any) -> UseCase:
    """A use case of this class."""
    given = {"name": "odd", "features": features, "labels": ("no", "yes"), "example_features": PARCELS.example_features}
    return UseCase(**given | other)


def declared(annotation: Any, field: Any = ..., name: str = "odd") -> type[Features]:
    """A class with one field."""
    return type(
        "OddFeatures", (Features,), {"__annotations__": {name: annotation}, name: field, "__module__": __name__}
    )


@pytest.mark.parametrize(
    ("annotation", "instead"),
    [
        (Literal["a", "b"], "take str, with Field"),
        (Colour, "take str, with Field"),
        (datetime, "take a number, such as the hour of the day"),
        (date | None, "take a number, such as the hour of the day"),
        (Decimal, "take float"),
        (PARCELS.features, "take its fields one by one"),
        (int | float, "take one type"),
        (list[float], "take str, int, float or bool"),
        (dict[str, float], "take str, int, float or bool"),
        (bytes, "take str, int, float or bool"),
        (Any, "take str, int, float or bool"),
    ],
)
def test_a_field_that_is_no_text_number_or_boolean_is_refused_with_what_to_use(annotation: Any, instead: str) -> None:
    """Spark, the model and Pub/Sub's schema have no place for it."""
    with pytest.raises(UseCaseError, match=rf"OddFeatures\.odd is a .*: {instead}"):
        check_use_case(case(declared(annotation)))


@pytest.mark.parametrize(
    ("annotation", "field", "value"),
    [
        (Optional[Annotated[int, Field(ge=0)]], None, 3),  # noqa: UP045  # the older way to write it
        (Annotated[str, Field(max_length=3)], "abc", "ab"),
        (bool | None, None, True),
        (float, 0, 1.5),
        (float, Field(default=1.5, gt=0), 2),
        (int, Field(ge=0), 0),
    ],
)
def test_other_ways_to_write_a_type_are_taken(annotation: Any, field: Any, value: Any) -> None:
    """All shapes can be derived from them."""
    odd = case(declared(annotation, field), example_features={"odd": value})
    check_use_case(odd)
    (found,) = model_inputs(odd)
    assert found.name == "odd"
    assert "`odd`" in features_ddl(odd)
    assert "odd = 1;" in proto_definition(odd.record, "Record")
    assert "odd" in str(json_schema(odd))


@pytest.mark.parametrize(
    ("annotation", "field", "reason"),
    [
        (float, float("nan"), "default nan, which the class itself refuses"),
        (float, Field(default=0.0, gt=0), "default 0.0, which the class itself refuses"),
        (float, None, "default None, which the class itself refuses"),
        (bool, 0, "default 0, which the class itself refuses"),
        (int, 2**60, "which the class itself refuses"),
        (int, True, "default True, which the class itself refuses"),
        (str, Field(default="abc", max_length=2), "default 'abc', which the class itself refuses"),
        (float, Field(default_factory=float), "has a default_factory: write the default itself"),
        (float, Field(alias="unit-price"), r"has the alias 'unit-price': .* Call it what is sent, or have odd sent"),
        (float, Field(validation_alias="unit"), "has the alias 'unit'"),
        (float, Field(serialization_alias="unit"), "has the alias 'unit'"),
        (float, Field(allow_inf_nan=True), "loosens what Features asks for"),
        (float, Field(strict=False), "loosens what Features asks for"),
        (float, Field(exclude=True), "is excluded"),
    ],
)
def test_a_field_that_parts_would_read_differently_is_refused(annotation: Any, field: Any, reason: str) -> None:
    """A default that no record may have, another name on the way in, a number that is none."""
    with pytest.raises(UseCaseError, match=reason):
        check_use_case(case(declared(annotation, field)))


def test_a_default_is_checked_whatever_the_class_asks_of_a_whole_document() -> None:
    """A validator that falls over an empty document, or refuses it as a whole, hides no default from the check."""

    class Fragile(Features):
        weight: float
        floors: int = Field(default=0, ge=1)

        @model_validator(mode="before")
        @classmethod
        def whole(cls, document: dict[str, Any]) -> dict[str, Any]:
            return {**document, "weight": document["weight"] * 1.0}

    class Picky(Fragile):
        @model_validator(mode="before")
        @classmethod
        def whole(cls, document: dict[str, Any]) -> dict[str, Any]:
            if not document:
                raise ValueError("an empty document")
            return document

    for features in (Fragile, Picky):
        with pytest.raises(UseCaseError, match=r"floors has the default 0, which the class itself refuses"):
            check_use_case(case(features))


def test_a_validator_that_fails_at_its_default_is_told() -> None:
    """Whatever it raises. One that looks at the fields before it is no such fault: it has them in a document only."""

    class Split(Features):
        depot: str
        code: str = ""
        weight: float = 1.0

        @field_validator("code")
        @classmethod
        def _two_parts(cls, value: str) -> str:
            return value if value.split("-")[1] else "A-1"

        @field_validator("weight")
        @classmethod
        def _by_depot(cls, value: float, info: ValidationInfo) -> float:
            return value + len(info.data["depot"])

    with pytest.raises(UseCaseError) as caught:
        check_use_case(case(Split))
    told = str(caught.value)
    assert "code has the default '', which the class itself refuses (its validator fails: IndexError" in told
    assert "weight" not in told


def test_a_default_is_checked_beside_validators_of_the_class() -> None:
    """One that refuses what is right is no reason to refuse the class, one that refuses the default is."""

    class Even(Features):
        size: float
        pairs: int = 3

        @field_validator("pairs")
        @classmethod
        def _even(cls, value: int) -> int:
            if value % 2:
                raise ValueError("expected an even number")
            return value

    with pytest.raises(UseCaseError, match=r"Even\.pairs has the default 3.*expected an even number"):
        check_use_case(case(Even))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("größe",), "the field 'größe': expected up to 64 of A-Z a-z 0-9 _"),
        (("a" * 65,), "expected up to 64"),
        (("speed", "Speed"), "differ in capitals and underscores only"),
        (("wind_dir", "windDir"), "differ in capitals and underscores only"),
    ],
)
def test_names_that_are_no_columns_are_refused(names: tuple[str, ...], reason: str) -> None:
    """Spark's columns do not differ by case, nor the JSON names of Protocol Buffers by underscores."""
    odd = type("Odd", (Features,), {"__annotations__": dict.fromkeys(names, float), "__module__": __name__})
    with pytest.raises(UseCaseError, match=reason):
        check_use_case(case(odd))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (ConfigDict(strict=False), "sets strict=False: leave it out"),
        (ConfigDict(extra="forbid"), "sets extra='forbid': leave it out"),
        (ConfigDict(extra="allow"), "sets extra='allow': leave it out"),
        (ConfigDict(allow_inf_nan=True), "sets allow_inf_nan=True: leave it out"),
        (ConfigDict(frozen=False), "sets frozen=False: leave it out"),
        (ConfigDict(alias_generator=str.upper), "has the alias 'SIZE'"),
    ],
)
def test_a_class_keeps_what_all_parts_read_alike(config: ConfigDict, reason: str) -> None:
    """Its own model_config can only loosen the contract."""
    odd = type("Odd", (Features,), {"__annotations__": {"size": float}, "model_config": config, "__module__": __name__})
    with pytest.raises(UseCaseError, match=reason):
        check_use_case(case(odd))


def test_a_class_of_its_own_base_is_refused() -> None:
    """Whatever its settings are, whole numbers would be read otherwise."""

    class Alone(BaseModel):
        model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)
        size: int

    with pytest.raises(
        UseCaseError, match=r"Alone does not derive from schemas\.Features: write class Alone\(Features"
    ):
        check_use_case(case(Alone))


@pytest.mark.parametrize(
    "name", ["parcel_delays", "ParcelDelays", "p" * 27, "7days", "-a", "a-", "a.b", "", "pärcel", "a b"]
)
def test_a_name_that_no_cluster_can_carry_is_refused(name: str) -> None:
    """Before anything is deployed, with what a name may be."""
    with pytest.raises(UseCaseError, match=r"expected 1 to 26 of a-z 0-9 -, a letter first .*Dataproc"):
        check_use_case(case(name=name))


@pytest.mark.parametrize("name", ["a", "parcel-delays", "p" * 26, "a7"])
def test_any_other_name_is_taken(name: str) -> None:
    """Up to what Dataproc takes: 35 characters with ours before it."""
    check_use_case(case(name=name))
    assert len(f"lunation-{name}") <= 35


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (("late", "late"), "expected two that differ"),
        (("late",), "expected two that differ"),
        (("", "late"), "expected 1 to 64 printable characters"),
        (("in time", "x" * 65), "expected 1 to 64 printable characters"),
        (("in time", "\x1b[31mlate"), "expected 1 to 64 printable characters"),
    ],
)
def test_labels_are_two_that_a_label_can_hold(labels: tuple[str, ...], reason: str) -> None:
    """Else no outcome could ever be sent."""
    with pytest.raises(UseCaseError, match=reason):
        check_use_case(case(labels=labels))


@pytest.mark.parametrize(
    ("rate", "reason"),
    [
        (Rate("depot", by=("depot",)), "expected a name .* that no field and no other rate has"),
        (Rate("late", by=("city",)), "is by city, which ParcelFeatures does not have"),
        (Rate("late", by=("weight",)), r"a number as Step\('weight', width\)"),
        (Rate("late", by=(Step("depot", 1.0),)), "text comes by its name"),
        (Rate("late", by=(Step("weight", 0.0),)), "expected a width above 0"),
        (Rate("late", by=()), "expected a field in by"),
        (Rate("late", by=("depot",), days=13), "14 days or more"),
        (Rate("late", by=["depot"]), "are a list: write a tuple"),  # type: ignore[arg-type]
    ],
)
def test_a_rate_is_of_fields_that_are_there(rate: Rate, reason: str) -> None:
    """Training would fail on it, a cluster later."""
    with pytest.raises(UseCaseError, match=reason):
        check_use_case(case(rates=(rate,)))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"weight": -1.0}, r"features\.weight: Input should be greater than 0"),
        ({"weight": float("nan")}, r"features\.weight: Input should be a finite number"),
        ({"depot": b"LYS1"}, "not JSON serializable"),
        ({"depot": None}, r"features\.depot: Input should be a valid string"),
    ],
)
def test_an_example_is_a_record_that_every_part_takes(changes: dict[str, Any], reason: str) -> None:
    """A smoke test sends it: one that the class refuses would be told as a deployment that does not work."""
    example = {**PARCELS.example_features, **changes}
    with pytest.raises(UseCaseError, match=rf"its example_features are refused \(.*{reason}.*write those of one good"):
        check_use_case(case(example_features=example))


def test_whoever_takes_a_use_case_from_the_table_is_told_every_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and not one after the other."""
    monkeypatch.setitem(USE_CASES, "odd_one", case(declared(datetime), name="odd_one", labels=("a", "a")))
    with pytest.raises(UseCaseError) as caught:
        use_case("odd_one")
    for mistake in ("the name 'odd_one' is none", "OddFeatures.odd is a datetime", "expected two that differ"):
        assert mistake in str(caught.value)
