"""Reads a request's body into records that may be published, and refused documents with the reason."""

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
"""A function that reads a record as each consumer will: ``UseCase.read_record``."""
_MEMBERS = msgspec.json.Decoder(list[msgspec.Raw])


class UnreadableBodyError(ValueError):
    """The body as a whole cannot be read. The text says why."""


class TooManyRecordsError(UnreadableBodyError):
    """The request has more records than the limit."""


@dataclass(frozen=True)
class AcceptedRecord:
    """A record that consumers will be able to read."""

    record_id: str
    data: bytes
    """The record as it is published: byte for byte as it was sent."""


@dataclass(frozen=True)
class RefusedDocument:
    """A document that is not a valid record."""

    status: int
    """The HTTP status if the document was sent alone: 400 not JSON, 413 too large, 422 an invalid field."""
    detail: str
    record_id: str | None = None
    """The id in the document, by which its sender finds it; None if the document has no valid id."""
    errors: Sequence[dict[str, str]] = field(default_factory=list)
    """The invalid fields, each with a JSON pointer within the document."""


def read_one(read: Read, data: bytes) -> AcceptedRecord | RefusedDocument:
    """Read a document as each consumer will read it."""
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
    """Read a JSON array of documents.

    The members keep their original text. Serializing them again would change numbers of more than 64 bits, and drop
    duplicate keys.

    Raises:
        UnreadableBodyError: the body is not a JSON array.
        TooManyRecordsError: the array has more members than the limit.
    """
    try:
        documents = _MEMBERS.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UnreadableBodyError(f"the body is not JSON: {error}") from None
    if len(documents) > MAX_RECORDS:
        raise TooManyRecordsError(_too_many(len(documents)))
    return [read_one(read, bytes(document)) for document in documents]


def read_lines(read: Read, body: bytes) -> list[AcceptedRecord | RefusedDocument]:
    """Read newline-delimited JSON, one document per line, skipping empty lines.

    Raises:
        TooManyRecordsError: the body has more lines than the limit.
    """
    # A carriage return is white space of JSON, and no end of a line, here as in the archive.
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) > MAX_RECORDS:
        raise TooManyRecordsError(_too_many(len(lines)))
    return [read_one(read, line) for line in lines]


def _too_many(count: int) -> str:
    return f"{count} records; the limit is {MAX_RECORDS}. Send fewer at a time"
