"""Newline-delimited JSON: a record on each line, an answer on each line."""

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from functions.runtime.responses import MAX_ERRORS_SHOWN, NDJSON, field_errors

from .answer import Answer


class InvalidLinesError(ValueError):
    """Lines that are no records; the text says which."""

    def __init__(self, status: int, detail: str, errors: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.errors = errors


def is_ndjson(request: Request) -> bool:
    """Whether the caller says that the body is lines."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == NDJSON


def read(record: Callable[[bytes], Any], body: bytes, limit: int) -> list[Any]:
    """The records in ``body``; empty lines are none. All or nothing, as with a list.

    Raises:
        InvalidLinesError: too many, not JSON, or a field does not fit; pointers begin with the record's number from 0.
    """
    lines = [line for line in body.splitlines() if line.strip()]
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
    """An answer on each line."""
    return Response(b"".join(orjson.dumps(one) + b"\n" for one in answers), media_type=NDJSON)
