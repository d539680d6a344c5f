"""History features: how often the positive label occurred of late in a row's group (``schemas.rate.Rate``).

A rate is computed as it could have been at the time. Days are cut into blocks of two weeks that end where the
evaluation window begins; a row sees what was known when its block began: records of the blocks before it, with labels
that had come in by then. The block after the last one is what the artefact carries, as a table, into evaluation and
serving. (Encodings that let a row see its own label, even left out, leak: they cost a model a tenth of AUC.)

A cell holds the difference to the overall rate, drawn towards zero where there are few records; a group without any
has 0. Rows find their cell by positions, not by words, with the same arithmetic in Spark (:meth:`Key.place`) and in the
artefact (``export.py``).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import floor, prod
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql.functions import broadcast, col, expr, from_json, lit

from schemas.rate import BLOCK_DAYS, Rate, Step
from schemas.shapes import ModelInput
from spark.job import JobFailedError

PRIOR = 20.0
"""So many records at the overall rate are added to each group."""
MAX_CELLS = 1_000_000


@dataclass(frozen=True)
class Part:
    """One part of a key: the input's place among ``size`` places of ``width``, or the place ``size`` for all that is
    missing, unseen or out of range."""

    input: int
    """Position among the model's inputs."""
    width: float
    low: float
    size: int


@dataclass(frozen=True)
class Key:
    """How a row finds its cell."""

    name: str
    parts: tuple[Part, ...]

    @property
    def cells(self) -> int:
        """How many there are."""
        return prod(part.size + 1 for part in self.parts)

    @property
    def strides(self) -> tuple[int, ...]:
        """What each part's place is multiplied by."""
        sizes = [part.size + 1 for part in self.parts]
        return tuple(prod(sizes[place + 1 :]) for place in range(len(sizes)))

    def place(self, columns: Sequence[str]) -> str:
        """The cell as a SQL expression; ``columns`` are those of the model's inputs, in order."""
        terms = []
        for part, stride in zip(self.parts, self.strides, strict=True):
            step = f"(floor(`{columns[part.input]}` / {part.width!r}D) - {part.low!r}D)"
            terms.append(f"{stride} * CAST(IF({step} BETWEEN 0 AND {part.size - 1}, {step}, {part.size}) AS INT)")
        return " + ".join(terms)


@dataclass(frozen=True)
class Table:
    """A rate as the artefact carries it."""

    key: Key
    values: np.ndarray
    """One double for each cell."""


def bounds(rates: Sequence[Rate]) -> list[tuple[str, str]]:
    """Names and SQL aggregates of the first and the last step of each number in a key, and of its quartiles, which a
    fill value of -1e36 does not move."""
    steps = sorted({part for rate in rates for part in rate.by if isinstance(part, Step)}, key=repr)
    return [
        (f"{what} {step}", aggregate.format(step=f"floor(features.`{step.feature}` / {step.width!r}D)"))
        for step in steps
        for what, aggregate in (
            ("min", "min({step})"),
            ("max", "max({step})"),
            ("quarter", "percentile_approx({step}, 0.25D, 1000)"),
            ("three quarters", "percentile_approx({step}, 0.75D, 1000)"),
        )
    ]


def keys(
    rates: Sequence[Rate],
    found: Mapping[str, Any],
    inputs: Sequence[ModelInput],
    categories: Mapping[str, Sequence[str]],
) -> list[Key]:
    """The keys of ``rates``. A number whose steps do not all fit is told apart around the middle half of the rows, and
    beyond it counts as out of range.

    Args:
        found: what the training rows have for :func:`bounds`, by name.

    Raises:
        JobFailedError: a rate with too many cells.
    """
    position = {item.name: place for place, item in enumerate(inputs)}
    result = []
    for rate in rates:
        key = _key(rate, _ends, found, position, categories)
        if key.cells > MAX_CELLS:
            key = _key(rate, _middle, found, position, categories)
        if key.cells > MAX_CELLS:
            raise JobFailedError(
                f"rate {rate.name} would have {key.cells} groups, more than {MAX_CELLS}: a table of that size does not "
                "belong into an artefact; take fewer or coarser parts (schemas/use_cases/), or send null for what is "
                "missing, not a number far from all others"
            )
        result.append(key)
    return result


def _key(
    rate: Rate,
    ends: Callable[[Mapping[str, Any], Step], tuple[float, float]],
    found: Mapping[str, Any],
    position: Mapping[str, int],
    categories: Mapping[str, Sequence[str]],
) -> Key:
    parts = []
    for part in rate.by:
        if isinstance(part, Step):
            low, high = ends(found, part)
            parts.append(Part(position[part.feature], part.width, low, floor(high - low) + 1))
        else:
            parts.append(Part(position[part], 1.0, 0.0, len(categories[part])))
    return Key(rate.name, tuple(parts))


def _ends(found: Mapping[str, Any], step: Step) -> tuple[float, float]:
    low, high = (float(found[f"{what} {step}"] or 0) for what in ("min", "max"))
    return low, high


