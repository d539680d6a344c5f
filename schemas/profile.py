"""A data profile: how the records of each day are spread over bins, so that later data can be compared with it."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from schemas.shapes import InputKind

DELAY_HOURS = (0.0, 1.0, 3.0, 6.0, 12.0, 24.0, 48.0, 96.0, 168.0, 336.0, 672.0)
"""Edges for a label's delay, in hours after its record's time; what is up to the first one came early."""
LABEL, LABEL_DELAY = ":label", ":label_delay"
"""What is counted beside the inputs: no label, the negative, the positive one; and the label's delay in hours. No input
can have such a name."""


class Bins(BaseModel):
    """How one thing is counted. Place 0 is for what is missing.

    A number: place ``i`` holds values above ``edges[i - 2]`` and up to ``edges[i - 1]``, the last one all above.
    A category: place ``i`` holds ``values[i - 1]``, the last one every value that is not listed.
    """

    model_config = ConfigDict(frozen=True)

    kind: InputKind
    edges: list[float] = []
    values: list[str] = []

    @property
    def places(self) -> int:
        """How many there are."""
        return 2 + (len(self.edges) if self.kind == "number" else len(self.values))

    def place(self, value: Any) -> int:
        """Where ``value`` is counted."""
        if value is None or value != value:  # noqa: PLR0124 (NaN)
            return 0
        if self.kind == "number":
            return 1 + bisect_left(self.edges, float(value))
        try:
            return 1 + self.values.index(value)
        except ValueError:
            return 1 + len(self.values)

    def names(self) -> list[str]:
        """What each place holds, for a person."""
        if self.kind == "category":
            return ["missing", *self.values, "not seen in training"]
        if not self.edges:
            return ["missing", "any"]
        between = [f"{low:g} to {high:g}" for low, high in zip(self.edges, self.edges[1:], strict=False)]
        return ["missing", f"up to {self.edges[0]:g}", *between, f"above {self.edges[-1]:g}"]


class DataProfile(BaseModel):
    """``profile.json`` of a model's folder: the days it was trained on (at most the last year of them)."""

    model_config = ConfigDict(frozen=True)

    days: list[str]
    """ISO dates, ascending."""
    bins: dict[str, Bins]
    """For each of the use case's features."""
    counts: dict[str, list[list[int]]]
    """For each input, for ``:label`` and for ``:label_delay``: records by day and place."""

    def total(self, name: str) -> list[int]:
        """Records by place, over all days."""
        return [sum(column) for column in zip(*self.counts[name], strict=True)]


def stability_index(reference: Sequence[int], current: Sequence[int]) -> float:
    """The population stability index of two histograms over the same bins: 0 if their shares are equal; by custom a
    small change below 0.1, and a large one from 0.25. Half a record is added to each bin, so an empty one is finite."""
    before, now = _shares(reference), _shares(current)
    return sum((b - a) * math.log(b / a) for a, b in zip(before, now, strict=True))


def _shares(counts: Iterable[int]) -> list[float]:
    padded = [count + 0.5 for count in counts]
    total = sum(padded)
    return [count / total for count in padded]
