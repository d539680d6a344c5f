"""JSON as it comes over the wire: what it must be before a handler sees it."""

import json
import math
from typing import Any, NoReturn

from aiohttp import web

MAX_DEPTH = 100
"""How deep lists and objects may lie in each other: what protobuf's own readers of JSON take
(``max_recursion_depth`` of ``google.protobuf.json_format``)."""
OF_FORMS = {"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"}
"""What a page of any site may have a browser send without asking the server first:
https://fetch.spec.whatwg.org/#cors-safelisted-request-header. A body of no type at all is such, too."""


class DocumentError(ValueError):
    """A body that is no document; the text tells why."""


class ContentTypeError(ValueError):
    """A body whose type says that it is no JSON; the text names the header and the fix."""


def parsed(body: bytes | str) -> Any:
    """The value that a JSON text means.

    Raises:
        DocumentError: it is not JSON as RFC 8259 has it, or too deep.
    """
    try:
        value = json.loads(body, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise DocumentError(_TOO_DEEP) from None
    except ValueError as error:
        raise DocumentError(str(error)) from error
    brackets = (b"[", b"{") if isinstance(body, bytes) else ("[", "{")
    if sum(map(body.count, brackets)) > MAX_DEPTH and _depth_exceeds(value, MAX_DEPTH):  # type: ignore[arg-type]
        raise DocumentError(_TOO_DEEP)
    return value


async def received(request: web.Request) -> Any:
    """What the body of a request means; an empty object without a body.

    Raises:
        ContentTypeError: the body has the type of a form, or none.
        DocumentError: it is not JSON.
    """
    body = await request.read()
    if not body:
        return {}
    check_type(request)
    return parsed(body)


def check_type(request: web.Request) -> None:
    """Refuse a body that does not say that it is JSON, as none does that a foreign page sends unasked.

    Raises:
        ContentTypeError: it has the type of a form, or none.
    """
    given = request.headers.get("Content-Type", "")
    kind = given.partition(";")[0].strip().lower()
    if not kind or kind in OF_FORMS:
        told = f"Content-Type: {kind}" if kind else "no Content-Type"
        raise ContentTypeError(f"{told}: a JSON body is wanted here; send it with Content-Type: application/json")


_TOO_DEEP = f"lists and objects lie more than {MAX_DEPTH} deep in each other"


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:20]} is beyond the numbers that a double can hold")
    return number


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for one in level
            if isinstance(one, list | dict)
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, list | dict)
        ]
        if not level:
            return False
    return True
