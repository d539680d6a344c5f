"""Runs a model as it is served: the ONNX artefact and its manifest's lists, no Spark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

from spark.features import matrix


@dataclass(frozen=True)
class ServedModel:
    """One artefact with what is needed to feed it."""

    artefact: bytes
    inputs: Sequence[str]
    kinds: Sequence[str]
    categories: Mapping[str, Sequence[str]]

    def probabilities(self, columns: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """The probability of the positive label for each row of plain feature columns."""
        session = onnxruntime.InferenceSession(self.artefact, providers=["CPUExecutionProvider"])
        features = matrix(columns, self.inputs, self.kinds, self.categories)
        (result,) = session.run(["probability"], {"features": features})
        return result


def largest_difference(ours: np.ndarray, sparks: np.ndarray) -> float:
    """The largest absolute difference of two columns of probabilities; no number at all counts as 1, all there is."""
    return float(np.nan_to_num(np.abs(ours - sparks), nan=1.0).max(initial=0.0))
