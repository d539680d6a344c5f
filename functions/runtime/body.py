"""Reads request bodies, each up to a limit and all of them within the room that an instance has."""

import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request

from functions.runtime.errors import OverloadedError

Message = Mapping[str, Any]

MAX_VALUES = 250_000
"""Of JSON, or lines, in a body. Read, each takes up to 600 bytes, however short it is: 10 MB of ``{},{},`` would be a
gigabyte, and end the instance with all that it works on. A thousand flights have 21,000."""
UNCOUNTED_BYTES = 2 * MAX_VALUES
"""No smaller body has more: a value takes two bytes. So a usual one is never searched through."""
_BEFORE_A_VALUE = b",[{\n\r"
GZIP = b"\x1f\x8b"
"""How a body begins that is packed by gzip (RFC 1952), and no JSON: whoever packs one need not be asked for more."""
MAX_MEMBERS = 100
"""Of a body packed by gzip. Each may be empty, and costs as much as a record."""
_CHUNK_BYTES = 1 << 20


class BodyTooLargeError(ValueError):
    """The body is larger than what this service takes."""


class DecompressionError(ValueError):
    """The body is packed, and cannot be unpacked."""


def unsupported_encoding(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Why a body with these headers was no JSON: how it is packed, and how it may be; empty if not that is wrong."""
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity", b"gzip", b"x-gzip"):
            return f"the body's Content-Encoding is {value[:40].decode('latin-1')!r}; send it as it is, or by gzip"
    return ""


class Bodies:
    """The bodies of the requests under way; read, they take several times as much of the memory.

    :meth:`reserve` the room, :meth:`read`, and :meth:`release` the room when the request is answered. Straight from the
    server's messages: Starlette's own way, a stream of chunks and a parsed copy of the headers, costs more than the
    validation and the model together.

    Args:
        limit: of one body, in bytes; more than :data:`UNCOUNTED_BYTES`.
        room: for all of them together: by the length that each says, or by what has come in if that is more.
        unknown_length: taken at first for a body whose length is not said.
    """

    def __init__(self, limit: int, room: int, unknown_length: int) -> None:
        self._limit = limit
        self._room = room
        self._unknown_length = unknown_length
        self._reserved = 0

    def reserve(self, headers: Iterable[tuple[bytes, bytes]]) -> int:
        """Take the room that a body with these headers needs, and say how much: it is to be given back.

        Raises:
            BodyTooLargeError: by its header.
            OverloadedError: there is no room.
        """
        size = self._unknown_length
        for name, value in headers:
            if name == b"content-length" and value.isdigit():
                size = int(value)
                break
        if size > self._limit:
            raise BodyTooLargeError(f"the body has {size} bytes; the limit is {self._limit}")
        self._reserve(size)
        return size

    def _reserve(self, size: int) -> None:
        if self._reserved + size > self._room:
            raise OverloadedError(f"bodies of {self._reserved} bytes are under way already. Come again a little later")
        self._reserved += size

    def release(self, size: int) -> None:
        """Give back what was taken."""
        self._reserved -= size

    def complete(self, message: Message) -> bytes | None:
        """The body, if the server's first message holds all of it, as it mostly does, and it is neither large nor
        packed; else None: :meth:`read_rest` it."""
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            return body if len(body) <= UNCOUNTED_BYTES and not body.startswith(GZIP) else None
        return None

    async def read_rest(
        self, message: Message, receive: Callable[[], Awaitable[Message]], taken: int
    ) -> tuple[bytes, int]:
        """The body of which ``message`` is the beginning, unpacked, and how much of the room is to be given back now:
        if it is longer than ``taken``, because its length was not said or it is packed, more is taken as it comes in.

        Raises:
            DecompressionError: it is packed by gzip, and cannot be unpacked.
            BodyTooLargeError: as it comes in, unpacked, or by what is in it.
            OverloadedError: there is no room for what comes in.
            ClientDisconnect: the caller has gone away before its body was complete.
        """
        chunks: list[bytes] = []
        size, more, whole = 0, 0, False
        try:
            while not whole:
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > self._limit:
                    raise BodyTooLargeError(f"the body has more than {self._limit} bytes, which is the limit")
                if size > taken + more:
                    self._reserve(size - taken - more)
                    more = size - taken
                whole = not message.get("more_body", False)
                if not whole:
                    message = await receive()
            body = b"".join(chunks)
            if body.startswith(GZIP):
                chunks.clear()
                for chunk in _decompressed(body, self._limit):
                    self._reserve(len(chunk))
                    more += len(chunk)
                    chunks.append(chunk)
                body = b"".join(chunks)
            if len(body) > UNCOUNTED_BYTES and _exceeds_max_values(body):
                raise BodyTooLargeError(f"the body has more than {MAX_VALUES} values or lines, which is the limit")
        except BaseException:
            self.release(more)  # the caller knows only of what it took itself
            raise
        return body, taken + more

    async def read(self, request: Request, taken: int) -> tuple[bytes, int]:
        """Read the whole body.

        Returns:
            The body, and the number of bytes to :meth:`release` once the request is answered.

        Raises:
            As :meth:`read_rest`.
        """
        message = await request.receive()
        body = self.complete(message)
        return (body, taken) if body is not None else await self.read_rest(message, request.receive, taken)


def _decompressed(body: bytes, limit: int) -> Iterator[bytes]:
    """What a body packed by gzip holds, piece by piece. No more is unpacked than the limit, whatever it promises."""
    size, members, rest = 0, 0, body
    while rest:
        members += 1
        if members > MAX_MEMBERS:
            raise DecompressionError(f"the body is packed by gzip in more than {MAX_MEMBERS} members; pack it as one")
        member = zlib.decompressobj(wbits=31)  # with gzip's header and checksum
        while not member.eof:
            try:
                chunk = member.decompress(rest, _CHUNK_BYTES)
            except zlib.error as error:
                raise DecompressionError(f"the body is packed by gzip, and cannot be unpacked: {error}") from None
            rest = member.unused_data if member.eof else member.unconsumed_tail
            size += len(chunk)
            if size > limit:
                raise BodyTooLargeError(f"the body has more than {limit} bytes when it is unpacked, which is the limit")
            if not chunk and not rest and not member.eof:
                raise DecompressionError("the body is packed by gzip, and breaks off before its end")
            yield chunk


def _exceeds_max_values(body: bytes) -> bool:
    """Whether there are more values or lines in ``body`` than may be."""
    if _count(body) <= MAX_VALUES:
        return False
    # Some of what was counted may stand in a text. No text goes on in another line, so one that is left open hides
    # nothing of the next; and a value has at most two texts, its key and itself.
    found = 0
    for line in body.splitlines():
        texts = line.replace(b"\\\\", b"").replace(b'\\"', b"")
        if texts.count(b'"') > 4 * MAX_VALUES:
            return True
        found += 1 + _count(b"".join(texts.split(b'"')[::2]))
        if found > MAX_VALUES:
            return True
    return False


def _count(text: bytes) -> int:
    return len(text) - len(text.translate(None, _BEFORE_A_VALUE))
