"""Exports a trained Spark GBT as ONNX: one ``TreeEnsemble`` (ai.onnx.ml opset 5) in double precision, behind the
trees that give its history features.

Why our own: the public converter works in single precision, which moves rows across thresholds, and builds graphs that
onnxruntime refuses. Spark's trees are simple enough to copy. They cross from Java as JSON, a text a tree: walking
them through py4j costs a round trip for each node, and saving it as Parquet and reading that is eight small jobs.

Why with the `onnx` package, though it is a native wheel: parity is measured by running the artefact, and onnxruntime,
which does that, is a native wheel too. Both come to the cluster in the same way (``template.yaml``), so encoding the
protobuf by hand would spare nothing.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import floor
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from pyspark import SparkContext
from pyspark.ml.classification import GBTClassificationModel

from spark.job import JobFailedError
from spark.rates import Part, Table

BRANCH_LEQ = 0
"""Mode of a node: the true branch is for values up to and including the split. The operator's numbers are from
https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html."""
BRANCH_LT = 1
"""Mode of a node: the true branch is for values below the split."""
BRANCH_MEMBER = 6
"""Mode of a node: the true branch is for values that are in the node's set."""
SUM = 1
"""Aggregate function of the operator: an output is the sum of what its trees give."""
IR_VERSION = 9
"""Version of ONNX's file format."""
OPSET = 21
"""Version of the standard operators. It came with version 10 of the format, of which this graph needs nothing."""
ML_OPSET = 5
"""Version of the operators of ``ai.onnx.ml``; the first with ``TreeEnsemble``, and so with trees in double."""


@dataclass(frozen=True)
class Node:
    """One node of a tree."""

    feature: int
    """Place of the column that it splits; negative: it is a leaf."""
    prediction: float
    """What the tree adds to the margin if the node is a leaf."""
    left: int
    """Place of the left child in its tree; negative at a leaf."""
    right: int
    """Place of the right child in its tree; negative at a leaf."""
    threshold: float | None
    """Rows with a value up to and including this go left; None at a categorical split."""
    members: tuple[float, ...]
    """Categories that go left; empty at a numeric split."""
    rows: float = 0.0
    """Training rows that came by. Reasons need it, answers do not."""


@dataclass(frozen=True)
class Forest:
    """A trained GBT: its margin is the sum over the trees of weight times what the tree predicts."""

    trees: list[list[Node]]
    """Each tree's nodes, the root first."""
    weights: list[float]
    """Of each tree."""
    inputs: int
    """Number of columns of the vector that it was trained on."""


def read_forest(model: GBTClassificationModel) -> Forest:
    """Read the model's trees from Spark.

    Raises:
        JobFailedError: the model is of another kind.
    """
    if not isinstance(model, GBTClassificationModel):
        raise JobFailedError(f"{type(model).__name__} is no GBTClassificationModel; the exporter knows no other model")
    return Forest(
        trees=[[_node(**node) for node in json.loads(tree)] for tree in _trees(model)],
        weights=list(model.treeWeights),
        inputs=model.numFeatures,
    )


def _trees(model: GBTClassificationModel) -> Iterator[str]:
    """Each tree's nodes, in the order of their ids, as Spark would save them (``NodeData`` in ``treeModels.scala``).

    That class is private to Spark, whose version is pinned; a test holds the trees against those of a saved model.
    """
    jvm: Any = SparkContext._active_spark_context._jvm  # type: ignore[union-attr]
    mapper = jvm.com.fasterxml.jackson.databind.ObjectMapper()
    annotations = jvm.com.fasterxml.jackson.annotation
    visibility = getattr(annotations, "JsonAutoDetect$Visibility")
    # The fields of Scala's classes; some of their getters fail on a leaf.
    mapper.setVisibility(annotations.PropertyAccessor.ALL, visibility.NONE)
    mapper.setVisibility(annotations.PropertyAccessor.FIELD, visibility.ANY)
    saved = getattr(getattr(jvm, "org.apache.spark.ml.tree.DecisionTreeModelReadWrite$NodeData$"), "MODULE$")
    for tree in model._java_obj.trees():  # type: ignore[union-attr]
        nodes = saved.build(tree.rootNode(), 0)._1()
        yield mapper.writeValueAsString(jvm.scala.collection.JavaConverters.seqAsJavaList(nodes))


