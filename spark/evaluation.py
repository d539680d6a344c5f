"""Job 3 of 3: is the exported model what Spark trained, is the data fit, is the model good, and may it take over?

Challenger, champion and two baselines (the champion's predecessor, and a constant) are scored on the same latest
window, each model by the artefact that is (or would be) served. Writes into the model's folder what was seen
(``convert.json``, ``inputs.json``, ``profile.json``, ``evaluation.json``), the report of it for people
(``report.html``, ``MODEL_CARD.md``), and then ``manifest.json``: a folder without one is no model. ``verdict.json``
comes last: what the workflow has to know of it, in a few kilobytes.

What is promoted is tried first: the very folder, by the code that would serve it (``functions/classify/trial.py``).

``evaluation.json`` is what was measured, once; the other files follow from it. So a run that broke off in between goes
on with the same figures and the same verdict.

The window comes to the driver: its features, one label and one score a row (27,000 rows by 24 features for flights).
Of a larger one than :data:`WINDOW_ROWS` it comes in parts, one after the other: the first is what is measured, and the
artefact is held against Spark on every row of all. So the driver's memory stops growing with the records there.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pydantic import ValidationError
from pyspark.sql import SparkSession
from pyspark.sql.functions import col

from functions.classify.trial import Folder, Trial, room
from schemas.archive_snapshot import Snapshot
from schemas.evaluation import Artefact, Evaluation, Segment
from schemas.file_hash import hash_mismatch, sha256_of
from schemas.model_manifest import ModelFile, ModelManifest
from schemas.shapes import model_inputs
from schemas.told_verdict import ToldVerdict
from schemas.training_report import TrainingReport
from spark import metrics, objects, report, snapshot
from spark.features import scores_ddl
from spark.fingerprint import code_sha256, versions
from spark.gate import Evidence, judge
from spark.golden import sent_again
from spark.importance import importance
from spark.inspection import PROFILE, Inspection, inspect
from spark.instruments import AUC, LOG_LOSS
from spark.job import Job, JobFailedError, progress
from spark.repeat import INPUTS, Original, agreement, original
from spark.served import ServedModel, largest_difference

TYPES = {"json": "application/json", "html": "text/html; charset=utf-8", "md": "text/markdown; charset=utf-8"}
CONSTANT = "constant"
"""The baseline that always answers the rate of positive labels among the training rows."""
FROZEN = "frozen"
"""The baseline that was not retrained in the last cycle: the champion's predecessor."""
WINDOW_ROWS = 100_000
"""More hardly make an interval narrower, because whole days are drawn. (Where fewer than one row in two thousand has
the rarer label, they would: the gate then holds for want of it.)"""
TRIED_ROWS = 1000
"""So many rows of the window are answered by the function's own code before the verdict."""
FILES = ("model.onnx", "golden.json", "reasons.onnx")
"""What ``train`` leaves in the model's folder."""


@dataclass(frozen=True)
class _Run:
    """What the jobs before left of the run."""

    converted: bytes
    """``convert.json``: the model's folder gets a copy of it."""
    snapshot: Snapshot
    """The same, read."""
    trained: TrainingReport
    files: Mapping[str, bytes]
    """:data:`FILES`, by name."""

    @classmethod
    def load(cls, storage: Any, job: Job) -> "_Run":
        """Read what is needed of the run.

        Raises:
            JobFailedError: a job before did not run, or not to its end.
        """
        converted = _needed(storage, f"{job.work}/{Snapshot.NAME}", "run convert.py first")
        trained = _needed(storage, f"{job.work}/{TrainingReport.NAME}", "run train.py first")
        files = {name: _needed(storage, f"{job.model}/{name}", "run train.py first") for name in FILES}
        return cls(converted, Snapshot.from_json(converted), TrainingReport.model_validate_json(trained), files)


