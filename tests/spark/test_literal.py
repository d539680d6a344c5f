"""Rows of the program as a DataFrame."""

import math

from spark.literal import literal


def test_rows_come_back_as_they_were_given(spark):
    """Every value is the same afterwards: numbers to the last bit, no number at all, other scripts, and what is left
    out is null."""
    rows = [
        {"name": "Zürich 😀 \"'", "value": 0.1 + 0.2, "inner": {"x": 1e-300, "y": None}},
        {"name": "", "value": -math.inf, "inner": None},
        {},
    ]
    found = literal(spark, rows, "name STRING, value DOUBLE, inner STRUCT<x: DOUBLE, y: STRING>")
    assert [row.asDict(recursive=True) for row in found.collect()] == [
        rows[0],
        rows[1],
        {"name": None, "value": None, "inner": None},
    ]


def test_no_rows_are_a_table_with_columns(spark):
    """What has nothing new is read like everything else."""
    empty = literal(spark, [], "record_id STRING, features STRUCT<x: DOUBLE>")
    assert (empty.columns, empty.count()) == (["record_id", "features"], 0)
