"""HTTP responses: JSON, or a problem document as in RFC 9457 (``application/problem+json``)."""

import traceback
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.responses import Response

from functions.runtime.log import log

JSON = "application/json"
"""The media type of a JSON document."""
PROBLEM = "application/problem+json"
"""The media type of an error response (RFC 9457)."""
NDJSON = "application/x-ndjson"
"""The media type of newline-delimited JSON, one document on each line."""
MAX_ERRORS_SHOWN = 20
"""Limit for the number of field errors in one response, which keeps the response to a thousand bad records small."""


class _Json(Response):
    """A 200 response with serialized JSON and prepared headers. Starlette's own construction of the headers costs more
    than the validation of a record."""

    def __init__(self, body: bytes) -> None:
        self.status_code = 200
        self.body = body
        self.background = None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), _JSON_HEADER]


_JSON_HEADER = (b"content-type", JSON.encode())


def json_response(body: bytes, status: int = 200) -> Response:
    """Return a response with the serialized JSON ``body``."""
    return _Json(body) if status == 200 else Response(body, status, media_type=JSON)


def no_content() -> Response:
    """Return a 204 response, which acknowledges a pushed message."""
    return Response(status_code=204)


def problem(
    status: int,
    detail: str,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Response:
    """Return an error response that programs and people can read.

    Args:
        status: the HTTP status code.
        detail: what is wrong and how to correct it.
        errors: the invalid fields, each with a JSON ``pointer`` and a ``detail``.
        headers: additional response headers.
        members: additional members of the problem document.
    """
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        body["errors"] = list(errors)
    if members:
        body |= members
    return Response(orjson.dumps(body), status, headers=dict(headers or {}), media_type=PROBLEM)


def unavailable(detail: str, retry_after_seconds: int = 1, members: Mapping[str, Any] | None = None) -> Response:
    """Return a 503 response: Pub/Sub keeps a pushed message, and a caller may retry after the given seconds."""
    return problem(503, detail, headers={"Retry-After": str(retry_after_seconds)}, members=members)


def internal_error(error: Exception) -> Response:
    """Log a bug in this code and return a 500 response.

    The log line has the stack but not the text of ``error``, which may quote a payload.
    """
    stack = "".join(traceback.format_tb(error.__traceback__))
    log("ERROR", f"request failed: {type(error).__name__}", stack=stack)
    return problem(500, f"this is a fault of the service ({type(error).__name__}); its log has the stack")


def field_errors(error: ValidationError) -> list[dict[str, str]]:
    """Return the first errors of a document, each with its JSON pointer and without the invalid value."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        {
            "pointer": "#" + "".join(f"/{_escaped(step)}" for step in fault["loc"]),
            "detail": fault["msg"].removeprefix("Value error, "),
        }
        for fault in faults[:MAX_ERRORS_SHOWN]
    ]


def _escaped(step: int | str) -> str:
    return str(step).replace("~", "~0").replace("/", "~1")
