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

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pydantic import ValidationError
from pyspark.sql import SparkSession
from pyspark.sql.functions import col

from functions.classify.trial import Folder, Trial, room
from schemas.model_manifest import ModelFile, ModelManifest
from schemas.shapes import model_inputs
from schemas.told_verdict import ToldVerdict
from spark import metrics, objects, report, snapshot
from spark.features import scores_ddl
from spark.fingerprint import code_sha256, versions
from spark.gate import Evidence, judge
from spark.golden import sent_again
from spark.importance import importance
from spark.inspection import PROFILE, Inspection, inspect
from spark.instruments import AUC, LOG_LOSS
from spark.job import Job, JobFailed, progress
from spark.repeat import INPUTS, Original, agreement, original
from spark.served import ServedModel, largest_difference
from spark.snapshot import Snapshot

EVALUATION = "evaluation.json"
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


def evaluate(spark: SparkSession, storage: Any, job: Job) -> None:
    """Judge what ``train`` made in this run, and write the manifest.

    Raises:
        JobFailed: a file of the run or of the champion is not there, or not what its manifest says.
    """
    began = time.monotonic()
    done = f"{job.model}/manifest.json"
    there = objects.read(storage, done)
    if there is not None:
        progress(f"evaluate: {done} is there, this run was judged before")
        _tell(storage, job, there)
        return
    converted = _needed(storage, f"{job.work}/convert.json", "run convert.py first")
    trained = _needed(storage, f"{job.work}/train.json", "run train.py first")
    files = {name: _needed(storage, f"{job.model}/{name}", "run train.py first") for name in FILES}
    inputs = snapshot.inputs(storage, job, Snapshot.from_json(converted))
    seen = objects.read(storage, f"{job.model}/{EVALUATION}")
    if seen is None:
        with Trial(memory=room(job.instance_mib * 2**20)) as trial:  # its process starts while the models are measured
            measured = _measured(spark, storage, job, json.loads(converted), json.loads(trained), files, began)
            profile = measured.inspection.profile.model_dump_json().encode()
            seen = _encoded(measured.document)
            evidence, manifest = _folder(converted, inputs, profile, seen)
            refusal = trial.refusal(job.case, _as_written(job, files, manifest), measured.rows)
        if refusal is not None:
            verdict, reasons = judge(replace(measured.evidence, refusal=refusal))
            seen = _encoded(
                measured.document
                | {"manifest": measured.document["manifest"] | {"verdict": verdict.value, "reasons": reasons}}
            )
            evidence, manifest = _folder(converted, inputs, profile, seen)
        # The profile first: where evaluation.json is, it is complete.
        objects.write_once(storage, f"{job.model}/{PROFILE}", profile)
        objects.write_once(storage, f"{job.model}/{EVALUATION}", seen)
    else:
        profile = _needed(storage, f"{job.model}/{PROFILE}", "start the run again with a new run id")
        evidence, manifest = _folder(converted, inputs, profile, seen)
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


def _folder(
    converted: bytes, inputs: Mapping[str, Any], profile: bytes, seen: bytes
) -> tuple[dict[str, bytes], ModelManifest]:
    """What tells about the run, by name, and the manifest that lists it."""
    document = json.loads(seen)
    evidence = {
        "convert.json": converted,
        INPUTS: json.dumps(inputs, indent=0, sort_keys=True).encode(),
        PROFILE: profile,
        EVALUATION: seen,
        report.REPORT: report.html(document, len(inputs)),
        report.CARD: report.card(document),
    }
    listed = [_listed(name, content) for name, content in evidence.items()]
    return evidence, ModelManifest.model_validate(document["manifest"] | {"evidence": listed})


def _bytes(manifest: ModelManifest) -> bytes:
    return manifest.model_dump_json(indent=1).encode()


def _as_written(job: Job, files: Mapping[str, bytes], manifest: ModelManifest) -> Folder:
    written = _bytes(manifest)
    return Folder(job.model_version, hashlib.sha256(written).hexdigest(), {**files, "manifest.json": written})


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(_finite(document), indent=1).encode()


def _tell(storage: Any, job: Job, manifest: bytes) -> None:
    """Write ``verdict.json``. A run that broke off before it writes the same one when it is started again."""
    told = ToldVerdict.of(ModelManifest.model_validate_json(manifest), job.model, hashlib.sha256(manifest).hexdigest())
    objects.write_once(storage, f"{job.model}/{ToldVerdict.NAME}", told.model_dump_json(indent=1).encode())


def _measure(job: Job, manifest: ModelManifest) -> None:
    for model in ("challenger", "champion", FROZEN, CONSTANT):
        measured = manifest.metrics.get(model) or {}
        for gauge, name in ((AUC, "auc"), (LOG_LOSS, "log_loss")):
            value = measured.get(name)
            if value is not None and math.isfinite(value):
                gauge.set(value, use_case=job.case.name, model=model, verdict=manifest.verdict.value)


