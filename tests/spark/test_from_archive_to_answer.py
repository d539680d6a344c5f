"""Promise: what the class of a use case takes, Spark learns from, and every instance answers alike: from the archive to
the function's own loader, for every row of the evaluation window."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import Field

from backtest.archive import History
from datasets import data_set
from functions.classify.model import load_model
from schemas import USE_CASES, Features
from schemas.model_manifest import ModelManifest
from schemas.training_report import GoldenCounts
from spark import training
from spark.conversion import convert
from spark.evaluation import evaluate
from tests.use_cases.parcels import PARCELS, PARCELS_DATA, ParcelFeatures

pytestmark = pytest.mark.spark

FEW_TREES = training.PARAMETERS | {"maxIter": 4}
LOWEST, FILL = -1.7976931348623157e308, -9.96921e36


def cycle(desk, case, documents, evaluation_days=28):
    """File the documents, and run the three jobs."""
    History(documents).file(
        desk.storage.root / desk.job.archive.removeprefix("gs://"),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 1, 1, tzinfo=UTC),
    )
    desk.job = replace(desk.job, case=case, evaluation_days=evaluation_days)
    convert(desk.spark, desk.storage, desk.job)
    training.train(desk.spark, desk.storage, desk.job, FEW_TREES)
    evaluate(desk.spark, desk.storage, desk.job)
    return ModelManifest.model_validate(desk.json(f"{desk.job.model}/manifest.json"))


def served(desk, manifest):
    """The model as an instance loads it, golden rows included."""
    folder = desk.storage.root / desk.job.model.removeprefix("gs://")
    sha256 = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    return load_model(desk.job.case, manifest.model_version, sha256, lambda name: (folder / name).read_bytes())


def sparks(desk):
    """Spark's own probability of each row of the window."""
    scores = desk.spark.read.parquet(f"{desk.job.work}/scores").where("golden IS NULL")
    return {row.record_id: row.probability for row in scores.select("record_id", "probability").collect()}


def check_every_row(desk, manifest, documents):
    """The function answers each record of the window, read as it was sent, as Spark did."""
    model, expected = served(desk, manifest), sparks(desk)
    assert len(expected) == manifest.rows["window"]
    sent = {record["record_id"]: record for record, _ in documents}
    apart = 0.0
    for record_id, probability in expected.items():
        record = desk.job.case.read_record(json.dumps(sent[record_id]).encode())
        apart = max(apart, abs(model.probability(record.features) - probability))
    assert apart <= 1e-9
    assert manifest.parity_max_abs_diff <= 1e-9
    assert len(set(expected.values())) > 5, "a model that answers the same to everything shows nothing"


def parcels(days=70):
    """The first weeks of the third use case."""
    return list(PARCELS_DATA.history(datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=days)))


def test_weather_is_served_as_it_was_trained(desk):
    """The shipped use case with a strict whole number and nothing but fields that drift."""
    case = USE_CASES["weather"]
    documents = list(data_set("weather").history(datetime(2013, 2, 20, tzinfo=UTC)))
    manifest = cycle(desk, case, documents)
    check_every_row(desk, manifest, documents)
    golden = desk.json(f"{desk.job.model}/golden.json")
    assert {type(row["features"]["wet_hours"]) for row in golden} == {int}


def test_parcels_are_served_as_they_were_trained(desk):
    """Strict whole numbers (3 and 3.0), a boolean, a default that is not None, and bounds: promoted, loaded, and the
    same answer everywhere. The golden rows are of the class's own types; among them are left out and null values,
    unseen words, and both ends of every number's range."""
    documents = parcels()
    manifest = cycle(desk, PARCELS, documents)
    assert manifest.verdict == "PROMOTE", manifest.reasons
    check_every_row(desk, manifest, documents)
    rows = [row["features"] for row in desk.json(f"{desk.job.model}/golden.json")]
    assert {type(row["items"]) for row in rows} == {int}
    assert {type(row["express"]) for row in rows} == {bool}
    assert {row["depot"] for row in rows} - set(manifest.categories["depot"])
    assert any("insured" not in row for row in rows)
    assert any(row.get("attempts", 0) is None for row in rows)
    assert {row["items"] for row in rows} >= {0, 500}
    assert {row.get("insured") for row in rows} >= {LOWEST, -LOWEST}
    assert desk.trained().golden == GoldenCounts(rows=len(rows), refused=0)
    check_defaults(desk, manifest, documents)


def check_defaults(desk, manifest, documents):
    """A record that leaves the field out is trained on, and answered, as one that sends the default."""
    model, rows = served(desk, manifest), desk.rows()
    left_out = [record for record, _ in documents if "insured" not in record["features"]][:50]
    assert left_out
    for record in left_out:
        given = record | {"features": record["features"] | {"insured": 0.0}}
        one, other = (PARCELS.read_record(json.dumps(document).encode()) for document in (record, given))
        assert model.probability(one.features) == model.probability(other.features)
        assert rows[record["record_id"]].features.insured == 0.0


