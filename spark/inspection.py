"""Looks at the data of a run: profile, drift and checks, out of one pass over the converted records."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession

from schemas.archive_snapshot import Snapshot
from schemas.evaluation import InputDrift
from schemas.file_hash import hash_mismatch
from schemas.model_manifest import DataCheck, ModelManifest
from schemas.profile import Bins, DataProfile
from schemas.shapes import ModelInput, model_inputs
from schemas.training_report import TrainingReport
from spark import objects, snapshot
from spark.checks import Seen, check
from spark.day_counts import YEAR, Counts, Wanted, as_profile, choose_bins, count
from spark.drift import Drift, drifts
from spark.features import features_ddl
from spark.job import Job, JobFailedError

PROFILE = "profile.json"
READ = ("records_lines", "labels_lines", "records_corrupt", "labels_corrupt", "records_readable", "duplicates")


@dataclass(frozen=True)
class Inspection:
    """What the data looks like, and whether it is fit."""

    profile: DataProfile
    """Of the training window: what the next run's drift is measured against."""
    checks: list[DataCheck]
    drift: dict[str, InputDrift]
    """For each input."""
    drift_against: str
    """What the drift is measured against, for a person."""


def inspect(
    spark: SparkSession, storage: Any, job: Job, champion: ModelManifest | None, trained: TrainingReport
) -> Inspection:
    """Look at the converted data of this run, next to what the champion was trained on.

    Raises:
        JobFailedError: the champion's profile is not what its manifest says, or its counts are gone.
    """
    converted = snapshot.read(storage, job, job.run_id)
    assert converted is not None, "convert.json was read before"
    rows = snapshot.rows(spark, job, converted, features_ddl(job.case))
    days = _counted(storage, job, champion, trained, rows)
    compared = _compared(days, champion)
    drift = drifts(compared.before, compared.now, trained.seed, job.limits.drift_false_alarms)
    read = _read_since(storage, job, champion, converted.counts)
    seen = Seen(
        lines=read["records_lines"] + read["labels_lines"],
        corrupt=read["records_corrupt"] + read["labels_corrupt"],
        readable=read["records_readable"],
        duplicates=read["duplicates"],
        inputs=model_inputs(job.case),
        stored=snapshot.stored(spark, job, converted),
        newest_from=trained.windows.evaluate_from,
        usual=days.usual,
        newest=days.newest,
        drift=drift,
        drift_against=compared.against,
        refused=converted.refused,
        skipped=converted.counts.get("objects_skipped", 0),
    )
    return Inspection(
        profile=as_profile(days.first, days.bins, days.usual),
        checks=check(seen, job.limits),
        drift={item.name: _drift(item, drift[item.name], days, compared) for item in seen.inputs},
        drift_against=compared.against,
    )


@dataclass(frozen=True)
class _Days:
    """The records of each day by bins, of this run's own and of the champion's."""

    first: date
    """The first day that is counted."""
    bins: Mapping[str, Bins]
    """This run's own, by input."""
    comparable: Mapping[str, Bins]
    """The champion's, of those inputs that it has, too, and of the same kind."""
    reference: DataProfile | None
    """The champion's."""
    usual: Counts
    """The days before the evaluation window, by this run's bins, with the labels."""
    newest: Counts
    """The evaluation window, likewise."""
    newest_comparable: Counts
    """The evaluation window by the champion's bins."""