def _measured(
    spark: SparkSession,
    storage: Any,
    job: Job,
    converted: Mapping[str, Any],
    trained: Mapping[str, Any],
    files: Mapping[str, bytes],
    began: float,
) -> "_Measured":
    """Everything that is measured, and the verdict on it."""
    challenger = ServedModel(files["model.onnx"], trained["inputs"], trained["input_kinds"], trained["categories"])
    repeated = original(storage, job)
    if repeated is not None:
        job = replace(job, champion=repeated.champion)
    champion, champions_manifest = _model(storage, job, job.champion)
    frozen, frozen_name = _predecessor(storage, job, champions_manifest)
    seed = trained["seed"]
    parts = math.ceil(trained["rows"]["evaluate"] / WINDOW_ROWS)
    # Side by side: Spark looks at all the data while Python runs and measures the models on the window.
    with ThreadPoolExecutor() as pool:
        inspected = pool.submit(inspect, spark, storage, job, champions_manifest, trained, converted["counts"])
        window = read_window(spark, job, 0, parts)
        matrix = challenger.matrix(window.features)
        scores = {"challenger": challenger.scored(matrix)}
        if champion is not None:
            scores["champion"] = champion.probabilities(window.features)
        if frozen is not None:
            scores[FROZEN] = frozen.probabilities(window.features)
        scores[CONSTANT] = np.full(len(window.target), trained["positive_share"])
        parity = max(
            largest_difference(scores["challenger"], window.spark_probability),
            _golden_difference(job, challenger, json.loads(files["golden.json"])),
            *(_difference(challenger, read_window(spark, job, part, parts)) for part in range(1, parts)),
        )
        weights = importance(challenger, matrix, window.target, seed)
        measured = metrics.compare(window.target, window.days, scores, seed)
        inputs = model_inputs(job.case)
        categories = {item.name: window.features[item.name] for item in inputs if item.kind == "category"}
        segments = metrics.segments(window.target, window.days, scores, categories, seed)
        inspection = inspected.result()
    evidence = replace(
        _evidence(measured, window, parity),
        frozen=frozen_name,
        segments=segments,
        checks=inspection.checks,
        artefact_bytes=len(files["model.onnx"]),
        artefact_milliseconds=challenger.milliseconds(matrix),
        repeats=None if repeated is None else _agreement(storage, job, repeated, files["model.onnx"], window, scores),
    )
    verdict, reasons = judge(evidence)
    counts = converted["counts"]
    manifest = ModelManifest(
        run_id=job.run_id,
        model_version=job.model_version,
        use_case=job.case.name,
        trained_at=datetime.now(UTC).replace(microsecond=0),
        seed=seed,
        threshold=trained["threshold"],
        inputs=trained["inputs"],
        input_kinds=trained["input_kinds"],
        categories=trained["categories"],
        files=[_listed(name, content) for name, content in files.items()],
        rows={
            **trained["rows"],
            "evaluate": len(window.target),
            "window": trained["rows"]["evaluate"],
            "unlabelled": counts["unlabelled"],
            "corrupt": counts["records_corrupt"] + counts["labels_corrupt"],
            "duplicates": counts["duplicates"],
        },
        windows=trained["windows"],
        parameters={
            **trained["parameters"],
            "data": f"{job.work}/convert.json",
            "checks": job.limits.model_dump(),
        },
        versions=versions(spark.version),
        code_sha256=code_sha256(),
        metrics={"champion": None, FROZEN: None} | measured,
        checks=inspection.checks,
        parity_max_abs_diff=parity,
        champion=None if job.champion is None else job.champion.removeprefix("models/"),
        like=None if job.like is None else job.like.removeprefix("models/"),
        verdict=verdict,
        reasons=reasons,
        seconds={
            "convert": converted["seconds"],
            "train": trained["seconds"],
            "evaluate": round(time.monotonic() - began, 3),
        },
    )
    shown = {name: scores[name] for name in ("challenger", "champion", FROZEN) if name in scores}
    document = {
        "manifest": manifest.model_dump(mode="json"),
        "labels": list(job.case.labels),
        "counts": counts,
        "artefact": {"bytes": evidence.artefact_bytes, "milliseconds": evidence.artefact_milliseconds},
        "usual_rate": trained["positive_share"],
        "rate": float(window.target.mean()),
        "frozen": frozen_name,
        "reliability": {name: metrics.reliability(window.target, column) for name, column in shown.items()},
        "curves": {name: metrics.curves(window.target, column) for name, column in shown.items()},
        "by_day": metrics.by_day(window.target, window.days, shown),
        "segments": [asdict(segment) for segment in segments],
        "importance": weights,
        "drift": inspection.drift,
        "drift_against": inspection.drift_against,
        "champion": None if champions_manifest is None else champions_manifest.model_dump(mode="json"),
    }
    return _Measured(inspection, evidence, document, _rows(job, window))


@dataclass(frozen=True)
class _Measured:
    inspection: Inspection
    evidence: Evidence
    document: dict[str, Any]
    """The content of ``evaluation.json``."""
    rows: list[tuple[dict[str, Any], float]]
    """Some of the window, each with what Spark answered."""


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
        raise JobFailed(f"{folder}/manifest.json is no manifest ({error.error_count()} errors); {advice}") from error
    artefact = _needed(storage, f"{folder}/model.onnx", advice)
    expected = {file.name: file.sha256 for file in manifest.files}.get("model.onnx")
    if hashlib.sha256(artefact).hexdigest() != expected:
        raise JobFailed(
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


def _agreement(
    storage: Any, job: Job, repeated: Original, artefact: bytes, window: Window, scores: Mapping[str, np.ndarray]
) -> str:
    """How well this run agrees with the one that it repeats, for a person."""
    model, _ = _model(storage, job, job.like)
    assert model is not None
    difference = largest_difference(model.probabilities(window.features), scores["challenger"])
    return agreement(repeated, model.artefact == artefact, difference)


def _needed(storage: Any, uri: str, advice: str) -> bytes:
    content = objects.read(storage, uri)
    if content is None:
        raise JobFailed(f"{uri} is not there; {advice}")
    return content


def _listed(name: str, content: bytes) -> ModelFile:
    return ModelFile(name=name, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def _finite(value: Any) -> Any:
    """``value`` with None for what is no number: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
