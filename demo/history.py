"""Cuts a use case's real data set into the parts of the story, and spoils some of it on purpose."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

Document = dict[str, Any]
Example = tuple[Document, Document | None]


@dataclass(frozen=True)
class Part:
    """What happened in a stretch of time.

    Args:
        records: documents of records, in order of event time.
        labels: documents of their labels.
    """

    records: list[Document]
    labels: list[Document]


def cut(examples: Iterable[Example], edges: list[datetime], sample: int) -> list[Part]:
    """The parts between consecutive ``edges``.

    Args:
        examples: in order of event time.
        edges: ascending; n edges give n - 1 parts.
        sample: keep one example in so many.
    """
    parts = [Part([], []) for _ in edges[1:]]
    index = 0
    for number, (record, label) in enumerate(examples):
        if number % sample:
            continue
        when = datetime.fromisoformat(record["event_time"])
        if when < edges[0]:
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


def malformed(documents: list[Document]) -> Iterator[bytes]:
    """Messages as strangers send them, one of each kind: each is refused by every subscriber."""
    document = documents[0]
    features = document["features"]
    first = next(iter(features))
    number = next(name for name, value in features.items() if isinstance(value, int | float))
    yield b""
    yield b"\xff\xfe not text"
    yield b"{not json"
    yield b"[]"
    yield b'"just a string"'
    yield json.dumps({**document, "record_id": "../../etc/passwd"}).encode()
    yield json.dumps({**document, "record_id": ""}).encode()
    yield json.dumps({**document, "record_id": "x" * 129}).encode()
    yield json.dumps({**document, "event_time": "yesterday"}).encode()
    yield json.dumps({**document, "event_time": document["event_time"].removesuffix("Z")}).encode()
    yield json.dumps({**document, "event_time": "0001-01-01T00:00:00+14:00"}).encode()
    yield json.dumps({**document, "event_time": 1359627300}).encode()
    yield json.dumps({**document, "features": None}).encode()
    yield json.dumps({key: value for key, value in document.items() if key != "event_time"}).encode()
    yield json.dumps({**document, "features": {**features, first: {"nested": True}}}).encode()
    yield json.dumps({**document, "features": {**features, number: float("nan")}}).encode()
    yield json.dumps({**document, "features": {k: v for k, v in features.items() if k != first}}).encode()
