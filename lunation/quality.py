"""Live quality: what was served is scored when its outcome is known, and its inputs are held against training."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from lunation import query, scoring, trained
from lunation.clients import Clients
from lunation.deploy.names import archive_bucket
from lunation.ledger import Tally, archived_lines, documents, why
from lunation.query import Broken
from lunation.scoring import Errors, Outcome, Score
from lunation.settings import QualityBounds
from schemas import Classification, Label, ModelManifest, Record, UseCase
from schemas.profile import DataProfile, stability_index
from schemas.shapes import model_inputs

SURE = 2.0
"""Standard errors that a measure has to be beyond its bound."""
WEEK = 7
PROFILE = "profile.json"
SEGMENTS = 5
"""Values shown of a category, the most frequent ones."""


@dataclass(frozen=True)
class Group:
    """Answers that have something in common."""

    what: str
    """The day, the model version, or ``feature = value``."""
    answers: int
    score: Score | None
    """Over those whose outcome is known; None if none is."""


@dataclass(frozen=True)
class Drift:
    """How far an input of the serving model's answers is from what it was trained on."""

    feature: str
    index: float
    """Population stability index, less what so few records would show by chance."""
    judged: bool
    """False for an input that is declared to drift, and while there are answers of less than a week, or few."""


@dataclass(frozen=True)
class Quality:
    """How the answers of some time hold."""

    since: datetime
    serving: str | None
    """The model version that serves now."""
    answers: int
    labelled: int
    expected: Score | None
    """None, or what the gate measured of the serving model: only ``auc``, ``log_loss`` and ``calibration_error``."""
    models: list[Group]
    days: list[Group]
    segments: list[Group]
    drift: list[Drift]
    findings: list[str]
    """Each bound of the settings that is crossed; not empty: retrain early."""
    broken: list[Broken] = field(default_factory=list)
    """What cannot be read of the answers, the pointer, and the serving model's folder: they are judged without it."""
    skipped: Tally = field(default_factory=Tally)
    """What of the archive is none of its objects, no label, or no record to today's class."""


def measure(
    clients: Clients, case: UseCase, bounds: QualityBounds, *, days: int, limit: int, now: datetime | None = None
) -> Quality:
    """Score the answers of the last ``days`` days, the newest ``limit`` of them.

    Reads the answers from Datastore, and outcomes and inputs from the days of the archive that they belong to. What
    cannot be read is named, and the rest is judged.
    """
    since = (now or datetime.now(UTC)) - timedelta(days=days)
    broken: dict[Broken, None] = {}

    def tell(found: Broken) -> None:
        broken[found] = None

    skipped = Tally()
    answers = list(query.classifications(clients.datastore, since=since, limit=limit, broken=tell))
    pointer = query.pointer(clients.datastore, case.name, tell)
    serving = None if pointer is None else pointer.model_version
    if not answers:
        return Quality(since, serving, 0, 0, None, [], [], [], [], [], list(broken), skipped)
    by_id = {answer.record_id: answer for answer in answers}
    first = min(answer.event_time for answer in answers).astimezone(UTC).date()
    last = max(answer.event_time for answer in answers).astimezone(UTC).date()
    bucket = archive_bucket(clients.target)
    labels = archived_lines(clients.storage, bucket, "labels", first, skipped=skipped.add)
    outcomes = _outcomes(documents(labels, case.read_label, skipped.add), by_id, case)
    records = archived_lines(clients.storage, bucket, "records", first, last, skipped=skipped.add)
    features = _features(documents(records, case.read_record, skipped.add), by_id)

    manifest = None if serving is None else _manifest(clients, serving, tell)
    promised = None if manifest is None else _promised(manifest, tell)
    own = [answer for answer in answers if answer.model_version == serving]
    drift = [] if manifest is None else _drift(clients, case, manifest, own, features, bounds, tell)
    return Quality(
        since=since,
        serving=serving,
        answers=len(answers),
        labelled=len(outcomes),
        expected=promised,
        models=_grouped(answers, outcomes, lambda answer: answer.model_version),
        days=_grouped(answers, outcomes, lambda answer: _day(answer).isoformat()),
        segments=_segments(answers, outcomes, features, case),
        drift=drift,
        findings=_findings(promised, own, outcomes, drift, bounds),
        broken=list(broken),
        skipped=skipped,
    )


