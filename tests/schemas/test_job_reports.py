"""Promises of what one training job leaves for another: the files have these keys in this order, whatever the types are
called, and are read back as they were written."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from math import inf, nan

from schemas.archive_snapshot import Day, Snapshot
from schemas.evaluation import (
    Artefact,
    CalibrationBin,
    Curves,
    DayMeasures,
    Evaluation,
    InputDrift,
    MeasuredDay,
    Segment,
)
from schemas.model_manifest import ModelManifest, Verdict
from schemas.training_report import GoldenCounts, TrainingReport, WindowRows, Windows

SNAPSHOT = Snapshot(
    use_case="shop",
    run_id="run-2",
    number=1,
    previous="run-1",
    shape="2; …",
    days={"2024-03-01": Day("run-1", 3, 2)},
    waiting=Day("run-2", 1, 1),
    counts={"records": 3},
    inputs={"gs://a/archive/records/one.json": "md5"},
    skipped={"gs://a/archive/records/notes.txt": "no suffix"},
    refused=[{"object": "gs://a/archive/records/one.json", "reason": "items: Field required"}],
    seconds=1.5,
)
TRAINED = TrainingReport(
    use_case="shop",
    run_id="run-2",
    inputs=["country"],
    input_kinds=["category"],
    categories={"country": ["ar", "br"]},
    columns=["country"],
    threshold=0.5,
    positive_share=0.25,
    rows=WindowRows(train=8, evaluate=4),
    windows=Windows(date(2, 3, 1), date(2024, 3, 14), date(2024, 3, 15), date(2024, 4, 11)),
    seed=1,
    parameters={"maxIter": 3, "stepSize": 0.2},
    golden=GoldenCounts(rows=5, refused=1),
    seconds=2.5,
)
SEGMENT = Segment("country", "ar", 4, 1, 0.75, None, None, None, nan, None, 0.5, 0.25)
EVALUATION = Evaluation(
    manifest=ModelManifest(
        run_id="run-2",
        model_version="2024-06-01/run-2",
        use_case="shop",
        trained_at=datetime(2024, 6, 1, tzinfo=UTC),
        seed=1,
        threshold=0.5,
        inputs=["country"],
        input_kinds=["category"],
        categories={"country": ["ar", "br"]},
        files=[],
        rows={"train": 8},
        windows=TRAINED.windows.as_text(),
        parameters={},
        versions={},
        metrics={"challenger": {"auc": nan, "log_loss": 0.5}},
        parity_max_abs_diff=0.0,
        champion=None,
        verdict=Verdict.HOLD,
        reasons=[],
    ),
    labels=["kept", "returned"],
    counts={"records": 3},
    artefact=Artefact(bytes=10, milliseconds=0.125),
    usual_rate=0.25,
    rate=0.5,
    frozen=None,
    reliability={"challenger": [CalibrationBin(rows=4, probability=0.5, rate=0.25)]},
    curves={"challenger": Curves(roc=[[0.0, 1.0]], precision_recall=[])},
    by_day=[MeasuredDay(day="2024-03-15", rows=4, rate=0.25, challenger=DayMeasures(auc=None, log_loss=0.5))],
    segments=[SEGMENT],
    importance={"country": nan},
    drift={"country": InputDrift(0.1, 0.5, True, ["ar", "others"], [0.5, 0.5], [1.0, 0.0])},
    drift_against="the training window",
    champion=None,
)


def test_a_snapshot_is_stored_with_these_keys() -> None:
    """``convert.json``, which the runs that follow build on."""
    document = json.loads(SNAPSHOT.to_json())
    assert Snapshot.NAME == "convert.json"
    assert document == {
        "counts": {"records": 3},
        "days": {"2024-03-01": {"labelled": 2, "rows": 3, "run_id": "run-1"}},
        "inputs": {"gs://a/archive/records/one.json": "md5"},
        "number": 1,
        "previous": "run-1",
        "refused": [{"object": "gs://a/archive/records/one.json", "reason": "items: Field required"}],
        "run_id": "run-2",
        "seconds": 1.5,
        "shape": "2; …",
        "skipped": {"gs://a/archive/records/notes.txt": "no suffix"},
        "use_case": "shop",
        "waiting": {"labelled": 1, "rows": 1, "run_id": "run-2"},
    }
    assert list(document) == sorted(document)
    assert Snapshot.from_json(SNAPSHOT.to_json()) == SNAPSHOT
    assert Snapshot.from_json(replace(SNAPSHOT, waiting=None).to_json()).waiting is None


def test_the_counts_of_an_old_conversion_are_read() -> None:
    """A champion may be of a release whose report had hardly more than its counts."""
    assert Snapshot.counts_of(b'{"counts": {"records": 3}, "files": 2}') == {"records": 3}


def test_a_training_is_stored_with_these_keys() -> None:
    """``train.json``, and the windows as the manifest has them."""
    windows = {
        "evaluate_from": "2024-03-15",
        "evaluate_to": "2024-04-11",
        "train_from": "0002-03-01",
        "train_to": "2024-03-14",
    }
    document = json.loads(TRAINED.to_json())
    assert TrainingReport.NAME == "train.json"
    assert document == {
        "categories": {"country": ["ar", "br"]},
        "columns": ["country"],
        "golden": {"refused": 1, "rows": 5},
        "input_kinds": ["category"],
        "inputs": ["country"],
        "parameters": {"maxIter": 3, "stepSize": 0.2},
        "positive_share": 0.25,
        "rows": {"evaluate": 4, "train": 8},
        "run_id": "run-2",
        "seconds": 2.5,
        "seed": 1,
        "threshold": 0.5,
        "use_case": "shop",
        "windows": windows,
    }
    assert list(document) == sorted(document)
    assert list(TRAINED.windows.as_text().items()) == list(windows.items())
    assert TrainingReport.model_validate_json(TRAINED.to_json()) == TRAINED


def test_an_evaluation_is_stored_with_these_keys() -> None:
    """``evaluation.json``: in the order in which they are declared, null for what is no number, and no key for a model
    that there was not."""
    document = json.loads(EVALUATION.to_json(), parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
    manifest = document.pop("manifest")
    assert Evaluation.NAME == "evaluation.json"
    assert manifest["metrics"] == {"challenger": {"auc": None, "log_loss": 0.5}}
    assert manifest["verdict"] == "HOLD"
    assert list(document.items()) == list(
        {
            "labels": ["kept", "returned"],
            "counts": {"records": 3},
            "artefact": {"bytes": 10, "milliseconds": 0.125},
            "usual_rate": 0.25,
            "rate": 0.5,
            "frozen": None,
            "reliability": {"challenger": [{"rows": 4, "probability": 0.5, "rate": 0.25}]},
            "curves": {"challenger": {"roc": [[0.0, 1.0]], "precision_recall": []}},
            "by_day": [
                {"day": "2024-03-15", "rows": 4, "rate": 0.25, "challenger": {"auc": None, "log_loss": 0.5}},
            ],
            "segments": [
                {
                    "feature": "country",
                    "value": "ar",
                    "rows": 4,
                    "positives": 1,
                    "auc": 0.75,
                    "champion_auc": None,
                    "auc_gain": None,
                    "auc_gain_error": None,
                    "log_loss": None,
                    "champion_log_loss": None,
                    "mean_score": 0.5,
                    "rate": 0.25,
                }
            ],
            "importance": {"country": None},
            "drift": {
                "country": {
                    "index": 0.1,
                    "p_value": 0.5,
                    "judged": True,
                    "bins": ["ar", "others"],
                    "reference": [0.5, 0.5],
                    "current": [1.0, 0.0],
                }
            },
            "drift_against": "the training window",
            "champion": None,
        }.items()
    )


def test_an_evaluation_that_is_read_back_is_written_the_same_again() -> None:
    """A run that broke off goes on with the same bytes; an infinite measure is null as well."""
    infinite = EVALUATION.model_copy(update={"segments": [replace(SEGMENT, auc_gain=inf)]})
    for one in (EVALUATION, infinite):
        content = one.to_json()
        assert Evaluation.model_validate_json(content).to_json() == content
