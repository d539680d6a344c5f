"""Promises of the history features: nothing of the future is in them, and the artefact carries the same numbers."""

import random
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from pyspark.ml.classification import GBTClassifier
from pyspark.ml.functions import vector_to_array
from pyspark.sql.functions import col

from schemas.rate import Rate, Step
from schemas.shapes import ModelInput
from spark import rates
from spark.export import read_forest, to_onnx
from spark.features import assembled, columns, indexed
from spark.job import JobFailedError
from spark.served import ServedModel

pytestmark = pytest.mark.spark

END = date(2024, 6, 1)
INPUTS = [
    ModelInput("shop", "category", True),
    ModelInput("size", "number", False),
    ModelInput("who", "category", False),
]
CATEGORIES = {"shop": ["a", "b", "c"], "who": ["__missing__", "x"]}
RATES = [Rate("by_shop", by=("shop",)), Rate("by_size", by=("who", Step("size", 2.5)), days=28)]
FIELDS = (
    "id INT, features STRUCT<shop: STRING, size: DOUBLE, who: STRING>, dt DATE, label_time TIMESTAMP, target DOUBLE"
)


def sold(seed, count, days=90):
    """Rows of the days before END, with labels that come up to 40 days late."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        day = END - timedelta(days=draw.randint(1, days))
        known = datetime(day.year, day.month, day.day, 12, tzinfo=UTC) + timedelta(days=draw.choice([0, 1, 3, 40]))
        features = (draw.choice("abc"), draw.choice([None, -7.3, *(draw.uniform(0, 9),) * 5]), draw.choice([None, "x"]))
        rows.append((number, features, day, known, float(draw.random() < {"a": 0.2, "b": 0.5, "c": 0.7}[features[0]])))
    return rows


def prepared(spark, rows, with_rates=RATES):
    """Rows with their inputs' columns, and what belongs to them."""
    frame = spark.createDataFrame(rows, FIELDS)
    frame = indexed(frame, INPUTS, CATEGORIES)
    bounds = rates.bounds(with_rates)
    (found,) = frame.selectExpr(*(f"{bound} AS `{name}`" for name, bound in bounds), "count(1)").collect()
    keys = rates.keys(with_rates, found.asDict(), INPUTS, CATEGORIES)
    cells = rates.history(frame, with_rates, keys, columns(INPUTS), END)
    return frame, keys, cells


def as_of_their_time(spark, rows):
    """Each row's rates by its id."""
    frame, keys, cells = prepared(spark, rows)
    found = rates.joined(frame, cells, keys, columns(INPUTS), END).collect()
    return {row.id: (row.r_by_shop, row.r_by_size) for row in found}


def expected(rows, row, days, group):
    """The definition, row by row: what was known when the row's block began, of records not older than ``days``."""
    block = (row[2] - END).days // 14
    began = END + timedelta(days=14 * block)
    instant = datetime(began.year, began.month, began.day, tzinfo=UTC)
    seen = [one for one in rows if began - timedelta(days=days) <= one[2] < began and one[3] <= instant]
    mine = [one[4] for one in seen if group(one) == group(row)]
    if not mine:
        return 0.0
    overall = sum(one[4] for one in seen) / len(seen)
    return (sum(mine) + 20 * overall) / (len(mine) + 20) - overall


