"""Models that are made up: small ONNX graphs with the inputs, files and manifest of a real one."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from rehearsal.onnx_graph import build_graph, linear_graph
from schemas import ModelPointer, UseCase
from schemas.shapes import model_inputs

CATEGORIES = {
    "carrier": ["AA", "B6", "UA", "__missing__"],
    "origin": ["EWR", "JFK", "LGA"],
    "dest": ["ATL", "LAX", "ORD"],
}


MOVED_AT = datetime(2013, 3, 1, tzinfo=UTC)


def table_graph(case: UseCase, bias: float, megabytes: int) -> bytes:
    """``probability = bias``, looked up by the first category in a table of this size: a model that takes memory."""
    category = next(place for place, item in enumerate(model_inputs(case)) if item.kind == "category")
    constants = {"place": np.array(category, dtype=np.int64), "table": np.full(megabytes * 125_000, bias)}
    nodes = [
        helper.make_node("Gather", ["features", "place"], ["number"], axis=1),
        helper.make_node("Cast", ["number"], ["cell"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "cell"], ["probability"]),
    ]
    return build_graph("table", nodes, constants, len(model_inputs(case)))


def odd_graph(width: int, place: int, above: float, odd: float) -> bytes:
    """``probability = 0.25``, or ``odd`` for a row whose feature at that place is above that."""
    constants = {
        "place": np.array(place, dtype=np.int64),
        "limit": np.array(above),
        "odd": np.array(odd),
        "usual": np.array(0.25),
    }
    nodes = [
        helper.make_node("Gather", ["features", "place"], ["number"], axis=1),
        helper.make_node("Greater", ["number", "limit"], ["above"]),
        helper.make_node("Where", ["above", "odd", "usual"], ["probability"]),
    ]
    return build_graph("odd", nodes, constants, width)


def endless_graph(width: int, above: float = -1.0) -> bytes:
    """A graph that never ends its run, if the first feature of a row is above that; else it answers 0.25."""
    double, boolean = TensorProto.DOUBLE, TensorProto.BOOL
    constants = {
        "first_place": np.array(0, dtype=np.int64),
        "limit": np.array(above),
        "one": np.array(1.0),
        "answer": np.array(0.25),
        "no": np.array(False),
    }
    body = helper.make_graph(
        [helper.make_node("Identity", ["goes_on"], ["again"]), helper.make_node("Add", ["sum", "one"], ["more"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", boolean, []),
            helper.make_tensor_value_info("sum", double, [None]),
        ],
        [helper.make_tensor_value_info("again", boolean, []), helper.make_tensor_value_info("more", double, [None])],
    )
    nodes = [
        helper.make_node("Gather", ["features", "first_place"], ["first"], axis=1),
        helper.make_node("Greater", ["first", "limit"], ["above"]),
        helper.make_node("Cast", ["above"], ["numbers"], to=double),
        helper.make_node("ReduceMax", ["numbers"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["any"], to=boolean),
        helper.make_node("Loop", ["", "any", "first"], ["never"], body=body),
        helper.make_node("Where", ["no", "never", "answer"], ["probability"]),
    ]
    return build_graph("endless", nodes, constants, width)


def folder(
    case: UseCase,
    *,
    run_id: str = "20130301-000000-aaaaaaaa",
    bias: float = 0.25,
    weights: dict[str, float] | None = None,
    golden: list[dict[str, Any]] | None = None,
    model: bytes | None = None,
    reasons_onnx: bytes | None = None,
    **manifest: Any,
) -> dict[str, bytes]:
    """The files of a model's folder. ``golden`` defaults to one row that the model does reproduce."""
    inputs = model_inputs(case)
    given = weights or {}
    content = {
        "model.onnx": model or linear_graph([given.get(item.name, 0.0) for item in inputs], bias),
        "golden.json": json.dumps(
            golden if golden is not None else [{"features": FEATURES, "probability": bias}]
        ).encode(),
    }
    if reasons_onnx is not None:
        content["reasons.onnx"] = reasons_onnx
    description: dict[str, Any] = {
        "run_id": run_id,
        "model_version": f"2013-03-01/{run_id}",
        "use_case": case.name,
        "trained_at": "2013-03-01T00:00:00Z",
        "seed": 7,
        "threshold": 0.5,
        "inputs": [item.name for item in inputs],
        "input_kinds": [item.kind for item in inputs],
        "categories": CATEGORIES,
        "files": [
            {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in content.items()
        ],
        "rows": {},
        "windows": {},
        "parameters": {},
        "versions": {},
        "metrics": {},
        "parity_max_abs_diff": 0.0,
        "champion": None,
        "verdict": "PROMOTE",
        "reasons": [],
    }
    content["manifest.json"] = json.dumps(description | manifest).encode()
    return content


def pointer(files: dict[str, bytes], generation: int, bucket: str = "local-dev-models") -> ModelPointer:
    """The pointer that names these files."""
    manifest = json.loads(files["manifest.json"])
    return ModelPointer(
        use_case=manifest["use_case"],
        model_version=manifest["model_version"],
        uri=f"gs://{bucket}/models/{manifest['model_version']}",
        manifest_sha256=hashlib.sha256(files["manifest.json"]).hexdigest(),
        generation=generation,
        moved_at=MOVED_AT,
    )


FEATURES: dict[str, Any] = {
    "carrier": "UA",
    "origin": "JFK",
    "dest": "LAX",
    "sched_dep_minute": 600.0,
    "sched_arr_minute": 780.0,
    "weekday": 2.0,
    "distance": 2475.0,
    "plane_year": None,
    "plane_seats": 178.0,
    "temp": 39.0,
    "humid": None,
    "wind_dir": 260.0,
    "wind_speed": 12.6,
    "precip": 0.0,
    "pressure": 1012.0,
    "visib": 10.0,
}


def record(record_id: str = "r1", **features: Any) -> dict[str, Any]:
    """A record's document."""
    return {
        "record_id": record_id,
        "event_time": "2013-03-02T15:00:00Z",
        "features": FEATURES | features,
    }
