"""Accounting: what is in the archive, in the fast path and in the dead letters, read back from where it lies.

What is no object of the archive, and a line that is no document of its topic, is told to the argument ``skipped``, and
the rest is read. Who gives none gets the first one as an error.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

from google.api_core.exceptions import NotFound
from google.cloud import storage  # type: ignore[attr-defined]
from google.cloud.storage.exceptions import DataCorruption
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from requests.exceptions import ContentDecodingError

from lunation import query
from lunation.clients import Clients
from lunation.deploy.table import archive_bucket
from schemas import DeadLetter, RecordId
from schemas.archive_objects import why_not
from schemas.dead_letter import explain

OBJECTS_IN_FLIGHT = 8
"""So many objects of the archive are downloaded, or wait to be looked at, at a time: memory holds no more of it."""
NAMED = 1000
"""So many of the skipped are kept with their names, however many there are."""
PAYLOADS = "archive/dead-letters/payloads/"
"""Where the archive keeps what is too large for a dead letter (``dataflow/oversized_dead_letters.py``)."""
T = TypeVar("T")


@dataclass(frozen=True)
class Skipped:
    """An object that is none of the archive's, or a line that is no document of its topic."""

    where: str
    """The object's name; of a line, with a colon and its number, from 1."""
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


class SkippedError(ValueError):
    """Something in the archive cannot be read; the text names the object, the line and what is wrong."""


def refuse(found: Skipped) -> None:
    """What happens to the skipped if nobody is there to be told.

    Raises:
        SkippedError: always.
    """
    raise SkippedError(str(found))


Tell = Callable[[Skipped], None]


@dataclass
class Tally:
    """What was skipped: how many, and the first :data:`NAMED` of them."""

    count: int = 0
    first: list[Skipped] = field(default_factory=list)

    def add(self, found: Skipped) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < NAMED:
            self.first.append(found)


class Line(NamedTuple):
    """A line of the archive."""

    where: str
    """The object's name, a colon, and the line's number, from 1."""
    data: bytes


@dataclass(frozen=True)
class Ledger:
    """Distinct ids, by where they were found."""

    archived: frozenset[str]
    """``record_id`` of every record in the archive."""
    labelled: frozenset[str]
    """``record_id`` of every label in the archive."""
    mirrored: frozenset[str]
    """``record_id`` of every entity ``Record``."""
    classified: frozenset[str]
    """``record_id`` of every entity ``Classification``."""
    dead: frozenset[tuple[str, str]]
    """``(unit, message id)`` of every dead letter in the archive."""
    skipped: tuple[Skipped, ...] = ()
    """The first of what could not be read."""


def read(clients: Clients) -> Ledger:
    """Read everything back. Takes seconds for each hundred thousand records."""
    tally = Tally()

    def ids(topic: str) -> frozenset[str]:
        return frozenset(documents(archived(topic), _id_of, tally.add))

    def archived(topic: str) -> Iterator[Line]:
        return archived_lines(clients.storage, archive_bucket(clients.target), topic, skipped=tally.add)

    dead = documents(archived("dead-letters"), DeadLetter.model_validate_json, tally.add)
    return Ledger(
        archived=ids("records"),
        labelled=ids("labels"),
        mirrored=frozenset(query.keys(clients.datastore, "Record")),
        classified=frozenset(query.keys(clients.datastore, "Classification")),
        dead=frozenset((letter.unit, letter.message_id) for letter in dead),
        skipped=tuple(tally.first),
    )


def documents(lines: Iterable[Line], reader: Callable[[bytes], T], skipped: Tell = refuse) -> Iterator[T]:
    """What the lines are to ``reader``, which raises a ValueError for what is no document."""
    for line in lines:
        try:
            found = reader(line.data)
        except ValueError as error:
            skipped(Skipped(line.where, why(error)))
        else:
            yield found


