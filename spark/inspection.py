"""Looks at the data of a run: profile, drift and checks, out of one pass over the converted records."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession

from schemas.file_hash import hash_mismatch
from schemas.model_manifest import DataCheck, ModelManifest
from schemas.profile import DataProfile
from schemas.shapes import model_inputs
from spark import objects, snapshot
from spark.checks import Seen, check
from spark.day_counts import YEAR, Counts, Wanted, as_profile, choose_bins, count
from spark.drift import drifts
from spark.features import features_ddl
from spark.job import Job, JobFailed

PROFILE = "profile.json"
READ = ("records_lines", "labels_lines", "records_corrupt", "labels_corrupt", "records_readable", "duplicates")


@dataclass(frozen=True)
class Inspection:
    """What the data looks like, and whether it is fit."""

    profile: DataProfile
    """Of the training window: what the next run's drift is measured against."""
    checks: list[DataCheck]
    drift: dict[str, dict[str, Any]]
    """For each input: ``index``, ``p_value``, whether it is ``judged``, the names of the bins, and the shares of the
    ``reference`` and of the ``current`` window in them."""
    drift_against: str


def inspect(
    spark: SparkSession,
    storage: Any,
    job: Job,
    champion: ModelManifest | None,
    trained: Mapping[str, Any],
    counts: Mapping[str, int],
) -> Inspection:
    """Look at the converted data of this run, next to what the champion was trained on.

    Args:
        trained: ``train.json``.
        counts: of ``convert.json``: over all that was ever read.

    Raises:
        JobFailed: the champion's profile is not what its manifest says, or its counts are gone.
    """
    inputs = model_inputs(job.case)
    converted = snapshot.read(storage, job, job.run_id)
    assert converted is not None, "convert.json was read before"
    rows = snapshot.rows(spark, job, converted, features_ddl(job.case))
    newest_from = date.fromisoformat(trained["windows"]["evaluate_from"])
    newest_to = date.fromisoformat(trained["windows"]["evaluate_to"])
    first = max(date.fromisoformat(trained["windows"]["train_from"]), newest_from - timedelta(days=YEAR))
    bins = choose_bins(_between(rows, first, newest_from - timedelta(days=1)), inputs, trained["categories"])

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
    days = (newest_to - first).days + 1
    (own, champions), labels = count(
        rows, job.case, first, days, [Wanted(bins, first), Wanted(comparable, newest_from)]
    )
    split = (newest_from - first).days
    usual = {name: table[:split] for name, table in {**own, **labels}.items()}
    newest = {name: table[split:] for name, table in {**own, **labels}.items()}

    against = "the training window"
    before: Counts = {name: usual[name] for name in bins}
    now: Counts = {name: newest[name] for name in bins}
    if reference is not None:
        against = f"the training window of the champion {champion.model_version if champion else ''}".strip()
        before |= {name: np.array(reference.counts[name]) for name in comparable}
        now |= {name: champions[name][split:] for name in comparable}
    drift = drifts(before, now, trained["seed"], job.limits.drift_false_alarms)
    read = _read_since(storage, job, champion, counts)
    seen = Seen(
        lines=read["records_lines"] + read["labels_lines"],
        corrupt=read["records_corrupt"] + read["labels_corrupt"],
        readable=read["records_readable"],
        duplicates=read["duplicates"],
        inputs=inputs,
        stored=snapshot.stored(spark, job, converted),
        newest_from=newest_from,
        usual=usual,
        newest=newest,
        drift=drift,
        drift_against=against,
        refused=converted.refused,
        skipped=converted.counts.get("objects_skipped", 0),
    )
    return Inspection(
        profile=as_profile(first, bins, usual),
        checks=check(seen, job.limits),
        drift={
            item.name: {
                "index": drift[item.name].index,
                "p_value": drift[item.name].p_value,
                "judged": not item.drifts,
                "bins": (comparable.get(item.name) or bins[item.name]).names(),
                "reference": _shares(before[item.name]),
                "current": _shares(now[item.name]),
            }
            for item in inputs
        },
        drift_against=against,
    )


def _between(rows: DataFrame, first: date, last: date) -> DataFrame:
    return rows.where(f"dt BETWEEN DATE '{first}' AND DATE '{last}'")


def _read_since(storage: Any, job: Job, champion: ModelManifest | None, counts: Mapping[str, int]) -> Mapping[str, int]:
    """What was read since the champion was trained: over the whole archive, a broken publisher of last week would be a
    small share. All of it without a champion, or where fewer lines are left than it had."""
    if champion is None:
        return counts
    uri = f"{job.models}/models/{champion.model_version}/convert.json"
    content = objects.read(storage, uri)
    if content is None:
        raise JobFailed(f"{uri} is not there; restore it from the bucket's versions")
    before = json.loads(content)["counts"]
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
        raise JobFailed(
            f"{uri} is not the file that the champion's manifest names (sha256), so drift cannot be measured; "
            "restore it from the bucket's versions"
        )
    try:
        return DataProfile.model_validate_json(content)
    except ValidationError as error:
        raise JobFailed(f"{uri} is no profile ({error.error_count()} errors)") from error


def _shares(days: np.ndarray) -> list[float]:
    total = days.sum(axis=0)
    return [round(float(share), 5) for share in total / max(total.sum(), 1)]
