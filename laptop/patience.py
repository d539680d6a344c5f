"""How long a request may take to come in: who sends a byte a second holds a place for nothing.

Like Apache's https://httpd.apache.org/docs/2.4/mod/mod_reqtimeout.html: so long for the head, and for the body so long
and then some for what has come. A connection on which nothing has begun may be kept as long as its owner likes.
"""

import asyncio
from collections.abc import Callable

HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0
BODY_BYTES_PER_SECOND = 10_000
"""A body that comes at least that fast may take as long as it likes."""


class Patience:
    """The clock of one connection. It runs only while a request is there in part, so a whole one costs nothing.

    Args:
        expired: called once, with what took too long, in words; whoever is called ends the connection.
    """

    def __init__(self, expired: Callable[[str], None]) -> None:
        self._expired = expired
        self._timer: asyncio.TimerHandle | None = None
        self._began = 0.0
        self._of_body = False
        self._received = 0

    def head(self) -> None:
        """Part of a head has come. The clock runs from the first part on."""
        if self._timer is None or self._of_body:
            self._start(HEAD_SECONDS, of_body=False)

    def body(self, size: int) -> None:
        """``size`` bytes of a body have come, and more are to come. The clock runs from the first of them on."""
        if self._timer is None or not self._of_body:
            self._received = 0
            self._start(BODY_SECONDS, of_body=True)
        self._received += size

    def over(self) -> None:
        """The request is there, or nobody waits for it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, seconds: float, of_body: bool) -> None:
        self.over()
        loop = asyncio.get_running_loop()
        self._began, self._of_body = loop.time(), of_body
        self._timer = loop.call_later(seconds, self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        end = self._began + BODY_SECONDS + self._received / BODY_BYTES_PER_SECOND
        if self._of_body and loop.time() < end:
            self._timer = loop.call_at(end, self._look)
            return
        self._timer = None
        if self._of_body:
            self._expired(
                f"the body came more slowly than {BODY_BYTES_PER_SECOND:,} bytes a second, after {BODY_SECONDS:g} s"
            )
        else:
            self._expired(f"the headers took longer than {HEAD_SECONDS:g} s")
