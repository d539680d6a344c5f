"""How good answers were: the measures that training uses (``spark/metrics.py``; a test holds the two equal), without
numpy, for the answers of a few weeks."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

BINS = 10


class Outcome(NamedTuple):
    """An answer whose outcome is known."""

    day: str
    probability: float
    positive: bool


@dataclass(frozen=True)
class Score:
    """Measures over some outcomes."""

    rows: int
    auc: float | None
    """None with one class only."""
    log_loss: float
    brier: float
    calibration_error: float
    said: float
    """Mean probability."""
    rate: float
    """Share that came true."""


@dataclass(frozen=True)
class Errors:
    """Standard errors over days: the records of one day resemble each other. None with fewer than three days."""

    auc: float | None
    log_loss: float | None
    gap: float | None
    """Of what was said minus what came true."""


def score(outcomes: Sequence[Outcome]) -> Score:
    """Measure ``outcomes``, of which there is at least one."""
    rows = len(outcomes)
    gaps = [0.0] * BINS
    log_loss = brier = 0.0
    for one in outcomes:
        clipped = min(max(one.probability, 1e-15), 1 - 1e-15)
        log_loss -= math.log(clipped) if one.positive else math.log1p(-clipped)
        brier += (one.probability - one.positive) ** 2
        gaps[min(int(one.probability * BINS), BINS - 1)] += one.probability - one.positive
    return Score(
        rows=rows,
        auc=auc(outcomes),
        log_loss=log_loss / rows,
        brier=brier / rows,
        calibration_error=sum(map(abs, gaps)) / rows,
        said=sum(one.probability for one in outcomes) / rows,
        rate=sum(one.positive for one in outcomes) / rows,
    )


def auc(outcomes: Iterable[Outcome]) -> float | None:
    """The share of pairs of a positive and a negative outcome that are in order, a tie counting half."""
    ranked = sorted((one.probability, one.positive) for one in outcomes)
    positives = sum(positive for _, positive in ranked)
    negatives = len(ranked) - positives
    if not positives or not negatives:
        return None
    below = wins = 0.0
    start = 0
    while start < len(ranked):
        end = start
        while end < len(ranked) and ranked[end][0] == ranked[start][0]:
            end += 1
        hits = sum(positive for _, positive in ranked[start:end])
        misses = end - start - hits
        wins += hits * (below + misses / 2)
        below += misses
        start = end
    return wins / (positives * negatives)


def errors(outcomes: Sequence[Outcome]) -> Errors:
    """Standard errors by leaving out each day in turn."""
    days = sorted({one.day for one in outcomes})
    if len(days) < 3:
        return Errors(None, None, None)
    left = [score(kept) for day in days if (kept := [one for one in outcomes if one.day != day])]
    return Errors(
        auc=_jackknife([one.auc for one in left]),
        log_loss=_jackknife([one.log_loss for one in left]),
        gap=_jackknife([one.said - one.rate for one in left]),
    )


def _jackknife(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < 3:
        return None
    mean = sum(known) / len(known)
    return math.sqrt((len(known) - 1) / len(known) * sum((value - mean) ** 2 for value in known))
