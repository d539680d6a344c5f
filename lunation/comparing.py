"""What shadows said beside what was served, read back from the archive and scored where the outcome is known."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from lunation import scoring
from lunation.clients import Clients
from lunation.deploy.table import archive_bucket
from lunation.ledger import archived_documents
from lunation.scoring import Outcome, Score
from schemas import Comparison, UseCase


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


def compare(clients: Clients, case: UseCase, *, first: date, shadow: str | None = None) -> list[Compared]:
    """Every pair of models that were compared on records of ``first`` or later; by the number of records.

    Args:
        shadow: only this model version.
    """
    bucket = archive_bucket(clients.target)
    found = {
        (one.record_id, one.shadow_version): one
        for one in map(Comparison.model_validate, archived_documents(clients.storage, bucket, "comparisons", first))
        if shadow is None or one.shadow_version == shadow
    }
    latest = _latest_labels(archived_documents(clients.storage, bucket, "labels", first), case)
    pairs: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    for one in found.values():
        pairs[one.shadow_version, one.served_version].append(one)
    compared = [_compared(pair, ones, latest, case) for pair, ones in pairs.items()]
    return sorted(compared, key=lambda one: (-one.records, one.shadow, one.served))


def since(days: int) -> date:
    """The first of the last ``days`` days."""
    return (datetime.now(UTC) - timedelta(days=days - 1)).date()


def _latest_labels(documents: Iterable[Mapping[str, Any]], case: UseCase) -> dict[str, str]:
    latest: dict[str, tuple[datetime, str]] = {}
    for document in documents:
        if document["label"] in case.labels:
            told = datetime.fromisoformat(document["event_time"]), document["label"]
            latest[document["record_id"]] = max(latest.get(document["record_id"], told), told)
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