def _manifest(clients: Clients, version: str, tell: query.Tell) -> ModelManifest | None:
    try:
        return trained.manifest(clients, version)
    except trained.NoSuchResultError as error:
        tell(Broken("ModelManifest", version, "", str(error)))
        return None


def _day(answer: Classification) -> date:
    return answer.event_time.astimezone(UTC).date()


def _outcomes(labels: Iterable[Label], answers: Mapping[str, Classification], case: UseCase) -> dict[str, Outcome]:
    """The latest label of each answered record."""
    latest: dict[str, tuple[datetime, str]] = {}
    for one in labels:
        if one.record_id in answers:
            told = one.event_time, one.label
            latest[one.record_id] = max(latest.get(one.record_id, told), told)
    return {
        record_id: Outcome(_day(answers[record_id]).isoformat(), answers[record_id].probability, label == case.positive)
        for record_id, (_, label) in latest.items()
    }


def _features(records: Iterable[Record[Any]], answers: Mapping[str, Classification]) -> dict[str, Mapping[str, Any]]:
    """What the model saw, by the names of the class's fields."""
    return {record.record_id: record.features.model_dump() for record in records if record.record_id in answers}


def _grouped(answers: Sequence[Classification], outcomes: Mapping[str, Outcome], name: Any) -> list[Group]:
    groups: dict[str, list[str]] = defaultdict(list)
    for answer in answers:
        groups[name(answer)].append(answer.record_id)
    return [_group(what, groups[what], outcomes) for what in sorted(groups)]


def _group(what: str, ids: Sequence[str], outcomes: Mapping[str, Outcome]) -> Group:
    known = [outcomes[one] for one in ids if one in outcomes]
    return Group(what, len(ids), scoring.score(known) if known else None)


def _segments(
    answers: Sequence[Classification],
    outcomes: Mapping[str, Outcome],
    features: Mapping[str, Mapping[str, Any]],
    case: UseCase,
) -> list[Group]:
    found = []
    for item in model_inputs(case):
        if item.kind == "category":
            values: dict[str, list[str]] = defaultdict(list)
            for answer in answers:
                if answer.record_id in features:
                    value = features[answer.record_id].get(item.name)
                    values["missing" if value is None else str(value)].append(answer.record_id)
            frequent = sorted(values, key=lambda value: (-len(values[value]), value))[:SEGMENTS]
            found += [_group(f"{item.name} = {value}", values[value], outcomes) for value in frequent]
    return found


def _drift(
    clients: Clients,
    case: UseCase,
    manifest: ModelManifest,
    answers: Sequence[Classification],
    features: Mapping[str, Mapping[str, Any]],
    bounds: QualityBounds,
    tell: query.Tell,
) -> list[Drift]:
    """Against the profile that the model's folder keeps; nothing for a model that is older than profiles."""
    profile = _profile(clients, manifest, tell)
    if profile is None:
        return []
    records = [features[answer.record_id] for answer in answers if answer.record_id in features]
    if not records:
        return []
    # Part of a week has other weekdays and hours than a whole one, and a few records prove nothing.
    enough = len(set(map(_day, answers))) >= WEEK and len(answers) >= bounds.min_labels
    found = []
    for item in model_inputs(case):
        bins = profile.bins.get(item.name)
        if bins is not None and bins.kind == item.kind:
            places = Counter(bins.place(record.get(item.name)) for record in records)
            before = profile.total(item.name)
            used = sum(count > 0 for count in before)
            by_chance = max(used - 1, 0) * (1 / len(records) + 1 / max(sum(before), 1))
            index = stability_index(before, [places[place] for place in range(bins.places)])
            found.append(Drift(item.name, max(index - by_chance, 0.0), enough and not item.drifts))
    return sorted(found, key=lambda one: -one.index)


