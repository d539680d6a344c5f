"""How long a cycle of the backtest is, and how many of them there are: what the settings say."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backtest import cycles
from backtest.cycles import BacktestError, Cycle
from lunation.settings import Schedule
from spark.job import Job, JobFailedError
from tests.support import ROOT


def backtest(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command; none of these comes as far as Spark."""
    command = [sys.executable, "-m", "backtest", *arguments]
    environment = {**os.environ, "COLUMNS": "200", "TERM": "dumb", **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "weeks", "words"),
    [
        (("--cycles", "14"), "4", "a year has 13 cycles"),
        (("--cycles", "27"), "2", "a year has 26 cycles"),
        ((), "26", "a year has 2 cycles"),
    ],
)
def test_more_cycles_than_a_year_has_are_refused(arguments: tuple[str, ...], weeks: str, words: str) -> None:
    """By the rhythm of the settings; so is a rhythm that leaves too few to compare."""
    done = backtest(*arguments, LUNATION_SCHEDULE__CYCLE_WEEKS=weeks)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_use_case_without_a_data_set_is_refused_with_what_to_add() -> None:
    """Before anything starts; it is a use case all the same."""
    program = (
        "import runpy; from schemas import USE_CASES; from tests.use_cases.parcels import PARCELS; "
        "USE_CASES['parcels'] = PARCELS; runpy.run_module('backtest', run_name='__main__')"
    )
    command = [sys.executable, "-c", program, "--use-case", "parcels"]
    environment = {**os.environ, "COLUMNS": "1000", "TERM": "dumb"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "use case parcels has no data set to replay; these have one: flights, weather" in done.stderr


@pytest.mark.parametrize(("weeks", "begins", "window"), [(4, ["01-01", "01-29"], 28), (1, ["01-01", "01-08"], 7)])
def test_a_cycle_has_the_weeks_of_the_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weeks: int, begins: list[str], window: int
) -> None:
    """One begins where the other ends, and each is judged on a window that is no longer."""
    jobs: list[Job] = []

    def nothing_to_learn_from(spark: Any, storage: Any, job: Job) -> None:
        jobs.append(job)
        raise JobFailedError("none")

    monkeypatch.setattr(cycles, "convert", nothing_to_learn_from)
    examples = [({"record_id": day, "event_time": f"2024-{day}T10:00:00Z"}, None) for day in ("01-01", "02-28")]
    case: Any = SimpleNamespace(name="case")
    machine: Any = SimpleNamespace(buckets=tmp_path, spark=None, storage=None)
    found = list(cycles.run(machine, case, examples, 2, Schedule(cycle_weeks=weeks)))
    assert [one.begins for one in found] == [f"2024-{day}" for day in begins]
    assert [job.evaluation_days for job in jobs] == [window, window]


def replayed(machine: Any, days: list[str], number: int = 13) -> list[Cycle]:
    """The cycles of a history with a record at noon, UTC, of each of these days."""
    examples = [({"record_id": day, "event_time": f"{day}T12:00:00Z"}, None) for day in days]
    case: Any = SimpleNamespace(name="parcels")
    return list(cycles.run(machine, case, examples, number, Schedule()))


def test_a_history_that_ends_ends_the_cycles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none in which nothing happened; one that is too short for a comparison is told with what it takes."""

    def nothing_to_learn_from(*_: object) -> None:
        raise JobFailedError("none")

    monkeypatch.setattr(cycles, "convert", nothing_to_learn_from)
    machine: Any = SimpleNamespace(buckets=tmp_path, spark=None, storage=None)
    assert len(replayed(machine, ["2026-01-05", "2026-04-20"])) == 4
    assert len(replayed(machine, ["2026-01-05", "2026-04-20"], 3)) == 3
    with pytest.raises(
        BacktestError, match=r"2026-01-05 to 2026-02-20, has records in 2 cycles of 28 days; .* takes 3"
    ):
        replayed(machine, ["2026-01-05", "2026-02-20"])
    with pytest.raises(BacktestError, match="history of use case parcels has no record"):
        replayed(machine, [])
