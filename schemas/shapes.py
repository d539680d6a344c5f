"""The shapes that other systems want, derived from the declared records: nothing here is written twice."""

import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from schemas.label import Label
from schemas.use_cases import UseCase

MISSING = "__missing__"
"""What a missing category is looked up as. Spark's encoders refuse the empty string."""

# A JSON boolean read as DOUBLE would be a corrupt line. Integers are read as DOUBLE: 3 and 3.0 are the same number.
_SPARK_TYPES = {str: "STRING", bool: "BOOLEAN"}

InputKind = Literal["category", "number"]


@dataclass(frozen=True)
class ModelInput:
    """One input of the model: a field of the features class."""

    name: str
    kind: InputKind
    required: bool


def model_inputs(case: UseCase) -> list[ModelInput]:
    """The model's inputs in order of declaration. Text is a category; numbers and booleans are numbers.

    Raises:
        TypeError: a field that is neither; the text names it.
    """
    inputs = []
    for name, field in case.features.model_fields.items():
        plain = _plain(field.annotation)
        kind: InputKind
        if plain is str:
            kind = "category"
        elif plain in (int, float, bool):
            kind = "number"
        else:
            raise TypeError(f"{case.features.__name__}.{name} is a {plain!r}; a feature is text, a number or a boolean")
        inputs.append(ModelInput(name, kind, field.is_required()))
    return inputs


def spark_ddl(case: UseCase) -> str:
    """The schema of an archived record, as Spark SQL DDL (for ``StructType.fromDDL`` and ``schema=``).

    Times are read as text and cast afterwards: a bad time must become a counted corrupt line, not a null row.
    """
    features = ", ".join(
        f"`{name}`: {_SPARK_TYPES.get(_plain(field.annotation), 'DOUBLE')}"
        for name, field in case.features.model_fields.items()
    )
    return f"`record_id` STRING, `event_time` STRING, `features` STRUCT<{features}>"


def label_ddl() -> str:
    """The schema of an archived label, as Spark SQL DDL."""
    return ", ".join(f"`{name}` STRING" for name in Label.model_fields)


def unindexed(kind: type[BaseModel]) -> tuple[str, ...]:
    """The properties of this Datastore kind that are left out of every index: all that is not queried."""
    queried = {
        "Classification": {"label", "model_version", "classified_at", "event_time"},
        "ModelPromotion": {"use_case", "generation", "moved_at", "model_version"},
        "ModelPointer": {"use_case"},
        "TrainingRun": {"use_case", "state", "claimed_at"},
    }[kind.__name__]
    return tuple(name for name in kind.model_fields if name not in queried)


def json_schema(case: UseCase) -> dict[str, Any]:
    """The JSON Schema of this use case's record, for publishers."""
    return case.record.model_json_schema()


def _plain(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (inner,) = [item for item in typing.get_args(annotation) if item is not type(None)]
        return inner
    return annotation
