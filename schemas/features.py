"""What the features of every use case derive from: which values a feature may have, the same in every part."""

from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

WHOLE_BELOW = 2**53
"""A whole number lies between this and its negative, both excluded: what a double holds exactly, so that the model's
input is the number that was sent. https://www.rfc-editor.org/rfc/rfc8259#section-6"""


def _whole(schema: Any) -> Any:
    """In place of an ``int``: a finite number, then a whole one. The second step is lax, which takes 3.0 for 3, and
    comes to see nothing but finite numbers."""
    number = core_schema.float_schema(strict=True, allow_inf_nan=False, gt=-WHOLE_BELOW, lt=WHOLE_BELOW)
    return core_schema.chain_schema([number, {**schema, "strict": False}])


def _kept(schema: Any) -> Any:
    """A field's schema, which looks at what validators of the class's own give: it is of the declared type, within the
    declared bounds, or the document is refused. No part could keep a text in a column of numbers."""
    if schema["type"] == "default":
        return {**schema, "schema": _kept(schema["schema"])}
    declared = schema
    while declared["type"].startswith("function-"):
        declared = declared.get("schema") or declared.get("serialization", {}).get("schema")
        if declared is None:  # of a type of its own, which the table of use cases does not take
            return schema
    return schema if declared is schema else core_schema.chain_schema([schema, declared])


def _declared(chain: Any) -> Any:
    """The declared type again, for the JSON Schema; of an ``int`` with the bounds that hold anyhow."""
    schema = chain["steps"][-1]
    if schema["type"] != "int":
        return _replaced(schema, "chain", _declared)
    above = {} if {"gt", "ge"} & schema.keys() else {"gt": -WHOLE_BELOW}
    below = {} if {"lt", "le"} & schema.keys() else {"lt": WHOLE_BELOW}
    return {**above, **below, **schema}


def _replaced(schema: Any, kind: str, by: Any) -> Any:
    """A model's schema with each part of it that is of this ``kind`` replaced."""
    if schema["type"] == kind:
        return by(schema)
    if isinstance(schema.get("fields"), dict):
        return {**schema, "fields": {name: _replaced(field, kind, by) for name, field in schema["fields"].items()}}
    return {**schema, "schema": _replaced(schema["schema"], kind, by)} if "schema" in schema else schema


class Features(BaseModel):
    """The base of a use case's features. Text is not taken for a number, nor a boolean; numbers are finite; a whole
    number may be written ``3.0``, as JSON Schema has it, and has at most 53 bits; unknown fields are ignored.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Bend whole numbers, which are read without a call of Python, and hold validators to the declared types."""

        def field(schema: Any) -> Any:
            return {**schema, "schema": _kept(_replaced(schema["schema"], "int", _whole))}

        bent: CoreSchema = _replaced(handler(source), "model-field", field)
        return bent

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Whole numbers are of type ``integer``."""
        return handler(_replaced(schema, "chain", _declared))