def _counted(storage: Any, job: Job, champion: ModelManifest | None, trained: TrainingReport, rows: DataFrame) -> _Days:
    """Count the rows of the last year up to the evaluation window's end, by day and bin."""
    windows = trained.windows
    newest_from = windows.evaluate_from
    first = max(windows.train_from, newest_from - timedelta(days=YEAR))
    known = _between(rows, first, newest_from - timedelta(days=1))
    bins = choose_bins(known, model_inputs(job.case), trained.categories)

    reference = _champions_profile(storage, job, champion)
    comparable = (
        {}
        if reference is None
        else {
            name: reference.bins[name]
            for name in bins
            if name in reference.bins and reference.bins[name].kind == bins[name].kind
        }
    )
    days = (windows.evaluate_to - first).days + 1
    (own, champions), labels = count(
        rows, job.case, first, days, [Wanted(bins, first), Wanted(comparable, newest_from)]
    )
    split = (newest_from - first).days
    return _Days(
        first=first,
        bins=bins,
        comparable=comparable,
        reference=reference,
        usual={name: table[:split] for name, table in {**own, **labels}.items()},
        newest={name: table[split:] for name, table in {**own, **labels}.items()},
        newest_comparable={name: table[split:] for name, table in champions.items()},
    )


@dataclass(frozen=True)
class _Compared:
    """What drift is measured between: for each input, two tables of days by the same bins."""

    before: Counts
    now: Counts
    against: str
    """What ``before`` is, for a person."""


def _compared(days: _Days, champion: ModelManifest | None) -> _Compared:
    """The newest window next to what the champion was trained on; what that does not have, next to the days before."""
    before: Counts = {name: days.usual[name] for name in days.bins}
    now: Counts = {name: days.newest[name] for name in days.bins}
    if days.reference is None:
        return _Compared(before, now, "the training window")
    before |= {name: np.array(days.reference.counts[name]) for name in days.comparable}
    now |= {name: days.newest_comparable[name] for name in days.comparable}
    version = champion.model_version if champion else ""
    return _Compared(before, now, f"the training window of the champion {version}".strip())


def _drift(item: ModelInput, moved: Drift, days: _Days, compared: _Compared) -> InputDrift:
    return InputDrift(
        index=moved.index,
        p_value=moved.p_value,
        judged=not item.drifts,
        bins=(days.comparable.get(item.name) or days.bins[item.name]).names(),
        reference=_shares(compared.before[item.name]),
        current=_shares(compared.now[item.name]),
    )


def _between(rows: DataFrame, first: date, last: date) -> DataFrame:
    return rows.where(f"dt BETWEEN DATE '{first}' AND DATE '{last}'")


def _read_since(storage: Any, job: Job, champion: ModelManifest | None, counts: Mapping[str, int]) -> Mapping[str, int]:
    """What was read since the champion was trained: over the whole archive, a broken publisher of last week would be a
    small share. All of it without a champion, or where fewer lines are left than it had."""
    if champion is None:
        return counts
    uri = f"{job.models}/models/{champion.model_version}/{Snapshot.NAME}"
    content = objects.read(storage, uri)
    if content is None:
        raise JobFailedError(f"{uri} is not there; restore it from the bucket's versions")
    before = Snapshot.counts_of(content)
    since = {name: counts[name] - before.get(name, 0) for name in READ}
    return since if since["records_lines"] > 0 and min(since.values()) >= 0 else counts


def _champions_profile(storage: Any, job: Job, champion: ModelManifest | None) -> DataProfile | None:
    """The profile that the champion's manifest names; None if it names none (it is older than profiles)."""
    if champion is None:
        return None
    expected = {file.name: file.sha256 for file in champion.evidence}.get(PROFILE)
    if expected is None:
        return None
    uri = f"{job.models}/models/{champion.model_version}/{PROFILE}"
    content = objects.read(storage, uri)
    if content is None or hash_mismatch(PROFILE, content, expected):
        raise JobFailedError(
            f"{uri} is not the file that the champion's manifest names (sha256), so drift cannot be measured; "
            "restore it from the bucket's versions"
        )
    try:
        return DataProfile.model_validate_json(content)
    except ValidationError as error:
        raise JobFailedError(f"{uri} is no profile ({error.error_count()} errors)") from error


def _shares(days: np.ndarray) -> list[float]:
    total = days.sum(axis=0)
    return [round(float(share), 5) for share in total / max(total.sum(), 1)]
