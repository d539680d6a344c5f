"""aiohttp's connection, with an end to its patience: the library waits for a head, and for a body, as long as it takes.

https://github.com/aio-libs/aiohttp/blob/master/aiohttp/web_protocol.py: what is overridden here is how it is told of
bytes, and that a connection is gone.
"""

from typing import Any

from aiohttp import web

from laptop.patience import Patience


class Connection(web.RequestHandler):
    """A connection that is ended when a request takes too long to come in.

    Args:
        server: of the application.
        options: those of :class:`aiohttp.web.RequestHandler`.
    """

    __slots__ = ("_patience", "_payload")

    def __init__(self, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._patience = Patience(self._expire)
        self._payload: Any = None
        """The newest request's body, of which more may be to come."""

    def data_received(self, data: bytes) -> None:
        """Bytes of one or more requests."""
        in_body = self._payload is not None and not self._payload.is_eof()
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._payload = self._messages[-1][1]
            in_body = not self._payload.is_eof()
        elif not in_body:
            if data:  # the library feeds itself with nothing when it reads on
                self._patience.head()
            return
        if in_body and not self._payload.is_eof():
            self._patience.body(len(data))
        else:
            self._patience.over()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The other side has gone."""
        self._patience.over()
        super().connection_lost(exc)

    def _expire(self, told: str) -> None:
        if self.transport is None:
            return
        if self._reading_paused or self._buffer_paused:  # it is this side that reads slowly
            self._patience.body(0)
            return
        if self._payload is None or self._payload.is_eof():
            if self._current_request is not None:  # the one before is being answered: nothing is put into its answer
                self._patience.head()
                return
            text = f"{told}: send them at once\n".encode()
            head = f"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n"
            self.transport.write(head.encode() + text)
        self.force_close()