class Tightened(ParcelFeatures):
    """After a bound was tightened and a field made required."""

    weight: float = Field(gt=0.5)
    attempts: int = Field(ge=0, json_schema_extra={"drifts": True})


def test_what_todays_class_refuses_is_set_aside_and_named(desk, capfd):
    """The archive holds what an older class took: it is read anew, such rows are counted and named with the field and
    trained on by nobody; what comes of it is loaded, or held back with a reason that names the field."""
    documents = parcels()
    cycle(desk, PARCELS, documents)
    desk.job = replace(desk.job, run_id="run-2")
    manifest = cycle(desk, replace(PARCELS, features=Tightened), documents)
    light = [one for one, _ in documents if one["features"]["weight"] <= 0.5]
    silent = [one for one, _ in documents if one["features"].get("attempts") is None]
    refused = {one["record_id"] for one in (*light, *silent)}
    assert light
    assert silent
    report = desk.converted()
    assert report.previous is None
    assert report.counts["records_corrupt"] == len(refused)
    assert not refused & desk.rows().keys()
    assert len(report.refused) == 100
    assert {line["reason"].partition(":")[0] for line in report.refused} == {"features.weight", "features.attempts"}
    assert all("/archive/records/dt=2025-" in line["object"] for line in report.refused)
    assert "refused a line of" in capfd.readouterr().err
    assert manifest.verdict == "HOLD"
    (reason,) = [reason for reason in manifest.reasons if reason.startswith("corrupt: ")]
    assert "features.attempts" in reason
    check_every_row(desk, manifest, documents)


def test_records_of_another_century_change_nothing(desk):
    """A date before 1900, the second year and the last but one, of records and of labels: the model is trained on the
    others, promoted and served, and what is told of its window is theirs."""
    documents = parcels()
    times = ["1850-01-01T00:00:00Z", "1899-12-30T00:00:00Z", "1601-01-01T00:00:00Z", "0002-01-01T00:00:00Z",
             "9998-12-31T00:00:00Z"]  # fmt: skip
    for place, time in enumerate(times):
        record, label = documents[100 + place]
        label = label or {"label": "late", "event_time": time}
        documents.append((
            record | {"record_id": f"record-{place}", "event_time": time}, label | {"record_id": f"record-{place}"}
        ))  # fmt: skip
        documents[200 + place] = (documents[200 + place][0], label | {
            "record_id": documents[200 + place][0]["record_id"], "event_time": time
        })  # fmt: skip
    manifest = cycle(desk, PARCELS, documents)
    assert desk.converted().counts["records"] == len(documents)
    assert manifest.verdict == "PROMOTE", manifest.reasons
    assert manifest.windows["train_from"] == "2025-01-01"
    assert manifest.windows["evaluate_to"].startswith("2025-03-1")
    check_every_row(desk, manifest, documents)


def test_a_few_rows_that_todays_class_refuses_hold_nothing_back(desk):
    """A handful of zeros from before the bound: set aside, and the model is promoted and served."""
    documents = parcels()
    for record, _ in documents[5:3000:600]:
        record["features"]["weight"] = 0.0
    manifest = cycle(desk, PARCELS, documents)
    assert desk.converted().counts["records_corrupt"] == 5
    assert manifest.verdict == "PROMOTE", manifest.reasons
    check_every_row(desk, manifest, documents)


class Filled(Features):
    """Numbers that may be missing, and may be anything."""

    depth: float | None = None
    salt: float | None = None
    whole: int | None = None


def filled(number):
    """A record of each odd kind in turn, and its label."""
    when = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=36 * number)
    depth = [FILL, None, 1.5, LOWEST, -1.7e308, 1.7e308, -LOWEST, -3.0, 12.0, 0.0, 5e-324, -1e9][number % 12]
    salt = [None, FILL, 3.0, None, 4.0][number % 5]
    whole = [None, -(2**53) + 1, 2**53 - 1, 4][number % 4]
    late = (number * 7919) % 101 < (80 if depth in (FILL, LOWEST, 1.5) else 30 if depth is None else 50)
    record = {
        "record_id": f"cast-{number}",
        "event_time": when.isoformat(),
        "features": {"depth": depth, "salt": salt, "whole": whole},
    }
    known = (when + timedelta(hours=1)).isoformat()
    return record, {"record_id": f"cast-{number}", "event_time": known, "label": ("in_time", "late")[late]}


def test_no_number_is_taken_for_a_missing_one(desk):
    """Fill values such as netCDF's -9.97e36 beside nulls, the ends of what a double holds, the lowest double itself:
    the artefact answers each as Spark does."""
    documents = [filled(number) for number in range(2400)]
    case = replace(PARCELS, features=Filled)
    check_every_row(desk, cycle(desk, case, documents), documents)
