"""Counts each day's records by bin, for every input and for the labels: one pass over the data, whatever is asked.

A record becomes one number for each thing that is counted (its day, the thing, its bin), and numbers are counted: that
is one shuffle of a few thousand sums, and what comes to the driver grows with days and bins, not with records.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql.functions import array as array_of
from pyspark.sql.functions import call_function, col, datediff, explode, lit, percentile_approx, when

from schemas.profile import DELAY_HOURS, LABEL, LABEL_DELAY, Bins, DataProfile
from schemas.shapes import MISSING, ModelInput
from schemas.use_cases import UseCase

DECILES = [round(0.1 * step, 1) for step in range(1, 10)]
YEAR = 364
"""A profile goes back so many days (whole weeks): enough to know the usual, and bounded."""
_ITEM, _DAY = 10_000, 10_000_000

Counts = dict[str, np.ndarray]
"""For each thing: days by bins."""


def choose_bins(
    rows: DataFrame, inputs: Sequence[ModelInput], categories: Mapping[str, Sequence[str]]
) -> dict[str, Bins]:
    """Deciles of each number over ``rows`` (one pass for all of them), and the values known from training."""
    numbers = [item.name for item in inputs if item.kind == "number"]
    edges: dict[str, list[float]] = {}
    if numbers:
        (found,) = rows.agg(
            *(
                percentile_approx(col(f"features.`{name}`"), DECILES, 10_000).alias(f"q{place}")
                for place, name in enumerate(numbers)
            )
        ).collect()
        edges = {name: sorted(set(found[place] or [])) for place, name in enumerate(numbers)}
    return {
        item.name: Bins(kind="number", edges=edges[item.name])
        if item.kind == "number"
        else Bins(kind="category", values=[value for value in categories[item.name] if value != MISSING])
        for item in inputs
    }


def count(
    rows: DataFrame, case: UseCase, first: date, days: int, sets: Sequence[Mapping[str, Bins]]
) -> tuple[list[Counts], Counts]:
    """Count ``rows`` of ``days`` days from ``first`` by the bins of each of ``sets``, in one pass.

    Returns:
        What was counted for each set, and the labels (``:label``, ``:label_delay``).
    """
    positive = col("label") == case.positive
    hours = (col("label_time").cast("double") - col("event_time").cast("double")) / 3600.0
    named: list[tuple[int, str, Column, int]] = [
        (number, name, _place(col(f"features.`{name}`"), bins), bins.places)
        for number, chosen in enumerate(sets)
        for name, bins in chosen.items()
    ]
    delay = Bins(kind="number", edges=list(DELAY_HOURS))
    named += [
        (-1, LABEL, when(col("label").isNull(), 0).when(positive, 2).otherwise(1), 3),
        (-1, LABEL_DELAY, _place(when(col("label").isNotNull(), hours), delay), delay.places),
    ]
    day = datediff(col("dt"), lit(first)).cast("long") * _DAY
    codes = array_of(*(day + item * _ITEM + place for item, (_, _, place, _) in enumerate(named)))
    last = first + timedelta(days=days - 1)
    within = rows.where((col("dt") >= lit(first)) & (col("dt") <= lit(last)))
    found = [np.zeros((days, places), dtype=np.int64) for _, _, _, places in named]
    for row in within.select(explode(codes).alias("code")).groupBy("code").count().collect():  # days by bins
        at, rest = divmod(row.code, _DAY)
        item, place = divmod(rest, _ITEM)
        found[item][at, place] = row["count"]
    by_set: list[Counts] = [{} for _ in sets]
    labels: Counts = {}
    for (number, name, _, _), table in zip(named, found, strict=True):
        (labels if number < 0 else by_set[number])[name] = table
    return by_set, labels


def as_profile(first: date, bins: Mapping[str, Bins], counts: Counts) -> DataProfile:
    """The record to keep, of counts whose first row is ``first``. Days without a record are left out."""
    any_item = next(iter(counts.values()))
    kept = np.flatnonzero(any_item.sum(axis=1))
    return DataProfile(
        days=[(first + timedelta(days=int(day))).isoformat() for day in kept],
        bins=dict(bins),
        counts={name: table[kept].tolist() for name, table in counts.items()},
    )


def _place(value: Column, bins: Bins) -> Column:
    """``Bins.place`` as an expression. The bins' values are literals of the plan, never text of a query."""
    found = when(value.isNull(), 0)
    if bins.kind == "number":
        for place, edge in enumerate(bins.edges, 1):
            found = found.when(value <= edge, place)
        return found.otherwise(1 + len(bins.edges))
    if bins.values:
        # (functions.array_position takes no column to look for.)
        position = call_function("array_position", array_of(*map(lit, bins.values)), value)
        found = found.when(position > 0, position)
    return found.otherwise(1 + len(bins.values))
