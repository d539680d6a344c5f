"""Promise: data of which Spark's trees can make nothing is told with how much is needed, not with Java's words."""

import pytest

from spark.conversion import convert
from spark.job import JobFailedError
from spark.training import PARAMETERS, train

pytestmark = pytest.mark.spark


def put(desk, record, label, values):
    """A record for each of ``values`` countries on the first day, and others in the weeks of evaluation."""
    early = [(f"e{place}", 0, f"c{place:02}") for place in range(values)]
    late = [(f"l{place}", 30 + place, "c00") for place in range(28)]
    desk.put("records", [record(name, day=day, country=country) for name, day, country in early + late])
    outcomes = ("kept", "returned")
    desk.put("labels", [label(name, outcomes[int(name[1:]) % 2], day + 0.5) for name, day, _ in early + late])
    convert(desk.spark, desk.storage, desk.job)


def test_fewer_rows_than_a_category_needs(desk, record, label):
    """31 rows with 31 values: the failure names the category, what it needs, and what there is."""
    put(desk, record, label, 31)
    with pytest.raises(
        JobFailedError,
        match=r"31 training rows, from 2024-03-01 to 2024-03-01, are too few: category country has 31 values and needs "
        r"32; wait for more history, or backfill it",
    ):
        train(desk.spark, desk.storage, desk.job, PARAMETERS | {"maxIter": 1})


def test_as_many_rows_as_it_needs_are_trained_on(desk, record, label):
    """And a category with more values than the trees have bins comes in by its rate, and needs no rows."""
    put(desk, record, label, 32)
    train(desk.spark, desk.storage, desk.job, PARAMETERS | {"maxIter": 1})
    trained = desk.trained()
    assert len(trained.categories["country"]) == 32
    assert "country" not in trained.columns
