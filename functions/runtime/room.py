"""Keeps room in an instance's memory for the bodies of the requests that are under way."""

from types import TracebackType

from starlette.requests import Request

from functions.runtime.batcher import Overloaded


class Room:
    """So many bytes of bodies; read, they take several times as much of the memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    def for_body(self, request: Request, largest: int, unsaid: int) -> "_Kept":
        """Room for the body of ``request``, from entering the answer to leaving it: by the length that its headers
        say, up to ``largest``, which is what the service takes at most; if they say none, ``unsaid``.

        Raises:
            Overloaded: on entering, if there is none.
        """
        for name, value in request.scope["headers"]:
            if name == b"content-length" and value.isdigit():
                return _Kept(self, min(int(value), largest))
        return _Kept(self, unsaid)

    def take(self, size: int) -> None:
        """Take room, if there is any.

        Raises:
            Overloaded: there is none.
        """
        if self._taken + size > self._limit:
            raise Overloaded(f"bodies of {self._taken} bytes are under way already. Come again a little later")
        self._taken += size

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        self._taken -= size


class _Kept:
    """A context of its own class: one made of a generator costs four times as much, for each request."""

    __slots__ = ("_room", "_size")

    def __init__(self, room: Room, size: int) -> None:
        self._room = room
        self._size = size

    def __enter__(self) -> None:
        self._room.take(self._size)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._room.give_back(self._size)
