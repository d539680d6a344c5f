"""A model that is one only in form: it answers the same probability to everything. Enough to be loaded and to serve."""

import hashlib
import json
from typing import Any

from rehearsal.manifest import untrained
from rehearsal.onnx_graph import linear_graph
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
    content = {"model.onnx": linear_graph([0.0] * len(inputs), PROBABILITY), "golden.json": json.dumps(golden).encode()}
    categories = {one.name: [MISSING] for one in inputs if one.kind == "category"}
    manifest = untrained(case, f"{training_date}/{run_id}", content, categories, reason="a rehearsal")
    written = manifest.model_dump_json().encode()
    uri = f"gs://{bucket}/models/{manifest.model_version}"
    told = ToldVerdict.of(manifest, uri, hashlib.sha256(written).hexdigest())
    return {**content, "manifest.json": written, told.NAME: told.model_dump_json().encode()}
