"""How good scores are, with paired intervals: AUC, PR-AUC and log-loss of two models on the same rows.

The resampling unit is a day, not a row: the records of one day share their weather and their jams, so an interval over
rows as if they were independent would be too narrow. Each resample draws as many days as there are; all models are
measured on the same draws, so their difference has an interval of its own.

Everything here is numpy on the driver: the evaluation window is one label, one day and one score a model for each row
(27,000 rows a window for flights: under a megabyte).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

RESAMPLES = 400
LEVEL = 0.95


@dataclass(frozen=True)
class Score:
    """One model's measures, with the bounds of its AUC's interval."""

    auc: float
    auc_low: float
    auc_high: float
    pr_auc: float
    log_loss: float
    rows: int


@dataclass(frozen=True)
class Difference:
    """Challenger minus champion. A positive AUC and a negative log-loss are better."""

    auc: float
    auc_low: float
    auc_high: float
    log_loss: float
    log_loss_low: float
    log_loss_high: float


def compare(
    target: np.ndarray, days: Sequence[object], scores: Mapping[str, np.ndarray], seed: int
) -> dict[str, dict[str, float]]:
    """Measure each of ``scores`` (probabilities by name); with a ``challenger`` and a ``champion``, their
    ``difference`` too. ``target`` is 0 or 1, for at least one row. A window with one class has no AUC: it is NaN."""
    _, day_of = np.unique(np.asarray(days, dtype=str), return_inverse=True)
    number = int(day_of.max()) + 1
    curves = {name: _Curve(target, probabilities) for name, probabilities in scores.items()}
    generator = np.random.default_rng(seed)
    draws = {name: np.empty((RESAMPLES, 2)) for name in scores}
    for resample in range(RESAMPLES):
        weights = np.bincount(generator.integers(number, size=number), minlength=number)[day_of].astype(float)
        for name, curve in curves.items():
            draws[name][resample] = curve.auc(weights), curve.log_loss(weights)
    even = np.ones(len(target))
    result = {}
    for name, curve in curves.items():
        low, high = _interval(draws[name][:, 0])
        score = Score(curve.auc(even), low, high, curve.pr_auc(), curve.log_loss(even), len(target))
        result[name] = asdict(score)
    if {"challenger", "champion"} <= set(scores):
        moved = draws["challenger"] - draws["champion"]
        challenger, champion = curves["challenger"], curves["champion"]
        difference = Difference(
            challenger.auc(even) - champion.auc(even),
            *_interval(moved[:, 0]),
            challenger.log_loss(even) - champion.log_loss(even),
            *_interval(moved[:, 1]),
        )
        result["difference"] = asdict(difference)
    return result


class _Curve:
    """One model's rows in order of score, so that a resample is a few sums over weights and no sort."""

    def __init__(self, target: np.ndarray, probabilities: np.ndarray) -> None:
        self._order = np.argsort(probabilities, kind="stable")
        ranked = probabilities[self._order]
        self._positive = target[self._order].astype(float)
        # Rows of equal score are one step of the curve.
        self._steps = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        clipped = np.clip(probabilities, 1e-15, 1.0 - 1e-15)
        self._losses = -np.where(target > 0.5, np.log(clipped), np.log1p(-clipped))

    def auc(self, weights: np.ndarray) -> float:
        ranked = weights[self._order]
        positive = np.add.reduceat(ranked * self._positive, self._steps)
        negative = np.add.reduceat(ranked * (1.0 - self._positive), self._steps)
        pairs = positive.sum() * negative.sum()
        if pairs == 0.0:
            return float("nan")
        below = np.cumsum(negative) - negative
        return float((positive * (below + negative / 2.0)).sum() / pairs)

    def pr_auc(self) -> float:
        """Average precision: the precision at each step, weighted by the recall gained there."""
        positive = np.add.reduceat(self._positive, self._steps)[::-1]
        rows = np.diff(np.r_[self._steps, len(self._positive)])[::-1]
        if positive.sum() == 0.0:
            return float("nan")
        precision = np.cumsum(positive) / np.cumsum(rows)
        return float((precision * positive).sum() / positive.sum())

    def log_loss(self, weights: np.ndarray) -> float:
        return float((self._losses * weights).sum() / weights.sum())


def _interval(draws: np.ndarray) -> tuple[float, float]:
    known = draws[~np.isnan(draws)]
    if not len(known):
        return float("nan"), float("nan")
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return float(low), float(high)
