"""A training run: one claimed cycle, from claim to verdict."""

from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict


class RunState(StrEnum):
    """Where a run stands."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class TrainingRun(BaseModel):
    """Kind ``TrainingRun``, key name = the cycle. The insert of this row is the claim: a cycle runs once."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    cycle: str
    """``<use case>:<week in which its period begins>``, in weeks since the epoch; or with ``:forced:<execution id>``
    in its place when a person started it, with ``:early:<week of that day>`` when live quality did."""
    run_id: str
    use_case: str
    state: RunState
    execution: str
    """Full name of the workflow execution that holds the claim."""
    claimed_at: AwareDatetime
    cycle_weeks: int | None = None
    """``[schedule] cycle_weeks`` as it was then; None in a row of an earlier release."""
    finished_at: AwareDatetime | None = None
    model_version: str | None = None
    verdict: str | None = None
    reasons: list[str] = []
    generation: int | None = None
    """The pointer's generation that this run made, if it was promoted."""
    cause: str | None = None
    """Why it failed."""