def evaluate(spark: SparkSession, storage: Any, job: Job) -> None:
    """Judge what ``train`` made in this run, and write the manifest.

    Raises:
        JobFailedError: a file of the run or of the champion is not there, or not what its manifest says.
    """
    began = time.monotonic()
    done = f"{job.model}/manifest.json"
    there = objects.read(storage, done)
    if there is not None:
        progress(f"evaluate: {done} is there, this run was judged before")
        _tell(storage, job, there)
        return
    run = _Run.load(storage, job)
    inputs = snapshot.inputs(storage, job, run.snapshot)
    seen = objects.read(storage, f"{job.model}/{Evaluation.NAME}")
    if seen is None:
        evidence, manifest = _judged(spark, storage, job, run, inputs, began)
        # The profile first: where evaluation.json is, it is complete.
        for name in (PROFILE, Evaluation.NAME):
            objects.write_once(storage, f"{job.model}/{name}", evidence[name])
    else:
        profile = _needed(storage, f"{job.model}/{PROFILE}", "start the run again with a new run id")
        evidence, manifest = _folder(run.converted, inputs, profile, seen)
    for name, content in evidence.items():
        objects.write_once(storage, f"{job.model}/{name}", content, TYPES[name.rsplit(".", 1)[1]])
    written = _bytes(manifest)
    objects.write_once(storage, done, written)
    _tell(storage, job, written)
    _measure(job, manifest)
    progress(
        f"evaluate: {manifest.verdict} after {time.monotonic() - began:.1f} s; "
        f"parity {manifest.parity_max_abs_diff:.1e}; {'; '.join(manifest.reasons)}"
    )


def _judged(
    spark: SparkSession, storage: Any, job: Job, run: _Run, inputs: Mapping[str, Any], began: float
) -> tuple[dict[str, bytes], ModelManifest]:
    """Measure the models, try to serve the new one, and judge it.

    Args:
        inputs: the archive's objects that the run was made of.
        began: when the job did, by the monotonic clock.

    Returns:
        As :func:`_folder`.
    """
    with Trial(memory=room(job.instance_mib * 2**20)) as trial:  # its process starts while the models are measured
        measured = _measured(spark, storage, job, run, began)
        profile = measured.inspection.profile.model_dump_json().encode()
        seen = measured.document.to_json()
        evidence, manifest = _folder(run.converted, inputs, profile, seen)
        refusal = trial.refusal(job.case, _as_written(job, run.files, manifest), measured.rows)
    if refusal is None:
        return evidence, manifest
    verdict, reasons = judge(replace(measured.evidence, refusal=refusal))
    refused = measured.document.manifest.model_copy(update={"verdict": verdict, "reasons": reasons})
    seen = measured.document.model_copy(update={"manifest": refused}).to_json()
    return _folder(run.converted, inputs, profile, seen)


def _folder(
    converted: bytes, inputs: Mapping[str, Any], profile: bytes, seen: bytes
) -> tuple[dict[str, bytes], ModelManifest]:
    """What tells about the run, by name, and the manifest that lists it."""
    document = Evaluation.model_validate_json(seen)
    evidence = {
        Snapshot.NAME: converted,
        INPUTS: json.dumps(inputs, indent=0, sort_keys=True).encode(),
        PROFILE: profile,
        Evaluation.NAME: seen,
        report.REPORT: report.html(document, len(inputs)),
        report.CARD: report.card(document),
    }
    listed = [_listed(name, content) for name, content in evidence.items()]
    return evidence, document.manifest.model_copy(update={"evidence": listed})


def _bytes(manifest: ModelManifest) -> bytes:
    return manifest.model_dump_json(indent=1).encode()


def _as_written(job: Job, files: Mapping[str, bytes], manifest: ModelManifest) -> Folder:
    written = _bytes(manifest)
    return Folder(job.model_version, sha256_of(written), {**files, "manifest.json": written})


def _tell(storage: Any, job: Job, manifest: bytes) -> None:
    """Write ``verdict.json``. A run that broke off before it writes the same one when it is started again."""
    told = ToldVerdict.of(ModelManifest.model_validate_json(manifest), job.model, sha256_of(manifest))
    objects.write_once(storage, f"{job.model}/{ToldVerdict.NAME}", told.model_dump_json(indent=1).encode())


def _measure(job: Job, manifest: ModelManifest) -> None:
    for model in ("challenger", "champion", FROZEN, CONSTANT):
        measured = manifest.metrics.get(model) or {}
        for gauge, name in ((AUC, "auc"), (LOG_LOSS, "log_loss")):
            value = measured.get(name)
            if value is not None and math.isfinite(value):
                gauge.set(value, use_case=job.case.name, model=model, verdict=manifest.verdict.value)


@dataclass(frozen=True)
class _Measured:
    """Everything that was measured, and the verdict on it."""

    inspection: Inspection
    evidence: Evidence
    document: Evaluation
    rows: list[tuple[dict[str, Any], float]]
    """Some of the window, each with what Spark answered."""


