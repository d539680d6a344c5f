"""Scores columns of values by an artefact, no Spark: the session of the function that serves it, and the window's rows
in one go, where the function has a record at a time. That both say the same of a row is tried with each model
(``functions/classify/trial.py``)."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnxruntime

from functions.classify.model import open_session
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
        return self.scored(self.matrix(columns))

    def matrix(self, columns: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """The artefact's input for plain feature columns: rows by inputs."""
        return matrix(columns, self.inputs, self.kinds, self.categories)

    def scored(self, features: np.ndarray) -> np.ndarray:
        """The probability of the positive label for each row of such a matrix."""
        (result,) = self._session.run(["probability"], {"features": features})
        return result.ravel()

    def milliseconds(self, features: np.ndarray, repeats: int = 200) -> float:
        """The median time of the artefact for one row, taken from ``features`` in turn."""
        rows = [features[place % len(features)][None, :] for place in range(repeats)]
        times = []
        for row in rows:
            began = time.perf_counter()
            self._session.run(["probability"], {"features": row})
            times.append(time.perf_counter() - began)
        return 1000.0 * float(np.median(times))

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return open_session(self.artefact)


def largest_difference(ours: np.ndarray, sparks: np.ndarray) -> float:
    """The largest absolute difference of two columns of probabilities; no number at all counts as 1, all there is."""
    return float(np.nan_to_num(np.abs(ours - sparks), nan=1.0).max(initial=0.0))
