"""A model that is one only in form: it answers the same probability to everything. Enough to be loaded and to serve."""

import hashlib
import json
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from rehearsal.manifest import untrained
from schemas import GoldenRow, UseCase
from schemas.shapes import MISSING, model_inputs
from schemas.told_verdict import ToldVerdict

PROBABILITY = 0.25


def files(case: UseCase, features: dict[str, Any], bucket: str, training_date: str, run_id: str) -> dict[str, bytes]:
    """The files of the model's folder by name, the manifest and then the verdict last.

    Args:
        features: of any record; the golden row.
        bucket: where the folder is to lie.
    """
    inputs = model_inputs(case)
    golden = [GoldenRow(features=features, probability=PROBABILITY).model_dump()]
    content = {"model.onnx": _graph(len(inputs)), "golden.json": json.dumps(golden).encode()}
    categories = {one.name: [MISSING] for one in inputs if one.kind == "category"}
    manifest = untrained(case, f"{training_date}/{run_id}", content, categories, reason="a rehearsal")
    written = manifest.model_dump_json().encode()
    uri = f"gs://{bucket}/models/{manifest.model_version}"
    told = ToldVerdict.of(manifest, uri, hashlib.sha256(written).hexdigest())
    return {**content, "manifest.json": written, told.NAME: told.model_dump_json().encode()}


def _graph(width: int) -> bytes:
    double = TensorProto.DOUBLE
    constants = {"zeros": np.zeros((width, 1)), "bias": np.array(PROBABILITY), "axis": np.array([1], dtype=np.int64)}
    nodes = [
        # NaN times zero is NaN, so a missing number is replaced first.
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Where", ["missing", "bias", "features"], ["filled"]),
        helper.make_node("MatMul", ["filled", "zeros"], ["nothing"]),
        helper.make_node("Add", ["nothing", "bias"], ["sum"]),
        helper.make_node("Squeeze", ["sum", "axis"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("features", double, [None, width])],
        [helper.make_tensor_value_info("probability", double, [None])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()