def _measured(spark: SparkSession, storage: Any, job: Job, run: _Run, began: float) -> _Measured:
    """Load the models, score and measure them, and judge the new one.

    Args:
        began: when the job did, by the monotonic clock.
    """
    repeated = original(storage, job)
    if repeated is not None:
        job = replace(job, champion=repeated.champion)
    models = _Models.load(storage, job, run)
    # Side by side: Spark looks at all the data while Python runs and measures the models on the window.
    with ThreadPoolExecutor() as pool:
        inspected = pool.submit(inspect, spark, storage, job, models.champions_manifest, run.trained)
        scored = _scored(spark, job, run, models)
        results = _results(job, run, models, scored)
        inspection = inspected.result()
    evidence = replace(
        _evidence(results.metrics, scored.window, scored.parity),
        frozen=models.frozen_name,
        segments=results.segments,
        checks=inspection.checks,
        artefact_bytes=len(models.challenger.artefact),
        artefact_milliseconds=models.challenger.milliseconds(scored.matrix),
        repeats=None if repeated is None else _agreement(storage, job, repeated, scored, models.challenger.artefact),
    )
    found = _Findings(models, scored, results, inspection, evidence)
    manifest = _manifest(spark, job, run, found, began)
    return _Measured(inspection, evidence, _document(job, run, found, manifest), _rows(job, scored.window))


@dataclass(frozen=True)
class _Models:
    """The models that are measured on the window, each as it is, or would be, served."""

    challenger: ServedModel
    champion: ServedModel | None
    champions_manifest: ModelManifest | None
    frozen: ServedModel | None
    frozen_name: str | None
    """``model_version`` of the champion's predecessor."""

    @classmethod
    def load(cls, storage: Any, job: Job, run: _Run) -> "_Models":
        """The run's own model, the champion, and its predecessor.

        Raises:
            JobFailedError: a file of the champion is not there, or not what its manifest says.
        """
        trained = run.trained
        challenger = ServedModel(run.files["model.onnx"], trained.inputs, trained.input_kinds, trained.categories)
        champion, champions_manifest = _model(storage, job, job.champion)
        frozen, frozen_name = _predecessor(storage, job, champions_manifest)
        return cls(challenger, champion, champions_manifest, frozen, frozen_name)


@dataclass(frozen=True)
class _Scored:
    """The window, and what each model says of it."""

    window: "Window"
    matrix: np.ndarray
    """The window as the challenger's artefact takes it: rows by inputs."""
    scores: Mapping[str, np.ndarray]
    """Probability of the positive label, by model, a value for each row."""
    parity: float
    """Largest difference between the artefact and Spark, over the golden rows and every row of the window."""


def _scored(spark: SparkSession, job: Job, run: _Run, models: _Models) -> _Scored:
    """Read the window, and have each model answer it."""
    parts = math.ceil(run.trained.rows.evaluate / WINDOW_ROWS)
    challenger = models.challenger
    window = read_window(spark, job, 0, parts)
    matrix = challenger.matrix(window.features)
    scores = {"challenger": challenger.scored(matrix)}
    if models.champion is not None:
        scores["champion"] = models.champion.probabilities(window.features)
    if models.frozen is not None:
        scores[FROZEN] = models.frozen.probabilities(window.features)
    scores[CONSTANT] = np.full(len(window.target), run.trained.positive_share)
    parity = max(
        largest_difference(scores["challenger"], window.spark_probability),
        _golden_difference(job, challenger, json.loads(run.files["golden.json"])),
        *(_difference(challenger, read_window(spark, job, part, parts)) for part in range(1, parts)),
    )
    return _Scored(window, matrix, scores, parity)


@dataclass(frozen=True)
class _Results:
    """How good the models are on the window."""

    importance: Mapping[str, float]
    """Of each input; :mod:`spark.importance`."""
    metrics: Mapping[str, Mapping[str, float]]
    """By model; :func:`spark.metrics.compare`."""
    segments: Sequence[Segment]


def _results(job: Job, run: _Run, models: _Models, scored: _Scored) -> _Results:
    """Measure what the models said."""
    window, seed = scored.window, run.trained.seed
    weights = importance(models.challenger, scored.matrix, window.target, seed)
    measured = metrics.compare(window.target, window.days, scored.scores, seed)
    categories = {item.name: window.features[item.name] for item in model_inputs(job.case) if item.kind == "category"}
    return _Results(weights, measured, metrics.segments(window.target, window.days, scored.scores, categories, seed))


@dataclass(frozen=True)
class _Findings:
    """What the verdict and the report are made of."""

    models: _Models
    scored: _Scored
    results: _Results
    inspection: Inspection
    evidence: Evidence


