"""A run's steps and jobs, folded into what a person would name."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from google.cloud.dataproc_v1 import Job, JobStatus

from lunation import phases
from lunation.phases import MOVE, TRAIN, VERDICT, WORK, Phase
from lunation.runs import Step, moment
from tests.support import ROOT

BEGAN = datetime(2026, 11, 30, 3, tzinfo=UTC)
State = JobStatus.State


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def step(name: str, begin: float, end: float, routine: str = "main", state: str = "SUCCEEDED") -> Step:
    """A step as Workflows tells it, nanoseconds included."""
    began, ended = (f"{at(seconds):%Y-%m-%dT%H:%M:%S.%f}123Z" for seconds in (begin, end))
    return Step(0, routine, name, "CALL", state, began, ended)


def job(name: str, *states: tuple[State, float], run_id: str = "r1") -> Job:
    """A job as Dataproc tells it: the states that it has been in, and the one that it is in."""
    statuses = [JobStatus(state=state, state_start_time=at(seconds)) for state, seconds in states]
    return Job(
        pyspark_job={"main_python_file_uri": f"gs://b/{name}.py", "args": ["--use-case", "x", "--run-id", run_id]},
        status=statuses[-1],
        status_history=statuses[:-1],
    )


def ran(name: str, begin: float, end: float, last: State = State.DONE) -> Job:
    return job(name, (State.PENDING, begin), (State.RUNNING, begin + 1), (last, end))


POLLS = [step(name, 5, 200, "train") for name in ("poll", "finished", "pause", "patiently", "try", "done") * 100]
CLAIM = [step("init", 0, 0), step("claim", 1, 3), step("see", 1, 2, "see_and_claim")]
WHOLE = [
    *CLAIM, step("work", 3, 203), step("read_pointer", 3, 4), step("train", 4, 200), *POLLS,
    step("read_manifest", 200, 201), step("read", 200, 201, "read_manifest"), step("promote", 201, 203),
    step("move", 201, 203), step("close", 203, 204), step("done", 204, 204),
]  # fmt: skip
JOBS = [ran("evaluate", 150, 190), ran("convert", 94, 120), ran("train", 120, 150)]


def folded(*arguments: Any) -> dict[str, tuple[str, float | None, float | None]]:
    """State, begin and length of each phase."""
    found: list[Phase] = phases.phases(*arguments)
    return {
        one.name: (one.state, one.started and (one.started - BEGAN).total_seconds(), one.seconds(at(300)))
        for one in found
    }


def test_hundreds_of_steps_are_seven_phases() -> None:
    """Claim, the cluster until its first job, the jobs, verdict, move: each with its times."""
    assert folded(WHOLE, JOBS) == {
        "claim": ("done", 0, 3),
        "cluster": ("done", 4, 90),
        "convert": ("done", 94, 26),
        "train": ("done", 120, 30),
        "evaluate": ("done", 150, 40),
        "verdict": ("done", 200, 1),
        "move": ("done", 201, 2),
    }


def test_a_failed_job_ends_it() -> None:
    """What was not begun has no time."""
    steps = [*CLAIM, step("work", 3, 130, state="FAILED"), step("train", 4, 130, state="FAILED"), *POLLS]
    found = folded(steps, [ran("convert", 94, 120), ran("train", 120, 129, State.ERROR)])
    assert found["train"] == ("failed", 120, 9)
    assert found["evaluate"] == found["verdict"] == found["move"] == ("-", None, None)


def test_of_a_job_that_ran_twice_the_last_one_counts() -> None:
    """Whatever order Dataproc lists them in."""
    twice = [ran("train", 120, 150), ran("train", 10, 20, State.ERROR)]
    for jobs in (twice, twice[::-1]):
        assert folded(WHOLE, [ran("convert", 4, 9), *jobs])["train"] == ("done", 120, 30)


def test_what_runs_has_no_end_yet() -> None:
    """It takes until now."""
    steps = [*CLAIM, step("work", 3, 3, state="IN_PROGRESS"), step("train", 4, 4, state="IN_PROGRESS")]
    assert folded(steps, [job("convert", (State.PENDING, 94), (State.RUNNING, 95))])["convert"] == ("running", 94, 206)
    found = folded(steps, [])
    assert found["convert, train, evaluate"] == ("running", 4, 296), (
        "there is no job yet, only the cluster in the making"
    )
    assert "cluster" not in found


def test_a_held_model_moves_nothing_and_what_is_not_due_only_asks() -> None:
    """No phase is made up."""
    held = [one for one in WHOLE if one.name not in ("promote", "move")]
    assert folded(held, JOBS)["move"] == ("-", None, None)
    idle = folded(CLAIM, [])
    assert idle["claim"] == ("done", 0, 3)
    assert [idle[name][0] for name in ("convert", "train", "evaluate", "verdict", "move")] == ["-"] * 5


def test_a_run_s_jobs_are_those_with_its_id() -> None:
    """By the argument that the template fills in; another run's, and what is no PySpark job, stay out."""
    mine, other, foreign = job("convert", (State.DONE, 1)), job("convert", (State.DONE, 1), run_id="r2"), Job()
    asked: list[Any] = []

    def list_jobs(request: Any) -> list[Job]:
        asked.append((request.project_id, request.region))
        return [other, foreign, mine]

    clients: Any = SimpleNamespace(
        project="p", target=SimpleNamespace(region="r"), dataproc_jobs=SimpleNamespace(list_jobs=list_jobs)
    )
    assert phases.jobs(clients, "r1") == [mine]
    assert asked == [("p", "r")]


def test_the_workflow_has_the_steps_that_phases_are_made_of() -> None:
    """A step that is renamed there must be renamed here; the jobs' drivers are the template's."""
    source = yaml.safe_load((ROOT / "workflows" / "retrain.yaml").read_text())
    names = set(_names(source["main"]["steps"]))
    assert {WORK, TRAIN, MOVE} <= names
    assert names & set(VERDICT)
    assert set(phases.JOBS) == {path.stem for path in (ROOT / "spark").glob("*.py")} & set(phases.JOBS)


def _names(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for one in value for name in _names(one)]
    if not isinstance(value, dict):
        return []
    return [name for key, one in value.items() for name in (key, *_names(one))]


@pytest.mark.parametrize(
    "text", ["2026-11-30T03:00:00.5Z", "2026-11-30T03:00:00.500000000Z", "2026-11-30T03:00:00.5000001Z"]
)
def test_a_time_has_up_to_nine_digits(text: str) -> None:
    """As Google's REST APIs write it: none, three, six or nine of them."""
    assert moment(text) == at(0.5)
    assert moment("2026-11-30T03:00:00Z") == BEGAN
