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


def _declared(chain: Any) -> Any:
    """The ``int`` again, for the JSON Schema, with the bounds that hold anyhow."""
    schema = chain["steps"][-1]
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
        """Bend whole numbers. They are read without a call of Python."""
        bent: CoreSchema = _replaced(handler(source), "int", _whole)
        return bent

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Whole numbers are of type ``integer``."""
        return handler(_replaced(schema, "chain", _declared))
