"""The function and the Spark side feed the artefact the same numbers: each has its own code for it."""

import random
from typing import Any

import pytest

from functions.classify.model import Model, load_model
from schemas import use_case
from schemas.shapes import MISSING, model_inputs
from spark.export import Forest, Node, to_onnx
from spark.served import ServedModel
from tests.functions.doubles import models

CASE = use_case("flights")
INPUTS = model_inputs(CASE)
NAMES = [item.name for item in INPUTS]
KINDS = [item.kind for item in INPUTS]


def trees(seed: int, count: int = 30, depth: int = 5) -> Forest:
    """A forest of random trees with numeric and categorical splits."""
    dice = random.Random(seed)
    size = 2 ** (depth + 1) - 1

    def node(place: int) -> Node:
        if place >= size // 2:
            return Node(-1, dice.uniform(-1, 1), -1, -1, None, ())
        feature = dice.randrange(len(INPUTS))
        left, right = 2 * place + 1, 2 * place + 2
        if KINDS[feature] == "category":
            known = len(models.CATEGORIES[NAMES[feature]])
            members = tuple(float(i) for i in range(known + 1) if dice.random() < 0.5) or (0.0,)
            return Node(feature, 0.0, left, right, None, members)
        return Node(feature, 0.0, left, right, dice.uniform(0, 1000), ())

    return Forest([[node(i) for i in range(size)] for _ in range(count)], [0.1] * count, len(INPUTS))


def features(seed: int, count: int) -> list[dict[str, Any]]:
    """Random features: known, unseen and missing values."""
    dice = random.Random(seed)
    rows = []
    for _ in range(count):
        row: dict[str, Any] = {}
        for item in INPUTS:
            if item.kind == "category":
                known = [word for word in models.CATEGORIES[item.name] if word != MISSING]
                row[item.name] = dice.choice([*known, "ZZZ"])
            elif not item.required and dice.random() < 0.3:
                row[item.name] = None
            else:
                row[item.name] = dice.uniform(0.5, 1000) if item.name != "weekday" else 3.0
        rows.append(row)
    return rows


def expected(artefact: bytes, rows: list[dict[str, Any]]) -> list[float]:
    """What the Spark side says of these rows."""
    columns = {name: [row.get(name) for row in rows] for name in NAMES}
    return ServedModel(artefact, NAMES, KINDS, models.CATEGORIES).probabilities(columns).tolist()


def loaded(artefact: bytes) -> Model:
    """The model as the function loads it, fifty golden rows included."""
    rows = features(3, 50)
    pairs = zip(rows, expected(artefact, rows), strict=True)
    golden = [{"features": row, "probability": value} for row, value in pairs]
    files = models.folder(CASE, model=artefact, golden=golden)
    pointer = models.pointer(files, 1)
    return load_model(CASE, pointer.model_version, pointer.manifest_sha256, files.__getitem__)


def test_a_tree_ensemble_gives_the_same_probabilities_on_both_sides():
    """Alone and in a batch, with missing numbers and unseen categories: equal but for the order of a sum."""
    artefact = to_onnx(trees(1), len(INPUTS), range(len(INPUTS)), [])
    rows = features(2, 500)
    model = loaded(artefact)
    given = [CASE.features.model_construct(**row) for row in rows]
    wanted = expected(artefact, rows)
    assert model.probabilities(given) == pytest.approx(wanted, abs=1e-14, rel=0)
    assert [model.probability(item) for item in given] == pytest.approx(wanted, abs=1e-14, rel=0)
    assert len(set(wanted)) > 400, "the trees do look at the features"


def test_missing_categories_are_fed_alike():
    """A null category is looked up as the word for it where training knew one, else it is unseen."""
    artefact = to_onnx(trees(1), len(INPUTS), range(len(INPUTS)), [])
    model = loaded(artefact)
    for name in ("carrier", "dest"):  # training knew missing carriers, and no missing destination
        row = CASE.features.model_validate(models.FEATURES).model_dump() | {name: None}
        assert model.probability(CASE.features.model_construct(**row)) == pytest.approx(
            expected(artefact, [row])[0], abs=1e-14, rel=0
        )
