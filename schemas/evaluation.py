"""What the evaluation measured, once: the manifest, the report and the model card follow from it."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from schemas.model_manifest import ModelManifest


@dataclass(frozen=True)
class Artefact:
    """What the served model costs."""

    bytes: int
    milliseconds: float
    """Median time of one record through it."""


@dataclass(frozen=True)
class CalibrationBin:
    """The rows whose probability lies in one bin."""

    rows: int
    probability: float
    """Mean of what was said."""
    rate: float
    """Share of positive labels."""


@dataclass(frozen=True)
class Curves:
    """One model's curves, as points ``[across, up]``; empty where the window has one class only."""

    roc: list[list[float]]
    """False positive rate and true positive rate."""
    precision_recall: list[list[float]]
    """Recall and precision."""


@dataclass(frozen=True)
class DayMeasures:
    """One model on one day's rows; None where the measure is no number, as AUC is without both classes."""

    auc: float | None
    log_loss: float | None


class MeasuredDay(BaseModel):
    """One day of the evaluation window, and each model on it. A model that there was not has no key."""

    model_config = ConfigDict(frozen=True)

    day: str
    """ISO date."""
    rows: int
    rate: float
    """Share of positive labels."""
    challenger: DayMeasures
    champion: DayMeasures | None = None
    frozen: DayMeasures | None = None

    @model_serializer(mode="wrap")
    def _models_there_were(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in whole(self).items() if value is not None}

    def models(self) -> Iterator[tuple[str, DayMeasures]]:
        """Each model that there was, by name."""
        for name, measures in (("challenger", self.challenger), ("champion", self.champion), ("frozen", self.frozen)):
            if measures is not None:
                yield name, measures


@dataclass(frozen=True)
class Segment:
    """The rows of one value of a category, and how challenger and champion do on them.

    What is no number is None in the file.
    """

    feature: str
    value: str
    rows: int
    positives: int
    auc: float | None
    champion_auc: float | None
    auc_gain: float | None
    auc_gain_error: float | None
    """Standard error of the gain over days; None where there is no champion, or a class is missing on many days."""
    log_loss: float | None
    champion_log_loss: float | None
    mean_score: float | None
    rate: float
    """Share of positive labels."""


@dataclass(frozen=True)
class InputDrift:
    """How far one input's newest window is from its reference."""

    index: float
    """Population stability index."""
    p_value: float
    """Of a permutation test over days."""
    judged: bool
    """False for an input that is declared to drift."""
    bins: list[str]
    """What each bin holds, for a person."""
    reference: list[float]
    """Share of the reference window in each bin."""
    current: list[float]
    """Share of the newest window in each bin."""


class Evaluation(BaseModel):
    """``evaluation.json`` in the model's folder."""

    NAME: ClassVar[str] = "evaluation.json"
    model_config = ConfigDict(frozen=True)

    manifest: ModelManifest
    """The run's, without its list of evidence, which this file is part of."""
    labels: list[str]
    """The negative and the positive one."""
    counts: dict[str, int]
    """The conversion's: over all that was ever read."""
    artefact: Artefact
    usual_rate: float
    """Share of positive labels among the training rows."""
    rate: float
    """Share of positive labels in the evaluation window."""
    frozen: str | None
    """``model_version`` of the champion's predecessor; None where there is none."""
    reliability: dict[str, list[CalibrationBin]]
    """By model, those bins that have rows."""
    curves: dict[str, Curves]
    """By model."""
    by_day: list[MeasuredDay]
    segments: list[Segment]
    importance: dict[str, float | None]
    """AUC that is lost when an input's values are dealt out anew, by input, the largest first."""
    drift: dict[str, InputDrift]
    """By input."""
    drift_against: str
    """What the drift is measured against, for a person."""
    champion: ModelManifest | None
    """The champion's own manifest."""

    def to_json(self) -> bytes:
        """The file's content; what is no number is null, for JSON has no NaN."""
        return json.dumps(_finite(self.model_dump(mode="json")), indent=1).encode()


def _finite(value: Any) -> Any:
    """``value`` with None for what is no number."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
