"""The answer to records: what one model says of them, in the shape of ``schemas.Classification``."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from schemas import Record, UseCase

from .serving import Served

Answer = dict[str, Any]
"""The fields of ``Classification``. Plain, because a second validation would cost as much as the model does."""


def answer(case: UseCase, served: Served, records: Sequence[Record[Any]]) -> list[Answer]:
    """Classify ``records`` by one model, in one run.

    Raises:
        ArithmeticError: the model gave something that is no probability.
    """
    if not records:
        return []
    negative, positive = case.labels
    threshold = served.threshold
    now = datetime.now(UTC)
    return [
        {
            "record_id": record.record_id,
            "label": positive if probability >= threshold else negative,
            "probability": probability,
            "model_version": served.model_version,
            "generation": served.generation,
            "event_time": record.event_time,
            "classified_at": now,
            "stale": served.stale,
        }
        for record, probability in zip(
            records,
            served.model.probabilities([record.features for record in records]),
            strict=True,
        )
    ]
