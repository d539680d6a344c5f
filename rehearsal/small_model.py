"""A model that is one only in form: it answers the same probability to everything. Enough to be loaded and to serve."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from schemas import ModelManifest, UseCase, Verdict
from schemas.model_manifest import GoldenRow, ModelFile
from schemas.shapes import MISSING, model_inputs

PROBABILITY = 0.25


def files(case: UseCase, features: dict[str, Any], training_date: str, run_id: str) -> dict[str, bytes]:
    """The files of the model's folder by name, the manifest last.

    Args:
        features: of any record; the golden row.
    """
    inputs = model_inputs(case)
    golden = [GoldenRow(features=features, probability=PROBABILITY).model_dump()]
    content = {"model.onnx": _graph(len(inputs)), "golden.json": json.dumps(golden).encode()}
    manifest = ModelManifest(
        run_id=run_id,
        model_version=f"{training_date}/{run_id}",
        use_case=case.name,
        trained_at=datetime.now(UTC),
        seed=0,
        threshold=0.5,
        inputs=[one.name for one in inputs],
        input_kinds=[one.kind for one in inputs],
        categories={one.name: [MISSING] for one in inputs if one.kind == "category"},
        files=[
            ModelFile(name=name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
            for name, data in content.items()
        ],
        rows={},
        windows={},
        parameters={},
        versions={},
        metrics={},
        parity_max_abs_diff=0.0,
        champion=None,
        verdict=Verdict.PROMOTE,
        reasons=["a rehearsal"],
    )
    return {**content, "manifest.json": manifest.model_dump_json().encode()}


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
