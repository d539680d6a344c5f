"""The model as a user of another server would write it: read once from a folder, then rows in, probabilities out."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from schemas import use_case

CASE = use_case("flights")
Record = CASE.record


class FlightsModel:
    """The session, and the categories of its manifest."""

    def __init__(self) -> None:
        folder = Path(os.environ["MODEL_FOLDER"])
        manifest = json.loads((folder / "manifest.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            (folder / "model.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = manifest["inputs"]
        self.version = manifest["model_version"]
        self.threshold = manifest["threshold"]
        self.categories = {
            name: {word: index for index, word in enumerate(words)} for name, words in manifest["categories"].items()
        }

    def row(self, features: Any) -> list[float]:
        """The model's inputs of one record."""
        values = []
        for name in self.inputs:
            value = getattr(features, name)
            if name in self.categories:
                known = self.categories[name]
                value = known.get(value, len(known))
            values.append(float("nan") if value is None else value)
        return values

    def classify(self, records: Sequence[Any]) -> list[dict[str, Any]]:
        """The answers, in the shape of ``schemas.Classification``."""
        rows = np.array([self.row(record.features) for record in records], dtype=np.float64)
        (probabilities,) = self.session.run(["probability"], {"features": rows})
        now = datetime.now(UTC)
        return [
            {
                "record_id": record.record_id,
                "label": CASE.labels[probability >= self.threshold],
                "probability": probability,
                "model_version": self.version,
                "generation": 1,
                "event_time": record.event_time,
                "classified_at": now,
                "stale": False,
            }
            for record, probability in zip(records, probabilities.ravel().tolist(), strict=True)
        ]