def _profile(clients: Clients, manifest: ModelManifest, tell: query.Tell) -> DataProfile | None:
    if not any(file.name == PROFILE for file in manifest.evidence):
        return None
    try:
        profile = DataProfile.model_validate_json(trained.evidence(clients, manifest, PROFILE))
        for name, bins in profile.bins.items():
            if any(len(row) != bins.places for row in profile.counts.get(name, [[]])):
                raise ValueError(f"the counts of {name} are not those of its bins")
        return profile
    except ValueError as error:
        tell(Broken("ModelManifest", manifest.model_version, f"evidence {PROFILE}", why(error)))
        return None


def _promised(manifest: ModelManifest, tell: query.Tell) -> Score | None:
    """What the gate measured; None if the manifest does not have it, which is told."""
    measured = manifest.metrics.get("challenger")
    place = "metrics.challenger"
    if not isinstance(measured, dict):
        tell(
            Broken("ModelManifest", manifest.model_version, place, "it is missing: nothing to hold the answers against")
        )
        return None
    rows = manifest.rows.get("evaluate")
    wrong = [f"{place}.{name}" for name in ("auc", "log_loss") if not _is_number(measured.get(name))]
    wrong += [f"{place}.{name}" for name in ("brier", "calibration_error") if not _is_number(measured.get(name, 0.0))]
    wrong += [] if rows is not None else ["rows.evaluate"]
    for name in wrong:
        tell(Broken("ModelManifest", manifest.model_version, name, "expected a number"))
    if wrong or rows is None:
        return None
    return Score(
        rows=rows,
        auc=measured["auc"],
        log_loss=measured["log_loss"],
        brier=measured.get("brier", 0.0),
        calibration_error=measured.get("calibration_error", 0.0),
        said=0.0,
        rate=0.0,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _findings(
    promised: Score | None,
    answers: Sequence[Classification],
    outcomes: Mapping[str, Outcome],
    drift: Sequence[Drift],
    bounds: QualityBounds,
) -> list[str]:
    findings = [
        f"{one.feature} drifted: its stability index is {one.index:.2f} (bound {bounds.drift_index:g})"
        for one in drift
        if one.judged and one.index >= bounds.drift_index
    ]
    known = [outcomes[answer.record_id] for answer in answers if answer.record_id in outcomes]
    if promised is None or len(known) < bounds.min_labels:
        return findings
    live, error = scoring.score(known), scoring.errors(known)
    return _crossed(promised, live, error, bounds) + findings


def _crossed(promised: Score, live: Score, error: Errors, bounds: QualityBounds) -> list[str]:
    findings = []
    if live.auc is not None and error.auc is not None and promised.auc is not None:
        drop = promised.auc - live.auc
        if drop - SURE * error.auc > bounds.auc_drop:
            findings.append(f"AUC is {live.auc:.4f}, the gate had {promised.auc:.4f} (bound {bounds.auc_drop:g} less)")
    if error.log_loss is not None:
        rise = live.log_loss - promised.log_loss
        if rise - SURE * error.log_loss > bounds.log_loss_rise:
            findings.append(
                f"log-loss is {live.log_loss:.4f}, the gate had {promised.log_loss:.4f} "
                f"(bound {bounds.log_loss_rise:g} more)"
            )
    if error.gap is not None:
        gap = live.said - live.rate
        if abs(gap) - SURE * error.gap > bounds.calibration_gap:
            findings.append(
                f"it said {live.said:.1%} and {live.rate:.1%} came true (bound {bounds.calibration_gap:.0%} apart)"
            )
    return findings
