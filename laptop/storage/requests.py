"""What handlers read out of a request."""

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from laptop.storage.errors import HttpError, invalid


def names_of(request: web.Request) -> tuple[str, str]:
    """The bucket and the object of the path."""
    return request.match_info["bucket"], request.match_info["name"]


async def document_of(request: web.Request) -> dict[str, Any]:
    """The JSON object in the body; empty without one."""
    return parsed(await request.read() or b"{}")


def parsed(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        HttpError: 400.
    """
    try:
        document = json.loads(body)
    except ValueError as error:
        raise HttpError(400, "parseError", f"Parse Error: {error}") from error
    if not isinstance(document, dict):
        raise invalid("the body must be a JSON object")
    return document


def number_of(given: Mapping[str, Any], name: str) -> int | None:
    """A parameter that is a number; None without it."""
    if given.get(name) is None:
        return None
    try:
        return int(given[name])
    except (TypeError, ValueError):
        raise invalid(f"{name}: {given[name]!r} is not a number") from None
