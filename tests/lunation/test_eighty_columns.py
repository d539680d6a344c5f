"""Every table of every command in a terminal of 80 columns, with long and hostile values, on running servers."""

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.cloud import datastore
from google.cloud.dataproc_v1 import Job, JobStatus
from google.cloud.workflows.executions_v1 import Execution
from rich.cells import cell_len
from typer.testing import CliRunner

from dataflow.archive_sink import object_name
from laptop.supervisor import Supervisor
from lunation import comparing, phases, quality, runs
from lunation.cli import app
from lunation.clients import Clients
from lunation.commands import calling, judging
from lunation.comparing import Compared
from lunation.deploy import releases
from lunation.deploy.datastore import CompositeIndex
from lunation.quality import Drift, Group, Quality
from lunation.scoring import Score
from lunation.settings import load
from schemas import (
    Classification,
    DeadLetter,
    ModelPointer,
    ModelPromotion,
    RunState,
    TrainingRun,
    manifest_diff,
    use_case,
)
from schemas.manifest_diff import Difference
from schemas.shapes import unindexed
from tests.functions.doubles import models
from tests.support import eventually

CASE = use_case("flights")
MODELS, ARCHIVE = "local-dev-models", "local-dev-archive"
NOW = datetime.now(UTC)
ESCAPE = "\x1b[31m"
WHY = f"AUC 0.7433 against the champion's 0.7145{ESCAPE}: better by 0.0288 on [bold]24,492[/] records\u202e " * 3
LONG = "r" * 128
"""As long as a record's id may be (schemas/record.py)."""
# A training that ends at once: its routine has the steps that the real one has.
WORKFLOW = """
main:
  params: [argument]
  steps:
    - init: {assign: [{a: 1}]}
    - work:
        steps:
          - train: {assign: [{a: 2}]}
          - read_verdict: {assign: [{a: 3}]}
          - move: {assign: [{a: 4}]}
    - fails:
        switch:
          - {condition: '${argument.force}', raise: {message: "not this time", tags: []}}
    - done: {return: {outcome: PROMOTE}}
"""