def archived_lines(
    client: storage.Client,
    bucket: str,
    topic: str,
    first: date | None = None,
    last: date | None = None,
    skipped: Tell = refuse,
) -> Iterator[Line]:
    """The lines of :func:`archived_objects`, in order."""
    for blob, content in contents(archived_objects(client, bucket, topic, first, last, skipped), skipped):
        yield from lines_of(blob.name, content)


def lines_of(name: str, content: bytes) -> Iterator[Line]:
    """The lines of an object that have something in them, as Spark reads them: a carriage return ends none, it is white
    space of JSON."""
    numbered = enumerate(content.split(b"\n"), 1)
    return (Line(f"{name}:{number}", data) for number, data in numbered if data.strip())


def archived_objects(
    client: storage.Client,
    bucket: str,
    topic: str,
    first: date | None = None,
    last: date | None = None,
    skipped: Tell | None = None,
) -> Iterator[storage.Blob]:
    """The archive's objects of a topic as they are listed: by day, oldest first.

    Args:
        skipped: told which objects of these days are none of the archive's, and which lie beside the folders of days;
            None: nobody wants to know.
    """
    folder, days = f"archive/{topic}/", f"archive/{topic}/dt="
    # Digits come before the colon; 0 comes after the slash, and there may be no day after the last one.
    begin, end = f"{days}{first or ''}", f"{days}{last}0" if last else f"{days}:"
    found = client.list_blobs(bucket, prefix=folder, start_offset=begin, end_offset=end)
    if skipped is not None:
        before = client.list_blobs(bucket, prefix=folder, end_offset=days)
        after = client.list_blobs(bucket, prefix=folder, start_offset=f"{days}:")
        found = chain(before, found, after)
    for blob in found:
        reason = why_not(blob.name, blob.size or 0)
        if reason is None:
            yield blob
        elif skipped is not None and not blob.name.startswith(PAYLOADS):
            skipped(Skipped(blob.name, reason))


def contents(blobs: Iterable[storage.Blob], skipped: Tell | None = None) -> Iterator[tuple[storage.Blob, bytes]]:
    """Each object with what is in it, in order, :data:`OBJECTS_IN_FLIGHT` of them at a time.

    Args:
        skipped: told which objects are gone or damaged; None: that is an error.
    """
    wanted = iter(blobs)
    coming: deque[tuple[storage.Blob, Future[bytes]]] = deque()
    with ThreadPoolExecutor(OBJECTS_IN_FLIGHT) as pool:
        try:
            while True:
                for blob in islice(wanted, OBJECTS_IN_FLIGHT - len(coming)):
                    coming.append((blob, pool.submit(blob.download_as_bytes)))
                if not coming:
                    return
                blob, content = coming.popleft()
                try:
                    whole = content.result()
                except (ContentDecodingError, DataCorruption, NotFound) as error:
                    if skipped is None:
                        raise
                    skipped(Skipped(blob.name, _why_unread(error)))
                else:
                    yield blob, whole
        finally:  # who looks may have seen enough
            pool.shutdown(cancel_futures=True)


def _why_unread(error: Exception) -> str:
    if isinstance(error, NotFound):
        return "it was deleted while it was read"
    if isinstance(error, DataCorruption):
        return "what arrived does not have the checksum that the bucket has of it"
    return "its content encoding says gzip, and it cannot be unpacked"


def why(error: ValueError) -> str:
    """Why a document is none, in one line and without its values."""
    return explain(error) if isinstance(error, ValidationError) else str(error)


_record_id: TypeAdapter[str] = TypeAdapter(RecordId)


def id_in(data: bytes) -> str | None:
    """The ``record_id`` of a document, whatever else is wrong with it; None if it has none that could be one."""
    try:
        return _id_of(data)
    except ValueError:
        return None


def _id_of(data: bytes) -> str:
    document = _as_object(data)
    try:
        return _record_id.validate_python(document.get("record_id"))
    except ValidationError:
        raise ValueError("it has no record_id that could be one") from None


def _as_object(data: bytes) -> dict[str, Any]:
    try:
        document = from_json(data)  # the reader of the records themselves; Python's own recurses
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError(f"it is JSON, but no object: {type(document).__name__}")
    return document
