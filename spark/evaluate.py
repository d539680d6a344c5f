"""Job 3 of 3: is the exported model what Spark trained, is it good, and may it take over?

Challenger and champion are scored on the same latest window, each by the artefact that is (or would be) served. Writes
``convert.json`` (what it was made from) into the model's folder and then, last of all, ``manifest.json``: a folder
without one is no model.

The window comes to the driver: its features, one label and one score a row (27,000 rows by 16 features for flights).
"""

import hashlib
import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from pydantic import ValidationError
from pyspark.sql import SparkSession
from pyspark.sql.functions import col

from schemas.model_manifest import ModelFile, ModelManifest
from schemas.shapes import model_inputs
from spark import objects
from spark.gate import Evidence, judge
from spark.job import Job, JobFailed, exit_code, parse, progress
from spark.metrics import compare
from spark.served import ServedModel, largest_difference
from spark.session import start

PACKAGES = ("pyspark", "numpy", "onnx", "onnxruntime", "pydantic")


def main(argv: Sequence[str]) -> int:
    """Wire the job: arguments, session, storage client."""
    from google.cloud.storage import Client

    job = parse("evaluate", __doc__.splitlines()[0], argv)
    return exit_code(lambda: evaluate(start(f"evaluate {job.run_id}"), Client(), job))


def evaluate(spark: SparkSession, storage: Any, job: Job) -> None:
    """Judge what ``train`` made in this run, and write the manifest.

    Raises:
        JobFailed: a file of the run or of the champion is not there, or not what its manifest says.
    """
    began = time.monotonic()
    done = f"{job.model}/manifest.json"
    if objects.read(storage, done) is not None:
        progress(f"evaluate: {done} is there, this run was judged before")
        return
    converted_bytes = _needed(storage, f"{job.work}/convert.json", "run convert.py first")
    converted = json.loads(converted_bytes)
    trained = json.loads(_needed(storage, f"{job.work}/train.json", "run train.py first"))
    files = {
        name: _needed(storage, f"{job.model}/{name}", "run train.py first") for name in ("model.onnx", "golden.json")
    }
    challenger = ServedModel(files["model.onnx"], trained["inputs"], trained["input_kinds"], trained["categories"])
    champion = _champion(storage, job)

    window = _window(spark, job)
    scores = {"challenger": challenger.probabilities(window.features)}
    if champion is not None:
        scores["champion"] = champion.probabilities(window.features)
    parity = max(
        largest_difference(scores["challenger"], window.spark_probability),
        _golden_difference(challenger, json.loads(files["golden.json"])),
    )
    metrics = compare(window.target, window.days, scores, trained["seed"])
    verdict, reasons = judge(_evidence(metrics, window, parity))

    objects.write_once(storage, f"{job.model}/convert.json", converted_bytes)
    counts = converted["counts"]
    manifest = ModelManifest(
        run_id=job.run_id,
        model_version=job.model_version,
        use_case=job.case.name,
        trained_at=datetime.now(UTC).replace(microsecond=0),
        seed=trained["seed"],
        threshold=trained["threshold"],
        inputs=trained["inputs"],
        input_kinds=trained["input_kinds"],
        categories=trained["categories"],
        files=[
            ModelFile(name=name, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
            for name, content in files.items()
        ],
        rows={
            **trained["rows"],
            "unlabelled": counts["unlabelled"],
            "corrupt": counts["records_corrupt"] + counts["labels_corrupt"],
            "duplicates": counts["duplicates"],
        },
        windows=trained["windows"],
        parameters={
            **trained["parameters"],
            "data": f"{job.work}/data",
            "inputs_sha256": hashlib.sha256(converted_bytes).hexdigest(),
        },
        versions={"python": platform.python_version(), "spark": spark.version}
        | {package: version(package) for package in PACKAGES},
        metrics={"champion": None} | metrics,
        parity_max_abs_diff=parity,
        champion=None if job.champion is None else job.champion.removeprefix("models/"),
        verdict=verdict,
        reasons=reasons,
        seconds={
            "convert": converted["seconds"],
            "train": trained["seconds"],
            "evaluate": round(time.monotonic() - began, 3),
        },
    )
    objects.write_once(storage, done, manifest.model_dump_json(indent=1).encode())
    progress(f"evaluate: {verdict} after {time.monotonic() - began:.1f} s; parity {parity:.1e}; {'; '.join(reasons)}")


@dataclass(frozen=True)
class Window:
    """The evaluation window's rows, column by column."""

    features: dict[str, list[Any]]
    target: np.ndarray
    days: list[str]
    spark_probability: np.ndarray


def _window(spark: SparkSession, job: Job) -> Window:
    names = [item.name for item in model_inputs(job.case)]
    # Features get names of their own: a use case may call one `target`.
    frame: Any = (
        spark.read.parquet(f"{job.work}/scores")
        .select(
            "target",
            "probability",
            col("dt").cast("string"),
            *(col(f"features.`{name}`").alias(f"in_{place}") for place, name in enumerate(names)),
        )
        .toPandas()
    )
    return Window(
        features={name: frame[f"in_{place}"].tolist() for place, name in enumerate(names)},
        target=frame["target"].to_numpy(),
        days=frame["dt"].tolist(),
        spark_probability=frame["probability"].to_numpy(),
    )


def _champion(storage: Any, job: Job) -> ServedModel | None:
    if job.champion is None:
        return None
    folder = f"{job.models}/{job.champion}"
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
    return ServedModel(artefact, manifest.inputs, manifest.input_kinds, manifest.categories)


def _needed(storage: Any, uri: str, advice: str) -> bytes:
    content = objects.read(storage, uri)
    if content is None:
        raise JobFailed(f"{uri} is not there; {advice}")
    return content


def _golden_difference(model: ServedModel, golden: Sequence[Mapping[str, Any]]) -> float:
    columns = {name: [row["features"].get(name) for row in golden] for name in model.inputs}
    return largest_difference(model.probabilities(columns), np.array([row["probability"] for row in golden]))


def _evidence(metrics: Mapping[str, Mapping[str, float]], window: Window, parity: float) -> Evidence:
    challenger, difference = metrics["challenger"], metrics.get("difference")
    evidence = Evidence(
        rows=len(window.target),
        positives=int(window.target.sum()),
        days=len(set(window.days)),
        parity_max_abs_diff=parity,
        auc=challenger["auc"],
        auc_low=challenger["auc_low"],
    )
    if difference is None:
        return evidence
    return replace(
        evidence,
        champion_auc=metrics["champion"]["auc"],
        auc_gain=difference["auc"],
        auc_gain_high=difference["auc_high"],
        log_loss_rise=difference["log_loss"],
        log_loss_rise_low=difference["log_loss_low"],
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
