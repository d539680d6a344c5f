"""Promises of the measures: right on cases worked out by hand or by brute force, with paired, seeded intervals."""

import itertools
import math

import numpy as np
import pytest

from spark.metrics import compare

DAYS = [f"2024-03-{day:02d}" for day in range(1, 11)]


def window(rows=2000, seed=3):
    """A target, days, and a score that knows something of it; ties included."""
    draw = np.random.default_rng(seed)
    target = (draw.random(rows) < 0.3).astype(float)
    score = np.clip(np.round(0.3 + 0.2 * target + draw.normal(0, 0.2, rows), 2), 0.01, 0.99)
    return target, [DAYS[place % len(DAYS)] for place in range(rows)], score


def test_auc_is_the_share_of_pairs_in_order():
    """Against the definition: pairs of one of each class, half a point for a tie."""
    target, days, score = window(300)
    positive, negative = score[target == 1], score[target == 0]
    pairs = [0.5 if p == n else float(p > n) for p, n in itertools.product(positive, negative)]
    assert compare(target, days, {"challenger": score}, 1)["challenger"]["auc"] == pytest.approx(np.mean(pairs))


def test_the_other_measures_on_a_case_by_hand():
    """Ranks +, -, + : precision 1 at the first hit, 2/3 at the second."""
    found = compare(np.array([1.0, 0.0, 1.0]), ["d"] * 3, {"challenger": np.array([0.9, 0.5, 0.2])}, 1)["challenger"]
    assert found["pr_auc"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["log_loss"] == pytest.approx(-(math.log(0.9) + math.log(0.5) + math.log(0.2)) / 3)
    assert found["rows"] == 3


def test_intervals_hold_the_value_and_are_the_same_again():
    """The interval is around the value, is narrower with more rows, and depends on the seed only."""
    target, days, score = window()
    first = compare(target, days, {"challenger": score}, 7)
    assert first["challenger"]["auc_low"] < first["challenger"]["auc"] < first["challenger"]["auc_high"]
    assert compare(target, days, {"challenger": score}, 7) == first
    assert compare(target, days, {"challenger": score}, 8) != first


def test_a_day_that_is_alike_in_itself_widens_the_interval():
    """Days are drawn, not rows: ten copies of the same ten days' rows say no more than one copy."""
    target, days, score = window(200)
    once = compare(target, days, {"challenger": score}, 1)["challenger"]
    tenfold = compare(np.tile(target, 10), days * 10, {"challenger": np.tile(score, 10)}, 1)["challenger"]
    assert tenfold["auc_low"] == pytest.approx(once["auc_low"])


def test_the_difference_is_paired():
    """A model that is a little better on every row is certainly better, though each interval alone overlaps."""
    target, days, score = window()
    better = score + 0.02 * (target - 0.5)
    found = compare(target, days, {"challenger": better, "champion": score}, 1)
    assert found["challenger"]["auc_low"] < found["champion"]["auc_high"]
    assert found["difference"]["auc_low"] > 0
    assert found["difference"]["log_loss_high"] < 0


@pytest.mark.parametrize("target", [[0.0, 0.0], [1.0]])
def test_a_window_without_two_classes_has_no_auc(target):
    """NaN, no crash and no made-up figure."""
    found = compare(np.array(target), ["d"] * len(target), {"challenger": np.full(len(target), 0.4)}, 1)
    assert math.isnan(found["challenger"]["auc"])
