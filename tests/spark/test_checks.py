"""Promises of the data checks, on constructed windows: the usual passes, and each kind of damage is named."""

import re
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from schemas.check_limits import CheckLimits
from schemas.profile import DELAY_HOURS, LABEL, LABEL_DELAY
from schemas.shapes import ModelInput
from spark.checks import Seen, check
from spark.drift import Drift

INPUTS = [
    ModelInput("price", "number", required=True),
    ModelInput("country", "category", required=True),
    ModelInput("temp", "number", required=False, drifts=True),
]
WEEKDAYS = np.array([100, 100, 100, 100, 100, 10, 40])
SAME = Drift(0.01, 0.5)


def days(number, missing=0.05, unseen=0.0, labelled=0.9, positive=0.25, early=0.0, slow=0.0):
    """So many days that begin on one weekday: 100 records on each of five, 10 and 40 on the other two."""
    rows = np.tile(WEEKDAYS, number // 7 + 1)[:number]

    def spread(*shares):
        return np.round(rows[:, None] * np.array(shares)).astype(int)

    delay = np.zeros((number, len(DELAY_HOURS) + 2), dtype=int)
    delay[:, 1] = np.round(rows * early)
    delay[:, 4] = np.round(rows * (labelled - early - slow))
    delay[:, 9] = np.round(rows * slow)
    return {
        "price": spread(missing, (1 - missing) / 2, (1 - missing) / 2),
        "country": spread(0.0, 1 - unseen, unseen),
        "temp": spread(0.0, 0.5, 0.5),
        LABEL: spread(1 - labelled, labelled * (1 - positive), labelled * positive),
        LABEL_DELAY: delay,
    }


def seen(newest=None, drift=None, **other):
    """Eight usual weeks, and four that are as given."""
    usual = Seen(
        lines=10_000,
        corrupt=3,
        readable=9_997,
        duplicates=12,
        inputs=INPUTS,
        stored=["price", "country", "temp"],
        newest_from=date(2024, 3, 4),
        usual=days(56),
        newest=days(28) if newest is None else newest,
        drift=dict.fromkeys(("price", "country", "temp"), SAME) | (drift or {}),
        drift_against="the training window",
    )
    return replace(usual, **other)


def failed(what, **limits):
    """The texts of the checks that fail, by name."""
    return {one.name: one.text for one in check(what, CheckLimits(**limits)) if not one.passed}


def emptied(name):
    """Four weeks in which a column has no value at all."""
    newest = days(28)
    total = newest[name].sum(axis=1)
    newest[name] = np.zeros_like(newest[name])
    newest[name][:, 0] = total
    return newest


def without_a_day(place, rows=0):
    """Four weeks in which one day's records are gone, or nearly."""
    newest = days(28)
    for table in newest.values():
        table[place] = 0
    newest[LABEL][place, 0] = rows
    return newest


def test_the_usual_passes():
    """Every check is there, passed, with a text; weekends are no hole."""
    found = check(seen(), CheckLimits())
    assert [one.name for one in found if not one.passed] == []
    assert len({one.name for one in found}) == len(found) == 11
    assert all(one.text for one in found)


@pytest.mark.parametrize(
    ("what", "name", "words"),
    [
        (seen(stored=["price", "temp"]), "schema", "country"),
        (seen(emptied("price")), "schema", "no record of the newest window has a value for price"),
        (seen(corrupt=200), "corrupt", "2.00% of the archive's lines cannot be read"),
        (seen(duplicates=9_000), "duplicates", "90.03% of the records are repetitions"),
        (seen(without_a_day(9)), "volume", "2024-03-13 has 0 records, 100 are usual"),
        (seen(without_a_day(9, rows=900)), "volume", "2024-03-13 has 900 records, 100 are usual"),
        (seen(without_a_day(6)), "volume", "2024-03-10 has 0 records, 40 are usual"),
        (seen(days(28, missing=0.5)), "missing", r"price misses \+4\d.\d% more often"),
        (seen(days(28, unseen=0.3)), "unseen", r"country .* does not know in 30.0% of the records, 0.0% before \("),
        (
            seen(days(28, unseen=0.3), usual=days(56, unseen=0.3)),
            "unseen",
            "30.0% before, so it has more values .* give it a rate",
        ),
        (seen(days(28, labelled=0.3)), "labelled", "30.0% of the records have a label, 9"),
        (seen(days(28, positive=0.75)), "label_rate", r"75.\d% of the labels are positive, 2\d.\d% were"),
        (seen(days(28, positive=0.0)), "label_rate", "0.0% of the labels are positive"),
        (seen(days(28, slow=0.4)), "label_delay", "within 168 hours, it was 6"),
        (seen(days(28, early=0.1)), "labels_early", "of the labels are not younger than their record"),
        (seen(drift={"price": Drift(0.4, 0.0005)}), "drift", r"drifted: price \(0.40"),
    ],
)
def test_damage_is_named(what, name, words):
    """The check of that name fails, and its text says which thing and how far."""
    found = failed(what)
    assert name in found
    assert re.search(words, found[name])


@pytest.mark.parametrize(
    "what",
    [
        seen(drift={"temp": Drift(9.0, 0.0005)}),
        seen(drift={"price": Drift(0.4, 0.2)}),
        seen(drift={"price": Drift(0.1, 0.0005)}),
        seen(without_a_day(5)),
        seen(without_a_day(27, rows=3)),
        seen(days(28, positive=0.4)),
        seen(days(28, missing=0.0)),
        seen(corrupt=0, lines=0, readable=0, duplicates=0),
    ],
    ids=[
        "declared to drift",
        "not sure",
        "small",
        "few are usual",
        "not over",
        "label rate",
        "less missing",
        "nothing",
    ],
)
def test_what_is_no_damage_passes(what):
    """A season, chance, a weekday with hardly any records, the running day, an odds ratio of two."""
    assert failed(what) == {}


def test_a_limit_can_be_moved():
    """What fails with the default passes with a wider limit, and the text names the limit."""
    assert failed(seen(days(28, unseen=0.3)), unseen=0.4) == {}
    assert "limit 10%" in failed(seen(days(28, unseen=0.3)), unseen=0.1)["unseen"]
