"""The shapes that other systems want, derived from the declared records: nothing here is written twice."""

import typing
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel

from schemas.contract import plain_type
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
    drifts: bool = False
    """Declared to drift (``Field(json_schema_extra={"drifts": True})``): the data checks report it and do not judge."""


def model_inputs(case: UseCase) -> list[ModelInput]:
    """The model's inputs in order of declaration. Text is a category; numbers and booleans are numbers.

    Raises:
        TypeError: a field that is neither; the text names it.
    """
    inputs = []
    for name, field in case.features.model_fields.items():
        plain = plain_type(field.annotation)
        kind: InputKind
        if plain is str:
            kind = "category"
        elif plain in (int, float, bool):
            kind = "number"
        else:
            raise TypeError(f"{case.features.__name__}.{name} is a {plain!r}; a feature is text, a number or a boolean")
        extra = field.json_schema_extra
        drifts = isinstance(extra, dict) and bool(extra.get("drifts"))
        inputs.append(ModelInput(name, kind, field.is_required(), drifts))
    return inputs


def spark_ddl(case: UseCase) -> str:
    """The schema of an archived record, as Spark SQL DDL (for ``StructType.fromDDL`` and ``schema=``).

    For who reads records by Spark itself (``benchmarks/streaming``). The archive's lines are read by the class.
    """
    features = ", ".join(
        f"`{name}`: {_SPARK_TYPES.get(plain_type(field.annotation), 'DOUBLE')}"
        for name, field in case.features.model_fields.items()
    )
    return f"`record_id` STRING, `event_time` STRING, `features` STRUCT<{features}>"


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


_PROTO_TYPES = {str: "string", bool: "bool", int: "int64", float: "double"}


def proto_definition(model: type[BaseModel], name: str) -> str:
    """``model`` as a Protocol Buffers message whose JSON form is the document itself. Times are text, as in JSON.

    Raises:
        TypeError: a field that is no text, number, boolean or record of such; the text names it.
    """
    return 'syntax = "proto3";\n\n' + "\n".join(_proto_message(model, name, "")) + "\n"


def _proto_message(model: type[BaseModel], name: str, indent: str) -> list[str]:
    lines = [f"{indent}message {name} {{"]
    for number, (field, info) in enumerate(model.model_fields.items(), start=1):
        plain = plain_type(info.annotation)
        if typing.get_origin(plain) is Literal or plain is AwareDatetime:
            plain = str
        if isinstance(plain, type) and issubclass(plain, BaseModel):
            nested = "".join(part.capitalize() for part in field.split("_"))
            lines += _proto_message(plain, nested, indent + "  ")
            kind = nested
        elif plain in _PROTO_TYPES:
            kind = _PROTO_TYPES[plain]
        elif typing.get_origin(plain) is dict and typing.get_args(plain) == (str, str):
            lines.append(f"{indent}  map<string, string> {field} = {number};")
            continue
        else:
            raise TypeError(
                f"{model.__name__}.{field} is a {plain!r}; a message holds text, numbers, booleans, records"
            )
        label = "" if info.is_required() else "optional "
        lines.append(f"{indent}  {label}{kind} {field} = {number};")
    return [*lines, f"{indent}}}"]
