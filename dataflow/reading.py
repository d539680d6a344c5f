"""From a message or a line to a filed line or a dead letter."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Protocol

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from schemas import Comparison, DeadLetter, use_case
from schemas.dead_letter import REASON_LENGTH, explain
from schemas.finite import finite

DEAD = "dead"
"""Tag of the output with dead letters, as JSON."""
UNIT = "archive"
MAX_HELD_LINES = 5000
MAX_HELD_BYTES = 4 * 1024 * 1024

Key = tuple[str, str, int]
"""``(topic, event date, shard)``."""
Filed = tuple[Key, list[bytes]]


@dataclass(frozen=True)
class Source:
    """One thing that was read.

    Args:
        data: the document, as bytes.
        message_id: Pub/Sub's id, or file and line number.
        attributes: the message's.
        refused: why it is no document of any topic, if that was seen when it was read.
    """

    data: bytes
    message_id: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""


class Reader(Protocol):
    """Reads one topic's documents."""

    def __call__(self, data: bytes) -> date:
        """The date that a document is filed under.

        Raises:
            ValueError: it is no document of this topic.
        """
        ...


def read_record(case_name: str) -> Reader:
    """Reads records of a use case."""
    validate = use_case(case_name).read_record

    def read(data: bytes) -> date:
        return _utc_date(validate(data).event_time)

    return read


def read_label(case_name: str) -> Reader:
    """Reads labels of a use case."""
    validate = use_case(case_name).read_label

    def read(data: bytes) -> date:
        return _utc_date(validate(data).event_time)

    return read


def read_dead_letter(_: str) -> Reader:
    """Reads what others refused. Anything that is no dead letter of ours is refused in turn."""

    validate = finite(DeadLetter.model_validate_json)

    def read(data: bytes) -> date:
        return _utc_date(validate(data).refused_at)

    return read


def read_comparison(_: str) -> Reader:
    """Reads what a shadow said beside what was served."""

    validate = finite(Comparison.model_validate_json)

    def read(data: bytes) -> date:
        return _utc_date(validate(data).event_time)

    return read


READERS = {
    "records": read_record,
    "labels": read_label,
    "dead-letters": read_dead_letter,
    "comparisons": read_comparison,
}
"""How each topic's documents are read, by the topic's name in the archive."""


_ON_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")


def as_line(data: bytes) -> bytes:
    """A JSON document as it was sent, but on one line.

    Within JSON a line break can only stand between tokens, so a space in its place changes nothing: numbers keep their
    digits and unknown fields their spelling.
    """
    return data.translate(_ON_ONE_LINE)


class ReadDocuments(beam.DoFn):
    """Sorts messages into filed lines, grouped within the bundle, and dead letters.

    Grouping here, before the shuffle, is what makes the pipeline fast: the shuffle then moves one element for many
    lines. An element carries the timestamp of one of its lines, and only lines of the same window are put together.

    Args:
        topic: its name in the archive; a key of :data:`READERS`.
        case_name: the use case.
        window_seconds: the width of the windows that follow.
        shards: how many objects share a window's lines.
    """

    def __init__(self, topic: str, case_name: str, window_seconds: int, shards: int) -> None:
        self._topic = topic
        self._case_name = case_name
        self._window_seconds = window_seconds
        self._shards = shards

    def setup(self) -> None:
        """Build the validator where it runs; validators do not travel."""
        self._read = READERS[self._topic](self._case_name)
        # Dataflow shows Beam's counters as metrics of the job.
        self._filed = Metrics.counter("lunation", f"{self._topic}_filed")
        self._dead = Metrics.counter("lunation", f"{self._topic}_dead")

    def start_bundle(self) -> None:
        """Begin with nothing held."""
        self._held: dict[tuple[int, str], tuple[Timestamp, list[bytes]]] = {}
        self._lines = 0
        self._bytes = 0

    def process(self, element: PubsubMessage | Source, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[Any]:
        """Hold a line, or let a dead letter through."""
        data = element.data or b""
        reason = element.refused if isinstance(element, Source) else ""
        try:
            day = "" if reason else self._read(data).isoformat()
        except ValueError as error:  # pydantic's errors are ValueErrors
            reason = explain(error)
        if reason:
            self._dead.inc()
            yield pvalue.TaggedOutput(DEAD, dead_letter(element, self._topic, reason))
            return
        line = as_line(data)
        window = int(timestamp.micros // 1_000_000) // self._window_seconds
        held = self._held.get((window, day))
        if held is None:
            self._held[window, day] = (timestamp, [line])
        else:
            held[1].append(line)
        self._lines += 1
        self._bytes += len(line)
        if self._lines >= MAX_HELD_LINES or self._bytes >= MAX_HELD_BYTES:
            yield from (value.value_and_timestamp() for value in self._release())

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Let go of what is held."""
        for value in self._release():
            yield WindowedValue(value.filed, value.timestamp, (GlobalWindow(),))

    def _release(self) -> Iterator["_Released"]:
        self._filed.inc(self._lines)
        for (_, day), (timestamp, lines) in self._held.items():
            for shard in range(self._shards):
                part = lines[shard :: self._shards]
                if part:
                    yield _Released(((self._topic, day, shard), part), timestamp)
        self.start_bundle()


@dataclass(frozen=True)
class _Released:
    filed: Filed
    timestamp: Timestamp

    def value_and_timestamp(self) -> Any:
        return TimestampedValue(self.filed, self.timestamp)


def dead_letter(element: PubsubMessage | Source, topic: str, reason: str) -> bytes:
    """The dead letter for an element, as JSON."""
    letter = DeadLetter(
        unit=UNIT,
        topic=topic,
        message_id=element.message_id or "",
        reason=reason[:REASON_LENGTH],
        payload_base64=base64.b64encode(element.data or b"").decode(),
        attributes=dict(element.attributes or {}),
        refused_at=datetime.now(UTC),
    )
    return letter.model_dump_json().encode()


def _utc_date(when: datetime) -> date:
    return when.astimezone(UTC).date()
