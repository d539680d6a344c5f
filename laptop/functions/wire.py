"""HTTP/1.1 between a caller, the front door and a function's instance, on bare asyncio protocols.

A general web framework on both sides costs more than the functions behind it take; this passes bytes on as they come.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus

import httptools

from laptop.patience import Patience

log = logging.getLogger("laptop.functions")

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Cloud Run's limit for a request over HTTP/1."""
MAX_HEADERS_BYTES = 64 * 1024
MAX_PIPELINED = 16
HEAD, BODY = "head", "body"
Headers = list[tuple[bytes, bytes]]
HOP_BY_HOP = {
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
    b"trailer", b"transfer-encoding", b"upgrade", b"expect",
}  # fmt: skip


class RequestRefusedError(Exception):
    """A request that no instance sees."""

    def __init__(self, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers


@dataclass
class Request:
    """One request. Header names are in lower case; ``refused`` tells why it is not read to its end."""

    method: bytes = b""
    target: bytes = b""
    version: str = "1.1"
    headers: Headers = field(default_factory=list)
    body: list[bytes] = field(default_factory=list)
    size: int = 0
    keep_alive: bool = True
    refused: RequestRefusedError | None = None
    complete: bool = False

    def header(self, name: bytes) -> bytes | None:
        """The first header of that name."""
        return next((value for key, value in self.headers if key == name), None)

    def forwarded(self) -> bytes:
        """The request as it goes to the instance."""
        lines = [self.method + b" " + self.target + b" HTTP/1.1"]
        for name, value in self.headers:
            if name == b"authorization":
                # As Cloud Run does: who called can be read, but the token cannot be used again.
                signed = value.rsplit(b".", 1)[0]
                lines.append(b"authorization: " + signed + b".SIGNATURE_REMOVED_BY_GOOGLE")
            elif name not in HOP_BY_HOP and name != b"content-length":
                lines.append(name + b": " + value)
        if self.size or self.method not in (b"GET", b"HEAD", b"OPTIONS"):
            lines.append(b"content-length: %d" % self.size)
        lines.append(b"x-forwarded-proto: http\r\n\r\n")
        return b"\r\n".join(lines) + b"".join(self.body)


class Caller(asyncio.Protocol):
    """A connection from outside. Its requests are answered one after the other, in order.

    Args:
        answer: answers one request by writing to this connection.
        look: looks at a request's head and says why it is refused, before its body is read; None if it is not.
        connections: holds every open connection, for the one who closes the door.
    """

    def __init__(
        self,
        answer: Callable[[Request, "Caller"], Awaitable[None]],
        look: Callable[[Request], RequestRefusedError | None],
        connections: set["Caller"] | None = None,
    ) -> None:
        self._answer = answer
        self._look = look
        self._connections = connections if connections is not None else set()
        self._queue: deque[Request] = deque()
        self._request = Request()
        self._header_bytes = 0
        self._parser = httptools.HttpRequestParser(self)
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport
        self._writer_of: Upstream | None = None
        self._deaf = False
        """Nothing more is read: what comes cannot be understood, or is too much."""
        self._part = ""
        """The part of a request that is being read."""
        self._patience = Patience(self._expire)

    # --- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller has come."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        """The caller has gone: nobody waits for the answer any more."""
        self._connections.discard(self)
        self._patience.over()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Bytes of one or more requests."""
        if self._deaf:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(501, "this door does not switch protocols")
        except httptools.HttpParserError as error:
            self._refuse(400, f"not HTTP: {error}")
        if not self._part or self._deaf:
            self._patience.over()
        elif self._part == HEAD:
            self._patience.head()
        else:
            self._patience.body(len(data))

    def pause_writing(self) -> None:
        """The caller reads more slowly than the function writes."""
        if self._writer_of is not None:
            self._writer_of.pause()

    def resume_writing(self) -> None:
        """The caller has caught up."""
        if self._writer_of is not None:
            self._writer_of.resume()

    # --- what the parser calls

    def on_message_begin(self) -> None:
        """A request begins."""
        self._request = Request()
        self._header_bytes = 0
        self._part = HEAD

    def on_url(self, url: bytes) -> None:
        """The target, in one piece or several."""
        self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; or, behind the body, a trailer, which is none: https://www.rfc-editor.org/rfc/rfc9110#section-6.5.1."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADERS_BYTES:
            self._refuse(431, f"the headers are larger than {MAX_HEADERS_BYTES} bytes")
            return
        if self._part == HEAD:
            self._request.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """All headers are there."""
        self._part = BODY
        request = self._request
        request.method = self._parser.get_method()
        request.version = self._parser.get_http_version()
        request.keep_alive = self._parser.should_keep_alive()
        expected = request.header(b"expect")
        waits = expected is not None and expected.lower() == b"100-continue"
        if self._deaf:
            return
        request.refused = self._look(request)
        if request.refused is not None:
            # What is on its way is read and thrown away, so that the connection can be used again; one that waits to be
            # told to send it will not.
            if waits:
                request.keep_alive, request.complete, self._deaf = False, True, True
            self._enqueue(request)
        elif waits and self._task is None:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._request.size += len(body)
        if self._request.size > MAX_BODY_BYTES:
            self._refuse(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        elif self._request.refused is None:
            self._request.body.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._part = ""
        request = self._request
        request.complete = True
        if request.refused is None:
            self._enqueue(request)
        elif not request.keep_alive and self._task is None:
            self.close()  # it was answered before it was whole

    # --- answering

    def write(self, data: bytes) -> None:
        """Send bytes to the caller."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def reads_from(self, upstream: "Upstream | None") -> None:
        """Tell whom to slow down when the caller reads slowly."""
        self._writer_of = upstream

    def respond(self, request: Request, status: int, text: str, *extra: tuple[bytes, bytes]) -> None:
        """Answer with a page of the door's own."""
        reason = HTTPStatus(status).phrase
        page = (
            '<html><head>\n<meta http-equiv="content-type" content="text/html;charset=utf-8">\n'
            f"<title>{status} {reason}</title>\n</head>\n<body text=#000000 bgcolor=#ffffff>\n"
            f"<h1>Error: {reason}</h1>\n<h2>{text}</h2>\n<h2></h2>\n</body></html>\n"
        ).encode()
        lines = [f"HTTP/1.1 {status} {reason}".encode(), b"content-type: text/html; charset=UTF-8"]
        lines += [name + b": " + value for name, value in extra]
        lines.append(b"content-length: %d" % len(page))
        if not request.keep_alive:
            lines.append(b"connection: close")
        self.write(b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if request.method == b"HEAD" else page))

    def close(self) -> None:
        """End the connection once what was written is sent."""
        self._transport.close()

    def abort(self) -> None:
        """End the connection so that the caller sees a broken answer, not a complete one."""
        self._transport.abort()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._task is not None

    def _refuse(self, status: int, text: str) -> None:
        """Answer what was asked before, then that this is refused, and end the connection."""
        if self._deaf:
            return
        self._deaf = True
        request = self._request
        request.keep_alive, request.complete = False, True
        if request.refused is not None:  # and was told so, or will be when its turn comes
            if self._task is None:
                self._transport.close()
            return
        request.refused = RequestRefusedError(status, text)
        self._enqueue(request)

    def _expire(self, told: str) -> None:
        if self._queue:  # then it is this side that has stopped reading until there is room
            self._patience.body(0)
        else:
            self._refuse(408, f"{told}: send a request at once")

    def _enqueue(self, request: Request) -> None:
        self._queue.append(request)
        if len(self._queue) >= MAX_PIPELINED:
            self._transport.pause_reading()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._queue:
                request = self._queue.popleft()
                self._transport.resume_reading()
                if request.refused is None:
                    await self._answer(request, self)
                else:
                    self.respond(request, request.refused.status, request.refused.text, *request.refused.headers)
                if not request.keep_alive:
                    if request.complete:
                        self._transport.close()
                    return
        except Exception:
            log.exception("the front door failed")
            self.abort()
        finally:
            self._task = None


