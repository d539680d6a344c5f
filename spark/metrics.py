"""How good scores are, with paired intervals: ranking, log-loss and calibration of several models on the same rows.

The resampling unit is a day, not a row: the records of one day share their weather and their jams, so an interval over
rows as if they were independent would be too narrow. Each resample draws as many days as there are; all models are
measured on the same draws, so their difference has an interval of its own.

Everything here is numpy on the driver: the evaluation window is one label, one day and one score a model for each row
(27,000 rows a window for flights: under a megabyte).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from schemas.evaluation import CalibrationBin, Curves, DayMeasures, MeasuredDay, Segment

RESAMPLES = 400
"""Number of resamples from which an interval is read. A segment, of which only the standard error is needed, gets a
quarter."""
LEVEL = 0.95
"""Share of the resamples that lie within an interval; its bounds are their quantiles (a percentile interval:
https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.bootstrap.html)."""
MEASURES = ("auc", "pr_auc", "log_loss", "brier", "calibration_error")
"""Names of the measures, in the order of every array that has one place for each.

- ``auc``: area under the ROC curve, 0 to 1; 0.5 is chance. See :func:`auc`.
- ``pr_auc``: average precision, 0 to 1; chance is the share of positive labels. The sum of the precision at each
  threshold, weighted by the recall gained there, without interpolation:
  https://scikit-learn.org/stable/modules/generated/sklearn.metrics.average_precision_score.html
- ``log_loss``: mean of -ln(probability that was given to the label that came), 0 or more, in nats. Probabilities are
  cut to 1e-15 from 0 and from 1: a single certain mistake would else be infinite.
- ``brier``: mean squared difference of probability and label, 0 to 1.
- ``calibration_error``: mean over :data:`CALIBRATION_BINS` of the difference between mean probability and share of
  positive labels, weighted by rows, 0 to 1. Equation 3 of https://arxiv.org/abs/1706.04599, for the probability of the
  positive label in place of the confidence in the answer.

