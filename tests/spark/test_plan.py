"""Promises about how Spark works: it reads the days and columns that are asked for, and runs no Python on rows."""

from datetime import date

import pytest

from schemas.shapes import model_inputs
from spark import rates, snapshot
from spark.conversion import convert
from spark.features import assembled, columns, features_ddl, indexed, known_values

pytestmark = pytest.mark.spark


def plan(frame):
    """What Spark is going to do, as text."""
    return frame._jdf.queryExecution().executedPlan().toString()


@pytest.fixture
def rows(desk, record, label):
    """Three days of a small archive, converted."""
    desk.put("records", [record(f"r{day}", day=day) for day in range(3)])
    desk.put("labels", [label(f"r{day}", day=day + 0.5) for day in range(3)])
    convert(desk.spark, desk.storage, desk.job)
    made = snapshot.read(desk.storage, desk.job, desk.job.run_id)
    return snapshot.rows(desk.spark, desk.job, made, features_ddl(desk.job.case))


def test_only_the_days_and_columns_that_are_asked_for_are_read(rows):
    """A day is a partition, a feature is a column of its own: the rest stays in the files."""
    asked = rows.where("dt >= DATE '2024-03-02'").select("record_id", "features.price")
    assert asked.count() == 2
    text = plan(asked)
    filters, schema = (text.partition(word)[2].partition("\n")[0] for word in ("PartitionFilters: ", "ReadSchema: "))
    assert "dt#" in filters.partition("]")[0]
    assert "2024-03-02" in filters.partition("]")[0]
    assert schema.startswith("struct<record_id:string,features:struct<price:double>>")


def test_no_python_runs_on_rows(desk, rows):
    """From the files to the trees' vectors all is Spark's own: no row is handed to a Python worker."""
    case = desk.job.case
    inputs = model_inputs(case)
    labelled = rows.selectExpr("*", "1D AS target")
    categories = known_values(labelled, inputs, {item.name: 10 for item in inputs})
    found = {name: 0 for name, _ in rates.bounds(case.rates)}
    keys = rates.keys(case.rates, found, inputs, categories)
    frame = indexed(labelled, inputs, categories)
    end = date(2024, 3, 4)
    cells = rates.history(frame, case.rates, keys, columns(inputs), end)
    table = assembled(rates.joined(frame, cells, keys, columns(inputs), end), columns(inputs))
    text = plan(table)
    assert "BroadcastHashJoin" in text
    assert "Python" not in text
    window = assembled(rates.looked_up(frame, rates.tables(cells, keys), columns(inputs)), columns(inputs))
    text = plan(window)
    assert "Join" not in text
    assert "Python" not in text
