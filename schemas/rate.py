"""A rate: how often the positive label occurred of late among the records of one group.

The training job computes it from the archive and puts it into the artefact as a table, so serving looks nothing up:
a record is sent, and answered, without it.
"""

from dataclasses import dataclass

BLOCK_DAYS = 14
"""Training brings its rates up to date so often (``spark/rates.py``), and counts back in whole such blocks."""


@dataclass(frozen=True)
class Step:
    """A number as a part of a group's key: values of one step of this width belong together."""

    feature: str
    width: float


@dataclass(frozen=True)
class Rate:
    """One rate, an input that the model makes for itself from the record's own fields."""

    name: str
    by: tuple[str | Step, ...]
    """The key: categories by their names, numbers by steps."""
    days: int = 56
    """How far back records count; :data:`BLOCK_DAYS` at least."""
