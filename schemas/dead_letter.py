"""A dead letter: what no one could read, with its reason."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import from_json

from schemas.record import EventTime, RecordId

REASON_LENGTH = 2000
BEGINNING = 4096
_ID: TypeAdapter[str] = TypeAdapter(RecordId)


class DeadLetter(BaseModel):
    """A message that a unit refused for good. Sent to the topic ``dead-letters``, data and reason together."""

    model_config = ConfigDict(frozen=True)

    unit: str
    """Who refused it: ``archive``, ``ingest_fast``, ``classify``."""
    topic: str
    """The short name of the topic it came from."""
    message_id: str
    reason: str = Field(max_length=REASON_LENGTH)
    """What is wrong and where, for a person: the field, the value's kind, what was expected."""
    payload_base64: str = Field(max_length=14_000_000)
    """The message's data, byte for byte, in base64; empty if it is too large for a message of Pub/Sub so."""
    payload_uri: str = ""
    """``gs://…``: where the data is instead; empty in a function's letter, which does not know it."""
    attributes: dict[str, str] = {}
    """The message's. Of a letter without its payload, ``record_id`` is among them if the payload began with it."""
    refused_at: EventTime


def named_id(payload: bytes) -> str | None:
    """The ``record_id`` that a payload begins with, or has among its first fields; None if it has no id there that
    could be one. No more of it is read, however large it is, so the rest may be anything."""
    try:
        read = from_json(payload[:BEGINNING], allow_partial=True)
        named: str = _ID.validate_python(read["record_id"])
    except (ValueError, LookupError, TypeError):
        return None
    return named


def explain(error: Exception) -> str:
    """Say in one line why ``error`` refused a document; a pydantic error becomes ``field: problem; ...``.

    The values themselves are left out: a reason is logged, and a payload must not be.
    """
    errors: Any = getattr(error, "errors", None)
    if callable(errors):
        parts = []
        for item in errors(include_url=False, include_context=False, include_input=False):
            where = ".".join(str(step) for step in item["loc"]) or "document"
            parts.append(f"{where}: {item['msg'].removeprefix('Value error, ')}")
        return "; ".join(parts)[:REASON_LENGTH]
    return f"{type(error).__name__}: {error}"[:REASON_LENGTH]
