"""Preconditions: https://cloud.google.com/storage/docs/request-preconditions."""

from collections.abc import Mapping
from typing import Any

from laptop.storage.errors import HttpError
from laptop.storage.requests import number_of

CONDITIONS = (
    ("GenerationMatch", "generation", True),
    ("GenerationNotMatch", "generation", False),
    ("MetagenerationMatch", "metageneration", True),
    ("MetagenerationNotMatch", "metageneration", False),
)


def check(given: Mapping[str, Any], document: dict[str, Any] | None, prefix: str = "if", reading: bool = False) -> None:
    """Refuse a request whose preconditions do not hold.

    Args:
        given: the request's parameters.
        document: the object's or bucket's metadata; generation 0 stands for one that is not there.
        prefix: ``if``, or ``ifSource`` for what is copied.
        reading: a "not match" that fails means that the reader has it already: 304.

    Raises:
        HttpError: 412 or 304.
    """
    for condition, field, equal in CONDITIONS:
        wanted = number_of(given, prefix + condition)
        if wanted is None or (wanted == int((document or {}).get(field, 0))) == equal:
            continue
        if reading and not equal:
            raise HttpError(304, "notModified", "Not Modified")
        raise HttpError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")


def is_wanted(given: Mapping[str, Any], document: dict[str, Any], name: str = "generation") -> bool:
    """Whether an object has the generation that was asked for, if one was."""
    return number_of(given, name) in (None, int(document["generation"]))
