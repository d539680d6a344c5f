"""Classifies records by one model. An answer has the shape of ``schemas.Classification``."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from schemas import Record, UseCase

from .serving import Served

Answer = dict[str, Any]
"""The fields of a ``Classification``, as a plain dict: a second validation would cost as much as the model itself."""


def answer(case: UseCase, served: Served, record: Record[Any]) -> Answer:
    """Classify one record by the served model.

    Raises:
        NoProbabilityError: the model's output is not a probability.
    """
    probability = served.model.probability(record.features)
    return _to_answer(case, served, record, probability, datetime.now(UTC))


def answers(case: UseCase, served: Served, records: Sequence[Record[Any]]) -> list[Answer]:
    """Classify ``records`` by the served model, in one run of it.

    Raises:
        NoProbabilityError: the model's output is not a probability.
    """
    if not records:
        return []
    now = datetime.now(UTC)
    probabilities = served.model.probabilities([record.features for record in records])
    return [
        _to_answer(case, served, record, probability, now)
        for record, probability in zip(records, probabilities, strict=True)
    ]


def _to_answer(case: UseCase, served: Served, record: Record[Any], probability: float, now: datetime) -> Answer:
    return {
        "record_id": record.record_id,
        "label": case.labels[probability >= served.threshold],
        "probability": probability,
        "model_version": served.model_version,
        "generation": served.generation,
        "event_time": record.event_time,
        "classified_at": now,
        "stale": served.stale,
    }
