"""Newline-delimited JSON: one record per line in the request, one answer per line in the response."""

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from functions.runtime.responses import MAX_ERRORS_SHOWN, NDJSON, field_errors

from .answer import Answer


class InvalidLinesError(ValueError):
    """Some lines are not records; the text and ``errors`` say which."""

    def __init__(self, status: int, detail: str, errors: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.errors = errors


def is_ndjson(request: Request) -> bool:
    """Whether the request's Content-Type is newline-delimited JSON."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == NDJSON


def read(record: Callable[[bytes], Any], body: bytes, limit: int) -> list[Any]:
    """Read the records in ``body``, skipping empty lines. One invalid line fails all, as in a list.

    Args:
        record: reads one record.
        body: the whole body.
        limit: limit for the number of lines.

    Raises:
        InvalidLinesError: there are too many lines, or a line is not a valid record. The JSON pointers begin with the
            record's number, counted from 0.
    """
    # A carriage return is white space of JSON, and no end of a line, here as in the archive.
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) > limit:
        raise InvalidLinesError(413, f"there are more than {limit} lines. Send fewer at a time")
    records, errors = [], []
    for number, line in enumerate(lines):
        try:
            records.append(record(line))
        except ValidationError as error:
            if error.errors(include_url=False, include_context=False, include_input=False)[0]["type"] == "json_invalid":
                raise InvalidLinesError(400, f"record {number} is not JSON; each stands on a line of its own") from None
            errors += [{**one, "pointer": f"#/{number}{one['pointer'][1:]}"} for one in field_errors(error)]
            if len(errors) >= MAX_ERRORS_SHOWN:
                break
    if errors:
        shown = errors[:MAX_ERRORS_SHOWN]
        raise InvalidLinesError(
            422, "fields do not fit, so nothing was classified; errors names the first of them", shown
        )
    return records


def write(answers: Sequence[Answer]) -> Response:
    """Return a response with one answer per line."""
    return Response(b"".join(orjson.dumps(one) + b"\n" for one in answers), media_type=NDJSON)