def test_a_row_sees_what_was_known_when_its_block_began(spark):
    """Equal to the definition computed row by row, late labels, negative and missing numbers included."""
    rows = sold(1, 300)
    found = as_of_their_time(spark, rows)
    for row in rows:
        by_shop = expected(rows, row, 56, lambda one: one[1][0])
        by_size = expected(rows, row, 28, lambda one: (one[1][2], None if one[1][1] is None else one[1][1] // 2.5))
        assert found[row[0]] == pytest.approx((by_shop, by_size), abs=1e-12)
    assert len({round(value, 6) for value, _ in found.values()}) > 5


def test_the_future_changes_nothing(spark):
    """Other outcomes after a time, more records after it, or none at all: rows up to then have the same rates."""
    rows = sold(2, 300)
    then = datetime(2024, 4, 20, tzinfo=UTC)
    before = [row for row in rows if row[2] < then.date()]
    changed = [(*row[:4], 1.0 - row[4]) if row[3] > then else row for row in rows]
    first = as_of_their_time(spark, rows)
    assert sum(row[3] > then for row in before) > 5, "no late label among them shows nothing"
    for other in (changed + [(1000 + row[0], *row[1:]) for row in rows if row[2] >= then.date()], before):
        again = as_of_their_time(spark, other)
        assert {row[0]: again[row[0]] for row in before} == {row[0]: first[row[0]] for row in before}


def test_the_artefact_looks_up_what_spark_joins(spark):
    """Rates are the same, looked up or joined as of the last block, and probabilities at most 1e-9 apart, for groups
    never seen, for numbers missing and out of range, too."""
    frame, keys, cells = prepared(spark, sold(3, 800))
    direct = [0, 1]  # `who` comes in by its rate only
    names = [*(columns(INPUTS)[place] for place in direct), *(f"r_{key.name}" for key in keys)]
    table = assembled(rates.joined(frame, cells, keys, columns(INPUTS), END), names)
    model = GBTClassifier(featuresCol="vector", labelCol="target", maxIter=5, maxDepth=5, seed=3).fit(table)
    forest = read_forest(model)
    tables = rates.tables(cells, keys)
    artefact = to_onnx(forest, len(INPUTS), direct, tables)

    fresh = [(shop, size, who) for shop in ("a", "b", "c", "new") for who in (None, "x", "y")
             for size in (None, -1e6, -7.3, -0.0, 0.0, 2.5, 2.4999999999999996, 7.7, 1e6)]  # fmt: skip
    rows = spark.createDataFrame([(number, one, END, None, None) for number, one in enumerate(fresh)], FIELDS)
    placed = indexed(rows, INPUTS, CATEGORIES)
    now = rates.looked_up(placed, tables, columns(INPUTS))
    rated = ["id", *(f"r_{key.name}" for key in keys)]
    assert len(set(now.select(*rated[1:]).collect())) > 10
    assert now.select(*rated).orderBy("id").collect() == (
        rates.joined(placed, cells, keys, columns(INPUTS), END).select(*rated).orderBy("id").collect()
    )
    scored = model.transform(assembled(now, names)).orderBy("id")
    scored = scored.select(vector_to_array(col("probability"))[1].alias("p"))
    sparks = np.array([row.p for row in scored.collect()])
    served = ServedModel(artefact, [item.name for item in INPUTS], [item.kind for item in INPUTS], CATEGORIES)
    ours = served.probabilities({item.name: [one[place] for one in fresh] for place, item in enumerate(INPUTS)})
    assert len(set(sparks)) > 10
    assert np.abs(ours - sparks).max() <= 1e-9


def test_a_rate_with_too_many_groups_is_refused(spark):
    """Its table would have to travel in the artefact: the failure says so."""
    fine = [Rate("by_size", by=(Step("size", 1e-6),))]
    with pytest.raises(JobFailedError, match=r"by_size would have \d+ groups.*coarser parts"):
        prepared(spark, sold(4, 50), fine)


def test_a_fill_value_takes_no_rate_away(spark):
    """A few -9.97e36 among small numbers would make more groups than there are atoms: what is far from the others
    counts as out of range, in Spark's lookup as in the artefact's, and the others are told apart as before."""
    rows = sold(6, 400)
    rows += [(400 + number, ("a", size, "x"), *row[2:]) for number, row in enumerate(rows[:20])
             for size in (-9.96921e36, 1.7e308)]  # fmt: skip
    frame, keys, cells = prepared(spark, rows)
    (size,) = [part for part in keys[1].parts if part.width == 2.5]
    assert size.low <= -3
    assert 3 < size.low + size.size <= 20, "every step that there is, and no more than a few around"
    tables = rates.tables(cells, keys)
    model = GBTClassifier(featuresCol="vector", labelCol="target", maxIter=3, maxDepth=5, seed=3)
    names = [f"r_{key.name}" for key in keys]  # the trees see the number by its rate only
    forest = read_forest(model.fit(assembled(rates.joined(frame, cells, keys, columns(INPUTS), END), names)))
    served = ServedModel(
        to_onnx(forest, len(INPUTS), [], tables), [item.name for item in INPUTS], [item.kind for item in INPUTS],
        CATEGORIES,
    )  # fmt: skip
    far = served.probabilities({"shop": ["a"] * 3, "who": ["x"] * 3, "size": [-9.96921e36, None, -1.7e308]})
    assert len(set(far)) == 1
    looked = rates.looked_up(frame, tables, columns(INPUTS)).where("id >= 400").select("r_by_size").distinct()
    assert [row.r_by_size for row in looked.collect()] == [tables[1].values.reshape(3, -1)[1, -1]]


def test_lists_of_any_length_keep_their_own_bucket_of_the_unseen(spark):
    """The shorter list's unseen value is one past its own end, and the trees are told how many values there are."""
    inputs = [ModelInput("shop", "category", True), ModelInput("who", "category", False)]
    frame = spark.createDataFrame(sold(5, 20), FIELDS)
    found = indexed(frame, inputs, {"shop": ["z"], "who": [f"w{number}" for number in range(40)]})
    assert {row.x_shop for row in found.collect()} == {1.0}
    assert len(found.schema["x_shop"].metadata["ml_attr"]["vals"]) == 2
