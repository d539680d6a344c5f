"""How much a model leans on each input: the AUC that it loses when the input's values are dealt out anew."""

from collections.abc import Mapping

import numpy as np

from spark.metrics import auc
from spark.served import ServedModel

ROWS = 20_000
"""So many rows, spread over the window, tell it to the third digit."""


def importance(model: ServedModel, features: np.ndarray, target: np.ndarray, seed: int) -> Mapping[str, float]:
    """For each input, largest first: the loss of AUC on ``features`` (rows by inputs). 0: it is not used."""
    step = max(1, len(features) // ROWS)
    rows, outcome = features[::step], target[::step]
    base = auc(outcome, model.scored(rows))
    generator = np.random.default_rng(seed)
    lost = {}
    for position, name in enumerate(model.inputs):
        shuffled = rows.copy()
        shuffled[:, position] = generator.permutation(shuffled[:, position])
        lost[name] = base - auc(outcome, model.scored(shuffled))
    return dict(sorted(lost.items(), key=lambda pair: -pair[1]))
