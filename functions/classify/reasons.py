"""Explains an answer: the Shapley value of each column of the model's trees is its contribution to the log-odds.

The method is path-dependent TreeSHAP (Lundberg et al., 2020, https://doi.org/10.1038/s42256-019-0138-9). The value of a
coalition of columns is the trees' average output when only these columns are known; the training rows say how often
each branch was taken. ``base`` plus all contributions equals the log-odds of the answer exactly.

A record reaches a leaf if it satisfies the splits on each of the leaf's columns, so the game of one leaf has a closed
form. The value of a coalition S is ``value * product of o over S * product of z over the others``, where ``o`` is 1 if
the record satisfies the leaf's splits on that column, otherwise 0, and ``z`` is the share of training rows that satisfy
them. Columns without a split on the way to the leaf are null players. The value of a forest is the sum over its leaves,
and so are the Shapley values.
"""

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime

from schemas import NamedModel, Record
from schemas.file_hash import hash_mismatch

from .answer import Answer
from .serving import Served

FILE = "reasons.onnx"
"""The file of a model's folder that has what explanations need."""
METHOD = "tree_shap_path_dependent"
"""The name of the method, which each explanation has."""
MAX_EXPLAINED_RECORDS = 100
"""Limit for the number of records in a request for reasons: people ask for reasons, streams do not."""
TOLERANCE = 1e-9
"""Largest accepted difference between the model's probability and that of the sum of the contributions."""


class NoReasonsError(Exception):
    """The model's answers cannot be explained. The text says why."""