class UpstreamError(Exception):
    """An instance did not answer properly. ``begun``: part of its answer has reached the caller."""

    def __init__(self, message: str, begun: bool) -> None:
        super().__init__(message)
        self.begun = begun


class Upstream(asyncio.Protocol):
    """A kept connection to an instance; one exchange at a time."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.reusable = True
        self.begun = False
        self._transport: asyncio.Transport
        self._caller: Caller | None = None
        self._request = Request()
        self._done: asyncio.Future[None] | None = None
        self._parser: httptools.HttpResponseParser
        self._reset()

    def _reset(self) -> None:
        self._headers: Headers = []
        self._reason = b""
        self._out: list[bytes] = []
        self.begun = False
        self._sized = False
        self._chunked = False

    @property
    def open(self) -> bool:
        """Whether it can be used once more."""
        return self.reusable and not self._transport.is_closing()

    def send(self, request: Request, caller: Caller) -> "asyncio.Future[None]":
        """Send ``request`` and pass the answer on to ``caller``; done when the answer is complete.

        The future fails with :class:`UpstreamError`.
        """
        self._reset()
        self._parser = httptools.HttpResponseParser(self)
        self._request, self._caller = request, caller
        self._done = asyncio.get_running_loop().create_future()
        caller.reads_from(self)
        self._transport.write(request.forwarded())
        return self._done

    def close(self) -> None:
        """End the connection."""
        self.reusable = False
        self._transport.abort()

    def pause(self) -> None:
        """Stop reading from the instance."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Go on reading."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # --- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer."""
        if self._done is None or self._done.done():
            self.close()  # nobody has asked
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._flush()
            self._finish(UpstreamError(f"its answer is not HTTP: {error}", self.begun))
            self.close()
            return
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        """The instance has closed the connection, or is gone."""
        self.reusable = False
        if self._done is None or self._done.done():
            return
        if self.begun and not self._sized and not self._chunked and error is None:
            self._finish(None)  # an answer that ends with the connection
        else:
            self._finish(UpstreamError(f"the connection was lost{f': {error}' if error else ''}", self.begun))

    # --- what the parser calls

    def on_status(self, reason: bytes) -> None:
        """The reason phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:  # noqa: C901  # HTTP's rules on where a body ends, side by side
        """The head is complete: the caller gets it."""
        status = self._parser.get_status_code()
        if status < 200:
            return
        request = self._request
        lines = [b"HTTP/1.1 %d %s" % (status, self._reason)]
        for name, value in self._headers:
            if name == b"content-length":
                self._sized = True
            if name == b"connection" and value.lower() == b"close":
                self.reusable = False
            if name not in HOP_BY_HOP:
                lines.append(name + b": " + value)
        bodiless = request.method == b"HEAD" or status in (204, 304)
        if not self._sized and not bodiless:
            if request.version == "1.0":
                request.keep_alive = False
            else:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked")
        if not request.keep_alive:
            lines.append(b"connection: close")
        elif request.version == "1.0":
            lines.append(b"connection: keep-alive")
        self._out.append(b"\r\n".join(lines) + b"\r\n\r\n")
        self.begun = True
        if request.method == b"HEAD":  # the parser does not know and would wait for the body
            self.reusable = False
            self._flush()
            self._finish(None)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._out.append(b"%x\r\n%s\r\n" % (len(body), body) if self._chunked else body)

    def on_message_complete(self) -> None:
        """The answer is complete."""
        if self._done is None or self._done.done():
            return
        if self._parser.get_status_code() < 200:
            self._headers, self._reason = [], b""
            return
        if self._chunked:
            self._out.append(b"0\r\n\r\n")
        if not self._parser.should_keep_alive():
            self.reusable = False
        self._flush()
        self._finish(None)

    def _flush(self) -> None:
        if self._out and self._caller is not None:
            self._caller.write(b"".join(self._out))
            self._out = []

    def _finish(self, error: UpstreamError | None) -> None:
        if self._caller is not None:
            self._caller.reads_from(None)
            self._caller = None
        if self._done is not None and not self._done.done():
            if error is None:
                self._done.set_result(None)
            else:
                self._done.set_exception(error)
