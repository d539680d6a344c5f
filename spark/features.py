"""From a record's features to the numbers a model sees: once in Spark for training, once in numpy for the artefact.

Category: its position in an alphabetical list of the values known from training; a value that is not in the list has
the position ``len(list)`` (the bucket of the unseen), and a missing one is looked up as ``__missing__``.

Number: as it is. A missing one is trained as the lowest value there is, so that every split of the trees sends it
to the left; the artefact says the same of NaN. (Spark's own trees cannot be trained on NaN: it can become a split's
threshold, and then training and prediction disagree about who goes left.)
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pyspark.ml.feature import StringIndexerModel, VectorAssembler
from pyspark.sql import DataFrame
from pyspark.sql.functions import col, expr

from schemas.shapes import MISSING, ModelInput, model_inputs
from schemas.use_cases import UseCase

MISSING_NUMBER = -sys.float_info.max
"""What Spark's trees are trained on in place of a missing number: no feature lies below it. A threshold lies half-way
between two neighbours, so it is above, and the missing go left at every split, as NaN does in the artefact. (Half-way
to a number near it the sum overflows, to a threshold of -inf: nobody goes left there, so it splits nothing.)"""


def features_ddl(case: UseCase) -> str:
    """The column ``features`` as ``convert`` writes it: all numbers are doubles."""
    fields = ", ".join(
        f"`{item.name}`: {'STRING' if item.kind == 'category' else 'DOUBLE'}" for item in model_inputs(case)
    )
    return f"features STRUCT<{fields}>"


def scores_ddl(case: UseCase) -> str:
    """The columns in which ``train`` leaves Spark's own probabilities of the evaluation window and the golden rows."""
    return f"record_id STRING, dt DATE, target DOUBLE, {features_ddl(case)}, golden INT, probability DOUBLE"


def known_values(rows: DataFrame, inputs: Sequence[ModelInput], limits: Mapping[str, int]) -> dict[str, list[str]]:
    """The values of each category in ``rows.features``, in alphabetical order: all of them, or the most frequent of a
    category that has more than its limit."""
    names = [item.name for item in inputs if item.kind == "category"]
    if not names:
        return {}
    pairs = ", ".join(f"struct({position} AS position, {_text(name)} AS value)" for position, name in enumerate(names))
    counted = (
        rows.select(expr(f"explode(array({pairs})) AS pair"))
        .groupBy("pair.position", "pair.value")
        .count()
        .selectExpr(
            "position", "value", "row_number() OVER (PARTITION BY position ORDER BY count DESC, value) AS place"
        )
        .where(col("place") <= max(limits.values()))
    )
    found: dict[str, list[str]] = defaultdict(list)
    for row in counted.collect():  # at most the limit for each category
        name = names[row.position]
        if row.place <= limits[name]:
            found[name].append(row.value)
    return {name: sorted(found[name]) for name in names}


def columns(inputs: Sequence[ModelInput]) -> list[str]:
    """The names of the inputs' columns in :func:`indexed`."""
    return [f"x_{item.name}" for item in inputs]


def indexed(rows: DataFrame, inputs: Sequence[ModelInput], categories: Mapping[str, list[str]]) -> DataFrame:
    """``rows`` with a column of doubles for each input, read from the struct ``features``."""
    texts = [item.name for item in inputs if item.kind == "category"]
    frame = rows.selectExpr(
        "*",
        *(
            f"{_text(item.name)} AS `in_{item.name}`"
            if item.kind == "category"
            else f"{_number(item.name)} AS `x_{item.name}`"
            for item in inputs
        ),
    )
    # One by one: given together, pyspark pads the shorter lists to the length of the longest.
    for name in texts:
        frame = StringIndexerModel.from_labels(
            categories[name], inputCol=f"in_{name}", outputCol=f"x_{name}", handleInvalid="keep"
        ).transform(frame)
    return frame.drop(*(f"in_{name}" for name in texts))


def assembled(rows: DataFrame, names: Sequence[str]) -> DataFrame:
    """``rows`` with a vector column ``vector`` in place of the columns ``names``."""
    return (
        VectorAssembler(inputCols=list(names), outputCol="vector", handleInvalid="error").transform(rows).drop(*names)
    )


def vectors(rows: DataFrame, inputs: Sequence[ModelInput], categories: Mapping[str, list[str]]) -> DataFrame:
    """``rows`` with a vector column ``vector`` of the inputs alone, for a model without rates."""
    return assembled(indexed(rows, inputs, categories), columns(inputs))


def matrix(
    columns: Mapping[str, Sequence[Any]],
    inputs: Sequence[str],
    kinds: Sequence[str],
    categories: Mapping[str, Sequence[str]],
) -> np.ndarray:
    """The model's input, rows by inputs, from plain columns (None or NaN where a value is missing).

    This is the contract of the artefact's input ``features``, written without Spark; parity holds the two together.
    A column that is not there at all counts as missing in every row.
    """
    rows = max((len(values) for values in columns.values()), default=0)
    result = np.empty((rows, len(inputs)), dtype=np.float64)
    for position, (name, kind) in enumerate(zip(inputs, kinds, strict=True)):
        values: Iterable[Any] = columns.get(name, [None] * rows)
        if kind == "category":
            places = {value: place for place, value in enumerate(categories[name])}
            unseen = float(len(categories[name]))
            result[:, position] = [places.get(MISSING if value is None else value, unseen) for value in values]
        else:
            result[:, position] = [np.nan if value is None else float(value) for value in values]
    return result


def _text(name: str) -> str:
    return f"coalesce(features.`{name}`, '{MISSING}')"


def _number(name: str) -> str:
    return f"coalesce(nanvl(features.`{name}`, NULL), {MISSING_NUMBER!r}D)"
