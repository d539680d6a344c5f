"""Classifies records while a canary is active: exactly one model answers each record, and the answer names it."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from schemas import Record, UseCase

from .answer import Answer, answer, answers
from .serving import Candidate, Served

IDS = 2**64
"""Number of values that the hash of a record id can have: it has 8 bytes."""


def in_canary_share(model_version: str, share: float, record_id: str) -> bool:
    """Whether a canary with this share answers this record.

    The result depends on the id only, and an id that belongs to a share belongs to every larger share. Each canary
    selects different ids, so no publisher is always the first to try a new model.

    Args:
        model_version: the canary's version.
        share: the canary's fraction of all record ids, between 0 and 1.
        record_id: the id of the record.
    """
    digest = blake2b(f"{model_version} {record_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) < share * IDS


def answer_one(case: UseCase, served: Served, canary: Candidate, record: Record[Any]) -> Answer:
    """Classify one record, by the canary if the id belongs to its share. If the canary fails, the served model answers.

    Raises:
        NoProbabilityError: the served model's output is not a probability.
    """
    if in_canary_share(canary.served.model_version, canary.share, record.record_id):
        try:
            return answer(case, _with_staleness(canary, served), record)
        except Exception as error:
            canary.drop(error)
    return answer(case, served, record)


def answer_each(case: UseCase, served: Served, canary: Candidate, records: Sequence[Record[Any]]) -> list[Answer]:
    """Classify ``records``, some by the canary and the others by the served model. Answers keep the records' order.

    Raises:
        NoProbabilityError: the served model's output is not a probability.
    """
    version = canary.served.model_version
    falls = [in_canary_share(version, canary.share, record.record_id) for record in records]
    chosen = [record for record, does in zip(records, falls, strict=True) if does]
    try:
        tried = iter(answers(case, _with_staleness(canary, served), chosen))
    except Exception as error:
        canary.drop(error)
        return answers(case, served, records)
    others = iter(answers(case, served, [record for record, does in zip(records, falls, strict=True) if not does]))
    return [next(tried if does else others) for does in falls]


def _with_staleness(canary: Candidate, served: Served) -> Served:
    return replace(canary.served, stale=True) if served.stale else canary.served
