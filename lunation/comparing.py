"""What shadows said beside what was served, read back from the archive and scored where the outcome is known."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from lunation import scoring
from lunation.clients import Clients
from lunation.deploy.names import archive_bucket
from lunation.ledger import Tell, archived_lines, documents
from lunation.scoring import Outcome, Score
from schemas import Comparison, Label, UseCase


@dataclass(frozen=True)
class Compared:
    """A shadow and a model that was served, on the same records."""

    shadow: str
    served: str
    records: int
    same_label: float
    """Share of the records."""
    difference: float
    """Mean absolute difference of the probabilities."""
    shadow_score: Score | None
    """Over those whose outcome is known, which are the same for both; None if none is."""
    served_score: Score | None


def compare(
    clients: Clients, case: UseCase, *, first: date, shadow: str | None = None, skipped: Tell
) -> list[Compared]:
    """Every pair of models that were compared on records of ``first`` or later; by the number of records.

    Args:
        shadow: only this model version.
        skipped: told what in the archive is none of its objects, no comparison, or no label.
    """
    bucket = archive_bucket(clients.target)
    comparisons = archived_lines(clients.storage, bucket, "comparisons", first, skipped=skipped)
    found = {
        (one.record_id, one.shadow_version): one
        for one in documents(comparisons, Comparison.model_validate_json, skipped)
        if shadow is None or one.shadow_version == shadow
    }
    labels = archived_lines(clients.storage, bucket, "labels", first, skipped=skipped)
    latest = _latest_labels(documents(labels, case.read_label, skipped))
    pairs: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    for one in found.values():
        pairs[one.shadow_version, one.served_version].append(one)
    compared = [_compared(pair, ones, latest, case) for pair, ones in pairs.items()]
    return sorted(compared, key=lambda one: (-one.records, one.shadow, one.served))


def since(days: int) -> date:
    """The first of the last ``days`` days."""
    return (datetime.now(UTC) - timedelta(days=days - 1)).date()


def _latest_labels(labels: Iterable[Label]) -> dict[str, str]:
    latest: dict[str, tuple[datetime, str]] = {}
    for one in labels:
        told = one.event_time, one.label
        latest[one.record_id] = max(latest.get(one.record_id, told), told)
    return {record_id: label for record_id, (_, label) in latest.items()}


def _compared(pair: tuple[str, str], ones: list[Comparison], latest: Mapping[str, str], case: UseCase) -> Compared:
    known = [one for one in ones if one.record_id in latest]

    def scored(side: str) -> Score | None:
        outcomes = [
            Outcome(
                one.event_time.astimezone(UTC).date().isoformat(),
                getattr(one, f"{side}_probability"),
                latest[one.record_id] == case.positive,
            )
            for one in known
        ]
        return scoring.score(outcomes) if outcomes else None

    return Compared(
        shadow=pair[0],
        served=pair[1],
        records=len(ones),
        same_label=sum(one.shadow_label == one.served_label for one in ones) / len(ones),
        difference=sum(abs(one.shadow_probability - one.served_probability) for one in ones) / len(ones),
        shadow_score=scored("shadow"),
        served_score=scored("served"),
    )
