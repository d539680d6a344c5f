"""A model's manifest: what it is, where it came from, and why it was or was not trusted."""

from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class Verdict(StrEnum):
    """What the gate says of a challenger."""

    PROMOTE = "PROMOTE"
    """It takes over."""
    HOLD = "HOLD"
    """The old model stays; nothing is wrong with the new one, but it is not shown to be better."""
    REJECT = "REJECT"
    """The old model stays; the new one is worse, or does not reproduce itself."""


class ModelFile(BaseModel):
    """One file of a model's folder."""

    model_config = ConfigDict(frozen=True)

    name: str
    """Relative to the folder."""
    sha256: str
    bytes: int


class DataCheck(BaseModel):
    """One check of the data that a model was made of."""

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    value: float
    """What was measured, in the unit of ``limit``."""
    limit: float
    text: str
    """The finding, for a person."""


class GoldenRow(BaseModel):
    """One record's features with the probability that Spark itself gave them; a model that is loaded must
    reproduce it before it serves."""

    model_config = ConfigDict(frozen=True)

    features: dict[str, Any]
    probability: float


class ModelManifest(BaseModel):
    """``manifest.json``, written last: a folder without one is no model."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    run_id: str
    model_version: str
    """``<training date>/<run_id>``."""
    use_case: str
    trained_at: AwareDatetime
    seed: int
    threshold: float = Field(ge=0.0, le=1.0)
    """The probability from which the positive label is answered."""
    inputs: list[str]
    """The model's input names in order; they are the fields of the use case's features class."""
    input_kinds: list[str]
    """``category`` or ``number``, by position. A category is looked up in ``categories``."""
    categories: dict[str, list[str]]
    """For each category its known values in index order. A value not in the list has the index ``len(list)``;
    a missing one is looked up as ``__missing__``."""
    files: list[ModelFile]
    """``model.onnx`` and ``golden.json``, with hashes."""
    evidence: list[ModelFile] = []
    """What tells about the run and is not needed to serve: ``convert.json``, ``inputs.json``, ``profile.json``,
    ``evaluation.json``, ``report.html``, ``MODEL_CARD.md``, with hashes."""
    rows: dict[str, int]
    """Counts: ``train``, ``evaluate`` (measured), ``window`` (all of the evaluation window, each held against
    Spark's own answer), ``unlabelled``, ``corrupt``, ``duplicates``."""
    windows: dict[str, str]
    """ISO dates: ``train_from``, ``train_to``, ``evaluate_from``, ``evaluate_to`` (inclusive)."""
    parameters: dict[str, Any]
    versions: dict[str, str]
    """Of Python, Spark and the packages that made it."""
    code_sha256: str = ""
    """Of the packages ``spark`` and ``schemas`` that ran."""
    metrics: dict[str, Any]
    """``challenger``, ``champion``, ``frozen`` (the champion's predecessor), ``constant`` (the rate of the training
    rows), each with ``auc``, ``pr_auc``, ``log_loss``, ``brier``, ``calibration_error`` and their bounds ``…_low``,
    ``…_high``; null where there is no such model. ``difference`` is challenger minus champion, paired;
    ``difference_frozen`` and ``difference_constant`` the same against the baselines."""
    checks: list[DataCheck] = []
    """Of the data, passed or not."""
    parity_max_abs_diff: float
    """Largest absolute difference between the served artefact and Spark over the evaluation window."""
    champion: str | None
    """The ``model_version`` it was compared with."""
    like: str | None = None
    """The ``model_version`` whose run it repeats."""
    verdict: Verdict
    reasons: list[str]
    seconds: dict[str, float] = {}
    """Wall seconds of each job."""
