"""What resources have in common: paging, field masks, durations in bounds."""

import base64
import binascii
from collections.abc import Collection, Iterable
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from laptop.errors import ServiceError, invalid

DEFAULT_PAGE = 100
MAX_PAGE = 1000


def page(names: Iterable[str], size: int, token: str) -> tuple[list[str], str]:
    """One page of ``names`` in order, and the token of the next one.

    Raises:
        ServiceError: INVALID_ARGUMENT for a token that is not one of ours.
    """
    if size < 0:
        raise invalid(f"page_size: {size} is negative")
    try:
        after = base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeError) as error:
        raise invalid(f"page_token: {token!r} is not a token that this server gave") from error
    rest = sorted(name for name in names if name > after)
    size = min(size or DEFAULT_PAGE, MAX_PAGE)
    more = len(rest) > size
    return rest[:size], base64.urlsafe_b64encode(rest[size - 1].encode()).decode() if more else ""


def masked(current: Message, update: Message, paths: Iterable[str], allowed: Collection[str]) -> Any:
    """A copy of ``current`` with the fields that ``paths`` names taken from ``update``.

    Raises:
        ServiceError: INVALID_ARGUMENT for no path, an unknown one, or a field that cannot be changed.
    """
    paths = list(paths)
    if not paths:
        raise invalid("update_mask: names no field")
    copy: Any = type(current)()
    copy.CopyFrom(current)
    for path in paths:
        if path.split(".")[0] not in allowed:
            raise invalid(f"update_mask: {path!r} cannot be changed. What can: {', '.join(sorted(allowed))}")
        _check_path(current.DESCRIPTOR, path)
        _set(copy, update, path)
    return copy


def _check_path(descriptor: Descriptor, path: str) -> None:
    *parents, last = path.split(".")
    for name in parents:
        field = descriptor.fields_by_name.get(name)
        if field is None or field.message_type is None or field.is_repeated:
            raise invalid(f"update_mask: {path!r}: {descriptor.name} has no message {name!r}")
        descriptor = field.message_type
    if last not in descriptor.fields_by_name:
        raise invalid(f"update_mask: {path!r}: {descriptor.name} has no field {last!r}")


def _set(target: Any, source: Any, path: str) -> None:
    name, _, rest = path.partition(".")
    if rest:
        if source.HasField(name) or target.HasField(name):
            _set(getattr(target, name), getattr(source, name), rest)
        return
    target.ClearField(name)
    for field, value in source.ListFields():
        if field.name != name:
            continue
        if field.is_repeated:
            getattr(target, name).MergeFrom(value)
        elif field.message_type is not None:
            getattr(target, name).CopyFrom(value)
        else:
            setattr(target, name, value)


def refuse_fields(resource: Message, names: Iterable[str]) -> None:
    """Refuse a resource that sets what this server does not do.

    Raises:
        ServiceError: UNIMPLEMENTED.
    """
    given = {field.name for field, _ in resource.ListFields()}
    for name in names:
        if name in given:
            raise ServiceError("UNIMPLEMENTED", f"{name}: not done by this server. LIMITATIONS.md lists what it does")


def seconds_between(resource: Any, name: str, low: float, high: float) -> None:
    """Refuse a duration out of bounds; one that is not set is right.

    Raises:
        ServiceError: INVALID_ARGUMENT.
    """
    if resource.HasField(name) and not low <= getattr(resource, name).ToTimedelta().total_seconds() <= high:
        raise invalid(f"{name}: must be between {low:g} and {high:g} seconds")
