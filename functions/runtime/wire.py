"""Assembles requests from messages that are already serialized.

On the wire, a repeated field is its elements one after another, each preceded by its tag and its length. So a request
for fifty callers is the concatenation of their bytes. protobuf would first copy each message into the request, at four
times the cost of the rest of the request.
https://protobuf.dev/programming-guides/encoding/
"""

from typing import Any

_LENGTH_DELIMITED = 2


class Repeated:
    """A repeated field of messages, or a single message field, which has the same encoding."""

    def __init__(self, message: Any, field: str) -> None:
        """Use ``field`` of the generated class ``message``."""
        self._tag = _varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | _LENGTH_DELIMITED)

    def element(self, serialized: bytes) -> bytes:
        """Return one element of the field, ready to be concatenated."""
        return self._tag + _varint(len(serialized)) + serialized


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    return bytes((number & 0x7F | 0x80,)) + _varint(number >> 7)