def _manifest(spark: SparkSession, job: Job, run: _Run, found: _Findings, began: float) -> ModelManifest:
    """The manifest, with the verdict and without its list of evidence."""
    trained, counts = run.trained, run.snapshot.counts
    verdict, reasons = judge(found.evidence)
    return ModelManifest(
        run_id=job.run_id,
        model_version=job.model_version,
        use_case=job.case.name,
        trained_at=datetime.now(UTC).replace(microsecond=0),
        seed=trained.seed,
        threshold=trained.threshold,
        inputs=trained.inputs,
        input_kinds=trained.input_kinds,
        categories=trained.categories,
        files=[_listed(name, content) for name, content in run.files.items()],
        rows={
            "evaluate": len(found.scored.window.target),
            "train": trained.rows.train,
            "window": trained.rows.evaluate,
            "unlabelled": counts["unlabelled"],
            "corrupt": counts["records_corrupt"] + counts["labels_corrupt"],
            "duplicates": counts["duplicates"],
        },
        windows=trained.windows.as_text(),
        parameters={
            **trained.parameters,
            "data": f"{job.work}/{Snapshot.NAME}",
            "checks": job.limits.model_dump(),
        },
        versions=versions(spark.version),
        code_sha256=code_sha256(),
        metrics={"champion": None, FROZEN: None, **found.results.metrics},
        checks=found.inspection.checks,
        parity_max_abs_diff=found.scored.parity,
        champion=None if job.champion is None else job.champion.removeprefix("models/"),
        like=None if job.like is None else job.like.removeprefix("models/"),
        verdict=verdict,
        reasons=reasons,
        seconds={
            "convert": run.snapshot.seconds,
            "train": trained.seconds,
            "evaluate": round(time.monotonic() - began, 3),
        },
    )


def _document(job: Job, run: _Run, found: _Findings, manifest: ModelManifest) -> Evaluation:
    """The content of ``evaluation.json``."""
    window, scores, evidence = found.scored.window, found.scored.scores, found.evidence
    shown = {name: scores[name] for name in ("challenger", "champion", FROZEN) if name in scores}
    return Evaluation(
        manifest=manifest,
        labels=list(job.case.labels),
        counts=dict(run.snapshot.counts),
        artefact=Artefact(bytes=evidence.artefact_bytes, milliseconds=evidence.artefact_milliseconds),
        usual_rate=run.trained.positive_share,
        rate=float(window.target.mean()),
        frozen=found.models.frozen_name,
        reliability={name: metrics.reliability(window.target, column) for name, column in shown.items()},
        curves={name: metrics.curves(window.target, column) for name, column in shown.items()},
        by_day=metrics.by_day(window.target, window.days, shown),
        segments=list(found.results.segments),
        importance=dict(found.results.importance),
        drift=found.inspection.drift,
        drift_against=found.inspection.drift_against,
        champion=found.models.champions_manifest,
    )


@dataclass(frozen=True)
class Window:
    """The evaluation window's rows, column by column."""

    features: dict[str, Any]
    """An array for each, with None or NaN where a value is missing."""
    target: np.ndarray
    days: list[str]
    spark_probability: np.ndarray


def read_window(spark: SparkSession, job: Job, part: int = 0, parts: int = 1) -> Window:
    """The window, or one of several parts of it that are about as large and hold every day."""
    names = [item.name for item in model_inputs(job.case)]
    # Features get names of their own: a use case may call one `target`.
    frame: Any = (
        spark.read.schema(scores_ddl(job.case))
        .parquet(f"{job.work}/scores")
        .where(f"golden IS NULL AND pmod(xxhash64(record_id), {parts}) = {part}")
        .select(
            "target",
            "probability",
            col("dt").cast("string"),
            *(col(f"features.`{name}`").alias(f"in_{place}") for place, name in enumerate(names)),
        )
        .toPandas()
    )
    return Window(
        # Arrays, not lists: a number then takes eight bytes and no object.
        features={name: frame[f"in_{place}"].to_numpy() for place, name in enumerate(names)},
        target=frame["target"].to_numpy(),
        days=frame["dt"].tolist(),
        spark_probability=frame["probability"].to_numpy(),
    )


