"""Tells what cannot be read, one line each on the error stream: whoever asked gets the rest on standard output."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from lunation.commands.printing import err, plain
from lunation.ledger import Skipped, Tally
from lunation.query import Broken

LINES = 10


def tell_broken(found: Iterable[Broken]) -> None:
    """Name each entity or manifest."""
    for one in found:
        err.print(f"[yellow]broken:[/] {plain(one)}")


def tell_skipped(found: Tally, what: str = "skipped", limit: int = LINES) -> None:
    """Name the first ``limit`` of what was skipped in the archive, and say how many more there are."""
    for one in found.first[:limit]:
        err.print(f"[yellow]{what}:[/] {plain(one)}")
    if found.count > limit:
        err.print(f"[yellow]{what}:[/] {found.count - min(limit, len(found.first)):,} more in the archive")


def broken_json(found: Iterable[Broken]) -> list[dict[str, Any]]:
    """The same for a program."""
    return [asdict(one) for one in found]


def skipped_json(found: Tally, limit: int = LINES) -> dict[str, Any]:
    """The same for a program: how many, where the first ``limit`` are, and why."""
    shown: list[Skipped] = found.first[:limit]
    return {
        "count": found.count,
        "lines": [one.where for one in shown],
        "reasons": {one.where: one.reason for one in shown},
    }
