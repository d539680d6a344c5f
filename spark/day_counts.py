"""Counts each day's records by bin, for every input and for the labels: one pass over the data, whatever is asked.

What comes to the driver are sums: it grows with days and bins, not with records.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql.functions import broadcast, expr

from schemas.profile import DELAY_HOURS, LABEL, LABEL_DELAY, Bins, DataProfile
from schemas.shapes import MISSING, InputKind, ModelInput
from schemas.use_cases import UseCase
from spark.literal import literal

DECILES = ", ".join(f"{step / 10}D" for step in range(1, 10))
YEAR = 364
"""A profile goes back so many days (whole weeks): enough to know the usual, and bounded."""
DELAY = Bins(kind="number", edges=list(DELAY_HOURS))
MISSING_KEY, NUMBER_KEY, VALUE_KEY = "-", "#", "="

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
                expr(f"percentile_approx(features.`{name}`, array({DECILES}), 10000) AS q{place}")
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


@dataclass(frozen=True)
class Wanted:
    """Bins to count by, from a day on."""

    bins: Mapping[str, Bins]
    since: date


def count(
    rows: DataFrame, case: UseCase, first: date, days: int, wanted: Sequence[Wanted]
) -> tuple[list[Counts], Counts]:
    """Count ``rows`` of ``days`` days from ``first`` by each of ``wanted``, in one pass.

    Returns:
        What was counted for each of ``wanted``, and the labels (``:label``, ``:label_delay``). Days before ``since``
        are zero.
    """
    spark = rows.sparkSession
    labels = Wanted({LABEL: Bins(kind="category", values=list(case.labels)), LABEL_DELAY: DELAY}, first)
    sets = [*wanted, labels]
    kinds = {name: bins.kind for one in sets for name, bins in one.bins.items()}
    things = {name: place for place, name in enumerate(kinds)}
    # Each value of a record as (thing, key, number): a lookup in a small table, which is broadcast, finds its bins. One
    # expression for all bins would be a method too long for Java to compile. As SQL, for each function of pyspark is
    # a call to Java and back.
    pairs = ", ".join(_pair(things[name], name, kind) for name, kind in kinds.items())
    last = first + timedelta(days=days - 1)
    values = rows.where(f"dt BETWEEN DATE '{first}' AND DATE '{last}'").selectExpr(
        f"datediff(dt, DATE '{first}') AS day", f"inline(array({pairs}))"
    )
    table = literal(
        spark,
        [
            {"thing": things[name], "number": number, "since": (one.since - first).days} | cell
            for number, one in enumerate(sets)
            for name, bins in one.bins.items()
            for cell in _cells(bins)
        ],
        "thing INT, key STRING, low DOUBLE, high DOUBLE, number INT, since INT, place INT",
    )
    counted = (
        values.join(broadcast(table), ["thing", "key"])
        .where("x > low AND x <= high AND day >= since")
        .groupBy("number", "thing", "day", "place")
        .count()
    )
    names = list(things)
    found = [{name: np.zeros((days, bins.places), dtype=np.int64) for name, bins in one.bins.items()} for one in sets]
    # At most things by days by bins. As columns, for rows of Python would be 32,000 objects in a demo's evaluation.
    frame: Any = counted.toPandas()
    for (number, thing), cells in frame.groupby(["number", "thing"]):
        found[number][names[thing]][cells["day"], cells["place"]] = cells["count"]
    records = found[-1][LABEL].sum(axis=1)
    for one, tables in zip(sets, found, strict=True):
        for name, bins in one.bins.items():
            if bins.kind == "category":
                # What is not in the table is not listed: the rest of the day's records.
                counted_days = np.arange(days) >= (one.since - first).days
                tables[name][:, -1] = np.where(counted_days, records - tables[name].sum(axis=1), 0)
    found[-1][LABEL] = found[-1][LABEL][:, :-1]
    return found[:-1], found[-1]


def _pair(thing: int, name: str, kind: InputKind) -> str:
    if name == LABEL_DELAY:
        hours = "(CAST(label_time AS DOUBLE) - CAST(event_time AS DOUBLE)) / 3600D"
        value = f"IF(label IS NULL, NULL, {hours})"
    else:
        value = "label" if name == LABEL else f"features.`{name}`"
    if kind == "number":
        key, number = f"IF({value} IS NULL, '{MISSING_KEY}', '{NUMBER_KEY}')", f"coalesce({value}, 0D)"
    else:
        key, number = f"coalesce(concat('{VALUE_KEY}', {value}), '{MISSING_KEY}')", "0D"
    return f"struct({thing} AS thing, {key} AS key, {number} AS x)"


def _cells(bins: Bins) -> Iterator[dict[str, Any]]:
    """Each bin as its key, the number it begins above and ends with, and its place."""
    every = {"low": -math.inf, "high": math.inf}
    yield {"key": MISSING_KEY, "place": 0} | every
    if bins.kind == "category":
        for place, value in enumerate(bins.values, 1):
            yield {"key": VALUE_KEY + value, "place": place} | every
    else:
        for place, (low, high) in enumerate(itertools.pairwise([-math.inf, *bins.edges, math.inf]), 1):
            yield {"key": NUMBER_KEY, "low": low, "high": high, "place": place}


def as_profile(first: date, bins: Mapping[str, Bins], counts: Counts) -> DataProfile:
    """The record to keep, of counts whose first row is ``first``. Days without a record are left out."""
    any_item = next(iter(counts.values()))
    kept = np.flatnonzero(any_item.sum(axis=1))
    return DataProfile(
        days=[(first + timedelta(days=int(day))).isoformat() for day in kept],
        bins=dict(bins),
        counts={name: table[kept].tolist() for name, table in counts.items()},
    )