def _rows(job: Job, window: Window) -> list[tuple[dict[str, Any], float]]:
    """Rows of the window, spread over it, as they were sent."""
    step = max(1, len(window.target) // TRIED_ROWS)
    columns = {item.name: window.features[item.name][::step].tolist() for item in model_inputs(job.case)}
    stored = (
        # To pandas, what is missing among numbers is NaN.
        {
            name: None if isinstance(one, float) and math.isnan(one) else one
            for name, one in zip(columns, row, strict=True)
        }
        for row in zip(*columns.values(), strict=True)
    )
    rows = []
    for row, probability in zip(stored, window.spark_probability[::step].tolist(), strict=True):
        with suppress(ValidationError):  # the training has said so
            rows.append((sent_again(job.case, row), probability))
    return rows


def _model(storage: Any, job: Job, folder: str | None) -> tuple[ServedModel | None, ModelManifest | None]:
    """The model in ``folder`` of the models bucket, and its manifest; nothing of nothing."""
    if folder is None:
        return None, None
    folder = f"{job.models}/{folder}"
    advice = "name the folder that ModelPointer has, or none before the first model"
    raw = _needed(storage, f"{folder}/manifest.json", advice)
    try:
        manifest = ModelManifest.model_validate_json(raw)
    except ValidationError as error:
        raise JobFailedError(
            f"{folder}/manifest.json is no manifest ({error.error_count()} errors); {advice}"
        ) from error
    artefact = _needed(storage, f"{folder}/model.onnx", advice)
    expected = {file.name: file.sha256 for file in manifest.files}.get("model.onnx")
    if hash_mismatch("model.onnx", artefact, expected):
        raise JobFailedError(
            f"{folder}/model.onnx is not the file that its manifest names (sha256): it was changed after training; "
            "roll back to a model that is whole"
        )
    return ServedModel(artefact, manifest.inputs, manifest.input_kinds, manifest.categories), manifest


def _predecessor(storage: Any, job: Job, champion: ModelManifest | None) -> tuple[ServedModel | None, str | None]:
    """The model that the champion replaced, if the bucket still has it: an old model may be deleted."""
    if champion is None or champion.champion is None:
        return None, None
    folder = f"models/{champion.champion}"
    if objects.read(storage, f"{job.models}/{folder}/manifest.json") is None:
        progress(f"evaluate: {folder} is no longer in the bucket, so there is no frozen baseline")
        return None, None
    model, _ = _model(storage, job, folder)
    return model, champion.champion


def _agreement(storage: Any, job: Job, repeated: Original, scored: _Scored, artefact: bytes) -> str:
    """How well this run agrees with the one that it repeats, for a person."""
    model, _ = _model(storage, job, job.like)
    assert model is not None
    difference = largest_difference(model.probabilities(scored.window.features), scored.scores["challenger"])
    return agreement(repeated, model.artefact == artefact, difference)


def _needed(storage: Any, uri: str, advice: str) -> bytes:
    content = objects.read(storage, uri)
    if content is None:
        raise JobFailedError(f"{uri} is not there; {advice}")
    return content


def _listed(name: str, content: bytes) -> ModelFile:
    return ModelFile(name=name, sha256=sha256_of(content), bytes=len(content))


def _difference(model: ServedModel, window: Window) -> float:
    return largest_difference(model.probabilities(window.features), window.spark_probability)


def _golden_difference(job: Job, model: ServedModel, golden: Sequence[Mapping[str, Any]]) -> float:
    """Of the golden rows as the class reads them. One that it refuses, the loader refuses too."""
    rows, probabilities = [], []
    for row in golden:
        with suppress(ValidationError):
            rows.append(job.case.read_features(row["features"]).__dict__)
            probabilities.append(row["probability"])
    if not rows:
        return 1.0
    columns = {name: [row[name] for row in rows] for name in model.inputs}
    return largest_difference(model.probabilities(columns), np.array(probabilities))


def _evidence(measured: Mapping[str, Mapping[str, float]], window: Window, parity: float) -> Evidence:
    challenger, difference = measured["challenger"], measured.get("difference")
    evidence = Evidence(
        rows=len(window.target),
        positives=int(window.target.sum()),
        days=len(set(window.days)),
        parity_max_abs_diff=parity,
        auc=challenger["auc"],
        auc_low=challenger["auc_low"],
        constant_log_loss_rise=measured[f"difference_{CONSTANT}"]["log_loss"],
        constant_log_loss_rise_low=measured[f"difference_{CONSTANT}"]["log_loss_low"],
    )
    if f"difference_{FROZEN}" in measured:
        evidence = replace(
            evidence,
            frozen_auc_gain=measured[f"difference_{FROZEN}"]["auc"],
            frozen_auc_gain_high=measured[f"difference_{FROZEN}"]["auc_high"],
        )
    if difference is None:
        return evidence
    return replace(
        evidence,
        champion_auc=measured["champion"]["auc"],
        auc_gain=difference["auc"],
        auc_gain_high=difference["auc_high"],
        log_loss_rise=difference["log_loss"],
        log_loss_rise_low=difference["log_loss_low"],
    )