def _node(
    *, prediction: float, rawCount: int, leftChild: int, rightChild: int, split: Mapping[str, Any], **_: Any
) -> Node:
    """A node by Spark's names of its fields."""
    inner = leftChild >= 0
    numeric = split["numCategories"] == -1
    values = split["leftCategoriesOrThreshold"]
    return Node(
        feature=split["featureIndex"] if inner else -1,
        prediction=prediction,
        left=leftChild,
        right=rightChild,
        threshold=values[0] if inner and numeric else None,
        members=tuple(values) if inner and not numeric else (),
        rows=float(rawCount),
    )


@dataclass
class _Ensemble:
    """The operator's attributes, by their names in its specification."""

    mode: int
    """Of the numeric splits."""
    missing_goes_left: int
    """0 or 1: where NaN goes at a numeric split."""
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
    leaf_targetids: list[int] = field(default_factory=list)

    def add(self, tree: Sequence[Node], weight: float, target: int = 0) -> None:
        """Add a tree whose leaves, times ``weight``, add to the output ``target``."""
        self.tree_roots.append(len(self.nodes_modes))
        if tree[0].feature < 0:
            # The specification's form of a tree that is a leaf: a node whose branches are the same leaf.
            leaf = self._leaf(tree[0], weight, target)
            self._node(Node(0, 0.0, 0, 0, 0.0, ()), (leaf, 1), (leaf, 1))
            return
        places: dict[int, tuple[int, int]] = {}
        inner = len(self.nodes_modes)
        for position, node in enumerate(tree):
            if node.feature < 0:
                places[position] = (self._leaf(node, weight, target), 1)
            else:
                places[position] = (inner, 0)
                inner += 1
        for node in tree:
            if node.feature >= 0:
                self._node(node, places[node.left], places[node.right])

    def _leaf(self, node: Node, weight: float, target: int) -> int:
        self.leaf_weights.append(node.prediction * weight)
        self.leaf_targetids.append(target)
        return len(self.leaf_weights) - 1

    def _node(self, node: Node, left: tuple[int, int], right: tuple[int, int]) -> None:
        numeric = node.threshold is not None
        self.nodes_featureids.append(node.feature)
        self.nodes_modes.append(self.mode if numeric else BRANCH_MEMBER)
        self.nodes_splits.append(node.threshold if node.threshold is not None else 0.0)
        self.nodes_missing_value_tracks_true.append(self.missing_goes_left if numeric else 0)
        self.nodes_truenodeids.append(left[0])
        self.nodes_trueleafs.append(left[1])
        self.nodes_falsenodeids.append(right[0])
        self.nodes_falseleafs.append(right[1])
        if not numeric:
            self.membership_values += [*node.members, float("nan")]

    def operator(self, source: str, target: str, targets: int) -> Any:
        """The operator: from ``source`` to ``target``, double [N, targets]."""
        attributes: dict[str, Any] = {
            "n_targets": targets,
            "aggregate_function": SUM,
            "tree_roots": self.tree_roots,
            "nodes_featureids": self.nodes_featureids,
            "nodes_modes": _tensor(TensorProto.UINT8, self.nodes_modes),
            "nodes_splits": _tensor(TensorProto.DOUBLE, self.nodes_splits),
            "nodes_truenodeids": self.nodes_truenodeids,
            "nodes_trueleafs": self.nodes_trueleafs,
            "nodes_falsenodeids": self.nodes_falsenodeids,
            "nodes_falseleafs": self.nodes_falseleafs,
            "nodes_missing_value_tracks_true": self.nodes_missing_value_tracks_true,
            "leaf_weights": _tensor(TensorProto.DOUBLE, self.leaf_weights),
            "leaf_targetids": self.leaf_targetids,
        }
        if self.membership_values:
            attributes["membership_values"] = _tensor(TensorProto.DOUBLE, self.membership_values)
        return helper.make_node("TreeEnsemble", [source], [target], domain="ai.onnx.ml", **attributes)


