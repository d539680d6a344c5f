"""One short id names a run everywhere, and so does ``latest``."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from lunation import query, runs, trained
from lunation.trained import NoSuchResultError, NoSuchRunError
from schemas import RunState, TrainingRun

CLIENTS: Any = SimpleNamespace(datastore=None)
BEGAN = datetime(2026, 11, 28, 3, tzinfo=UTC)
EXECUTIONS = "projects/p/locations/l/workflows/retrain/executions/"


def run(number: int, end: str, state: RunState = RunState.SUCCEEDED, model: bool = True) -> TrainingRun:
    """A run as the workflow names it: its id ends as its execution's begins."""
    began = BEGAN + timedelta(days=number)
    run_id = f"{began:%Y%m%d-%H%M%S}-{end}"
    return TrainingRun(
        cycle=f"flights:{number}", run_id=run_id, use_case="flights", state=state, claimed_at=began,
        execution=f"{EXECUTIONS}{end}-6283-4aad-af16-7f9e632b83{number:02}", verdict="HOLD" if model else None,
        model_version=f"{began:%Y-%m-%d}/{run_id}" if model else None, cause=None if model else "no labels " * 200,
    )  # fmt: skip


ROWS = [
    run(4, "9f00aa01", RunState.RUNNING, model=False),
    run(3, "e4b00001", RunState.FAILED, model=False),
    run(2, "374bdd00"),
    run(1, "374bcb15"),
]


@pytest.fixture(autouse=True)
def claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows, newest first."""
    monkeypatch.setattr(query, "training_runs", lambda *_: ROWS)


@pytest.mark.parametrize(
    "text",
    ["374bdd00", "374bdd", "dd00", "20261130", "20261130-030000-374bdd00", "2026-11-30", "30-030000-374bdd00",
     "2026-11-30/20261130-030000-374bdd00", "374bdd00-6283-4aad-af16-7f9e632b8302", "632b8302"],
)  # fmt: skip
def test_a_run_is_found_by_the_beginning_or_end_of_any_of_its_names(text: str) -> None:
    """Run id, model version, execution's id: whatever a table, a folder or Google's console shows."""
    assert trained.find(CLIENTS, "flights", text).run == ROWS[2]
    assert trained.model_version(CLIENTS, "flights", text) == ROWS[2].model_version


def test_what_means_several_is_refused_with_the_candidates() -> None:
    """Each by its short id, its run id and what became of it."""
    with pytest.raises(NoSuchRunError, match="2 runs") as refused:
        trained.find(CLIENTS, "flights", "374b")
    assert "374bdd00 (20261130-030000-374bdd00, HOLD), 374bcb15 (20261129-030000-374bcb15, HOLD)" in str(refused.value)
    for text in ("beef", "", "../x", "4aad"):
        with pytest.raises(NoSuchRunError, match="`lunation runs`"):
            trained.find(CLIENTS, "flights", text)


def test_a_whole_name_means_its_run_though_another_begins_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hand-made id that is the beginning of another."""
    short, long = (ROWS[2].model_copy(update={"run_id": name, "model_version": None}) for name in ("trial", "trial-2"))
    monkeypatch.setattr(query, "training_runs", lambda *_: [long, short])
    assert trained.find(CLIENTS, "flights", "trial").run == short


def test_latest_is_the_newest_that_has_ended() -> None:
    """Also if it failed: then a model of it is refused with the cause, in short, and with the newest that made one."""
    assert trained.find(CLIENTS, "flights", "latest").run == ROWS[1]
    with pytest.raises(NoSuchResultError, match=r"made no model: no labels .* …") as refused:
        trained.model_version(CLIENTS, "flights", "latest")
    assert len(str(refused.value)) < 500
    assert "in full: lunation runs e4b00001" in str(refused.value)
    assert "the newest with a model is 374bdd00" in str(refused.value)
    with pytest.raises(NoSuchResultError, match="is not over yet"):
        trained.model_version(CLIENTS, "flights", "9f00aa01")


def test_nothing_is_latest_before_the_first_run_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, rather than taken for an id."""
    monkeypatch.setattr(query, "training_runs", lambda *_: ROWS[:1])
    with pytest.raises(NoSuchRunError, match="no run of flights has ended yet"):
        trained.find(CLIENTS, "flights", "latest")


def test_an_execution_that_claimed_nothing_is_found_too() -> None:
    """One that was not due, for ``lunation runs``; one that has a row is not found twice."""
    idle = f"{EXECUTIONS}77770000-6283-4aad-af16-7f9e632b8399"
    found = trained.find(CLIENTS, "flights", "7777", also=[idle, ROWS[2].execution])
    assert (found.execution, found.run, found.short_id) == (idle, None, "77770000")
    assert trained.find(CLIENTS, "flights", "dd00", also=[idle, ROWS[2].execution]).run == ROWS[2]


def test_every_name_of_a_run_has_the_same_short_id() -> None:
    """What is named otherwise, by a person or in data, stays as it is."""
    names = [ROWS[2].run_id, ROWS[2].execution, ROWS[2].execution.rsplit("/", 1)[-1], str(ROWS[2].model_version)]
    assert {runs.short_id(name) for name in names} == {"374bdd00"}
    assert runs.short_id("2026-11-30/trial-2") == "trial-2"
    for text in ("ada@example", "carrier/dest = AA/JFK", "projects/p", ""):
        assert runs.short_id(text) == text
