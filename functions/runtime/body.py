"""Reads request bodies, each up to a limit and all of them within the room that an instance has."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request

from functions.runtime.batcher import Overloaded

Message = Mapping[str, Any]


class BodyTooLarge(ValueError):
    """The body is larger than what this service takes."""


class Bodies:
    """The bodies of the requests under way; read, they take several times as much of the memory.

    :meth:`take` the room, :meth:`read`, and :meth:`give_back` the room when the request is answered. Straight from the
    server's messages: Starlette's own way, a stream of chunks and a parsed copy of the headers, costs more than the
    validation and the model together.

    Args:
        limit: of one body, in bytes.
        room: for all of them together, by the lengths that they say.
        unsaid: counts for a body whose length is not said.
    """

    def __init__(self, limit: int, room: int, unsaid: int) -> None:
        self._limit = limit
        self._room = room
        self._unsaid = unsaid
        self._taken = 0

    def take(self, headers: Iterable[tuple[bytes, bytes]]) -> int:
        """Take the room that a body with these headers needs, and say how much: it is to be given back.

        Raises:
            BodyTooLarge: by its header.
            Overloaded: there is no room.
        """
        size = self._unsaid
        for name, value in headers:
            if name == b"content-length" and value.isdigit():
                size = int(value)
                break
        if size > self._limit:
            raise BodyTooLarge(f"the body has {size} bytes; the limit is {self._limit}")
        if self._taken + size > self._room:
            raise Overloaded(f"bodies of {self._taken} bytes are under way already. Come again a little later")
        self._taken += size
        return size

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        self._taken -= size

    def whole(self, message: Message) -> bytes | None:
        """The body, if the server's first message holds all of it, as it mostly does; else None: :meth:`rest` it."""
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            return body if len(body) <= self._limit else None
        return None

    async def rest(self, message: Message, receive: Callable[[], Awaitable[Message]]) -> bytes:
        """The body of which ``message`` is the beginning.

        Raises:
            BodyTooLarge: as it comes in.
            ClientDisconnect: the caller has gone away before its body was complete.
        """
        chunks: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._limit:
                raise BodyTooLarge(f"the body has more than {self._limit} bytes, which is the limit")
            if not message.get("more_body", False):
                return b"".join(chunks)
            message = await receive()

    async def read(self, request: Request) -> bytes:
        """The whole body.

        Raises:
            BodyTooLarge: as it comes in.
            ClientDisconnect: the caller has gone away before its body was complete.
        """
        message = await request.receive()
        body = self.whole(message)
        return body if body is not None else await self.rest(message, request.receive)
