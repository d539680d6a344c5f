"""Exports what it takes to say why a model answered as it did: ``reasons.onnx``, beside the artefact that answers.

The graph gives the columns that the trees see of a record, rates included; the trees themselves, with how many training
rows went each way, lie in its metadata as JSON. Nobody loads it but who is asked for reasons.
"""

import json
from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from spark.export import IR_VERSION, ML_OPSET, OPSET, Forest, Node, columns_of
from spark.rates import Table

MARGIN_SCALE = 2.0
"""Spark: log-odds = 2 * margin."""


def to_reasons(
    forest: Forest, names: Sequence[str], inputs: int, direct: Sequence[int], rates: Sequence[Table]
) -> bytes:
    """Input ``features`` double [N, inputs], output ``columns`` double [N, len(names)], and metadata ``trees``.

    The same arguments give the same bytes.

    Args:
        names: what the columns are called.
        direct: which of the inputs the forest sees, in its order.
        rates: what it sees after them.
    """
    nodes, constants = columns_of(direct, rates)
    graph = helper.make_graph(
        nodes,
        "columns",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["N", inputs])],
        [helper.make_tensor_value_info("columns", TensorProto.DOUBLE, ["N", len(names)])],
        constants,
    )
    model = helper.make_model(
        graph,
        producer_name="lunation",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
    )
    trees = [_tree(tree, MARGIN_SCALE * weight) for tree, weight in zip(forest.trees, forest.weights, strict=True)]
    document = {"names": list(names), "trees": trees}
    helper.set_model_props(model, {"trees": json.dumps(document, separators=(",", ":"))})
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _tree(nodes: Sequence[Node], scale: float) -> dict[str, list[Any]]:
    """A tree as columns, a place for each node; the root is the first, and a leaf has no feature."""
    return {
        "feature": [node.feature for node in nodes],
        "threshold": [node.threshold for node in nodes],
        "members": [list(node.members) for node in nodes],
        "left": [node.left for node in nodes],
        "right": [node.right for node in nodes],
        "rows": [node.rows for node in nodes],
        "log_odds": [node.prediction * scale if node.feature < 0 else 0.0 for node in nodes],
    }
