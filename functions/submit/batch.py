"""From a request's body to records that may be published, and refusals that say why not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from pydantic import ValidationError
from pydantic_core import from_json

from functions.runtime.request_limits import MAX_RECORDS
from functions.runtime.responses import field_errors
from schemas import Record
from schemas.record import MAX_RECORD_BYTES

Read = Callable[[bytes], Record[Any]]
"""``UseCase.read_record``: as each consumer will read it."""
_MEMBERS = msgspec.json.Decoder(list[msgspec.Raw])


class UnreadableBodyError(ValueError):
    """The body as a whole cannot be read; the text says why."""


class TooManyRecordsError(UnreadableBodyError):
    """More records than one request may hold."""


@dataclass(frozen=True)
class AcceptedRecord:
    """A record that consumers will be able to read."""

    record_id: str
    data: bytes
    """As it is published: byte for byte as it was sent."""


@dataclass(frozen=True)
class RefusedDocument:
    """A document that is no record."""

    status: int
    """What it means alone: 400 not JSON, 413 too large, 422 a field does not fit."""
    detail: str
    record_id: str | None = None
    """What it calls itself, so that its sender finds it; None if it has no id that could be one."""
    errors: Sequence[dict[str, str]] = field(default_factory=list)
    """The fields at fault, each with a JSON pointer within the document."""


def read_one(read: Read, data: bytes) -> AcceptedRecord | RefusedDocument:
    """A document, read as each consumer will read it."""
    if len(data) > MAX_RECORD_BYTES:
        return RefusedDocument(413, f"the record has {len(data)} bytes; the limit is {MAX_RECORD_BYTES}")
    try:
        return AcceptedRecord(read(data).record_id, data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            return RefusedDocument(400, f"the record is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
        errors = field_errors(error)
        named = not any(one["pointer"] in ("#", "#/record_id") for one in errors)
        return RefusedDocument(
            422,
            f"{error.error_count()} fields do not fit; errors names the first of them",
            from_json(data)["record_id"] if named else None,
            errors,
        )


def read_list(read: Read, body: bytes) -> list[AcceptedRecord | RefusedDocument]:
    """A JSON array of documents. It is cut into its members, and they are not written anew: that would change numbers
    of more than 64 bits, and drop a key that is there twice.

    Raises:
        UnreadableBodyError: it is none.
    """
    try:
        documents = _MEMBERS.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UnreadableBodyError(f"the body is not JSON: {error}") from None
    if len(documents) > MAX_RECORDS:
        raise TooManyRecordsError(_too_many(len(documents)))
    return [read_one(read, bytes(document)) for document in documents]


def read_lines(read: Read, body: bytes) -> list[AcceptedRecord | RefusedDocument]:
    """Newline-delimited JSON, a document a line; empty lines are none.

    Raises:
        TooManyRecordsError: more lines than one request may hold.
    """
    lines = [line for line in body.splitlines() if line.strip()]
    if len(lines) > MAX_RECORDS:
        raise TooManyRecordsError(_too_many(len(lines)))
    return [read_one(read, line) for line in lines]


def _too_many(count: int) -> str:
    return f"{count} records; the limit is {MAX_RECORDS}. Send fewer at a time"
