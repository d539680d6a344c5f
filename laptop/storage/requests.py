"""What handlers read out of a request."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from laptop import documents
from laptop.documents import ContentTypeError, DocumentError
from laptop.storage.errors import HttpError, invalid


def names_of(request: web.Request) -> tuple[str, str]:
    """The bucket and the object of the path."""
    return request.match_info["bucket"], request.match_info["name"]


async def document_of(request: web.Request) -> dict[str, Any]:
    """The JSON object in the body; empty without one.

    Raises:
        HttpError: 400, or 415 for a body that is not said to be JSON.
    """
    try:
        return _object(await documents.received(request))
    except DocumentError as error:
        raise _unreadable(error) from error
    except ContentTypeError as error:
        raise HttpError(415, "unsupportedMediaType", str(error)) from error


def parsed(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        HttpError: 400.
    """
    try:
        return _object(documents.parsed(body))
    except DocumentError as error:
        raise _unreadable(error) from error


def object_in(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object that a field holds; empty without the field.

    Raises:
        HttpError: 400, it holds something else.
    """
    return _object(document[name], f"{name}: ") if document.get(name) is not None else {}


def _object(value: Any, where: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid(f"{where}a JSON object is wanted, not {str(value)[:100]}")
    return value


def _unreadable(error: DocumentError) -> HttpError:
    return HttpError(400, "parseError", f"Parse Error: {error}")


def number_of(given: Mapping[str, Any], name: str) -> int | None:
    """A parameter that is a number; None without it."""
    if given.get(name) is None:
        return None
    try:
        return int(given[name])
    except (TypeError, ValueError):
        raise invalid(f"{name}: {given[name]!r} is not a number") from None
