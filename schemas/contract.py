"""What a use case may be, so that every part can keep it: the door, the archive, Spark, Parquet, the model's input,
Datastore, Pub/Sub's schema, and the names of resources."""

import json
import math
import re
import types
import typing
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import SchemaValidator

from schemas.dead_letter import explain
from schemas.features import Features
from schemas.label import LABEL_LENGTH
from schemas.rate import BLOCK_DAYS, Step

if TYPE_CHECKING:
    from schemas.use_cases import UseCase

PLAIN = (str, int, float, bool)
NAME = re.compile(r"[a-z]([a-z0-9-]{0,24}[a-z0-9])?")
"""A training's cluster is called ``lunation-<name>``, of which Dataproc takes 35 lower-case letters, digits and hyphens
(https://cloud.google.com/dataproc/docs/reference/rest/v1/projects.regions.workflowTemplates#ManagedCluster); and the
name is a label of its template, which begins with a letter (RFC 1035). No other resource asks for more."""
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_KEPT = ("extra", "frozen", "strict", "allow_inf_nan")


class UseCaseError(ValueError):
    """A use case that some part could not keep. The text names the thing, says what is wrong and how to mend it."""


def check_use_case(case: "UseCase") -> None:
    """Look at all that a use case declares.

    Raises:
        UseCaseError: every mistake, each with its place and its fix.
    """
    mistakes = [*_name(case.name), *_labels(case.labels), *_class(case.features), *_lists(case)]
    mistakes += [*_fields(case.features), *_names(list(case.features.model_fields))]
    if not mistakes:  # else these would only repeat them
        mistakes += [*_defaults(case.features), *_rates(case), *_example(case)]
    if mistakes:
        raise UseCaseError(f"use case {case.name} cannot be kept by all parts: " + "; ".join(mistakes))


def plain_type(annotation: Any) -> Any:
    """What a field holds, without ``| None`` and ``Annotated``; the annotation itself if that is more than one type."""
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        inner = [item for item in typing.get_args(annotation) if item is not type(None)]
        return plain_type(inner[0]) if len(inner) == 1 else annotation
    return annotation


def _name(name: str) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield (
            f"the name {name!r} is none: expected 1 to 26 of a-z 0-9 -, a letter first and no hyphen last, because "
            "Dataproc's clusters and labels carry it"
        )


def _labels(labels: Sequence[str]) -> Iterator[str]:
    if len(labels) != 2 or len(set(labels)) != 2:
        yield f"labels are {labels!r}: expected two that differ, the negative and the positive one"
    for label in labels:
        if not 1 <= len(label) <= LABEL_LENGTH or not label.isprintable():
            yield f"the label {label[:80]!r} is none: expected 1 to {LABEL_LENGTH} printable characters"


def _lists(case: "UseCase") -> Iterator[str]:
    try:
        hash(case)  # by which a worker of Spark's finds what it has made of the case
    except TypeError:
        yield "its labels or rates, or what a rate is by, are a list: write a tuple, such as ('depot',)"


def _class(features: type[BaseModel]) -> Iterator[str]:
    name = features.__name__
    if not issubclass(features, Features):
        yield f"{name} does not derive from schemas.Features: write class {name}(Features), without a model_config"
        return
    for setting in _KEPT:
        if features.model_config.get(setting) != Features.model_config.get(setting):
            yield (
                f"{name} sets {setting}={features.model_config.get(setting)!r}: leave it out of the model_config, "
                "Features has what all parts read alike"
            )


def _fields(features: type[BaseModel]) -> Iterator[str]:
    if not features.model_fields:
        yield f"{features.__name__} has no fields: a model needs at least one"
    for name, field in features.model_fields.items():
        place = f"{features.__name__}.{name}"
        plain = plain_type(field.annotation)
        if plain not in PLAIN:
            yield f"{place} is a {_said(field.annotation)}; a feature is text, a number or a boolean: {_instead(plain)}"
        if field.alias or field.validation_alias or field.serialization_alias:
            yield (
                f"{place} has the alias {field.alias or field.validation_alias or field.serialization_alias!r}: a "
                f"field has one name everywhere. Call it what is sent, or have {name} sent"
            )
        if field.default_factory is not None:
            yield f"{place} has a default_factory: write the default itself, which is the same in training and serving"
        if field.exclude:
            yield f"{place} is excluded from what is written: leave exclude out"
        for loose in field.metadata:
            if getattr(loose, "strict", None) is False or getattr(loose, "allow_inf_nan", None):
                yield f"{place} loosens what Features asks for: leave strict and allow_inf_nan out of its Field"
                break


def _said(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)