Of the first two more is better, of the others less. ``lunation/scoring.py`` has the same measures for answers that were
served; a test holds the two equal.
"""
CALIBRATION_BINS = 10
"""Number of bins that 0 to 1 is cut into, each as wide as the others."""
OTHERS = "all others"
"""Name of the segment for all but the most frequent values of a category."""
CURVE_POINTS = 101
"""Limit, in points, for each curve of the report."""


def compare(
    target: np.ndarray, days: Sequence[object], scores: Mapping[str, np.ndarray], seed: int
) -> dict[str, dict[str, float]]:
    """Measure several models on the same rows.

    Args:
        target: [rows], 1.0 where the label is the positive one, else 0.0; at least one row.
        days: [rows], each row's day, by which resamples are drawn.
        scores: by model, [rows], the probability of the positive label.
        seed: of the draws. The same arguments give the same figures.

    Returns:
        By model: its ``rows``, and each of :data:`MEASURES` by name with the bounds of its interval, ``<name>_low`` and
        ``<name>_high``. Where ``scores`` has a ``challenger``, also by how much it is above each of the others, on the
        same draws: ``difference`` for the ``champion``, ``difference_<model>`` for another; there a positive AUC and a
        negative loss are better. What needs both classes is NaN where the window has one.
    """
    day_of, draws = _days_drawn(days, seed)
    curves = {name: _Curve(target, probabilities, day_of) for name, probabilities in scores.items()}
    even = np.ones(draws.shape[1])
    measured = {name: curve.measure(even[None, :])[0] for name, curve in curves.items()}
    drawn = {name: curve.measure(draws) for name, curve in curves.items()}
    result = {name: _bounded(measured[name], drawn[name]) | {"rows": len(target)} for name in scores}
    for name in scores:
        if name == "challenger" or "challenger" not in scores:
            continue
        label = "difference" if name == "champion" else f"difference_{name}"
        result[label] = _bounded(measured["challenger"] - measured[name], drawn["challenger"] - drawn[name])
    return result


def segments(
    target: np.ndarray,
    days: Sequence[object],
    scores: Mapping[str, np.ndarray],
    columns: Mapping[str, Sequence[Any]],
    seed: int,
    top: int = 5,
) -> list[Segment]:
    """Measure challenger and champion on each category's most frequent values, and on all others together.

    Args:
        target: [rows], 1.0 or 0.0.
        days: [rows], each row's day.
        scores: by model, [rows], probabilities; of the ``challenger``, and of the ``champion`` if there is one.
        columns: by category, [rows], its values; None is missing, and a value of its own.
        seed: of the draws that the standard errors come from.
        top: how many values of a category are looked at one by one.

    Returns:
        Those segments that have both classes, by category, the most frequent value first.
    """
    found = []
    for feature, values in columns.items():
        texts = np.array(["missing" if value is None else str(value) for value in values], dtype=object)
        names, counts = np.unique(texts, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        picked = [(str(names[place]), texts == names[place]) for place in order[:top]]
        if len(order) > top:
            picked.append((OTHERS, ~np.isin(texts, names[order[:top]])))
        for value, mask in picked:
            if 0 < target[mask].sum() < mask.sum():
                found.append(_segment(feature, value, mask, target, np.asarray(days, dtype=str), scores, seed))
    return found


def _segment(
    feature: str,
    value: str,
    mask: np.ndarray,
    target: np.ndarray,
    days: np.ndarray,
    scores: Mapping[str, np.ndarray],
    seed: int,
) -> Segment:
    day_of, draws = _days_drawn(days[mask], seed, RESAMPLES // 4)
    even = np.ones((1, draws.shape[1]))
    curves = {
        name: _Curve(target[mask], scores[name][mask], day_of) for name in ("challenger", "champion") if name in scores
    }
    measured = {name: dict(zip(MEASURES, curve.measure(even)[0], strict=True)) for name, curve in curves.items()}
    gain = error = None
    if "champion" in curves:
        gain = float(measured["challenger"]["auc"] - measured["champion"]["auc"])
        moved = curves["challenger"].ranking(draws)[:, 0] - curves["champion"].ranking(draws)[:, 0]
        known = moved[~np.isnan(moved)]
        error = float(known.std(ddof=1)) if len(known) > len(moved) // 2 else None
    champion = measured.get("champion")
    return Segment(
        feature=feature,
        value=value,
        rows=int(mask.sum()),
        positives=int(target[mask].sum()),
        auc=float(measured["challenger"]["auc"]),
        champion_auc=None if champion is None else float(champion["auc"]),
        auc_gain=gain,
        auc_gain_error=error,
        log_loss=float(measured["challenger"]["log_loss"]),
        champion_log_loss=None if champion is None else float(champion["log_loss"]),
        mean_score=float(scores["challenger"][mask].mean()),
        rate=float(target[mask].mean()),
    )


def auc(target: np.ndarray, probabilities: np.ndarray) -> float:
    """Area under the ROC curve: the share of pairs of one row of each class that are in order, a tie counting half.

    That it is this share: Hanley and McNeil 1982, https://doi.org/10.1148/radiology.143.1.7063747.

    Args:
        target: [rows], 1.0 or 0.0.
        probabilities: [rows].

    Returns:
        0 to 1; NaN without rows of both classes.
    """
    curve = _Curve(target, probabilities, np.zeros(len(target), dtype=int))
    return float(curve.ranking(np.ones((1, 1)))[0, 0])


def reliability(target: np.ndarray, probabilities: np.ndarray) -> list[CalibrationBin]:
    """The reliability diagram: what was said against what came, in each of :data:`CALIBRATION_BINS` that has rows.

    Args:
        target: [rows], 1.0 or 0.0.
        probabilities: [rows].
    """
    bins = _calibration_bin(probabilities)
    return [
        CalibrationBin(
            rows=int(mask.sum()),
            probability=float(probabilities[mask].mean()),
            rate=float(target[mask].mean()),
        )
        for mask in (bins == place for place in range(CALIBRATION_BINS))
        if mask.any()
    ]


def curves(target: np.ndarray, probabilities: np.ndarray) -> Curves:
    """ROC, from (0, 0) on, and precision against recall, each thinned to :data:`CURVE_POINTS`.

    Args:
        target: [rows], 1.0 or 0.0.
        probabilities: [rows]; rows of equal probability are one point.

    Returns:
        Both empty where one class is missing.
    """
    order = np.argsort(-probabilities, kind="stable")
    hits = np.cumsum(target[order])
    ends = np.flatnonzero(np.r_[np.diff(probabilities[order]) != 0, True])
    positives, negatives = hits[-1], len(target) - hits[-1]
    if positives == 0 or negatives == 0:
        return Curves(roc=[], precision_recall=[])
    true, false = hits[ends], ends + 1 - hits[ends]
    roc = _thinned(np.r_[0, false / negatives], np.r_[0, true / positives])
    return Curves(roc=roc, precision_recall=_thinned(true / positives, true / (ends + 1)))


def by_day(target: np.ndarray, days: Sequence[object], scores: Mapping[str, np.ndarray]) -> list[MeasuredDay]:
    """Measure each model on each day by itself.

    Args:
        target: [rows], 1.0 or 0.0.
        days: [rows], each row's day.
        scores: by model, [rows], probabilities; of ``challenger``, and of ``champion`` and ``frozen`` if there are any.

    Returns:
        A row for each day, the first one first. AUC is None where a class is missing.
    """
    names, day_of = np.unique(np.asarray(days, dtype=str), return_inverse=True)
    found = []
    for place, day in enumerate(names):
        mask = day_of == place
        models = {name: _day_measures(target[mask], probabilities[mask]) for name, probabilities in scores.items()}
        found.append(MeasuredDay(day=str(day), rows=int(mask.sum()), rate=float(target[mask].mean()), **models))
    return found


def _day_measures(target: np.ndarray, probabilities: np.ndarray) -> DayMeasures:
    curve = _Curve(target, probabilities, np.zeros(len(target), dtype=int))
    values = dict(zip(MEASURES, curve.measure(np.ones((1, 1)))[0], strict=True))
    known = {name: None if np.isnan(values[name]) else float(values[name]) for name in ("auc", "log_loss")}
    return DayMeasures(**known)


class _Curve:
    """One model's rows in order of score, so that a resample is a few sums over weights and no sort."""

    def __init__(self, target: np.ndarray, probabilities: np.ndarray, day_of: np.ndarray) -> None:
        order = np.argsort(probabilities, kind="stable")
        ranked = probabilities[order]
        self._positive = target[order].astype(float)
        self._day_of = day_of[order]
        # Rows of equal score are one step of the curve.
        self._steps = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        # What is a plain sum over rows is summed by day once; a draw of days then is a product of small matrices.
        days = int(day_of.max()) + 1
        clipped = np.clip(ranked, 1e-15, 1.0 - 1e-15)
        losses = -np.where(self._positive > 0.5, np.log(clipped), np.log1p(-clipped))
        self._rows = np.bincount(self._day_of, minlength=days).astype(float)
        self._loss = np.bincount(self._day_of, losses, days)
        self._brier = np.bincount(self._day_of, (ranked - self._positive) ** 2, days)
        cell = self._day_of * CALIBRATION_BINS + _calibration_bin(ranked)
        gap = np.bincount(cell, ranked - self._positive, days * CALIBRATION_BINS)
        self._gap = gap.reshape(days, CALIBRATION_BINS)

    def measure(self, draws: np.ndarray) -> np.ndarray:
        """All measures, for each draw.

        Args:
            draws: [draws, days], how often each day is in the draw.

        Returns:
            [draws, measures], in the order of :data:`MEASURES`.
        """
        rows = draws @ self._rows
        sums = np.stack([draws @ self._loss, draws @ self._brier, np.abs(draws @ self._gap).sum(axis=1)], axis=1)
        return np.hstack([self.ranking(draws), sums / rows[:, None]])

    def ranking(self, draws: np.ndarray) -> np.ndarray:
        """AUC and average precision, for each draw.

        Args:
            draws: [draws, days], how often each day is in the draw.

        Returns:
            [draws, 2]; NaN where the draw lacks what the measure needs.
        """
        found = np.empty((len(draws), 2))
        for place, draw in enumerate(draws):
            weights = draw[self._day_of]
            positive = np.add.reduceat(weights * self._positive, self._steps)
            total = np.add.reduceat(weights, self._steps)
            found[place] = _auc(positive, total - positive), _average_precision(positive, total)
        return found


