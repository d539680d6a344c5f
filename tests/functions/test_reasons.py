"""Reasons: contributions that add up to the answer, and are Shapley's values by definition."""

import asyncio
import json
import math
import random
from collections.abc import Awaitable, Callable
from itertools import combinations
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from functions.classify.handler import ClassifyHttp
from functions.classify.model import load_model
from functions.classify.reasons import Explainer, Reasons
from functions.classify.serving import Serving
from schemas import Canary, ModelPointer, use_case
from schemas.shapes import model_inputs
from spark.export import Forest, Node, to_onnx
from spark.reasons import to_reasons
from tests.functions.doubles import models

CASE = use_case("flights")
INPUTS = model_inputs(CASE)
NAMES = [item.name for item in INPUTS]


def grow(dice: random.Random, columns: int, depth: int, kinds: list[str], sizes: list[int]) -> list[Node]:
    """A random tree, grown unevenly, whose rows add up; the same column may come twice on a path."""
    nodes: list[Node | None] = []

    def add(rows: float, left: int) -> int:
        place = len(nodes)
        nodes.append(None)
        if left == 0 or rows < 2 or dice.random() < 0.15:
            nodes[place] = Node(-1, dice.uniform(-1, 1), -1, -1, None, (), rows)
            return place
        column = dice.randrange(columns)
        to_left = float(dice.randint(1, int(rows) - 1))
        children = add(to_left, left - 1), add(rows - to_left, left - 1)
        if kinds[column] == "category":
            members = tuple(float(one) for one in range(sizes[column] + 1) if dice.random() < 0.5) or (0.0,)
            nodes[place] = Node(column, 0.0, *children, None, members, rows)
        else:
            nodes[place] = Node(column, 0.0, *children, dice.uniform(-1, 1), (), rows)
        return place

    add(1000.0, depth)
    return [node for node in nodes if node is not None]


def expected(tree: list[Node], weight: float, row: list[float], known: set[int], place: int = 0) -> float:
    """What a tree gives when only some columns are known: training's average over the branches of the others."""
    node = tree[place]
    if node.feature < 0:
        return 2 * weight * node.prediction
    value = row[node.feature]
    if node.feature in known:
        left = value in node.members if node.threshold is None else math.isnan(value) or value <= node.threshold
        return expected(tree, weight, row, known, node.left if left else node.right)
    return sum(
        tree[child].rows / node.rows * expected(tree, weight, row, known, child) for child in (node.left, node.right)
    )


def by_definition(forest: Forest, row: list[float]) -> list[float]:
    """Shapley's values: the average over all orders of what a column adds to those before it."""

    def worth(known: set[int]) -> float:
        return sum(
            expected(tree, weight, row, known) for tree, weight in zip(forest.trees, forest.weights, strict=True)
        )

    count = forest.inputs
    values = []
    for column in range(count):
        others = [one for one in range(count) if one != column]
        value = 0.0
        for size in range(count):
            share = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            for before in combinations(others, size):
                value += share * (worth({*before, column}) - worth(set(before)))
        values.append(value)
    return values


@pytest.mark.parametrize("seed", range(6))
def test_contributions_are_shapleys_values(seed):
    """Against the definition, on random forests of seven columns, with missing numbers and unseen categories."""
    dice = random.Random(seed)
    kinds = ["category", "number", "number", "category", "number", "number", "number"]
    trees = [grow(dice, 7, 4, kinds, [3] * 7) for _ in range(5)]
    forest = Forest(trees, [1.0, 0.1, 0.1, 0.2, 0.3], 7)
    explainer = Explainer(to_reasons(forest, list("abcdefg"), 7, range(7), []))
    for _ in range(4):
        row = [
            float(dice.randrange(5)) if kind == "category" else dice.choice([math.nan, dice.uniform(-1, 1)])
            for kind in kinds
        ]
        given = explainer.contributions(row)
        assert list(given) == list("abcdefg")
        assert list(given.values()) == pytest.approx(by_definition(forest, row), abs=1e-12)
        log_odds = sum(
            expected(tree, weight, row, set(range(7))) for tree, weight in zip(trees, forest.weights, strict=True)
        )
        assert explainer.base + sum(given.values()) == pytest.approx(log_odds, abs=1e-12)


