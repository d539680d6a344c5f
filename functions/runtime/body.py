"""Reads request bodies: each one up to a limit, and all of them together within an instance's memory budget."""

import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request

from functions.runtime.errors import OverloadedError

Message = Mapping[str, Any]

MAX_VALUES = 250_000
"""Limit for the number of JSON values, or lines, in a body. Each parsed value takes up to 600 bytes of memory, however
short its text is: 10 MB of ``{},{},`` would take a gigabyte and end the instance with all its requests. A thousand
flights have 21,000 values."""
UNCOUNTED_BYTES = 2 * MAX_VALUES
"""Largest body, in bytes, whose values are not counted: a value takes at least two bytes, so a body of this size cannot
exceed :data:`MAX_VALUES`. Typical bodies are smaller."""
_BEFORE_A_VALUE = b",[{\n\r"
GZIP = b"\x1f\x8b"
"""The first bytes of a gzip body (RFC 1952). No JSON begins so, and a sender need not set Content-Encoding."""
MAX_MEMBERS = 100
"""Limit for the number of gzip members in a body. A member may be empty, and costs as much as a record."""
_CHUNK_BYTES = 1 << 20


class BodyTooLargeError(ValueError):
    """The body is larger than this service accepts."""


class DecompressionError(ValueError):
    """The body is compressed and cannot be decompressed."""


def unsupported_encoding(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Name the Content-Encoding in these headers and the supported ones, if it is unsupported. Otherwise empty."""
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity", b"gzip", b"x-gzip"):
            return f"the body's Content-Encoding is {value[:40].decode('latin-1')!r}; send it as it is, or by gzip"
    return ""


class Bodies:
    """The memory budget for the bodies of the requests in progress. A parsed body takes several times its size.

    :meth:`reserve` memory, :meth:`read` the body, and :meth:`release` the memory when the request is answered. Bodies
    are read from the server's messages: Starlette's own stream of chunks, with a parsed copy of the headers, costs more
    than the validation and the model together.

    Args:
        limit: limit, in bytes, for one body; more than :data:`UNCOUNTED_BYTES`.
        room: limit, in bytes, for all bodies together. A body counts by its declared length, or by the bytes received
            if these are more.
        unknown_length: bytes to reserve at first for a body that declares no length.
    """

    def __init__(self, limit: int, room: int, unknown_length: int) -> None:
        self._limit = limit
        self._room = room
        self._unknown_length = unknown_length
        self._reserved = 0

    def reserve(self, headers: Iterable[tuple[bytes, bytes]]) -> int:
        """Reserve memory for a body with these headers. Returns the number of bytes to :meth:`release` afterwards.

        Raises:
            BodyTooLargeError: the declared length is over the limit.
            OverloadedError: the memory budget is exhausted.
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
        """Return reserved bytes to the budget."""
        self._reserved -= size

    def complete(self, message: Message) -> bytes | None:
        """Return the body if the server's first message holds all of it, as it usually does, and the body is neither
        large nor compressed. Otherwise return None; then :meth:`read_rest` reads it."""
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            return body if len(body) <= UNCOUNTED_BYTES and not body.startswith(GZIP) else None
        return None

    async def read_rest(
        self, message: Message, receive: Callable[[], Awaitable[Message]], taken: int
    ) -> tuple[bytes, int]:
        """Read and decompress the body that begins with ``message``.

        If the body is longer than ``taken``, because it declares no length or is compressed, more memory is reserved as
        the body arrives.

        Returns:
            The body, and the number of bytes to :meth:`release` once the request is answered.

        Raises:
            DecompressionError: the body is compressed by gzip and cannot be decompressed.
            BodyTooLargeError: the body is over the limit as received or decompressed, or has too many values.
            OverloadedError: the memory budget is exhausted.
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
            self.release(more)  # the caller knows only what it reserved itself
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
    """Yield the decompressed chunks of a gzip body. Decompression stops at the limit."""
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
    """Whether ``body`` has more values or lines than :data:`MAX_VALUES`."""
    if _count(body) <= MAX_VALUES:
        return False
    # Some of the counted bytes may stand inside strings. A JSON string cannot span lines, so an unterminated one hides
    # nothing of the next line; and a value has at most two strings, its key and itself.
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
