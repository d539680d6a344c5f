"""Small ONNX graphs with the input and the output of a real model, for tests, benchmarks and rehearsals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper


def build_graph(name: str, nodes: Sequence[NodeProto], constants: Mapping[str, Any], width: int) -> bytes:
    """Serialize a graph that maps ``features`` (double, rows × ``width``) to ``probability`` (double, rows).

    Args:
        name: the graph's name, which nothing reads.
        nodes: the computation, in topological order.
        constants: arrays that the nodes refer to, by name.
        width: the number of model inputs.
    """
    double = TensorProto.DOUBLE
    made = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("features", double, [None, width])],
        [helper.make_tensor_value_info("probability", double, [None])],
        [numpy_helper.from_array(value, constant) for constant, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def linear_graph(weights: Sequence[float], bias: float) -> bytes:
    """``probability = clip(bias + Σ weight · feature, 0, 1)``, where a missing number counts as -1."""
    constants = {
        "w": np.array(weights, dtype=np.float64).reshape(-1, 1),
        "b": np.array(bias),
        "minus_one": np.array(-1.0),
        "zero": np.array(0.0),
        "one": np.array(1.0),
        "axis": np.array([1], dtype=np.int64),
    }
    nodes = [
        # NaN times zero is NaN, so a missing number is replaced first.
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Where", ["missing", "minus_one", "features"], ["filled"]),
        helper.make_node("MatMul", ["filled", "w"], ["weighted"]),
        helper.make_node("Add", ["weighted", "b"], ["sum"]),
        helper.make_node("Clip", ["sum", "zero", "one"], ["clipped"]),
        helper.make_node("Squeeze", ["clipped", "axis"], ["probability"]),
    ]
    return build_graph("linear", nodes, constants, len(weights))