def test_trees_that_are_single_leaves_have_nothing_to_tell():
    """All of the answer is in the base."""
    forest = Forest([[Node(-1, 0.5, -1, -1, None, (), 10.0)]] * 2, [1.0, 0.5], 2)
    explainer = Explainer(to_reasons(forest, ["a", "b"], 2, range(2), []))
    assert explainer.base == pytest.approx(1.5)
    assert explainer.contributions([1.0, math.nan]) == {"a": 0.0, "b": 0.0}


class Pointer:
    """A pointer that stands still."""

    def __init__(self, pointer: ModelPointer) -> None:
        self.pointer = pointer

    async def now(self) -> ModelPointer | None:
        return self.pointer

    async def at(self, generation: int) -> ModelPointer | None:
        return None


def folder(
    spoil: bool = False, reasons: bool = True, other: bool = False, seed: int = 1, **manifest: Any
) -> dict[str, bytes]:
    """A model of random trees on the use case's own inputs."""
    dice = random.Random(seed)
    sizes = [len(models.CATEGORIES.get(name, [])) for name in NAMES]
    kinds = [item.kind for item in INPUTS]
    forest = Forest([grow(dice, len(INPUTS), 5, kinds, sizes) for _ in range(20)], [0.1] * 20, len(INPUTS))
    direct = range(len(INPUTS))
    artefact = to_onnx(forest, len(INPUTS), direct, [])
    told = Forest(forest.trees[1:], forest.weights[1:], len(INPUTS)) if other else forest
    content = to_reasons(told, NAMES, len(INPUTS), direct, [])
    row = CASE.features.model_validate(models.FEATURES)
    probability = probability_of(artefact, row)
    golden = [{"features": models.FEATURES, "probability": probability}]
    files = models.folder(CASE, model=artefact, golden=golden, reasons_onnx=content if reasons else None, **manifest)
    return files | ({"reasons.onnx": b"spoilt"} if spoil else {})


def probability_of(artefact: bytes, features: Any) -> float:
    """What the artefact says, without the checks of loading."""
    from spark.served import ServedModel

    columns = {name: [getattr(features, name)] for name in NAMES}
    kinds = [item.kind for item in INPUTS]
    return float(ServedModel(artefact, NAMES, kinds, models.CATEGORIES).probabilities(columns)[0])


def ask(files: dict[str, bytes], talk: Callable[[httpx.AsyncClient, list[str]], Awaitable[None]]) -> None:
    """Runs ``talk`` with a client of the function, and the names of the files that were read for reasons."""
    read: list[str] = []

    def reader(name: str) -> bytes:
        read.append(name)
        return files[name]

    serving = Serving(
        Pointer(models.pointer(files, 1)),
        lambda p, stop: load_model(CASE, p.model_version, p.manifest_sha256, files.__getitem__, stop),
    )
    handler = ClassifyHttp(CASE, serving, Reasons(lambda _: reader))
    app = Starlette(routes=[Route("/{path:path}", handler.handle, methods=["POST"])])

    async def main() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://function") as client:
            await talk(client, read)

    asyncio.run(main())


