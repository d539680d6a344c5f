"""Cuts a use case's real data set into stretches of time, and spoils some of it on purpose."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Document, Example
from schemas import UseCase


class HistoryError(Exception):
    """The use case's history is none that can be told; the text says what is wrong with it, or missing."""


@dataclass(frozen=True)
class Part:
    """What happened in a stretch of time.

    Args:
        records: documents of records, in order of event time.
        labels: documents of their labels.
    """

    records: list[Document]
    labels: list[Document]


def moment(record: Document) -> datetime:
    """When a record of a history happens.

    Raises:
        HistoryError: that cannot be read.
    """
    try:
        when = datetime.fromisoformat(record["event_time"])
    except (KeyError, TypeError, ValueError):
        when = None
    if when is None or when.tzinfo is None:
        named = json.dumps(record, default=str)[:200]
        raise HistoryError(
            f"a record of the history has no event_time with a zone, such as 2013-01-31T10:15:00Z: {named}"
        )
    return when


def cut(examples: Iterable[Example], edges: list[datetime], sample: int) -> list[Part]:
    """The parts between consecutive ``edges``.

    Args:
        examples: in order of event time.
        edges: ascending; n edges give n - 1 parts.
        sample: keep one example in so many.

    Raises:
        HistoryError: they are in another order, or have no time.
    """
    parts = [Part([], []) for _ in edges[1:]]
    index, latest = 0, None
    for number, (record, label) in enumerate(examples):
        when = moment(record)
        if latest is not None and when < latest:
            raise HistoryError(
                f"the history is not in order of event_time: record {record.get('record_id')!r} of {when.isoformat()} "
                f"comes after one of {latest.isoformat()}; let history() sort them"
            )
        latest = when
        if number % sample or when < edges[0]:
            continue
        while index < len(parts) and when >= edges[index + 1]:
            index += 1
        if index == len(parts):
            break
        parts[index].records.append(record)
        if label is not None:
            parts[index].labels.append(label)
    return parts


def write(documents: Iterable[Document], path: Path) -> Path:
    """Write one document a line."""
    with path.open("w") as file:
        for document in documents:
            file.write(json.dumps(document, separators=(",", ":")) + "\n")
    return path


def malformed(case: UseCase, document: Document) -> Iterator[bytes]:
    """Messages as strangers send them, one of each kind: each is refused by every subscriber.

    Args:
        document: a good record, which is spoilt in one way after the other. What a use case allows, such as a feature
            that is left out, is no spoiling.
    """
    features = document["features"]
    yield b""
    yield b"\xff\xfe not text"
    yield b"{not json"
    yield b"[]"
    yield b'"just a string"'
    yield _as_json(document, record_id="../../etc/passwd")
    yield _as_json(document, record_id="")
    yield _as_json(document, record_id="x" * 129)
    yield _as_json(document, event_time="yesterday")
    yield _as_json(document, event_time=document["event_time"].removesuffix("Z").partition("+")[0])
    yield _as_json(document, event_time="0001-01-01T00:00:00+14:00")
    yield _as_json(document, event_time=1359627300)
    yield _as_json(document, features=None)
    yield json.dumps({key: value for key, value in document.items() if key != "event_time"}).encode()
    for spoilt in (
        ({**features, name: {"nested": True}} for name in features),
        ({**features, name: float("nan")} for name in features),
        ({key: value for key, value in features.items() if key != name} for name in features),
    ):
        refused = (one for one in (_as_json(document, features=some) for some in spoilt) if not _reads(case, one))
        yield from islice(refused, 1)


def _as_json(document: Document, **changes: Any) -> bytes:
    return json.dumps({**document, **changes}).encode()


def _reads(case: UseCase, data: bytes) -> bool:
    try:
        case.read_record(data)
    except ValueError:
        return False
    return True
