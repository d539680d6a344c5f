"""What the story's report says; every count is read back from the bucket and from Datastore."""

from dataclasses import asdict, dataclass, field
from typing import Any

from demo.traffic import Answer

MAX_PARITY_DIFFERENCE = 1e-9


@dataclass(frozen=True)
class Cycle:
    """One training."""

    run_id: str
    model_version: str
    verdict: str
    reasons: list[str]
    rows: int
    """Labelled rows, trained on or evaluated."""
    auc: float
    log_loss: float
    champion_auc: float | None
    """The old model's on the same window."""
    parity_max_abs_diff: float
    seconds: float


@dataclass(frozen=True)
class Switch:
    """How the second model took over under traffic."""

    requests: int
    errors: int
    seconds_to_last_old_answer: float
    """From the pointer's move to the start of the last request that the old model answered; 0 if there was none."""
    bound_seconds: float
    p50_ms: float
    p99_ms: float
    first_error: str | None = None


@dataclass
class Report:
    """The whole story in numbers."""

    use_case: str
    """Whose records it tells of."""
    published: int = 0
    """Records published live, malformed ones included."""
    backfilled: int = 0
    """Records in the history files."""
    labels: int = 0
    """Labels sent, in files and live."""
    archived: int = 0
    mirrored: int = 0
    classified: int = 0
    labels_archived: int = 0
    dead_lettered: int = 0
    """Malformed messages that every subscriber put into the dead letters with a reason."""
    lost: int = 0
    missing: dict[str, list[str]] = field(default_factory=dict)
    """Names of what is lost, by the place where it is missing (at most ten each)."""
    cycles: list[Cycle] = field(default_factory=list)
    switch: Switch = field(default_factory=lambda: Switch(0, 0, 0.0, 0.0, 0.0, 0.0))
    steps: dict[str, float] = field(default_factory=dict)
    """Seconds of each step."""
    peak_memory_mb: float = 0.0
    """Highest sum of proportional set sizes over all processes."""
    wall_seconds: float = 0.0

    def broken(self) -> list[str]:
        """The promises that the story did not keep, each as a sentence."""
        switch = self.switch
        parity = max([0.0, *(cycle.parity_max_abs_diff for cycle in self.cycles)])
        reasons = "; ".join(self.cycles[-1].reasons) if self.cycles else ""
        promises = [
            (self.lost == 0, f"{self.lost:,} records are lost"),
            (switch.requests > 0, "nobody asked for an answer while the second model took over"),
            (switch.errors == 0, f"{switch.errors:,} of {switch.requests:,} requests failed: {switch.first_error}"),
            (
                switch.seconds_to_last_old_answer <= switch.bound_seconds,
                f"the old model answered {switch.seconds_to_last_old_answer} s after the pointer had moved",
            ),
            (
                bool(self.cycles) and self.cycles[-1].verdict == "PROMOTE",
                f"the last model did not take over: {reasons}",
            ),
            (parity <= MAX_PARITY_DIFFERENCE, f"a served model differs from Spark by {parity:.0e}"),
        ]
        return [sentence for kept, sentence in promises if not kept]

    def to_json(self) -> dict[str, Any]:
        """For the report file."""
        return asdict(self)


def describe_switch(answers: list[Answer], old: int, moved_at: float | None, bound_seconds: float) -> Switch:
    """Sum up what the callers saw.

    Args:
        answers: in order of their start.
        old: the generation before the move.
        moved_at: when the pointer was moved, seconds of the epoch; None if it was not.
        bound_seconds: the promise: no request that starts later than this is answered by the old model.
    """
    errors = [answer for answer in answers if answer.generation is None]
    old_ones = [answer.started for answer in answers if answer.generation is not None and answer.generation <= old]
    late_old = [] if moved_at is None else [started - moved_at for started in old_ones]
    times = sorted(answer.seconds * 1000 for answer in answers)
    return Switch(
        requests=len(answers),
        errors=len(errors),
        seconds_to_last_old_answer=round(max([0.0, *late_old]), 3),
        bound_seconds=bound_seconds,
        p50_ms=round(times[len(times) // 2], 2) if times else 0.0,
        p99_ms=round(times[len(times) * 99 // 100], 2) if times else 0.0,
        first_error=errors[0].error if errors else None,
    )
