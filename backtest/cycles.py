"""The cycles, one after the other, by the jobs that are deployed: convert, train, evaluate."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from backtest.archive import History
from backtest.machine import Machine
from datasets import Example
from lunation.settings import Schedule
from schemas.model_manifest import ModelManifest, Verdict
from schemas.use_cases import UseCase
from spark import objects
from spark.conversion import convert
from spark.evaluation import evaluate, read_window
from spark.job import Job, JobFailedError
from spark.metrics import compare
from spark.served import ServedModel
from spark.training import SEED, train

ARCHIVE, MODELS = "backtest-archive", "backtest-models"
FEWEST = 3
"""Of cycles: the first one has nothing to learn from, and of the second the retrained model is the frozen one."""


class BacktestError(Exception):
    """The use case's history, or its data, cannot be replayed; the text says why."""


@dataclass(frozen=True)
class Measured:
    """One model on one cycle's window."""

    auc: float
    log_loss: float
    calibration_error: float


@dataclass(frozen=True)
class Gain:
    """Retrained minus frozen on one window, with the bounds of the paired intervals."""

    auc: float
    auc_low: float
    auc_high: float
    log_loss: float
    log_loss_low: float
    log_loss_high: float


@dataclass(frozen=True)
class Cycle:
    """What came of one cycle. All models are measured on its window: the cycle, or its last four weeks."""

    cycle: int
    begins: str
    rows: int
    """Labelled rows of the window."""
    train_rows: int
    positive_share: float
    verdict: str
    """The gate's, or FAILED if there was nothing to train on."""
    reason: str
    retrained: Measured | None = None
    """The cycle's challenger, trained on all that was known when the window began."""
    frozen: Measured | None = None
    """The first model there was."""
    policy: Measured | None = None
    """The pointer's choice after the verdict."""
    served: Measured | None = None
    """The pointer's model while the window passed; None before the first was promoted."""
    pointer: str | None = None
    """The version that the pointer names after the verdict."""
    gain: Gain | None = None
    parity: float = 0.0
    convert_seconds: float = 0.0
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0


def run(
    machine: Machine, case: UseCase, history: Iterable[Example], number: int, schedule: Schedule
) -> Iterator[Cycle]:
    """Let ``number`` cycles of the schedule's length pass, from the day of the first record, or as many as have begun
    when the history ends; gives each when it is over.

    Raises:
        BacktestError: the history is too short for a comparison, or a job failed that once had enough to learn from.
    """
    examples = list(history)
    begin, number = _span(case, examples, number, schedule)
    archive = History(examples)
    del examples
    frozen: ServedModel | None = None
    champion: str | None = None
    models: dict[str, ServedModel] = {}
    for cycle in range(1, number + 1):
        end = begin + timedelta(days=schedule.cycle_days)
        archive.file(machine.buckets / ARCHIVE, begin if cycle > 1 else datetime.min.replace(tzinfo=UTC), end)
        run_id = f"cycle-{cycle:02d}"
        job = Job(
            case,
            f"gs://{ARCHIVE}",
            f"gs://{MODELS}",
            run_id,
            end.date().isoformat(),
            champion,
            evaluation_days=schedule.evaluation_days,
        )
        try:
            for work in (convert, train, evaluate):
                work(machine.spark, machine.storage, job)
        except JobFailedError as failure:
            if champion is not None or frozen is not None:
                raise BacktestError(f"cycle {cycle} of use case {case.name}: {failure}") from failure
            yield Cycle(cycle, begin.date().isoformat(), 0, 0, float("nan"), "FAILED", str(failure))
            begin = end
            continue
        manifest = _manifest(machine, job)
        model = _model(machine, job, manifest)
        frozen = frozen or model
        served = models.get(champion or "")
        if manifest.verdict == Verdict.PROMOTE:
            champion = f"models/{manifest.model_version}"
            models = {champion: model}
        yield replace(
            _measured(machine, job, manifest, model, frozen, models.get(champion or ""), served),
            cycle=cycle,
            begins=begin.date().isoformat(),
            pointer=champion and champion.removeprefix("models/"),
        )
        begin = end


def _span(case: UseCase, examples: Sequence[Example], number: int, schedule: Schedule) -> tuple[datetime, int]:
    """When the first cycle begins, and how many of ``number`` have records."""
    if not examples:
        raise BacktestError(f"the history of use case {case.name} has no record: its history() gives none")
    first, last = (datetime.fromisoformat(examples[place][0]["event_time"]).astimezone(UTC) for place in (0, -1))
    begin = datetime(first.year, first.month, first.day, tzinfo=UTC)
    there = (last - begin) // timedelta(days=schedule.cycle_days) + 1
    if there < FEWEST:
        raise BacktestError(
            f"the history of use case {case.name}, {begin:%Y-%m-%d} to {last:%Y-%m-%d}, has records in {there} cycles "
            f"of {schedule.cycle_days} days; a comparison takes {FEWEST}"
        )
    return begin, min(number, there)


def _measured(
    machine: Machine,
    job: Job,
    manifest: ModelManifest,
    model: ServedModel,
    frozen: ServedModel,
    chosen: ServedModel | None,
    served: ServedModel | None,
) -> Cycle:
    window = read_window(machine.spark, job)
    scores = {"challenger": model, "champion": frozen, "chosen": chosen, "served": served}
    found = compare(
        window.target,
        window.days,
        {name: one.probabilities(window.features) for name, one in scores.items() if one is not None},
        SEED,
    )

    def measured(name: str) -> Measured | None:
        if name not in found:
            return None
        return Measured(**{key: found[name][key] for key in ("auc", "log_loss", "calibration_error")})

    return Cycle(
        cycle=0,
        begins="",
        rows=len(window.target),
        train_rows=manifest.rows["train"],
        positive_share=float(np.mean(window.target)),
        verdict=manifest.verdict.value,
        reason="; ".join(manifest.reasons),
        retrained=measured("challenger"),
        frozen=measured("champion"),
        policy=measured("chosen"),
        served=measured("served"),
        gain=Gain(**{key: found["difference"][key] for key in Gain.__dataclass_fields__}),
        parity=manifest.parity_max_abs_diff,
        convert_seconds=manifest.seconds["convert"],
        train_seconds=manifest.seconds["train"],
        evaluate_seconds=manifest.seconds["evaluate"],
    )


def _manifest(machine: Machine, job: Job) -> ModelManifest:
    content = objects.read(machine.storage, f"{job.model}/manifest.json")
    assert content is not None, "evaluate ends with a manifest"
    return ModelManifest.model_validate_json(content)


def _model(machine: Machine, job: Job, manifest: ModelManifest) -> ServedModel:
    artefact = objects.read(machine.storage, f"{job.model}/model.onnx")
    assert artefact is not None, "the manifest names it"
    return ServedModel(artefact, manifest.inputs, manifest.input_kinds, manifest.categories)
