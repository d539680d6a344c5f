"""A model of the size and shape that is trained here, made in a moment and without training: its trees are random.

The splits stand at values that real flights have, the categories are theirs, and the rates have their groups: a
record takes the way through the artefact that it takes in a trained one.
"""

import json
import random
from datetime import UTC, datetime
from math import floor
from typing import Any

import numpy as np

from datasets import data_set
from rehearsal.manifest import untrained
from schemas import GoldenRow, use_case
from schemas.rate import Step
from schemas.shapes import MISSING, ModelInput, model_inputs
from spark.export import Forest, Node, to_onnx
from spark.rates import Key, Part, Table
from spark.served import ServedModel

CASE = use_case("flights")
TREES = 80
DEPTH = 3
MOST_WORDS = 31
"""A category with more words comes in by its rates only, as in training."""
GOLDEN_ROWS = 50
DATE = "2013-03-01"


def documents(count: int) -> list[dict[str, Any]]:
    """The first ``count`` real flights, as records. A week of them is read: there are 6,000."""
    history = data_set(CASE.name).history(datetime(2013, 1, 8, tzinfo=UTC))
    return [record for record, _ in history][:count]


def folder(records: list[dict[str, Any]], seed: int = 7) -> dict[str, bytes]:
    """The files of the model's folder, by name."""
    run_id = f"20130301-000000-bench{seed:03d}"
    inputs = model_inputs(CASE)
    names, kinds = [item.name for item in inputs], [item.kind for item in inputs]
    columns = {name: [record["features"][name] for record in records] for name in names}
    categories = {
        item.name: [*sorted({value for value in columns[item.name] if value is not None}), MISSING]
        for item in inputs
        if item.kind == "category"
    }
    direct = [place for place, name in enumerate(names) if len(categories.get(name, ())) <= MOST_WORDS]
    dice = random.Random(seed)
    tables = _rates(dice, inputs, categories, columns)
    forest = _forest(dice, [inputs[place] for place in direct], len(tables), columns, categories)
    artefact = to_onnx(forest, len(inputs), direct, tables)
    rows = records[:: len(records) // GOLDEN_ROWS][:GOLDEN_ROWS]
    served = ServedModel(artefact, names, kinds, categories)
    probabilities = served.probabilities({name: [row["features"][name] for row in rows] for name in names})
    golden = [
        GoldenRow(features=row["features"], probability=float(probability))
        for row, probability in zip(rows, probabilities, strict=True)
    ]
    files = {
        "model.onnx": artefact,
        "golden.json": json.dumps([row.model_dump() for row in golden]).encode(),
    }
    manifest = untrained(
        CASE,
        f"{DATE}/{run_id}",
        files,
        categories,
        reason="made for a benchmark",
        seed=seed,
        trained_at=datetime(2013, 3, 1, tzinfo=UTC),
        parameters={"trees": TREES, "depth": DEPTH},
    )
    return {**files, "manifest.json": manifest.model_dump_json().encode()}


def _rates(
    dice: random.Random, inputs: list[ModelInput], categories: dict[str, list[str]], columns: dict[str, Any]
) -> list[Table]:
    """The use case's rates, with a small difference to the overall rate in each group that the records have."""
    position = {item.name: place for place, item in enumerate(inputs)}
    tables = []
    for rate in CASE.rates:
        parts = [
            Part(position[part.feature], part.width, 0.0, 24)
            if isinstance(part, Step)
            else Part(position[part], 1.0, 0.0, len(categories[part]))
            for part in rate.by
        ]
        key = Key(rate.name, tuple(parts))
        values = np.zeros(key.cells)
        for row in range(len(columns[inputs[0].name])):
            places = []
            for part in parts:
                name = inputs[part.input].name
                value = columns[name][row]
                place = categories[name].index(value) if name in categories else floor(value / part.width)
                places.append(place if 0 <= place < part.size else part.size)
            values[sum(place * stride for place, stride in zip(places, key.strides, strict=True))] = 1.0
        values[values > 0] = [dice.uniform(-0.1, 0.1) for _ in range(int(values.sum()))]
        tables.append(Table(key, values))
    return tables


def _forest(
    dice: random.Random, inputs: list[ModelInput], rates: int, columns: dict[str, Any], categories: dict[str, list[str]]
) -> Forest:
    inner = 2**DEPTH - 1

    def node(place: int) -> Node:
        if place >= inner:
            return Node(-1, dice.uniform(-1, 1), -1, -1, None, ())
        feature = dice.randrange(len(inputs) + rates)
        left, right = 2 * place + 1, 2 * place + 2
        if feature >= len(inputs):
            return Node(feature, 0.0, left, right, dice.uniform(-0.1, 0.1), ())
        name = inputs[feature].name
        if inputs[feature].kind == "category":
            members = tuple(float(index) for index in range(len(categories[name])) if dice.random() < 0.5)
            return Node(feature, 0.0, left, right, None, members or (0.0,))
        seen = [value for value in columns[name] if value is not None] or [0.0]
        return Node(feature, 0.0, left, right, float(dice.choice(seen)), ())

    trees = [[node(place) for place in range(2 * inner + 1)] for _ in range(TREES)]
    return Forest(trees, [0.1] * TREES, len(inputs) + rates)
