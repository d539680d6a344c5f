"""Whether a JSON value is of its schema in a discovery document: properties, types, formats, enums, what is read-only.

The types and formats are those of https://developers.google.com/discovery/v1/type-format; what a number, a duration or
bytes may look like in JSON is told by https://protobuf.dev/programming-guides/json.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from rehearsal.documents import Document, Method, Schema

INTEGERS = {"int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "int64": (-(2**63), 2**63 - 1),
            "uint64": (0, 2**64 - 1)}  # fmt: skip
DIGITS = re.compile(r"-?\d+")
DURATION = re.compile(r"-?\d{1,12}(\.\d{1,9})?s")
TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
INSTEAD = {("storage.buckets.setIamPolicy", "bindings"): "etag"}
"""What suffices where a document calls something else required.

A policy without bindings is refused only if it is empty: "A policy to update must be provided." Terraform takes all
bindings away by sending the etag alone (https://github.com/GoogleCloudPlatform/magic-modules/pull/12944).
"""
SNAKE = re.compile(r"_+([a-z0-9])")


def camel(name: str) -> str:
    """A field's name as JSON spells it."""
    return SNAKE.sub(lambda found: found[1].upper(), name).rstrip("_")


def resolved(document: Document, schema: Schema) -> Schema:
    """The schema that a reference means, or ``schema`` itself."""
    return document.schemas[schema["$ref"]] if "$ref" in schema else schema


def property_of(document: Document, schema: Schema, name: str) -> Schema | None:
    """A property by its name: Google's common front end takes the spelling of protobuf, too."""
    properties: dict[str, Schema] = schema.get("properties", {})
    if name not in properties and document.common:
        name = camel(name)
    return properties.get(name)


def set_by_service(schema: Schema) -> bool:
    """Whether only the service sets a property.

    It is ignored when it is sent (https://google.aip.dev/203), so what is made is not what was asked for. In a change
    it may be there, for what was read is sent back.
    """
    return bool(schema.get("readOnly")) or schema.get("description", "").startswith("Output only")


@dataclass(frozen=True)
class Values:
    """Checks the values of one request.

    Args:
        method: what is asked for.
        numbers: whether an enum may be a number, as it may in JSON; its name is looked at elsewhere then.
    """

    method: Method
    numbers: bool = False

    def faults(self, schema: Schema, value: Any, path: str) -> Iterator[str]:
        """All that is wrong with ``value``, each with its place."""
        schema = resolved(self.method.document, schema)
        kind = schema.get("type", "any")
        # null leaves a field as it is, or, in a patch of Cloud Storage, clears it.
        if kind == "any" or value is None:
            return
        if kind == "object":
            yield from self._object(schema, value, path)
        elif kind == "array":
            if not isinstance(value, list):
                yield f"{path}: {_shown(value)} is no array"
                return
            for index, one in enumerate(value):
                yield from self.faults(schema["items"], one, f"{path}[{index}]")
        else:
            yield from self._scalar(schema, value, path)

    def _object(self, schema: Schema, value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{path}: {_shown(value)} is no object"
            return
        for name, one in value.items():
            here = f"{path}.{name}"
            declared = property_of(self.method.document, schema, name)
            if declared is not None:
                if set_by_service(declared) and not self.method.changes:
                    yield f"{here}: it is read-only: the service sets it, and ignores what is sent"
                yield from self.faults(declared, one, here)
            elif "additionalProperties" in schema:
                yield from self.faults(schema["additionalProperties"], one, here)
            else:
                yield f'{here}: unknown name "{name}": {schema.get("id", "the object")} has no such field'
        for name, declared in schema.get("properties", {}).items():
            required = self.method.id in declared.get("annotations", {}).get("required", ())
            if required and name not in value and INSTEAD.get((self.method.id, name)) not in value:
                yield f"{path}.{name}: it is required"

    def _scalar(self, schema: Schema, value: Any, path: str) -> Iterator[str]:
        allowed = schema.get("enum")
        if allowed is not None:
            number = isinstance(value, int) and not isinstance(value, bool) and self.numbers
            if value not in allowed and not number:
                yield f"{path}: {_shown(value)} is none of {', '.join(allowed)}"
            return
        kind, form = schema["type"], schema.get("format", "")
        wrong = _TYPES[kind](value, form)
        if wrong:
            yield f"{path}: {_shown(value)} {wrong}"
            return
        if kind == "integer":
            yield from _limits(schema, int(value), path)

    def text(self, schema: Schema, value: str, path: str) -> Iterator[str]:
        """The same for a parameter, which is text whatever its type is."""
        if schema.get("type") == "boolean":
            if value.lower() not in ("true", "false"):
                yield f"{path}: {_shown(value)} is neither true nor false"
        elif self.numbers and "enum" in schema and DIGITS.fullmatch(value):
            return
        else:
            yield from self._scalar(schema, value, path)
        if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
            yield f"{path}: {_shown(value)} is not of the form {schema['pattern']}"


def _limits(schema: Schema, value: int, path: str) -> Iterator[str]:
    for name, beyond in (("minimum", value < int(schema.get("minimum", value))),
                         ("maximum", value > int(schema.get("maximum", value)))):  # fmt: skip
        if beyond:
            yield f"{path}: {value} is beyond its {name}, {schema[name]}"


def _integer(value: Any, form: str) -> str | None:
    """A 64-bit number is written as text, and taken as a number too; a 32-bit one the other way round."""
    whole = isinstance(value, float) and value.is_integer()
    if isinstance(value, bool) or not (isinstance(value, int) or whole or DIGITS.fullmatch(str(value))):
        return "is no whole number"
    low, high = INTEGERS.get(form, INTEGERS["int64"])
    return None if low <= int(value) <= high else f"does not fit into {form}"


def _number(value: Any, form: str) -> str | None:
    if isinstance(value, bool):
        return "is no number"
    try:
        float(value)
    except (TypeError, ValueError):
        return "is no number"
    return None


def _boolean(value: Any, form: str) -> str | None:
    return None if isinstance(value, bool) else "is neither true nor false"


def _string(value: Any, form: str) -> str | None:
    if form in ("int64", "uint64"):
        return _integer(value, form)
    if not isinstance(value, str):
        return "is no string"
    check = _FORMATS.get(form)
    return check(value) if check is not None else None


def _bytes(value: str) -> str | None:
    try:
        base64.b64decode(value.replace("-", "+").replace("_", "/") + "=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return "is no base64"
    return None


def _timestamp(value: str) -> str | None:
    found = TIMESTAMP.fullmatch(value)
    try:
        if found and datetime.fromisoformat(found[1].upper()):
            return None
    except ValueError:
        pass
    return "is no time of RFC 3339, such as 2026-01-31T12:00:00Z"


def _date(value: str) -> str | None:
    try:
        date.fromisoformat(value)
    except ValueError:
        return "is no date, such as 2026-01-31"
    return None


def _duration(value: str) -> str | None:
    return None if DURATION.fullmatch(value) else "is no duration in seconds, such as 3.5s"


_TYPES: dict[str, Callable[[Any, str], str | None]] = {
    "string": _string, "integer": _integer, "number": _number, "boolean": _boolean,
}  # fmt: skip
_FORMATS: dict[str, Callable[[str], str | None]] = {
    "byte": _bytes, "google-datetime": _timestamp, "date-time": _timestamp, "date": _date,
    "google-duration": _duration,
}  # fmt: skip


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
