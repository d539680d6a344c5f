"""What every measure of one run shares."""

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.cloud import Cloud
from benchmarks.serving.contenders import Body

Row = dict[str, Any]
"""``name, ours, other, ratio, target, ok``; ``note`` says why something was not measured."""


@dataclass(frozen=True)
class Bench:
    """One run: where it works, with which records, and for how long."""

    folder: Path
    staged: Path
    """Our function, as it is deployed."""
    model: Path
    """The model's files."""
    cloud: Cloud
    records: list[dict[str, Any]]
    rounds: int
    seconds: float
    say: Callable[[str], None]

    def log(self, name: str) -> Path:
        """Where a process prints."""
        return self.folder / f"{name.replace(' ', '-')}.log"

    def one(self, body: Body = lambda record: record) -> Path:
        """A file with the request for one record."""
        return self._written(body(self.records[0]))

    def many(self, count: int) -> Path:
        """A file with the request for ``count`` records."""
        return self._written(self.records[:count])

    def _written(self, document: Any) -> Path:
        content = json.dumps(document, separators=(",", ":")).encode()
        path = self.folder / f"body-{len(content)}-{abs(hash(content)):x}.json"
        path.write_bytes(content)
        return path


def compared(name: str, ours: list[float], other: list[float], least: float) -> Row:
    """A row whose ratio must be at least ``least``: that of each round, because a machine is slower in one round than
    in another; of these, as of the figures, the median."""
    us, them = statistics.median(ours), statistics.median(other)
    ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, other, strict=True))
    return row(name, round(us), round(them), round(ratio, 2), f">= {least} x", ratio >= least)


def row(name: str, ours: Any, other: Any, ratio: Any, target: str, ok: bool) -> Row:
    """A row of the report."""
    return {"name": name, "ours": ours, "other": other, "ratio": ratio, "target": target, "ok": bool(ok)}


def not_measured(name: str, target: str, note: str) -> Row:
    """A row for what could not be measured here. It counts as missed."""
    return {**row(name, None, None, None, target, ok=False), "note": note}
