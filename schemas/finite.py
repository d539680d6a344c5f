"""Reads documents: with finite numbers only, and with one kind of error.

``NaN`` and ``Infinity`` are no JSON (RFC 8259), and other readers stop at them; pydantic takes them, and looks at the
fields that it knows only. So they are refused anywhere in a document.
"""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic_core import InitErrorDetails, ValidationError, from_json

Given = TypeVar("Given")
Read = TypeVar("Read")

_N, _I = b"NI"
_HOPS = 64


def finite(read: Callable[[bytes], Read], limit: int = sys.maxsize) -> Callable[[bytes], Read]:
    """``read``, a validator's ``validate_json``, for documents of finite numbers only, and of at most ``limit`` bytes.

    What it returns raises pydantic's ValidationError, of type ``json_invalid`` as for anything else that is no JSON;
    see :func:`refused`, too.
    """
    judged = refused(read)

    def read_finite(data: bytes) -> Read:
        if len(data) > limit:
            raise _fault("value_error", None, f"the record has {len(data)} bytes; the limit is {limit}")
        document = judged(data)  # first: a field that it knows is told by its name
        # Only what has one of the words, mostly in a text, is read twice.
        if (_N in data and _has(data, b"NaN")) or (_I in data and _has(data, b"Infinity")):
            _refuse(data)
        return document

    return read_finite


def refused(read: Callable[[Given], Read]) -> Callable[[Given], Read]:
    """``read``, a validator, with pydantic's ValidationError also where a validator of a use case's own fails otherwise
    than by a ValueError: what nobody can read is refused, and must not come again for ever. Want of memory is no fault
    of what is read, and raised as it is."""

    def read_or_refused(given: Given) -> Read:
        try:
            return read(given)
        except (ValidationError, MemoryError):
            raise
        except Exception as error:
            raise _fault("value_error", given, f"a validator of the class fails: {type(error).__name__}") from error

    return read_or_refused


def _has(data: bytes, word: bytes) -> bool:
    """``word in data``, from one capital to the next: they are rare, and a byte is found thirty times as fast as a
    word. In what is full of them the word itself is looked for."""
    at = data.find(word[0])
    for _ in range(_HOPS):
        if at < 0 or data.startswith(word, at):
            return at >= 0
        at = data.find(word[0], at + 1)
    return data.find(word, at) >= 0 if at >= 0 else False


def _refuse(data: bytes) -> None:
    try:
        from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise _fault("json_invalid", data, f"{error}; NaN and Infinity are no JSON") from None


def _fault(kind: str, given: Any, what: str) -> ValidationError:
    fault: InitErrorDetails = {"type": kind, "loc": (), "input": given, "ctx": {"error": what}}
    return ValidationError.from_exception_data("document", [fault])
