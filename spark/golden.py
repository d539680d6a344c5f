"""Golden rows: what a publisher may send, with Spark's own probability. A model that is loaded must reproduce them.

A row is kept as it would be sent, in the class's own types, and scored by what the class makes of it: that is how the
loader reads it, too (``functions/classify/model.py``). They are rows of the evaluation
window, as they are and with something changed: left out, null, unseen, at the end of its range. Whether a changed row
may be sent is for the class to say.
"""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from schemas.contract import plain_type
from schemas.dead_letter import explain
from schemas.shapes import ModelInput, model_inputs
from schemas.use_cases import UseCase

PLAIN, CHANGED = 30, 40
UNSEEN = ("~new", "ZZ", "zz", "Z", "9", "#")
"""Of a category, the first of these that the class takes and training has not seen."""
LARGEST_WHOLE = 2**53 - 1
"""https://www.rfc-editor.org/rfc/rfc8259#section-6"""

Document = dict[str, Any]
_LEFT_OUT = object()
CHANGED_AGAIN = "a validator of the class makes something else of what it has given"


@dataclass
class Golden:
    """The rows, before they are scored."""

    documents: list[Document] = field(default_factory=list)
    """The features as sent."""
    values: list[dict[str, Any]] = field(default_factory=list)
    """What the class makes of each, as it is stored: numbers are doubles."""
    refused: list[str] = field(default_factory=list)
    """Why a row of the window is none when it is sent again: one for each such row. There should be none."""


def golden(case: UseCase, stored: Sequence[Mapping[str, Any]], categories: Mapping[str, Sequence[str]]) -> Golden:
    """The golden rows.

    Args:
        stored: features of some rows of the window, as they are stored.
        categories: the values that training has seen.
    """
    inputs = model_inputs(case)
    found = Golden()
    for row in stored:
        try:
            document = sent_again(case, row)
        except ValidationError as error:
            found.refused.append(explain(error))
        else:
            found.documents.append(document)
            found.values.append(_values(case, inputs, document))
    plain = list(found.documents)
    if plain:
        changes = list(_changes(case, inputs, plain[0], categories))
        for place, change in enumerate(changes):
            if len(found.documents) == len(plain) + CHANGED:
                break
            document = _changed(plain[place % len(plain)], change)
            try:
                values = _values(case, inputs, document)
            except ValidationError:
                continue  # no publisher may send it
            found.documents.append(document)
            found.values.append(values)
    return found


def sent_again(case: UseCase, stored: Mapping[str, Any]) -> Document:
    """A record's features as a publisher sends them, from their stored form, of which the class makes the same again.

    Raises:
        ValidationError: the class refuses them, or makes something else of what it has given itself.
    """
    document = _as_sent(case.features, stored)
    for name, value in _values(case, model_inputs(case), document).items():
        if value != stored[name]:
            raise ValidationError.from_exception_data(
                case.features.__name__,
                [{"type": "value_error", "loc": (name,), "input": stored[name], "ctx": {"error": CHANGED_AGAIN}}],
            )
    return document


def _as_sent(features: type[BaseModel], stored: Mapping[str, Any]) -> Document:
    """A record's features as a publisher sends them, from their stored form."""
    document = {}
    for name, info in features.model_fields.items():
        value = stored[name]
        if value is None and not info.is_required() and info.default is None:
            continue
        document[name] = _own(info.annotation, value)
    return document


def _values(case: UseCase, inputs: Sequence[ModelInput], document: Document) -> dict[str, Any]:
    """What the class makes of a document, as it is stored."""
    values = case.read_features(document).__dict__
    return {
        item.name: values[item.name]
        if item.kind == "category" or values[item.name] is None
        else float(values[item.name])
        for item in inputs
    }


def _changes(
    case: UseCase, inputs: Sequence[ModelInput], plain: Document, categories: Mapping[str, Sequence[str]]
) -> Iterator[Document]:
    """What may be changed of a row: all of a kind at once, then one by one."""
    features = case.features
    declared = features.model_json_schema(mode="validation").get("properties", {})
    single: list[Document] = []
    for item in inputs:
        if item.kind == "category":
            words = [word for word in UNSEEN if word not in categories.get(item.name, ())]
            single += [{item.name: word} for word in words if _takes(case, plain, {item.name: word})][:1]
    unseen = _together(single)
    left_out: list[Document] = [{key: _LEFT_OUT} for key in features.model_fields]
    empty: list[Document] = [{key: None} for key in features.model_fields]
    lowest: list[Document] = []
    highest: list[Document] = []
    for item in inputs:
        if item.kind == "number":
            low, high = _ends(_own(features.model_fields[item.name].annotation, 1.0), declared.get(item.name, {}))
            lowest.append({item.name: low})
            highest.append({item.name: high})
    left_out, empty, lowest, highest = (
        [change for change in part if _takes(case, plain, change)] for part in (left_out, empty, lowest, highest)
    )
    bare = _together(left_out)
    yield from (bare, unseen, bare | unseen, _together(empty), _together(lowest), _together(highest))
    yield from single
    yield from left_out
    yield from empty
    for pair in zip(lowest, highest, strict=False):
        yield from pair


def _together(changes: Sequence[Document]) -> Document:
    return {key: value for change in changes for key, value in change.items()}


def _changed(document: Document, change: Document) -> Document:
    return {key: value for key, value in (document | change).items() if value is not _LEFT_OUT}


def _takes(case: UseCase, document: Document, change: Document) -> bool:
    try:
        case.read_features(_changed(document, change))
    except ValidationError:
        return False
    return True


def _ends(example: Any, declared: Mapping[str, Any]) -> tuple[Any, Any]:
    """The least and the largest value that a field's JSON Schema has, of the type of ``example``."""
    if isinstance(example, bool):
        return False, True
    (bounds,) = [part for part in declared.get("anyOf", [declared]) if part.get("type") in ("number", "integer")] or [
        {}
    ]
    whole = isinstance(example, int)
    most = LARGEST_WHOLE if whole else sys.float_info.max
    lows, highs = [-most], [most]
    for name, ends in (("minimum", lows), ("maximum", highs)):
        if name in bounds:
            ends.append(bounds[name])
    if "exclusiveMinimum" in bounds:
        above = bounds["exclusiveMinimum"]
        lows.append(above + 1 if whole else math.nextafter(above, math.inf))
    if "exclusiveMaximum" in bounds:
        below = bounds["exclusiveMaximum"]
        highs.append(below - 1 if whole else math.nextafter(below, -math.inf))
    kind = type(example)
    return kind(max(lows)), kind(min(highs))


def _own(annotation: Any, value: Any) -> Any:
    """A stored value in the type that the class declares."""
    kind = plain_type(annotation)
    return kind(value) if isinstance(value, float) and kind in (bool, int) else value
