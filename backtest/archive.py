"""A use case's history as the archive would have it: an object an hour and topic, in the folder of its day."""

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from datasets import Document, Example
from schemas.archive_objects import object_name


class History:
    """Records by their own time and labels by the time when they were known."""

    def __init__(self, examples: Iterable[Example]) -> None:
        self._objects: dict[tuple[str, datetime], list[str]] = defaultdict(list)
        for record, label in examples:
            self._add("records", record)
            if label is not None:
                self._add("labels", label)

    def _add(self, topic: str, document: Document) -> None:
        when = datetime.fromisoformat(document["event_time"]).astimezone(UTC)
        hour = when.replace(minute=0, second=0, microsecond=0)
        self._objects[topic, hour].append(json.dumps(document, separators=(",", ":")))

    def file(self, bucket: Path, begin: datetime, end: datetime) -> int:
        """Write what is of ``begin`` or later and before ``end`` below ``bucket``; answers the number of objects."""
        written = 0
        for (topic, hour), lines in self._objects.items():
            if begin <= hour < end:
                path = bucket / object_name(topic, hour.date(), f"{hour:%Y%m%dT%H%M}-0-0-backtest")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("\n".join(lines) + "\n")
                written += 1
        return written
