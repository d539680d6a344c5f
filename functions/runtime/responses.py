"""HTTP answers: JSON, or an error as RFC 9457 (``application/problem+json``)."""

import traceback
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.responses import Response

from functions.runtime.log import log

JSON = "application/json"
PROBLEM = "application/problem+json"
NDJSON = "application/x-ndjson"
MAX_ERRORS_SHOWN = 20
"""A list of a thousand bad records names this many faults, so an answer stays small."""


class _Json(Response):
    """200 with JSON that is written already. Its headers are, too: Starlette's own way to them costs more than the
    validation of a record."""

    def __init__(self, body: bytes) -> None:
        self.status_code = 200
        self.body = body
        self.background = None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), _JSON_HEADER]


_JSON_HEADER = (b"content-type", JSON.encode())


def json_response(body: bytes, status: int = 200) -> Response:
    """An answer whose JSON is written already."""
    return _Json(body) if status == 200 else Response(body, status, media_type=JSON)


def no_content() -> Response:
    """204: acknowledges a pushed message."""
    return Response(status_code=204)


def problem(
    status: int,
    detail: str,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Response:
    """An error for a program and a person: ``detail`` says what is wrong and what to do.

    ``errors`` names the fields at fault, each with a JSON ``pointer`` and a ``detail``; ``members`` is what else an
    answer of its kind holds.
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
    """503: not now; the message stays, the caller may come again."""
    return problem(503, detail, headers={"Retry-After": str(retry_after_seconds)}, members=members)


def internal_error(error: Exception) -> Response:
    """500 for a fault of ours, logged with its stack but without its text, which may quote a payload."""
    stack = "".join(traceback.format_tb(error.__traceback__))
    log("ERROR", f"request failed: {type(error).__name__}", stack=stack)
    return problem(500, f"this is a fault of the service ({type(error).__name__}); its log has the stack")


def field_errors(error: ValidationError) -> list[dict[str, str]]:
    """The first faults of a document, each with its JSON pointer. The values themselves are left out."""
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