def _middle(found: Mapping[str, Any], step: Step) -> tuple[float, float]:
    """The middle half of the rows, and three times as much on either side."""
    low, high = _ends(found, step)
    quarter, three_quarters = (float(found[f"{what} {step}"] or 0) for what in ("quarter", "three quarters"))
    reach = 3 * (three_quarters - quarter) + 1
    return max(low, quarter - reach), min(high, three_quarters + reach)


def history(
    rows: DataFrame, rates: Sequence[Rate], keys: Sequence[Key], columns: Sequence[str], end: date
) -> DataFrame:
    """The cells of every block up to the one that begins at ``end`` (block 0): columns ``rate``, ``block``, ``cell``
    and ``value``; cells without records are left out.

    Args:
        rows: labelled rows with ``dt``, ``label_time``, ``target`` and the inputs' columns.
    """
    start = f"TIMESTAMP '{end.isoformat()} 00:00:00'"
    entries = ", ".join(
        f"struct({number} AS rate, {rate.days // BLOCK_DAYS} AS blocks, {key.place(columns)} AS cell)"
        for number, (rate, key) in enumerate(zip(rates, keys, strict=True))
    )
    known = f"ceil((unix_seconds(label_time) - unix_seconds({start})) / {BLOCK_DAYS * 86400}D)"
    return (
        rows.selectExpr("target", f"{_block(end)} AS block", f"{known} AS known", f"inline(array({entries}))")
        # A record counts in the blocks after its own, from the one that began with its label known.
        .selectExpr("rate", "cell", "target", "greatest(block + 1, known) AS first", "least(block + blocks, 0) AS last")
        .where("first <= last")
        .groupBy("rate", "cell", "first", "last")
        .agg(expr("count(1) AS rows"), expr("sum(target) AS positive"))
        .selectExpr("rate", "cell", "rows", "positive", "explode(sequence(first, last)) AS block")
        .groupBy("rate", "block", "cell")
        .agg(expr("sum(rows) AS rows"), expr("sum(positive) AS positive"))
        .selectExpr(
            "*", "sum(positive) OVER (PARTITION BY rate, block) / sum(rows) OVER (PARTITION BY rate, block) AS overall"
        )
        .selectExpr(
            "rate", "block", "cell", f"(positive + {PRIOR!r}D * overall) / (rows + {PRIOR!r}D) - overall AS value"
        )
    )


def joined(rows: DataFrame, cells: DataFrame, keys: Sequence[Key], columns: Sequence[str], end: date) -> DataFrame:
    """``rows`` with a column ``r_<rate>`` each, as of the block of their day ``dt``."""
    # Few steps, each with all columns: Spark analyses the plan anew at every one. One number as the key of a cell: the
    # joins then look up a long.
    found = cells.selectExpr(f"{_cell('rate', 'block', 'cell')} AS cell", "value")
    frame = rows.selectExpr(
        "*", *(f"{_cell(number, _block(end), key.place(columns))} AS cell_{number}" for number, key in enumerate(keys))
    )
    for number in range(len(keys)):
        side = found.toDF(f"side_{number}", f"value_{number}")
        frame = frame.join(broadcast(side), expr(f"cell_{number} = side_{number}"), "left")
    values = [f"coalesce(value_{number}, 0D) AS `r_{key.name}`" for number, key in enumerate(keys)]
    scratch = [f"{name}_{number}" for number in range(len(keys)) for name in ("cell", "side", "value")]
    return frame.selectExpr("*", *values).drop(*scratch)


def looked_up(rows: DataFrame, tables: Sequence[Table], columns: Sequence[str]) -> DataFrame:
    """``rows`` with a column ``r_<rate>`` each, from the tables that the artefact carries."""
    # Each table as one constant, which Spark reads once for the plan: a join would be a job for every table.
    found = [
        from_json(lit(json.dumps(table.values.tolist())), "ARRAY<DOUBLE>")[expr(table.key.place(columns))].alias(
            f"r_{table.key.name}"
        )
        for table in tables
    ]
    return rows.select(col("*"), *found)


def _cell(rate: int | str, block: str, cell: str) -> str:
    """A number for each cell of each rate and block. Blocks are 0 and before; a million of them are 38,000 years."""
    return f"({rate} * 1000000L - ({block})) * {MAX_CELLS}L + {cell}"


def tables(cells: DataFrame, keys: Sequence[Key]) -> list[Table]:
    """Block 0, for the artefact: at most :data:`MAX_CELLS` numbers a rate."""
    found = cells.where("block = 0").collect()
    result = []
    for number, key in enumerate(keys):
        values = np.zeros(key.cells)
        for row in found:
            if row.rate == number:
                values[row.cell] = row.value
        result.append(Table(key, values))
    return result


def _block(end: date) -> str:
    return f"CAST(floor(datediff(dt, DATE '{end.isoformat()}') / {BLOCK_DAYS}D) AS BIGINT)"
