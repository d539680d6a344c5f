"""Exports a trained Spark GBT as ONNX: one ``TreeEnsemble`` (ai.onnx.ml opset 5) in double precision, behind the
tables of its history features.

Why our own: the public converter works in single precision, which moves rows across thresholds, and builds graphs that
onnxruntime refuses. Spark's trees are simple enough to copy. They are read from the model as Spark saved it (Parquet),
because walking them through py4j costs a round trip for each node.

Why with the `onnx` package, though it is a native wheel: parity is measured by running the artefact, and onnxruntime,
which does that, is a native wheel too. Both come to the cluster in the same way (``template.yaml``), so encoding the
protobuf by hand would spare nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from pyspark.sql import SparkSession
from pyspark.sql.functions import expr

from spark.job import JobFailed
from spark.rates import Table

BRANCH_LEQ = 0
BRANCH_MEMBER = 6
SUM = 1
IR_VERSION = 9
OPSET = 21
ML_OPSET = 5


@dataclass(frozen=True)
class Node:
    """One node of a tree: a leaf if ``feature`` is negative."""

    feature: int
    prediction: float
    left: int
    right: int
    threshold: float | None
    """Rows with a value up to and including this go left; None at a categorical split."""
    members: tuple[float, ...]
    """Categories that go left; empty at a numeric split."""
    rows: float = 0.0
    """Training rows that came by. Reasons need it, answers do not."""


@dataclass(frozen=True)
class Forest:
    """A trained GBT: each tree's nodes (the root first), and its weight."""

    trees: list[list[Node]]
    weights: list[float]
    inputs: int


def read_forest(spark: SparkSession, saved: str) -> Forest:
    """Read a GBTClassificationModel from the folder that it was saved to.

    Raises:
        JobFailed: the folder holds something else.
    """
    metadata = spark.read.json(f"{saved}/metadata").first()
    if metadata is None or not metadata["class"].endswith(".GBTClassificationModel"):
        raise JobFailed(f"{saved} holds no GBTClassificationModel; the exporter knows no other model")
    weights = {row.treeID: row.weights for row in spark.read.parquet(f"{saved}/treesMetadata").collect()}
    nodes: dict[int, dict[int, Node]] = {tree: {} for tree in weights}
    rows = spark.read.parquet(f"{saved}/data").select("treeID", expr("nodeData.*")).collect()  # the model, not data
    for row in rows:
        split = row.split
        numeric = split.numCategories == -1
        nodes[row.treeID][row.id] = Node(
            feature=split.featureIndex if row.leftChild >= 0 else -1,
            prediction=row.prediction,
            left=row.leftChild,
            right=row.rightChild,
            threshold=split.leftCategoriesOrThreshold[0] if numeric and row.leftChild >= 0 else None,
            members=() if numeric or row.leftChild < 0 else tuple(split.leftCategoriesOrThreshold),
            rows=float(row.rawCount),
        )
    order = sorted(weights)
    return Forest(
        trees=[[nodes[tree][place] for place in range(len(nodes[tree]))] for tree in order],
        weights=[weights[tree] for tree in order],
        inputs=metadata["numFeatures"],
    )


@dataclass
class _Ensemble:
    """The operator's attributes, by their names in its specification."""

    tree_roots: list[int] = field(default_factory=list)
    nodes_featureids: list[int] = field(default_factory=list)
    nodes_modes: list[int] = field(default_factory=list)
    nodes_splits: list[float] = field(default_factory=list)
    nodes_truenodeids: list[int] = field(default_factory=list)
    nodes_trueleafs: list[int] = field(default_factory=list)
    nodes_falsenodeids: list[int] = field(default_factory=list)
    nodes_falseleafs: list[int] = field(default_factory=list)
    nodes_missing_value_tracks_true: list[int] = field(default_factory=list)
    membership_values: list[float] = field(default_factory=list)
    leaf_weights: list[float] = field(default_factory=list)

    def add(self, tree: Sequence[Node], weight: float) -> None:
        self.tree_roots.append(len(self.nodes_modes))
        if tree[0].feature < 0:
            # The specification's form of a tree that is a leaf: a node whose branches are the same leaf.
            leaf = self._leaf(tree[0], weight)
            self._node(Node(0, 0.0, 0, 0, 0.0, ()), (leaf, 1), (leaf, 1))
            return
        places: dict[int, tuple[int, int]] = {}
        inner = len(self.nodes_modes)
        for position, node in enumerate(tree):
            if node.feature < 0:
                places[position] = (self._leaf(node, weight), 1)
            else:
                places[position] = (inner, 0)
                inner += 1
        for node in tree:
            if node.feature >= 0:
                self._node(node, places[node.left], places[node.right])

    def _leaf(self, node: Node, weight: float) -> int:
        self.leaf_weights.append(node.prediction * weight)
        return len(self.leaf_weights) - 1

    def _node(self, node: Node, left: tuple[int, int], right: tuple[int, int]) -> None:
        numeric = node.threshold is not None
        self.nodes_featureids.append(node.feature)
        self.nodes_modes.append(BRANCH_LEQ if numeric else BRANCH_MEMBER)
        self.nodes_splits.append(node.threshold if node.threshold is not None else 0.0)
        # A missing number is trained as one below all thresholds (features.py), so NaN goes left.
        self.nodes_missing_value_tracks_true.append(1 if numeric else 0)
        self.nodes_truenodeids.append(left[0])
        self.nodes_trueleafs.append(left[1])
        self.nodes_falsenodeids.append(right[0])
        self.nodes_falseleafs.append(right[1])
        if not numeric:
            self.membership_values += [*node.members, float("nan")]


