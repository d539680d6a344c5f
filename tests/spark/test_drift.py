"""Promises of the drift measure: the index by hand, the test's stated rate of false alarms, and its power."""

import math

import numpy as np
import pytest

from schemas.profile import Bins, stability_index
from spark.drift import drifts


def histograms(generator, days, shares, rows=300, spread=40.0):
    """Days whose shares vary around ``shares``: records of a day resemble each other."""
    return np.array([generator.multinomial(rows, generator.dirichlet(np.array(shares) * spread)) for _ in range(days)])


def test_the_index_by_hand():
    """Sum over bins of (now - before) * ln(now / before); nothing for equal shares, finite for an empty bin."""
    assert stability_index([50, 50], [500, 500]) == pytest.approx(0.0)
    # Half a record is added to each bin: 50.5 and 50.5 of 101 against 80.5 and 20.5.
    a, b, c, d = 50.5 / 101, 50.5 / 101, 80.5 / 101, 20.5 / 101
    assert stability_index([50, 50], [80, 20]) == pytest.approx((c - a) * math.log(c / a) + (d - b) * math.log(d / b))
    assert 1 < stability_index([100, 0], [0, 100]) < 100


def test_false_alarms_come_at_most_at_the_stated_rate():
    """Nothing changed in 200 windows of days that differ from each other: p-values at or below 5 % in about 5 %."""
    generator = np.random.default_rng(1)
    shares = [0.1, 0.2, 0.3, 0.4]
    alarms = 0
    for _ in range(200):
        one = drifts(
            {"x": histograms(generator, 56, shares)},
            {"x": histograms(generator, 28, shares)},
            int(generator.integers(9e9)),
        )
        alarms += one["x"].p_value <= 0.05
    assert 2 <= alarms <= 19, "10 are due, give or take 3 standard deviations"


def test_a_real_change_is_sure():
    """One day in four of another kind is found, with an index that says how far; the same seed says the same."""
    generator = np.random.default_rng(2)
    before = {"x": histograms(generator, 56, [0.25, 0.25, 0.25, 0.25]), "y": histograms(generator, 56, [0.5, 0.5])}
    now = {"x": histograms(generator, 28, [0.5, 0.25, 0.2, 0.05]), "y": histograms(generator, 28, [0.5, 0.5])}
    found = drifts(before, now, 7)
    assert found["x"].index > 0.25
    assert found["x"].p_value == 1 / 2000
    assert found["y"].p_value > 0.05
    assert drifts(before, now, 7) == found
    fine = drifts(
        {f"x{place}": before["x"] for place in range(40)}, {f"x{place}": now["x"] for place in range(40)}, 7, 0.01
    )
    assert max(one.p_value for one in fine.values()) <= 0.01 / 40, "one of forty inputs can be sure at one percent"


def test_days_without_records_say_nothing():
    """Holes in either window change neither index nor p-value."""
    generator = np.random.default_rng(3)
    before, now = histograms(generator, 30, [0.5, 0.5]), histograms(generator, 28, [0.4, 0.6])
    holes = np.vstack([before[:10], np.zeros((5, 2), dtype=int), before[10:]])
    assert drifts({"x": holes}, {"x": now}, 1) == drifts({"x": before}, {"x": now}, 1)


def test_every_value_has_its_bin():
    """Missing first; a number up to an edge belongs to it; an unlisted category comes last."""
    number = Bins(kind="number", edges=[1.0, 5.0])
    assert [number.place(value) for value in (None, float("nan"), -3, 1.0, 1.5, 5, 6)] == [0, 0, 1, 1, 2, 2, 3]
    assert len(number.names()) == number.places == 4
    category = Bins(kind="category", values=["a", "b"])
    assert [category.place(value) for value in (None, "a", "b", "c", "")] == [0, 1, 2, 3, 3]
    assert len(category.names()) == category.places == 4
    assert Bins(kind="number").place(7) == 1