class Explainer:
    """Computes contributions from the trees of one model."""

    def __init__(self, content: bytes) -> None:
        """Read the trees from ``content``, the file ``reasons.onnx`` of the model's folder."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        document = json.loads(session.get_modelmeta().custom_metadata_map["trees"])
        self.names: list[str] = document["names"]
        self._columns = session.run
        self._splits = [_Tree(tree) for tree in document["trees"]]
        leaves = [leaf for number, tree in enumerate(self._splits) for leaf in tree.leaves(number)]
        width = max(1, *(len(leaf.shares) for leaf in leaves))
        self._values = np.array([leaf.log_odds for leaf in leaves])
        # Null players fill up the shorter rows: a column that is always satisfied and always known.
        self._players = np.array([[*leaf.shares, *[-1] * (width - len(leaf.shares))] for leaf in leaves])
        self._shares = np.array([[*leaf.shares.values(), *[1.0] * (width - len(leaf.shares))] for leaf in leaves])
        self._leaf_of = {(leaf.tree, leaf.node): number for number, leaf in enumerate(leaves)}
        self._paths = [leaf.path for leaf in leaves]
        self._weights = [
            math.factorial(size) * math.factorial(width - size - 1) / math.factorial(width) for size in range(width)
        ]
        self.base = float(np.sum(self._values * self._shares.prod(axis=1)))

    def contributions(self, row: Sequence[Any]) -> dict[str, float]:
        """Return what each column adds to ``base``, in log-odds, for the record with the model inputs ``row``."""
        (found,) = self._columns(("columns",), {"features": np.array([row], dtype=np.float64)})
        column = found[0]
        went_left = [tree.goes_left(column) for tree in self._splits]
        satisfied = np.ones(self._players.shape)
        for leaf, path in enumerate(self._paths):
            for player, (tree, node, left) in path:
                if went_left[tree][node] != left:
                    satisfied[leaf, player] = 0.0
        width = self._players.shape[1]
        total = np.zeros(len(self.names))
        for player in range(width):
            # The coefficients of the product of (z + o t) over the other players, by the size of the coalition.
            coefficients = [np.ones(len(self._values))]
            for other in range(width):
                if other != player:
                    z, o = self._shares[:, other], satisfied[:, other]
                    padded = [*coefficients, np.zeros(len(self._values))]
                    coefficients = [
                        padded[size] * z + (padded[size - 1] * o if size else 0.0) for size in range(len(padded))
                    ]
            worth = sum(weight * of_size for weight, of_size in zip(self._weights, coefficients, strict=True))
            gain = self._values * (satisfied[:, player] - self._shares[:, player]) * worth
            real = self._players[:, player] >= 0
            np.add.at(total, self._players[real, player], gain[real])
        return dict(zip(self.names, total.tolist(), strict=True))


class _Leaf:
    """A leaf and the path to it."""

    def __init__(self, tree: int, node: int, log_odds: float, steps: Sequence[tuple[int, int, bool, float]]) -> None:
        """``steps`` are (column, node, whether it goes left there, share of the rows that do so)."""
        self.tree = tree
        self.node = node
        self.log_odds = log_odds
        self.shares: dict[int, float] = {}
        """For each column with a split on the path: the share of training rows that satisfy all its splits."""
        for column, _, _, share in steps:
            self.shares[column] = self.shares.get(column, 1.0) * share
        places = {column: place for place, column in enumerate(self.shares)}
        self.path = [(places[column], (tree, split, left)) for column, split, left, _ in steps]


class _Tree:
    """The splits of one tree."""

    def __init__(self, tree: dict[str, list[Any]]) -> None:
        self._tree = tree
        self._features = np.array(tree["feature"])
        self._thresholds = np.array([math.nan if one is None else one for one in tree["threshold"]])
        self._members = {
            node: frozenset(members) for node, members in enumerate(tree["members"]) if tree["threshold"][node] is None
        }

    def goes_left(self, column: np.ndarray) -> list[bool]:
        """Return, for each node, whether the record goes left. A missing number goes left, as in training."""
        values = column[self._features]
        left = ((values <= self._thresholds) | np.isnan(values)).tolist()
        for node, members in self._members.items():
            left[node] = float(values[node]) in members
        return left

    def leaves(self, number: int) -> list[_Leaf]:
        """Return all leaves with their paths."""
        found = []
        waiting: list[tuple[int, list[tuple[int, int, bool, float]]]] = [(0, [])]
        tree = self._tree
        while waiting:
            node, steps = waiting.pop()
            feature = tree["feature"][node]
            if feature < 0:
                found.append(_Leaf(number, node, tree["log_odds"][node], steps))
                continue
            for child, left in ((tree["left"][node], True), (tree["right"][node], False)):
                share = tree["rows"][child] / tree["rows"][node]
                waiting.append((child, [*steps, (feature, node, left, share)]))
        return found


class Reasons:
    """The explainers of the models that answer, each loaded on the first request for its reasons."""

    def __init__(self, reader: Callable[[NamedModel], Callable[[str], bytes]]) -> None:
        """``reader(model)`` returns a function that reads a file of the model's folder. It is called in a thread."""
        self._reader = reader
        self._loads: dict[str, asyncio.Task[Explainer]] = {}

    async def add(self, served: Served, records: Sequence[Record[Any]], answers: Sequence[Answer]) -> None:
        """Add ``reasons`` to each of ``answers``.

        Raises:
            NoReasonsError: a model's folder has no reasons, or they do not add up to its probability.
        """
        models = {served.model_version: served}
        if served.canary is not None:
            models[served.canary.served.model_version] = served.canary.served
        known = {model.manifest_sha256 for model in models.values()}
        for sha256 in self._loads.keys() - known:
            del self._loads[sha256]
        for record, answer in zip(records, answers, strict=True):
            model = models[answer["model_version"]]
            explainer = await self._explainer(model)
            row = model.model.row(record.features.__dict__)
            answer["reasons"] = await asyncio.to_thread(_explained, explainer, row, answer["probability"])

    async def _explainer(self, model: Served) -> Explainer:
        task = self._loads.get(model.manifest_sha256)
        if task is None:
            task = self._loads[model.manifest_sha256] = asyncio.create_task(asyncio.to_thread(self._load, model))
        try:
            return await asyncio.shield(task)
        except Exception:
            self._loads.pop(model.manifest_sha256, None)  # the next request retries the load
            raise

    def _load(self, model: Served) -> Explainer:
        listed = {file.name: file.sha256 for file in model.model.manifest.files}
        if FILE not in listed:
            raise NoReasonsError(f"model {model.model_version} was made without {FILE}")
        named = NamedModel(model_version=model.model_version, uri=model.uri, manifest_sha256=model.manifest_sha256)
        content = self._reader(named)(FILE)
        if mismatch := hash_mismatch(f"{FILE} of model {model.model_version}", content, listed[FILE]):
            raise NoReasonsError(mismatch)
        return Explainer(content)


def _explained(explainer: Explainer, row: Sequence[Any], probability: float) -> dict[str, Any]:
    contributions = explainer.contributions(row)
    log_odds = explainer.base + math.fsum(contributions.values())
    if abs(1.0 / (1.0 + math.exp(-log_odds)) - probability) > TOLERANCE:
        raise NoReasonsError(f"the contributions give log-odds of {log_odds}, the model a probability of {probability}")
    ordered = sorted(contributions.items(), key=lambda one: -abs(one[1]))
    return {
        "method": METHOD,
        "base_log_odds": explainer.base,
        "log_odds": log_odds,
        "contributions": {name: value for name, value in ordered if value != 0.0},
    }
