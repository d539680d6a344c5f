"""Answers while a canary is out: each record by exactly one model, which its answer names."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from schemas import Record, UseCase

from .answer import Answer, answer, answers
from .serving import Candidate, Served

IDS = 2**64


def in_canary_share(model_version: str, share: float, record_id: str) -> bool:
    """Whether a canary of this share answers this record: always the same for an id, and for a larger share too.

    Another canary takes other ids, so that no publisher is always the first to try.
    """
    digest = blake2b(f"{model_version} {record_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) < share * IDS


def answer_one(case: UseCase, served: Served, canary: Candidate, record: Record[Any]) -> Answer:
    """Classify one record, by the canary if its id falls to it. A canary that fails is no reason to fail.

    Raises:
        NoProbabilityError: the served model gave something that is no probability.
    """
    if in_canary_share(canary.served.model_version, canary.share, record.record_id):
        try:
            return answer(case, _with_staleness(canary, served), record)
        except Exception as error:
            canary.drop(error)
    return answer(case, served, record)


def answer_each(case: UseCase, served: Served, canary: Candidate, records: Sequence[Record[Any]]) -> list[Answer]:
    """Classify ``records`` in their order, some by the canary, the others by the served model.

    Raises:
        NoProbabilityError: the served model gave something that is no probability.
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
