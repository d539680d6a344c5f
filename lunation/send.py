"""Publishes the documents of a file, a JSON document a line, as a publisher of one's own would."""

import gzip
import io
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from lunation.clients import Clients
from schemas import Label, Record, UseCase
from schemas.dead_letter import explain
from schemas.envelope import MAX_MESSAGE_BYTES

AROUND_BYTES = 1000
"""More than what is around a document in its request: the topic, the record's id, tags and lengths."""
CONFIRM_SECONDS = 60.0
FINISH_SECONDS = 5.0
"""So long what is on its way is waited for when it ends early."""
GZIP = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SendError(ValueError):
    """Not all of it could be published; the text says why and what to do."""


@dataclass(frozen=True)
class Line:
    """A line of a file.

    Args:
        number: counted from 1.
        data: without its end; what is beyond :data:`MAX_MESSAGE_BYTES` is left out.
        size: in bytes, with what is left out.
    """

    number: int
    data: bytes
    size: int


@dataclass
class Sent:
    """How far it is. It is kept up to date while messages are published, so that whoever is interrupted can tell."""

    lines: int = 0
    published: int = 0
    """Handed to Google's client."""
    confirmed: int = 0
    """Which Pub/Sub has."""
    refused: int = 0
    """Lines that are no document of the use case, or no message; published all the same, if that was asked for."""
    failure: BaseException | None = field(default=None, repr=False)
    """The first that Pub/Sub did not take."""


def lines(stream: IO[bytes], name: str) -> Iterator[Line]:
    """The lines of a file that have something in them; gzip is known by how it begins.

    Args:
        name: of the file, for the error.

    Raises:
        SendError: it is a broken gzip file.
    """
    peeked = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[type-var]
    source: IO[bytes] = peeked
    if peeked.peek(len(GZIP)).startswith(GZIP):
        source = gzip.GzipFile(fileobj=peeked)  # type: ignore[assignment]
    number = 0
    try:
        while begin := source.readline(MAX_MESSAGE_BYTES + 2):
            number += 1
            beyond, end = 0, begin
            while not end.endswith(b"\n") and (end := source.readline(1 << 20)):
                beyond += len(end.rstrip(b"\r\n"))
            data = (begin.removeprefix(BYTE_ORDER_MARK) if number == 1 else begin).strip()
            if data or beyond:
                # Of one that is cut the white space counts: the rest of it was read before it was known to be none.
                yield Line(number, data, len(begin) + beyond if beyond else len(data))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SendError(f"{name} is no whole gzip file: behind line {number}, {error}") from None


def opened(path: Path | None) -> IO[bytes]:
    """The file, or standard input."""
    return sys.stdin.buffer if path is None else path.open("rb")


def send(
    clients: Clients,
    case: UseCase,
    topic: str,
    source: Iterable[Line],
    sent: Sent,
    *,
    rate: float | None = None,
    as_is: bool = False,
    refuse: Callable[[int, str], None],
    show: Callable[[], None] = lambda: None,
) -> None:
    """Publish each line as it is, as the message of one record or label.

    Google's client bounds what is on its way: it waits where Pub/Sub is slower than the file.

    Args:
        topic: ``records`` or ``labels``, which says by which reader of the use case a line is read first.
        sent: is kept up to date.
        rate: messages a second; None: as fast as it goes.
        as_is: publish what is no document of the use case, too.
        refuse: told the number and the reason of each line that is none.
        show: called after each line.

    Raises:
        SendError: Pub/Sub did not confirm a message in time.
        google.api_core.exceptions.GoogleAPIError: it refused one.
    """
    path = f"projects/{clients.project}/topics/{topic}"
    read = case.read_label if topic == "labels" else case.read_record
    waiting = _Waiting(sent)
    try:
        _publish(clients, read, path, source, sent, waiting, rate=rate, as_is=as_is, refuse=refuse, show=show)
    except BaseException:  # also Ctrl-C: what is on its way arrives
        with suppress(SendError):
            waiting.finish(FINISH_SECONDS)
        raise
    waiting.finish(CONFIRM_SECONDS)


def _publish(
    clients: Clients,
    read: Callable[[bytes], Record[Any] | Label],
    path: str,
    source: Iterable[Line],
    sent: Sent,
    waiting: "_Waiting",
    *,
    rate: float | None,
    as_is: bool,
    refuse: Callable[[int, str], None],
    show: Callable[[], None],
) -> None:
    begun = time.monotonic()
    for line in source:
        sent.lines += 1
        attributes: dict[str, str] = {}
        reason = ""
        if line.size > MAX_MESSAGE_BYTES - AROUND_BYTES:
            reason = (
                f"{line.size:,} bytes; a message of Pub/Sub has at most {MAX_MESSAGE_BYTES:,}, its attributes included"
            )
        else:
            try:
                attributes["record_id"] = read(line.data).record_id
            except ValueError as error:
                reason = explain(error)
        if reason:
            sent.refused += 1
            refuse(line.number, reason)
        if not reason or (as_is and line.size <= MAX_MESSAGE_BYTES - AROUND_BYTES):
            if rate is not None:
                time.sleep(max(0.0, begun + sent.published / rate - time.monotonic()))
            waiting.add(clients.publisher.publish(path, line.data, **attributes))
            sent.published += 1
            if sent.failure is not None:
                raise sent.failure
        show()


class _Waiting:
    """What Pub/Sub has not confirmed yet: its client bounds how much that is."""

    def __init__(self, sent: Sent) -> None:
        self._sent = sent
        self._messages = set[Future[str]]()
        self._changed = threading.Condition()

    def add(self, message: "Future[str]") -> None:
        with self._changed:
            self._messages.add(message)
        message.add_done_callback(self._done)

    def _done(self, message: "Future[str]") -> None:
        # In a thread of Google's client, of which there are several.
        failure = message.exception()
        with self._changed:
            if failure is None:
                self._sent.confirmed += 1
            elif self._sent.failure is None:
                self._sent.failure = failure
            self._messages.discard(message)
            self._changed.notify()

    def finish(self, seconds: float) -> None:
        """Wait for the rest, as long as one is confirmed each so many seconds.

        Not for the messages themselves: a message is done before what is to be done with it is (:meth:`_done`).
        """
        with self._changed:
            while self._messages:
                if not self._changed.wait(seconds):
                    raise SendError(
                        f"Pub/Sub has not confirmed a message for {seconds:.0f} s. Send the file again: every "
                        "consumer knows a record by its id, so what has arrived does no harm a second time"
                    )
        if self._sent.failure is not None:
            raise self._sent.failure
