"""Requests that are put together from messages that are serialized already.

A repeated field is no more than its elements one after another, each behind its tag and its length. So a request
for fifty callers is their bytes joined, where protobuf's own way copies each message into the request first, at
four times the cost of all the rest of it.
"""

from typing import Any

_LENGTH_DELIMITED = 2


class Repeated:
    """A repeated field of messages, or a single one (which is the same on the wire)."""

    def __init__(self, message: Any, field: str) -> None:
        """``message`` is the generated class that has the field."""
        self._tag = _varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | _LENGTH_DELIMITED)

    def element(self, serialized: bytes) -> bytes:
        """One element of the field, ready to be joined."""
        return self._tag + _varint(len(serialized)) + serialized


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    return bytes((number & 0x7F | 0x80,)) + _varint(number >> 7)
