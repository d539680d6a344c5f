"""What a training spent its time on: the workflow's steps and Dataproc's jobs, folded into phases.

Nine of ten steps ask whether the jobs have ended. A phase is what a person would name.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import PurePosixPath
from typing import Any

from google.cloud.dataproc_v1 import Job, JobStatus, ListJobsRequest

from lunation.clients import Clients
from lunation.runs import Step, moment

JOBS = ("convert", "train", "evaluate")
"""The template's jobs, in their order; each is named by its driver."""
JOBS_AT_MOST = 3000
"""Dataproc's jobs are looked through for a run's three; it has no other use for them in this project."""
WORK = "work"
"""The workflow's step in which a claimed cycle is trained: what comes before is the claim."""
TRAIN = "train"
VERDICT = ("read_manifest", "read_verdict")
MOVE = "move"
_ENDED = {
    JobStatus.State.DONE: "done",
    JobStatus.State.ERROR: "failed",
    JobStatus.State.ATTEMPT_FAILURE: "failed",
    JobStatus.State.CANCELLED: "cancelled",
}
_STEP_STATES = {"SUCCEEDED": "done", "FAILED": "failed", "CANCELLED": "cancelled"}


@dataclass(frozen=True)
class Phase:
    """A part of a training.

    Args:
        name: ``claim``, ``cluster`` (until the first job), the jobs, ``verdict``, ``move``.
        state: ``done``, ``running``, ``failed``, ``cancelled``, or ``-``: it was not begun.
        started: when; None if it was not begun.
        ended: when; None while it runs.
    """

    name: str
    state: str
    started: datetime | None = None
    ended: datetime | None = None

    def seconds(self, now: datetime) -> float | None:
        """How long it took, or has taken so far."""
        return None if self.started is None else max(0.0, ((self.ended or now) - self.started).total_seconds())


def jobs(clients: Clients, run_id: str) -> list[Job]:
    """Dataproc's jobs of a run, known by the argument that names it."""
    # Not by label: those that Dataproc adds name its own workflow, and a filter would narrow what is three a month.
    request = ListJobsRequest(project_id=clients.project, region=clients.target.region)
    found = islice(clients.dataproc_jobs.list_jobs(request=request), JOBS_AT_MOST)
    return [job for job in found if _argument(job.pyspark_job.args, "--run-id") == run_id]


def _argument(args: Sequence[str], name: str) -> str | None:
    return next((value for given, value in pairwise(args) if given == name), None)


def phases(steps: Sequence[Step], ran: Iterable[Job]) -> list[Phase]:
    """The phases of an execution.

    Args:
        steps: those it has taken (:func:`lunation.runs.steps`).
        ran: its jobs at Dataproc.
    """
    main = [step for step in steps if step.routine == "main"]
    begun = next((place for place, step in enumerate(main) if step.name == WORK), len(main))
    training = [step for step in main if step.name == TRAIN]
    # Of a job that was started again with the run's id, the last one counts, whatever order they are listed in.
    by_name = {PurePosixPath(job.pyspark_job.main_python_file_uri).stem: job for job in sorted(ran, key=_begun)}
    run = [_of_job(name, by_name.get(name)) for name in JOBS]
    started = [phase.started for phase in run if phase.started is not None]
    if training and not started:  # not yet, or they are not to be seen
        run = [_of_steps(", ".join(JOBS), training)]
    elif training:
        begins = moment(training[0].started)
        run = [Phase("cluster", "done", begins, min(started)), *run]
    return [
        _of_steps("claim", main[:begun]),
        *run,
        _of_steps("verdict", [step for step in main if step.name in VERDICT]),
        _of_steps("move", [step for step in main if step.name == MOVE]),
    ]


def _of_steps(name: str, taken: Sequence[Step]) -> Phase:
    if not taken:
        return Phase(name, "-")
    states = [_STEP_STATES.get(step.state, "running") for step in taken]
    state = next((one for one in ("failed", "running", "cancelled") if one in states), "done")
    ended = max(moment(step.ended) for step in taken)
    return Phase(name, state, min(moment(step.started) for step in taken), None if state == "running" else ended)


def _of_job(name: str, job: Job | None) -> Phase:
    if job is None:
        return Phase(name, "-")
    ended = _ENDED.get(job.status.state)
    return Phase(
        name,
        ended or "running",
        _begun(job),
        None if ended is None else _stamp(job.status.state_start_time),
    )


def _begun(job: Job) -> datetime:
    return min(_stamp(status.state_start_time) for status in (*job.status_history, job.status))


def _stamp(stamp: Any) -> datetime:
    return datetime.fromtimestamp(stamp.timestamp(), UTC)