def test_an_answer_comes_with_its_reasons_when_they_are_asked_for():
    """They add up to the answer's log-odds, the largest first; alone, in a list, on lines; the file is read once, and
    not before somebody asks."""

    async def talk(client: httpx.AsyncClient, read: list[str]) -> None:
        records = [models.record(f"r{number}", temp=float(number)) for number in range(5)]
        plain = await client.post("/v1/classify", json=records[0])
        assert "reasons" not in plain.json()
        assert read == []
        body = b"".join(json.dumps(one).encode() + b"\n" for one in records)
        as_lines = await client.post(
            "/v1/classify?reasons=true", content=body, headers={"content-type": "application/x-ndjson"}
        )
        as_list = await client.post("/v1/classify?reasons=true", json=records)
        alone = await client.post("/v1/classify?reasons=true", json=records[0])
        assert read == ["reasons.onnx"]
        given = [json.loads(line) for line in as_lines.content.splitlines()]
        assert [one["reasons"] for one in as_list.json()] == [one["reasons"] for one in given]
        assert alone.json()["reasons"] == given[0]["reasons"]
        assert alone.json()["probability"] == plain.json()["probability"]
        for one in given:
            reasons = one["reasons"]
            assert reasons["method"] == "tree_shap_path_dependent"
            assert set(reasons["contributions"]) <= set(NAMES)
            total = reasons["base_log_odds"] + sum(reasons["contributions"].values())
            assert total == pytest.approx(math.log(one["probability"] / (1 - one["probability"])), abs=1e-9)
            sizes = [abs(value) for value in reasons["contributions"].values()]
            assert sizes == sorted(sizes, reverse=True)
            assert len(sizes) > 5

    ask(folder(), talk)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"reasons": False}, "was made without reasons.onnx"),
        ({"spoil": True}, "reasons.onnx of model 2013-03-01/20130301-000000-aaaaaaaa has SHA-256"),
        ({"other": True}, "the contributions give log-odds of"),
    ],
)
def test_a_model_that_cannot_be_explained_says_so_and_answers(how, words):
    """409 for the question; the same record without it is answered. Reasons of another model are never told."""

    async def talk(client: httpx.AsyncClient, _: list[str]) -> None:
        answer = await client.post("/v1/classify?reasons=true", json=models.record())
        assert answer.status_code == 409
        assert words in answer.json()["detail"]
        assert (await client.post("/v1/classify", json=models.record())).status_code == 200

    ask(folder(**how), talk)


def test_reasons_are_for_a_persons_question():
    """At most a hundred records; another value of the parameter asks for nothing."""

    async def talk(client: httpx.AsyncClient, read: list[str]) -> None:
        answer = await client.post("/v1/classify?reasons=true", json=[models.record()] * 101)
        assert answer.status_code == 422
        assert "at most 100 records" in answer.json()["detail"]
        answer = await client.post("/v1/classify?reasons=false", json=models.record())
        assert "reasons" not in answer.json()
        assert read == []

    ask(folder(), talk)


def test_a_canarys_answers_are_explained_by_the_canary():
    """Each answer's reasons are those of the model that gave it, and only explainers of what answers are kept."""
    served, canary = folder(), folder(seed=2, run_id="canary")
    folders = {models.pointer(files, 1).uri: files for files in (served, canary)}
    named = models.pointer(canary, 1)
    pointer = models.pointer(served, 1).model_copy(
        update={
            "canary": Canary(
                model_version=named.model_version, uri=named.uri, manifest_sha256=named.manifest_sha256, share=0.5
            )
        }
    )

    async def main() -> None:
        serving = Serving(
            Pointer(pointer),
            lambda p, stop: load_model(CASE, p.model_version, p.manifest_sha256, folders[p.uri].__getitem__, stop),
        )
        handler = ClassifyHttp(CASE, serving, Reasons(lambda one: folders[one.uri].__getitem__))
        app = Starlette(routes=[Route("/{path:path}", handler.handle, methods=["POST"])])
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://function") as client:
            while True:
                records = [models.record(f"r{number}") for number in range(20)]
                answers = (await client.post("/v1/classify?reasons=true", json=records)).json()
                if len({one["model_version"] for one in answers}) == 2:
                    break
                await asyncio.sleep(0.01)
        for one in answers:
            log_odds = math.log(one["probability"] / (1 - one["probability"]))
            assert one["reasons"]["log_odds"] == pytest.approx(log_odds, abs=1e-9)
        assert len({one["reasons"]["base_log_odds"] for one in answers}) == 2

    asyncio.run(asyncio.wait_for(main(), 20))
