"""Did an input drift? How far (population stability index), and how surely (a permutation test over days).

The test: if nothing had changed, each day could as well belong to the other window. So days are dealt anew between the
two windows some thousand times, and the p-value is the share of deals whose index is at least the one seen. Whole days
are dealt because the records of one day resemble each other; a test over single records would call every storm a drift.

False alarms: an input counts as surely drifted if its p-value is at most the stated rate divided by the number of
inputs that are judged (Bonferroni). If days can be exchanged, all inputs together are called drifted by chance at most
at that rate. Days of a season cannot be exchanged: there the test says rightly that something changed, and the index
how much.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from schemas.profile import stability_index

LEAST_DEALS = 1_999


@dataclass(frozen=True)
class Drift:
    """One input's distance from the reference window."""

    index: float
    """Population stability index."""
    p_value: float
    """Share of the deals, this one included, that are as far apart by chance."""


def drifts(
    reference: Mapping[str, np.ndarray], current: Mapping[str, np.ndarray], seed: int, false_alarms: float = 0.05
) -> dict[str, Drift]:
    """The drift of each thing that both count (days by the same bins). Days without any record are left out.

    Args:
        false_alarms: the rate over all things that the p-values have to be fine enough for.
    """
    # The smallest p-value there can be is half of what one of so many things needs.
    deals = max(LEAST_DEALS, math.ceil(2 * len(reference) / false_alarms))
    generator = np.random.default_rng(seed)
    deal: np.ndarray | None = None
    found = {}
    for name in reference:
        before, now = _busy(reference[name]), _busy(current[name])
        index = stability_index(before.sum(axis=0).tolist(), now.sum(axis=0).tolist())
        days = len(before) + len(now)
        if deal is None or deal.shape[1] != days or deal[0].sum() != len(now):
            deal = _deals(generator, deals, days, len(now))
        together = np.vstack([before, now]).astype(float)
        dealt = deal @ together
        by_chance = _indexes(together.sum(axis=0) - dealt, dealt)
        found[name] = Drift(index, float((1 + (by_chance >= index - 1e-12).sum()) / (1 + deals)))
    return found


def _busy(days: np.ndarray) -> np.ndarray:
    return days[days.sum(axis=1) > 0]


def _deals(generator: np.random.Generator, deals: int, days: int, chosen: int) -> np.ndarray:
    """A row for each deal, 1.0 for the days that it puts into the current window."""
    order = np.argsort(generator.random((deals, days)), axis=1)
    return (order < chosen).astype(float)


def _indexes(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    a, b = (part + 0.5 for part in (before, now))
    a, b = a / a.sum(axis=1, keepdims=True), b / b.sum(axis=1, keepdims=True)
    return ((b - a) * np.log(b / a)).sum(axis=1)