def to_onnx(forest: Forest, inputs: int, direct: Sequence[int], rates: Sequence[Table]) -> bytes:
    """Write the model as ONNX: input ``features`` double [N, inputs], output ``probability`` double [N, 1].

    The same arguments give the same bytes. The graph has few nodes, because for a single record each costs as much
    as ten trees.

    Args:
        forest: trained on columns ``[*direct, *rates]``.
        inputs: number of the model's inputs.
        direct: places of those inputs that the forest sees, in its order.
        rates: what it sees after them; the artefact holds them.

    Returns:
        The serialized ``ModelProto``.

    Raises:
        onnx.checker.ValidationError: the graph is not valid ONNX, which is a bug.
    """
    # The operator sees every input, then the rates: to pick those that the forest was trained on would be a node more.
    columns = [*direct, *range(inputs, inputs + len(rates))]
    # A missing number is trained as one below all thresholds (features.py), so NaN goes left.
    ensemble = _Ensemble(BRANCH_LEQ, missing_goes_left=1)
    for tree, weight in zip(forest.trees, forest.weights, strict=True):
        nodes = [replace(node, feature=columns[node.feature]) if node.feature >= 0 else node for node in tree]
        # Spark: probability = 1 / (1 + exp(-2 * margin)), as computeProbability of LogLoss has it
        # (https://github.com/apache/spark/blob/v3.5.9/mllib/src/main/scala/org/apache/spark/mllib/tree/loss/LogLoss.scala).
        # A double doubles without rounding, and so does their sum.
        ensemble.add(nodes, 2 * weight)
    graph = helper.make_graph(
        [
            *_with_rates("features", "columns", rates),
            ensemble.operator("columns" if rates else "features", "doubled_margin", 1),
            helper.make_node("Sigmoid", ["doubled_margin"], ["probability"]),
        ],
        "gbt",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["N", inputs])],
        [helper.make_tensor_value_info("probability", TensorProto.DOUBLE, ["N", 1])],
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
    """Nodes and constants that turn ``features``, double [N, inputs], into the forest's ``columns``, double
    [N, len(direct) + len(rates)].

    Args:
        direct: places of those inputs that the forest sees, in its order.
        rates: what it sees after them.
    """
    plain = "plain" if rates else "columns"
    seen = helper.make_tensor("direct", TensorProto.INT64, [len(direct)], list(direct))
    return [
        helper.make_node("Gather", ["features", "direct"], [plain], axis=1),
        *_with_rates(plain, "columns", rates),
    ], [seen]


def _with_rates(before: str, after: str, rates: Sequence[Table]) -> list[Any]:
    """Nodes that put each rate's value of ``features`` behind the columns ``before``: ``after``. All rates at once,
    a tree and an output for each."""
    if not rates:
        return []
    ensemble = _Ensemble(BRANCH_LT, missing_goes_left=0)
    for target, rate in enumerate(rates):
        ensemble.add(_lookup(rate), 1.0, target)
    return [
        ensemble.operator("features", "rates", len(rates)),
        helper.make_node("Concat", [before, "rates"], [after], axis=1),
    ]


def _lookup(rate: Table) -> list[Node]:
    """A tree that gives the rate's value: for each part of its key in turn, the splits are the least values of each
    place. Below the first and from the last on lies what is out of range, and there goes NaN, which is less than
    nothing. Neighbours with the same values need no split, so of a large table the tree holds what has been seen."""
    nodes: list[Node] = []

    def grow(parts: Sequence[Part], values: np.ndarray) -> int:
        """Add the tree of ``values``, which has a dimension for each of ``parts``; where its root is."""
        if not parts:
            nodes.append(Node(-1, float(values), -1, -1, None, ()))
            return len(nodes) - 1
        part = parts[0]
        places = [part.size, *range(part.size), part.size]
        starts = [0, *(step for step in range(1, len(places)) if _differ(values, places[step - 1], places[step]))]

        def halve(first: int, last: int) -> int:
            """Add the tree of the runs of equal places ``starts[first : last + 1]``."""
            if first == last:
                return grow(parts[1:], values[places[starts[first]]])
            at = len(nodes)
            middle = (first + last) // 2
            nodes.append(Node(part.input, 0.0, -1, -1, _least(part, starts[middle + 1] - 1), ()))
            left, right = halve(first, middle), halve(middle + 1, last)
            nodes[at] = replace(nodes[at], left=left, right=right)
            return at

        return halve(0, len(starts) - 1)

    sizes = [part.size + 1 for part in rate.key.parts]
    grow(rate.key.parts, rate.values.reshape(sizes))
    return nodes


def _differ(values: np.ndarray, one: int, other: int) -> bool:
    return not np.array_equal(values[one], values[other])


def _least(part: Part, step: int) -> float:
    """The least double whose step in ``part`` is ``step`` or more, by Spark's arithmetic, which divides."""

    below, reached = ((part.low + step + half) * part.width for half in (-0.5, 0.5))
    while below < (middle := (below + reached) / 2) < reached:
        if floor(middle / part.width) - part.low >= step:
            reached = middle
        else:
            below = middle
    return reached


def _tensor(kind: int, values: Sequence[float]) -> Any:
    return helper.make_tensor("", kind, [len(values)], np.asarray(values, dtype=helper.tensor_dtype_to_np_dtype(kind)))