class Seen:
    """What a terminal of 80 columns shows of a deployment."""

    def __init__(self, clients: Clients, variables: dict[str, str]) -> None:
        self.clients = clients
        self.variables = variables
        self.runs: list[TrainingRun] = []

    def run(self, *arguments: str, code: int = 0, **variables: str) -> str:
        """What the command prints; nothing of it is wider than the terminal, or would steer it."""
        result = CliRunner().invoke(app, arguments, env={**self.variables, **variables}, catch_exceptions=False)
        assert result.exit_code == code, result.output
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", result.output), repr(result.output)
        return result.stdout

    def fits(self, *arguments: str, code: int = 0) -> str:
        """The same for a command that prints a table. A sentence of its own is wrapped by the terminal, and so is an id
        that is wider than it."""
        printed = self.run(*arguments, code=code)
        table = [line for line in printed.splitlines() if "  " in line.strip() or "──" in line]
        assert table, printed
        for line in table:
            assert cell_len(line.rstrip()) <= 80, line
        return printed

    def put(self, record: Any, name: str) -> None:
        """An entity of a record's kind."""
        kind = type(record)
        key = self.clients.datastore.key(kind.__name__, name)
        entity = datastore.Entity(key, exclude_from_indexes=unindexed(kind))
        entity.update(record.model_dump())
        self.clients.datastore.put(entity)

    def trained(self, **argument: Any) -> TrainingRun:
        """An execution, the row of its cycle and its model, named as the workflow names them."""
        started = runs.start(self.clients, **argument)

        def over() -> Execution | None:
            one = self.clients.executions.get_execution(name=started.name)
            return one if one.state != Execution.State.ACTIVE else None

        ended = eventually(over)
        run_id = f"{ended.start_time:%Y%m%d-%H%M%S}-{runs.short_id(started.name)}"
        works = ended.state == Execution.State.SUCCEEDED
        version = f"{ended.start_time:%Y-%m-%d}/{run_id}"
        run = TrainingRun(
            cycle=f"flights:forced:{started.name.rsplit('/', 1)[-1]}", run_id=run_id, use_case="flights",
            state=RunState.SUCCEEDED if works else RunState.FAILED, execution=started.name,
            claimed_at=ended.start_time, verdict="PROMOTE" if works else None, model_version=version if works else None,
            cause=None if works else f"few rows{ESCAPE}: a category of 40 values needs 41\nPublish more",
        )  # fmt: skip
        self.put(run, run.cycle)
        self.runs.append(run)
        if works:
            self._model(run_id, version)
        return run

    def _model(self, run_id: str, version: str) -> None:
        evidence = {"MODEL_CARD.md": f"# A model\n\n| dest | {ESCAPE}JFK |".encode()}
        measured = {f"{name}{end}": 0.7 for name in judging.MEASURES for end in ("", "_low", "_high")}
        files = models.folder(
            CASE, run_id=run_id, model_version=version, verdict="PROMOTE", reasons=[WHY],
            metrics=dict.fromkeys(("challenger", "champion", "difference", "frozen", "constant"), measured),
            rows={"train": 5000, "evaluate": 1000}, windows={"evaluate_from": "2013-02-02", "evaluate_to": run_id},
            evidence=[
                {"name": name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
                for name, content in evidence.items()
            ],
        )  # fmt: skip
        for name, content in {**files, **evidence}.items():
            self.clients.storage.bucket(MODELS).blob(f"models/{version}/{name}").upload_from_string(content)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Two runs, one of them failed; a model that serves, with its history; answers."""
    state = tmp_path_factory.mktemp("columns") / "state"
    services = ["datastore", "storage", "workflows", "dataproc"]
    with pytest.MonkeyPatch.context() as patch, Supervisor(state, services) as running:
        for variable in ("DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
            patch.setenv(variable, "")  # the clients set them; they are put back afterwards
        running.wait_ready()
        endpoints = state / "endpoints.json"
        clients = Clients(load().target("laptop").model_copy(update={"endpoints": endpoints}))
        for bucket in (MODELS, ARCHIVE):
            clients.storage.create_bucket(bucket)
        for index in (
            ("TrainingRun", "use_case", "-claimed_at"),
            ("ModelPromotion", "use_case", "-generation"),
            ("Classification", "model_version", "-classified_at"),
        ):
            CompositeIndex(*index).create(clients)
        clients.workflows.create_workflow(
            parent=clients.location, workflow_id="retrain", workflow={"source_contents": WORKFLOW}
        ).result(timeout=20)
        variables = {
            "LUNATION_TARGETS__LAPTOP__ENDPOINTS": str(endpoints),
            "LUNATION_ARCHIVE__WINDOW_SECONDS": "1",
            "COLUMNS": "80",
            "TERM": "dumb",
        }
        made = Seen(clients, variables)
        serving = made.trained()
        made.trained(force=True)
        version = str(serving.model_version)
        where = {"model_version": version, "uri": f"gs://{MODELS}/models/{version}", "manifest_sha256": "0" * 64}
        move = {"use_case": "flights", "generation": 1, "moved_at": NOW, **where}
        made.put(ModelPointer.model_validate(move), "flights")
        row = ModelPromotion.model_validate(
            {**move, "previous_version": None, "verdict": "PROMOTE", "reason": WHY, "actor": serving.execution}
        )
        made.put(row, row.key_name("flights", 1))
        for number, record_id in enumerate([LONG, "2013-03-29.EV.4100.EWR.1329"]):
            answer = Classification(
                record_id=record_id, label="late", probability=0.5, model_version=version if number else "2026-01-01/x",
                generation=1, event_time=NOW, classified_at=NOW - timedelta(seconds=number),
            )  # fmt: skip
            made.put(answer, record_id)
        yield made


def test_runs_are_told_with_the_cause_of_those_that_failed(seen: Seen) -> None:
    """By their short ids; the cause in full, its lines as lines, below the table."""
    printed = seen.fits("runs")
    for run in seen.runs:
        assert f"\n{runs.short_id(run.run_id)}  flights:forced  " in printed
    failed = runs.short_id(seen.runs[1].run_id)
    assert f"Why {failed} failed\n  few rows\\x1b[31m: a category of 40 values needs 41\n  Publish more\n" in printed
    rows = json.loads(seen.run("runs", "--json"))
    assert [row["run_id"] for row in rows] == [run.run_id for run in reversed(seen.runs)]
    assert rows[0]["cause"] == seen.runs[1].cause


def test_a_run_is_told_in_phases(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """By any of its names; all steps only if they are asked for; a program gets both."""
    run = seen.runs[0]
    uri = "gs://b/convert.py"
    ran = Job(
        pyspark_job={"main_python_file_uri": uri, "args": ["--run-id", run.run_id]},
        status=JobStatus(state=JobStatus.State.DONE, state_start_time=run.claimed_at + timedelta(minutes=3)),
        status_history=[JobStatus(state=JobStatus.State.PENDING, state_start_time=run.claimed_at)],
    )
    monkeypatch.setattr(phases, "jobs", lambda _, run_id: [ran] if run_id == run.run_id else [])
    for name in (run.run_id, runs.short_id(run.run_id), str(run.model_version)):
        printed = seen.fits("runs", name)
        assert "\nconvert   " in printed
        assert "  3 min 00 s  done" in printed
        assert [run.run_id, run.model_version] == [line.strip() for line in printed.splitlines()[2:4]]
        assert "read_verdict" not in printed
    assert "read_verdict" in seen.fits("runs", run.run_id, "--all")
    told = json.loads(seen.run("runs", run.run_id, "--json"))
    names = ["claim", "cluster", "convert", "train", "evaluate", "verdict", "move"]
    assert [phase["name"] for phase in told["phases"]] == names
    assert told["phases"][2]["seconds"] == 180
    assert {"init", "work", "train", "read_verdict", "move"} <= {step["name"] for step in told["steps"]}


def test_latest_says_which_it_is(seen: Seen) -> None:
    """On the error stream, also for a program."""
    result = CliRunner().invoke(app, ["runs", "latest", "--json"], env=seen.variables)
    newest = seen.runs[1]
    assert json.loads(result.stdout)["run_id"] == newest.run_id
    assert result.stderr == f"latest is {runs.short_id(newest.run_id)} ({newest.run_id}, FAILED)\n"


def test_an_execution_that_is_gone_leaves_its_row(seen: Seen) -> None:
    """Workflows forgets after 90 days; the row tells what became of it."""
    gone = seen.runs[0].model_copy(
        update={
            "cycle": "flights:1",
            "run_id": "20260101-030000-0d0d0d0d",
            "execution": seen.runs[0].execution.rsplit("/", 1)[0] + "/0d0d0d0d-6283-4aad-af16-7f9e632b838e",
            "claimed_at": datetime(2026, 1, 1, 3, tzinfo=UTC),
            "finished_at": datetime(2026, 1, 1, 4, tzinfo=UTC),
        }
    )
    seen.put(gone, gone.cycle)
    try:
        assert "0d0d0d0d  flights:1       2026-01-01 03:00:00  1 h 00 min  SUCCEEDED  PROMOTE" in seen.fits("runs")
        assert "keeps an execution for 90 days" in seen.run("runs", "0d0d")
    finally:
        seen.clients.datastore.delete(seen.clients.datastore.key("TrainingRun", gone.cycle))


def test_an_execution_that_is_queued_is_the_newest(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no time yet, and hides no other."""
    begun = runs.executions(seen.clients)
    queued = Execution(name=f"{begun[0].name[:-36]}0d0d0d0d-6283-4aad-af16-7f9e632b838e", state=Execution.State.QUEUED)
    monkeypatch.setattr(runs, "executions", lambda *_: [*begun, queued])
    newest, *others = json.loads(seen.run("runs", "--json"))
    assert (newest["execution"][:8], newest["state"], newest["started"]) == ("0d0d0d0d", "QUEUED", None)
    assert len(others) == len(begun)
    assert "\n0d0d0d0d  " in seen.fits("runs")


def test_a_row_that_cannot_be_read_does_not_hide_the_others(seen: Seen) -> None:
    """It is named on the error stream."""
    key = seen.clients.datastore.key("TrainingRun", f"flights:{ESCAPE}2")
    entity = datastore.Entity(key)
    entity.update({"use_case": "flights", "claimed_at": NOW, "state": 5, "cycle": "flights:2"})
    seen.clients.datastore.put(entity)
    try:
        for arguments in (["runs"], ["runs", seen.runs[0].run_id], ["report", runs.short_id(seen.runs[0].run_id)]):
            result = CliRunner().invoke(app, arguments, env=seen.variables, catch_exceptions=False)
            assert result.exit_code == 0, result.output
            assert r"broken: TrainingRun flights:\x1b[31m2, property state" in result.stderr
            assert seen.runs[0].run_id in result.stdout or runs.short_id(seen.runs[0].run_id) in result.stdout
    finally:
        seen.clients.datastore.delete(key)


MEASURED = Score(
    rows=1_234_567, auc=0.7433, log_loss=0.5123, brier=0.2, calibration_error=0.0123, said=0.2345, rate=0.2345
)
SHADOW = Compared(
    shadow="2026-11-30/20261130-072109-2473a385",
    served="2026-11-30/20261130-072054-2b787967",
    records=1_234_567,
    same_label=0.987,
    difference=0.0123,
    shadow_score=MEASURED,
    served_score=None,
)
HELD = Quality(
    since=NOW,
    serving=SHADOW.served,
    answers=1_234_567,
    labelled=1_234_567,
    expected=MEASURED,
    models=[Group(SHADOW.served, 1_234_567, MEASURED), Group(SHADOW.shadow, 1_234_567, None)],
    days=[Group("2013-03-01", 1_234_567, MEASURED)],
    segments=[Group(f"a_long_feature_of_a_record = {ESCAPE}{'v' * 20} {'w' * 20}", 1_234_567, MEASURED)],
    drift=[Drift("a_long_feature_of_a_record", 0.25, True)],
    findings=[f"AUC {ESCAPE}0.5"],
)


def test_the_tables_of_quality_fit(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is called by its short id, a segment's value is shown."""
    monkeypatch.setattr(quality, "measure", lambda *_, **__: HELD)
    printed = seen.fits("quality", code=2)
    for words in ("\n2b787967  ", r"\x1b[31m" + "v" * 20, "a_long_feature_of_a_record", "0.7433"):
        assert words in printed


def test_the_table_of_releases_fits(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that may run of one."""
    units = tuple(f"a-service-{number}" for number in range(12))
    monkeypatch.setattr(releases, "known", lambda *_: [releases.Known("0c1f5e9a2b7d", NOW, units)])
    printed = seen.fits("releases")
    assert "0c1f5e9a2b7d" in printed
    assert all(unit in printed for unit in units)


def test_the_table_of_a_difference_fits(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two runs by their short ids, with whatever their manifests hold."""
    found = [
        Difference("parameters.categories.a_long_feature_of_a_record", f"{ESCAPE}x" * 30, None),
        Difference("windows.train_to", "2013-02-01", 0.123456789),
    ]
    monkeypatch.setattr(manifest_diff, "differences", lambda *_: found)
    run = runs.short_id(seen.runs[0].run_id)
    printed = seen.fits("diff", run, str(seen.runs[0].model_version))
    assert printed.count(run) >= 2
    assert "windows.train_to" in printed


def test_what_is_missing_and_refused_fits(seen: Seen) -> None:
    """Ids of 128 characters, reasons with anything in them."""
    archive = seen.clients.storage.bucket(ARCHIVE)
    day = f"{NOW:%Y-%m-%d}"
    letter = DeadLetter(
        unit="classify", topic="records", message_id="m" * 20, reason=WHY * 5, refused_at=NOW, payload_base64="e30="
    )
    for topic, line in (
        ("dead-letters", letter.model_dump_json()),
        ("records", json.dumps({**models.record(LONG), "event_time": f"{day}T00:00:00Z"})),
    ):
        name = object_name(topic, day, "20261130T000000-20261130T000100", 0, 0, line.encode())
        archive.blob(name).upload_from_string(line + "\n")
    arguments = ["verify", "--date", day, "--settle", "0"]
    eventually(lambda: LONG in CliRunner().invoke(app, arguments, env=seen.variables).stdout, 15)
    printed = seen.fits(*arguments, code=2)
    assert LONG in printed
    assert "Dead letters" in printed
    assert r"\x1b[31m" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["query"], [LONG, "{run}"]),
        (["query", "--model", "{run}"], ["2013-03-29.EV.4100.EWR.1329", "{run}"]),
        (["query", "2013-03-29.EV.4100.EWR.1329"], ["Classification", "2013-03-29.EV.4100.EWR.1329"]),
        (["models"], ["0.7433", r"\x1b[31m", "{run}"]),
        (["report", "{run}"], ["auc", "champion", r"\x1b[31m", "[bold]24,492[/]"]),
        (["compare"], ["2473a385", "2b787967", "0.7433"]),
        (["urls"], ["https://submit-" + "x" * 80]),
        (["stage"], ["classify.zip", "template.yaml"]),
        (["stage", "classify"], ["main.py"]),
    ],
    ids=lambda value: " ".join(map(str, value))[:20] if isinstance(value, list) else None,
)
def test_every_table_fits(seen: Seen, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]) -> None:
    """80 columns, ids whole, nothing that steers a terminal; a run by the same short id everywhere."""
    monkeypatch.setattr(comparing, "compare", lambda *_, **__: [SHADOW])
    monkeypatch.setattr(calling, "_url", lambda _, name: f"https://{name}-{'x' * 80}.a.run.app")
    run = runs.short_id(seen.runs[0].run_id)
    printed = seen.fits(*(one.format(run=run) for one in arguments))
    for word in words:
        assert word.format(run=run) in printed


def test_a_model_card_is_shown_as_text(seen: Seen) -> None:
    """Its lines as they are, what stands in them visible."""
    run = runs.short_id(seen.runs[0].run_id)
    assert seen.run("report", run, "--card") == "# A model\n\n| dest | \\x1b[31mJFK |\n"
