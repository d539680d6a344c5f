"""What the conversion leaves for the later jobs and the next run: one state of the archive, converted."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import ClassVar

MAX_NAMED = 100
"""Limit, in lines and in objects, for the refused lines and the skipped objects that a report names."""


@dataclass(frozen=True)
class Day:
    """Where a day's rows are, and how many."""

    run_id: str
    rows: int
    labelled: int


@dataclass(frozen=True)
class Snapshot:
    """One state of the archive, as ``convert.json`` has it: in the run's work folder, where it closes the job, and
    copied into the model's folder."""

    NAME: ClassVar[str] = "convert.json"

    use_case: str
    run_id: str
    number: int | None
    """How many conversions came before; None if it is not to be built on."""
    previous: str | None
    """The run that it builds on."""
    shape: str
    """Of what was read; a snapshot of another shape is not built on."""
    days: Mapping[str, Day] = field(default_factory=dict)
    waiting: Day | None = None
    """Labels whose record has not come yet."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Over all that was ever read."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """The objects that this run read, with their MD5; those before are in the reports before."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Objects that lie in the archive and are none of its, with the reason; at most :data:`MAX_NAMED`, all are
    counted."""
    refused: Sequence[Mapping[str, str]] = ()
    """``object`` and ``reason`` of the last lines that were refused, of this run or one before; as many."""
    seconds: float = 0.0

    def to_json(self) -> bytes:
        """The report."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Snapshot":
        """The report, read back."""
        document = json.loads(content)
        document["days"] = {day: Day(**where) for day, where in document["days"].items()}
        document["waiting"] = document["waiting"] and Day(**document["waiting"])
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in document.items() if name in known})

    @staticmethod
    def counts_of(content: bytes) -> Mapping[str, int]:
        """The counts of a report of any release: the oldest ones have little else."""
        counts: Mapping[str, int] = json.loads(content)["counts"]
        return counts