def to_onnx(forest: Forest, inputs: int, direct: Sequence[int], rates: Sequence[Table]) -> bytes:
    """The artefact: input ``features`` double [N, inputs], output ``probability`` double [N].

    The same arguments give the same bytes.

    Args:
        direct: which of the inputs the forest sees, in its order.
        rates: what it sees after them; the artefact looks them up in its own tables.
    """
    ensemble = _Ensemble()
    for tree, weight in zip(forest.trees, forest.weights, strict=True):
        ensemble.add(tree, weight)
    attributes: dict[str, Any] = {
        "n_targets": 1,
        "aggregate_function": SUM,
        "leaf_targetids": [0] * len(ensemble.leaf_weights),
        **vars(ensemble),
        "nodes_modes": _tensor(TensorProto.UINT8, ensemble.nodes_modes),
        "nodes_splits": _tensor(TensorProto.DOUBLE, ensemble.nodes_splits),
        "leaf_weights": _tensor(TensorProto.DOUBLE, ensemble.leaf_weights),
        "membership_values": _tensor(TensorProto.DOUBLE, ensemble.membership_values),
    }
    if not ensemble.membership_values:
        del attributes["membership_values"]
    nodes, constants = columns_of(direct, rates)
    graph = helper.make_graph(
        [
            *nodes,
            helper.make_node("TreeEnsemble", ["columns"], ["margin"], domain="ai.onnx.ml", **attributes),
            # Spark: probability = 1 / (1 + exp(-2 * margin)).
            helper.make_node("Mul", ["margin", "two"], ["doubled"]),
            helper.make_node("Sigmoid", ["doubled"], ["column"]),
            helper.make_node("Reshape", ["column", "flat"], ["probability"]),
        ],
        "gbt",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["N", inputs])],
        [helper.make_tensor_value_info("probability", TensorProto.DOUBLE, ["N"])],
        [
            helper.make_tensor("two", TensorProto.DOUBLE, [], [2.0]),
            helper.make_tensor("flat", TensorProto.INT64, [1], [-1]),
            *constants,
        ],
    )
    model = helper.make_model(
        graph,
        producer_name="lunation",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
    )
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def columns_of(direct: Sequence[int], rates: Sequence[Table]) -> tuple[list[Any], list[Any]]:
    """Nodes and constants that turn ``features`` into the forest's ``columns``."""
    nodes = [helper.make_node("Gather", ["features", "direct"], ["plain"], axis=1)]
    constants = [helper.make_tensor("direct", TensorProto.INT64, [len(direct)], list(direct))]
    if not rates:
        nodes[0].output[:] = ["columns"]
        return nodes, constants
    lookup, tables = _lookup(rates)
    joined = helper.make_node("Concat", ["plain", "rate_values"], ["columns"], axis=1)
    return [*nodes, *lookup, joined], [*constants, *tables]


def _lookup(rates: Sequence[Table]) -> tuple[list[Any], list[Any]]:
    """Nodes and constants that turn ``features`` into ``rate_values``.

    All rates at once: pick the keys' inputs, find each one's place (``rates.Key.place``), add places up to a cell by
    one multiplication with the strides, and gather from one long table.
    """
    parts = [(part, stride) for rate in rates for part, stride in zip(rate.key.parts, rate.key.strides, strict=True)]
    owners = [number for number, rate in enumerate(rates) for _ in rate.key.parts]
    strides = np.zeros((len(parts), len(rates)))
    for place, (owner, (_, stride)) in enumerate(zip(owners, parts, strict=True)):
        strides[place, owner] = stride
    offsets = np.cumsum([0, *(rate.key.cells for rate in rates[:-1])])
    nodes = [
        helper.make_node("Gather", ["features", "key_inputs"], ["key_values"], axis=1),
        helper.make_node("Div", ["key_values", "widths"], ["key_quotients"]),
        helper.make_node("Floor", ["key_quotients"], ["key_floors"]),
        helper.make_node("Sub", ["key_floors", "lows"], ["key_steps"]),
        # Neither holds for NaN, so a missing number gets the last place, like what is out of range.
        helper.make_node("GreaterOrEqual", ["key_steps", "zero"], ["key_not_below"]),
        helper.make_node("Less", ["key_steps", "sizes"], ["key_not_above"]),
        helper.make_node("And", ["key_not_below", "key_not_above"], ["key_within"]),
        helper.make_node("Where", ["key_within", "key_steps", "sizes"], ["key_places"]),
        helper.make_node("MatMul", ["key_places", "strides"], ["key_sums"]),
        helper.make_node("Add", ["key_sums", "offsets"], ["key_cells"]),
        helper.make_node("Cast", ["key_cells"], ["cells"], to=TensorProto.INT64),
        helper.make_node("Gather", ["rates", "cells"], ["rate_values"]),
    ]
    inputs = [part.input for part, _ in parts]
    doubles: dict[str, Sequence[float]] = {
        "widths": [part.width for part, _ in parts],
        "lows": [part.low for part, _ in parts],
        "sizes": [float(part.size) for part, _ in parts],
        "zero": [0.0],
        "offsets": offsets.astype(float).tolist(),
        "rates": np.concatenate([rate.values for rate in rates]).tolist(),
    }
    return nodes, [
        helper.make_tensor("key_inputs", TensorProto.INT64, [len(inputs)], inputs),
        helper.make_tensor("strides", TensorProto.DOUBLE, strides.shape, strides.ravel()),
        *(helper.make_tensor(name, TensorProto.DOUBLE, [len(values)], values) for name, values in doubles.items()),
    ]


def _tensor(kind: int, values: Sequence[float]) -> Any:
    return helper.make_tensor("", kind, [len(values)], np.asarray(values, dtype=helper.tensor_dtype_to_np_dtype(kind)))
