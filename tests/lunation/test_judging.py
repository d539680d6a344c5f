"""``report``, ``diff`` and ``quality``, through the command, on running servers."""

import hashlib
import json
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from google.cloud import datastore
from google.cloud.workflows.executions_v1 import Execution
from typer.testing import CliRunner

from laptop.supervisor import Supervisor
from lunation import runs, scoring
from lunation.cli import app
from lunation.clients import Clients
from lunation.deploy.datastore import CompositeIndex
from lunation.scoring import Outcome
from lunation.settings import load
from schemas import Classification, ModelPointer, ModelPromotion, RunState, TrainingRun, use_case
from schemas.profile import Bins, DataProfile
from schemas.shapes import unindexed
from spark import metrics
from tests.functions.doubles import models
from tests.support import eventually

CASE = use_case("flights")
MODELS, ARCHIVE = "local-dev-models", "local-dev-archive"
DAYS = [datetime(2013, 3, day, 12, tzinfo=UTC) for day in range(1, 11)]
PAGE = b"<!doctype html><title>why</title>"
PROFILE = DataProfile(
    days=["2013-02-01"],
    bins={
        "carrier": Bins(kind="category", values=["AA", "UA"]),
        "distance": Bins(kind="number", edges=[500.0, 1500.0]),
        "temp": Bins(kind="number", edges=[30.0]),
    },
    counts={"carrier": [[0, 500, 500, 0]], "distance": [[0, 300, 400, 300]], "temp": [[0, 500, 500]]},
)


MANIFEST = {
    "rows": {"train": 5000, "evaluate": 1000},
    "windows": {"evaluate_from": "2013-02-02", "evaluate_to": "2013-03-01"},
}