def _auc(positive: np.ndarray, negative: np.ndarray) -> float:
    pairs = positive.sum() * negative.sum()
    if pairs == 0.0:
        return float("nan")
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2.0)).sum() / pairs)


def _average_precision(positive: np.ndarray, total: np.ndarray) -> float:
    if positive.sum() == 0.0:
        return float("nan")
    hits, rows = np.cumsum(positive[::-1]), np.cumsum(total[::-1])
    precision = np.divide(hits, rows, out=np.zeros_like(hits), where=rows > 0)
    return float((precision * positive[::-1]).sum() / positive.sum())


def _calibration_bin(probabilities: np.ndarray) -> np.ndarray:
    return np.minimum((probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)


def _days_drawn(
    days: Sequence[object] | np.ndarray, seed: int, draws: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """Each row's day as a number, [rows], and how often each day is in each draw, [draws, days]."""
    _, day_of = np.unique(np.asarray(days, dtype=str), return_inverse=True)
    number = int(day_of.max()) + 1
    generator = np.random.default_rng(seed)
    drawn = [np.bincount(generator.integers(number, size=number), minlength=number) for _ in range(draws)]
    return day_of, np.array(drawn, dtype=float)


def _bounded(values: np.ndarray, draws: np.ndarray) -> dict[str, float]:
    found: dict[str, float] = {}
    for place, measure in enumerate(MEASURES):
        low, high = _interval(draws[:, place])
        found |= {measure: float(values[place]), f"{measure}_low": low, f"{measure}_high": high}
    return found


def _interval(draws: np.ndarray) -> tuple[float, float]:
    known = draws[~np.isnan(draws)]
    if not len(known):
        return float("nan"), float("nan")
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return float(low), float(high)


def _thinned(across: np.ndarray, up: np.ndarray) -> list[list[float]]:
    places = np.unique(np.linspace(0, len(across) - 1, min(CURVE_POINTS, len(across))).astype(int))
    return [[round(float(across[place]), 5), round(float(up[place]), 5)] for place in places]