def _instead(plain: Any) -> str:
    if typing.get_origin(plain) in (typing.Union, types.UnionType):
        return "take one type, with | None if it may be missing (float holds whole numbers, too)"
    if typing.get_origin(plain) is typing.Literal or hasattr(plain, "__members__"):
        return 'take str, with Field(pattern="^(a|b)$") if only some words are right'
    if isinstance(plain, type) and issubclass(plain, BaseModel):
        return "take its fields one by one"
    name = getattr(plain, "__name__", "")
    if name in ("datetime", "date", "time", "timedelta"):
        return "take a number, such as the hour of the day or the hours since (the record's own time is event_time)"
    if name == "Decimal":
        return "take float"
    return "take str, int, float or bool, with | None if it may be missing"


def _names(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if not _FIELD.fullmatch(name) or len(name) > 64:
            yield f"the field {name!r}: expected up to 64 of A-Z a-z 0-9 _, a letter first"
    # Spark's columns do not differ by case, nor the JSON names of Protocol Buffers by case and underscores.
    # https://protobuf.dev/programming-guides/json/#field-name-conflicts
    for one, other in combinations(names, 2):
        if one.replace("_", "").lower() == other.replace("_", "").lower():
            yield f"the fields {one} and {other} differ in capitals and underscores only: rename one of them"


def _defaults(features: type[BaseModel]) -> Iterator[str]:
    for name, why in {**_refused_alone(features), **_refused_together(features)}.items():
        yield (
            f"{features.__name__}.{name} has the default {features.model_fields[name].default!r}, which the class "
            f"itself refuses ({why}): take one that it accepts, or none"
        )


def _refused_together(features: type[BaseModel]) -> dict[str, str]:
    """The fields whose defaults the class refuses in an empty document, with the reason."""
    config = ConfigDict(validate_default=True)
    checked = type(features.__name__, (features,), {"model_config": config, "__module__": features.__module__})
    try:
        checked.model_validate({})  # type: ignore[attr-defined]
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        return {str(item["loc"][0]): item["msg"] for item in found if item["type"] != "missing" and item["loc"]}
    except Exception:
        return {}  # a validator of the class that cannot be shown an empty document: each field is judged alone
    return {}


def _refused_alone(features: type[BaseModel]) -> dict[str, str]:
    """The fields whose defaults their own validators refuse, with the reason, whatever the class asks of a whole
    document."""
    schema: Any = features.__pydantic_core_schema__
    config = schema.get("config")
    while "fields" not in schema:
        schema = schema["schema"]
        config = config or schema.get("config")
    refused = {}
    for name, field in schema["fields"].items():
        inner = field["schema"]
        if inner["type"] == "default" and "default" in inner and not _asks_for_others(inner["schema"]):
            try:
                SchemaValidator(inner["schema"], config).validate_python(inner["default"])
            except ValidationError as error:
                refused[name] = error.errors(include_url=False, include_context=False)[0]["msg"]
            except Exception as error:
                refused[name] = f"its validator fails: {type(error).__name__}: {error}"
    return refused


def _asks_for_others(schema: Any) -> bool:
    """Whether a validator of the field is given the fields before it, so that it can only be judged with them."""
    while schema is not None:
        if schema.get("function", {}).get("type") == "with-info":
            return True
        schema = schema["steps"][0] if schema["type"] == "chain" else schema.get("schema")
    return False


def _rates(case: "UseCase") -> Iterator[str]:
    kinds = {name: plain_type(field.annotation) for name, field in case.features.model_fields.items()}
    names = [rate.name for rate in case.rates]
    for rate in case.rates:
        if not _FIELD.fullmatch(rate.name) or rate.name in kinds or names.count(rate.name) > 1:
            yield f"the rate {rate.name!r}: expected a name of A-Z a-z 0-9 _ that no field and no other rate has"
        if not rate.by or rate.days < BLOCK_DAYS:
            yield f"the rate {rate.name}: expected a field in by at least, and {BLOCK_DAYS} days or more"
        for part in rate.by:
            name, is_step = (part.feature, True) if isinstance(part, Step) else (part, False)
            if name not in kinds:
                yield f"the rate {rate.name} is by {name}, which {case.features.__name__} does not have"
            elif is_step != (kinds[name] is not str):
                yield f"the rate {rate.name} is by {name}: text comes by its name, a number as Step({name!r}, width)"
            elif isinstance(part, Step) and not (part.width > 0 and math.isfinite(part.width)):
                yield f"the rate {rate.name} has a step of {part.width!r}: expected a width above 0"


def _example(case: "UseCase") -> Iterator[str]:
    document = {"record_id": "example", "event_time": "1970-01-02T00:00:00Z", "features": case.example_features}
    try:
        case.read_record(json.dumps(document).encode())
    except Exception as error:  # a validator of the class may raise what it likes
        yield f"its example_features are refused ({explain(error)}): write those of one good record, as JSON has them"