class Operator:
    """A person with the command, and what the servers hold."""

    def __init__(self, clients: Clients, variables: dict[str, str]) -> None:
        self.clients = clients
        self._variables = variables

    def run(self, *arguments: str, code: int = 0, **variables: str) -> Result:
        """The command."""
        result = CliRunner().invoke(app, arguments, env={**self._variables, **variables}, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    def model(self, run_id: str, **manifest: Any) -> str:
        """A model with its report and its profile; its version."""
        evidence = {
            "report.html": PAGE,
            "MODEL_CARD.md": b"# Model card",
            "profile.json": PROFILE.model_dump_json().encode(),
        }
        listed = [
            {"name": name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in evidence.items()
        ]
        files = models.folder(CASE, run_id=run_id, **{**MANIFEST, "evidence": listed, **manifest})
        version = json.loads(files["manifest.json"])["model_version"]
        for name, content in {**files, **evidence}.items():
            self.clients.storage.bucket(MODELS).blob(f"models/{version}/{name}").upload_from_string(content)
        return version

    def put(self, record: Any, name: str) -> None:
        """An entity of a record's kind."""
        kind = type(record)
        key = self.clients.datastore.key(kind.__name__, name)
        entity = datastore.Entity(key, exclude_from_indexes=unindexed(kind))
        entity.update(record.model_dump())
        self.clients.datastore.put(entity)

    def serve(self, version: str) -> None:
        """Point to a model."""
        pointer = ModelPointer(
            use_case="flights", model_version=version, uri=f"gs://{MODELS}/models/{version}", manifest_sha256="0" * 64,
            generation=1, moved_at=DAYS[0],
        )  # fmt: skip
        self.put(pointer, "flights")

    def answers(self, version: str, per_day: int = 80, *, flipped: bool = False, distance: float | None = None) -> None:
        """Answers of ten days, and in the archive their records and their outcomes, which come true as said."""
        draw = random.Random(1)
        self.forget()
        for day in DAYS:
            records, labels = [], []
            for number in range(per_day):
                record_id = f"{day:%m%d}.{number}"
                said = draw.choice([0.1, 0.3, 0.6])
                late = (draw.random() < said) != flipped
                answer = Classification(
                    record_id=record_id, label="late" if said > 0.5 else "on_time", probability=said,
                    model_version=version, generation=1, event_time=day, classified_at=datetime.now(UTC),
                )  # fmt: skip
                self.put(answer, record_id)
                features = models.FEATURES | {
                    "carrier": draw.choice(["AA", "UA"]),
                    "distance": distance or draw.choice([400.0, 1000.0, 1000.0, 2000.0]),
                    "temp": 90.0,
                }
                records.append({"record_id": record_id, "event_time": day.isoformat(), "features": features})
                # The first word was wrong, and was corrected.
                for hours, value in ((2, not late), (5, late)):
                    told = (day + timedelta(hours=hours)).isoformat()
                    labels.append({"record_id": record_id, "label": CASE.labels[value], "event_time": told})
            for topic, lines in (("records", records), ("labels", labels[::-1])):
                blob = self.clients.storage.bucket(ARCHIVE).blob(f"archive/{topic}/dt={day:%Y-%m-%d}/one.json")
                blob.upload_from_string("".join(json.dumps(line) + "\n" for line in lines))

    def forget(self) -> None:
        """No answers."""
        query = self.clients.datastore.query(kind="Classification")
        query.keys_only()
        self.clients.datastore.delete_multi([entity.key for entity in query.fetch()])


# Says what it was asked for.
WORKFLOW = "main: {params: [argument], steps: [{done: {return: '${argument}'}}]}"


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Servers with the buckets, the indexes and a workflow in the place of the one that trains."""
    state = tmp_path_factory.mktemp("judging") / "state"
    with pytest.MonkeyPatch.context() as patch, Supervisor(state, ["datastore", "storage", "workflows"]) as running:
        for variable in ("DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
            patch.setenv(variable, "")  # the clients set them; they are put back afterwards
        running.wait_ready()
        endpoints = state / "endpoints.json"
        clients = Clients(load().target("laptop").model_copy(update={"endpoints": endpoints}))
        for bucket in (MODELS, ARCHIVE):
            clients.storage.create_bucket(bucket)
        CompositeIndex("TrainingRun", "use_case", "-claimed_at").create(clients)
        clients.workflows.create_workflow(
            parent=clients.location, workflow_id="retrain", workflow={"source_contents": WORKFLOW}
        ).result(timeout=20)
        variables = {"LUNATION_TARGETS__LAPTOP__ENDPOINTS": str(endpoints), "COLUMNS": "200", "TERM": "dumb"}
        yield Operator(clients, variables)


MEASURED = {"auc": 0.72, "log_loss": 0.55, "brier": 0.18, "calibration_error": 0.02, "rows": 1000}


def test_answers_that_hold_cross_no_bound(operator: Operator) -> None:
    """Scored by model, day and segment with the corrected outcome; weather is reported, and not judged."""
    version = operator.model("holds", metrics={"challenger": MEASURED, "champion": None})
    operator.serve(version)
    operator.answers(version)
    found = json.loads(operator.run("quality", "--json").stdout)
    assert (found["answers"], found["labelled"], found["findings"], found["started"]) == (800, 800, [], None)
    (model,) = found["models"]
    assert model["what"] == version
    assert 0.65 < model["score"]["auc"] < 0.8
    assert abs(model["score"]["said"] - model["score"]["rate"]) < 0.05
    assert [day["what"] for day in found["days"]] == [f"{day:%Y-%m-%d}" for day in DAYS]
    assert {one["what"] for one in found["segments"]} == {
        "carrier = AA",
        "carrier = UA",
        "origin = JFK",
        "dest = LAX",
    }
    assert found["drift"][0]["feature"] == "temp"
    assert found["drift"][0]["judged"] is False
    text = operator.run("quality").stdout
    assert "800 answers" in text
    assert "No bound is crossed" in text


def test_answers_that_do_not_come_true_start_an_early_training(operator: Operator) -> None:
    """Each crossed bound is named with its figures, the exit code says so, and --retrain starts the workflow."""
    version = operator.model("fails", metrics={"challenger": MEASURED, "champion": None})
    operator.serve(version)
    operator.answers(version, flipped=True, distance=2500.0)
    found = json.loads(operator.run("quality", "--json", code=2).stdout)
    assert [text.split(" ")[0] for text in found["findings"]] == ["AUC", "log-loss", "it", "distance"]
    assert "the gate had 0.7200" in found["findings"][0]
    assert found["started"] is None
    started = json.loads(operator.run("quality", "--json", "--retrain", code=2).stdout)["started"]

    def ended() -> Execution | None:
        one = operator.clients.executions.get_execution(name=started)
        return one if one.state != Execution.State.ACTIVE else None

    assert json.loads(eventually(ended).result) == {"early": True, "force": False}
    assert len(runs.executions(operator.clients)) == 1


def test_answers_of_a_cycle_are_judged_unless_days_are_said(operator: Operator) -> None:
    """As long a time as ``[schedule] cycle_weeks`` says."""

    def days(*arguments: str, **variables: str) -> float:
        found = json.loads(operator.run("quality", "--json", *arguments, **variables).stdout)
        return (datetime.now(UTC) - datetime.fromisoformat(found["since"])) / timedelta(days=1)

    operator.forget()
    assert days() == pytest.approx(28, abs=0.01)
    assert days(LUNATION_SCHEDULE__CYCLE_WEEKS="2") == pytest.approx(14, abs=0.01)
    assert days("--days", "3") == pytest.approx(3, abs=0.01)


def test_few_outcomes_and_no_answers_judge_nothing(operator: Operator) -> None:
    """Forty outcomes prove nothing, however bad; without answers there is nothing to say."""
    version = operator.model("few", metrics={"challenger": MEASURED, "champion": None})
    operator.serve(version)
    operator.answers(version, per_day=4, flipped=True, distance=2500.0)
    assert json.loads(operator.run("quality", "--json").stdout)["findings"] == []
    operator.forget()
    assert "0 answers" in operator.run("quality").stdout


def test_a_report_is_what_the_manifest_says(operator: Operator, tmp_path: Any) -> None:
    """By run id or model version: in short, as the page, as the card; a page that was changed is not shown."""
    check = {"name": "volume", "passed": False, "value": 9.0, "limit": 5.0, "text": "2013-03-01 has [bold]9[/] records"}
    version = operator.model(
        "told",
        metrics={"challenger": MEASURED, "champion": None},
        verdict="HOLD",
        reasons=["volume: too few"],
        checks=[check],
    )
    shown = operator.run("report", version).stdout
    for words in (version, "HOLD", "volume: too few", "0.7200", "0 of 1 passed", "2013-03-01 has [bold]9[/] records"):
        assert words in shown
    assert "On 1,000 records of" in shown
    part = operator.model("part", rows={"train": 5000, "evaluate": 1000, "window": 250_000})
    assert "On 1,000 of 250,000 records of" in operator.run("report", part).stdout
    run = TrainingRun(
        cycle="flights:1", run_id="told", use_case="flights", state=RunState.SUCCEEDED, execution="e",
        claimed_at=DAYS[0], model_version=version,
    )  # fmt: skip
    operator.put(run, run.cycle)
    operator.run("report", "told", "--out", str(tmp_path / "page.html"))
    assert (tmp_path / "page.html").read_bytes() == PAGE
    assert operator.run("report", "told", "--card").stdout == "# Model card\n"
    operator.clients.storage.bucket(MODELS).blob(f"models/{version}/report.html").upload_from_string(b"other")
    assert "not the file that its manifest names" in operator.run("report", "told", "--out", "/dev/null", code=1).stderr
    failed = run.model_copy(
        update={
            "cycle": "flights:2",
            "run_id": "broke",
            "model_version": None,
            "state": RunState.FAILED,
            "cause": "no labels",
        }
    )
    operator.put(failed, failed.cycle)
    assert "run broke made no model: no labels" in operator.run("report", "broke", code=1).stderr
    assert "no run 'nothing'" in operator.run("report", "nothing", code=1).stderr


def test_a_difference_is_told_and_nothing_else(operator: Operator) -> None:
    """Windows, parameters and new categories, by their paths; a run against itself has none."""
    before = operator.model("before", windows={"train_to": "2013-02-01"}, parameters={"maxDepth": 5})
    now = operator.model("now", windows={"train_to": "2013-03-01"}, parameters={"maxDepth": 6})
    found = {
        one["what"]: (one["before"], one["now"])
        for one in json.loads(operator.run("diff", before, now, "--json").stdout)
    }
    assert found == {"windows.train_to": ("2013-02-01", "2013-03-01"), "parameters.maxDepth": (5, 6)}
    shown = operator.run("diff", before, now).stdout
    assert "windows.train_to" in shown
    assert "the same in everything" in operator.run("diff", before, before).stdout


def test_what_cannot_be_read_is_named_and_the_rest_is_judged(operator: Operator) -> None:
    """A label that is null, a line that is no JSON, a record that today's class refuses, an object that is none of the
    archive's: by object and line. A bound that is crossed all the same is found."""
    version = operator.model("odd", metrics={"challenger": MEASURED, "champion": None})
    operator.serve(version)
    operator.answers(version, flipped=True)
    day = f"{DAYS[0]:%Y-%m-%d}"
    bucket = operator.clients.storage.bucket(ARCHIVE)
    odd = {
        f"archive/labels/dt={day}/odd.json": b'null\n{\n{"record_id": "0301.0", "label": null}\n',
        f"archive/records/dt={day}/odd.json": b'null\n{"record_id": "0301.1", "features": {}}\n',
        f"archive/records/dt={day}/a:b.json": b"{}",
        "archive/labels/x.json": b"{}",
    }
    for name, content in odd.items():
        bucket.blob(name).upload_from_string(content)
    try:
        shown = operator.run("quality", "--json", code=2)
        found = json.loads(shown.stdout)
        assert (found["answers"], found["labelled"], found["broken"]) == (800, 800, [])
        assert {text.split(" ")[0] for text in found["findings"]} == {"AUC", "log-loss", "it"}
        assert set(found["skipped"]["reasons"]) == {
            *(f"archive/labels/dt={day}/odd.json:{number}" for number in (1, 2, 3)),
            *(f"archive/records/dt={day}/odd.json:{number}" for number in (1, 2)),
            f"archive/records/dt={day}/a:b.json",
            "archive/labels/x.json",
        }
        assert f"archive/labels/dt={day}/odd.json:3: label: Input should be a valid string" in shown.stderr
    finally:
        for name in odd:
            bucket.blob(name).delete()


def test_a_serving_model_whose_folder_is_broken_is_named_and_its_answers_are_scored(operator: Operator) -> None:
    """A manifest without what the gate measured, one that is gone, a profile that is none, a pointer that cannot be
    read, an answer that cannot: the exit code says that it was judged by less."""

    def named(*, code: int = 1) -> dict[tuple[str, str, str], str]:
        found = json.loads(operator.run("quality", "--json", code=code).stdout)
        assert found["models"][0]["score"]["rows"] > 700
        assert "No bound is crossed of what could be judged" in operator.run("quality", code=code).stdout
        return {(one["kind"], one["key"], one["property"]): one["reason"] for one in found["broken"]}

    version = operator.model("bare", metrics={})
    operator.serve(version)
    operator.answers(version)
    assert set(named()) == {("ModelManifest", version, "metrics.challenger")}
    assert f"ModelManifest {version}, property metrics.challenger" in operator.run("quality", code=1).stderr

    version = operator.model("half", metrics={"challenger": {"auc": None, "log_loss": 0.5}}, rows={})
    operator.serve(version)
    assert set(named()) == {
        ("ModelManifest", version, "metrics.challenger.auc"),
        ("ModelManifest", version, "rows.evaluate"),
    }

    content = b"no JSON"
    listed = {"name": "profile.json", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    version = operator.model("torn", metrics={"challenger": MEASURED}, evidence=[listed])
    operator.clients.storage.bucket(MODELS).blob(f"models/{version}/profile.json").upload_from_string(content)
    operator.serve(version)
    assert set(named()) == {("ModelManifest", version, "evidence profile.json")}

    operator.serve("2013-03-01/gone")
    assert "there is no gs://" in named()["ModelManifest", "2013-03-01/gone", ""]

    key = operator.clients.datastore.key("ModelPointer", "flights")
    pointer = operator.clients.datastore.get(key)
    pointer["generation"] = "first"
    answer = operator.clients.datastore.get(operator.clients.datastore.key("Classification", "0301.0"))
    answer["probability"] = "much"
    operator.clients.datastore.put_multi([pointer, answer])
    assert set(named()) == {
        ("ModelPointer", "flights", "generation"),
        ("Classification", "0301.0", "probability"),
    }
    operator.serve(version)


def test_a_report_says_what_is_no_longer_as_it_was(operator: Operator) -> None:
    """A manifest that is not the one which the pointer, its history, the verdict or the object's own metadata names,
    and a file that is not the manifest's. It is shown all the same, with whatever it lacks."""
    version = operator.model("told-once", metrics={"challenger": MEASURED}, verdict="HOLD")
    assert operator.run("report", version).stderr == ""
    assert json.loads(operator.run("report", version, "--json").stdout)["doubts"] == []
    bucket = operator.clients.storage.bucket(MODELS)
    manifest = bucket.blob(f"models/{version}/manifest.json")
    content = manifest.download_as_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    named = ModelPointer(
        use_case="flights", model_version=version, uri=f"gs://{MODELS}/models/{version}", manifest_sha256=sha256,
        generation=7, moved_at=DAYS[0],
    )  # fmt: skip
    row = ModelPromotion(**named.model_dump(), previous_version=None, verdict="PROMOTE", reason="", actor="somebody")
    operator.put(named, "flights")
    operator.put(row, row.key_name("flights", 7))
    bucket.blob(f"models/{version}/verdict.json").upload_from_string(json.dumps({"manifest_sha256": sha256}))
    assert operator.run("report", version).stderr == ""

    manifest = bucket.blob(f"models/{version}/manifest.json")
    manifest.metadata = {"sha256": sha256}
    manifest.upload_from_string(content.replace(b'"HOLD"', b'"PROMOTE"').replace(b'"challenger"', b'"another"'))
    bucket.blob(f"models/{version}/report.html").delete()
    shown = operator.run("report", version)
    assert "PROMOTE" in shown.stdout
    for who in ("the pointer", "generation 7", "verdict.json", "the object's own metadata"):
        assert f"is not the one that {who} names" in shown.stderr
    assert f"report.html of {version}, which its manifest names, is gone" in shown.stderr
    assert len(json.loads(operator.run("report", version, "--json").stdout)["doubts"]) == 5
    bucket.blob(f"models/{version}/verdict.json").upload_from_string(b"no JSON")
    assert f"verdict.json of {version} cannot be read" in operator.run("report", version).stderr
    bare = operator.model("bare-report", rows={}, windows={}, metrics={"challenger": {"auc": "high"}, "champion": 7})
    assert "Data checks" in operator.run("report", bare).stdout


def test_a_model_card_cannot_steer_a_terminal(operator: Operator) -> None:
    """It quotes values of the data. What looks like markup is text, too."""
    card = b"# Card\n\n[bold]JFK[/] :smile:\n"
    listed = {"name": "MODEL_CARD.md", "sha256": hashlib.sha256(card).hexdigest(), "bytes": len(card)}
    version = operator.model("carded", evidence=[listed])
    operator.clients.storage.bucket(MODELS).blob(f"models/{version}/MODEL_CARD.md").upload_from_string(card)
    assert operator.run("report", version, "--card").stdout == card.decode()


def test_scores_are_those_of_training() -> None:
    """The same measures as spark/metrics.py on the same rows, ties and extremes included."""
    draw = np.random.default_rng(4)
    scores = np.r_[np.round(draw.random(500), 2), 0.0, 1.0]
    target = (draw.random(502) < scores).astype(float)
    days = [f"d{place % 7}" for place in range(502)]
    theirs = metrics.compare(target, days, {"challenger": scores}, 1)["challenger"]
    rows = [Outcome(day, float(p), bool(t)) for day, p, t in zip(days, scores, target, strict=True)]
    ours = scoring.score(rows)
    for measure in ("auc", "log_loss", "brier", "calibration_error"):
        assert getattr(ours, measure) == pytest.approx(theirs[measure])
    error = scoring.errors(rows).auc
    assert error is not None
    width = (theirs["auc_high"] - theirs["auc_low"]) / (2 * 1.96)
    assert math.isclose(error, width, rel_tol=0.6), "the jackknife and the bootstrap over days agree roughly"
    assert scoring.score([Outcome("d", 0.4, True)]).auc is None
    assert scoring.errors(rows[:2]).auc is None
