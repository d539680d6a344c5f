"""Answers while a canary is out: each record by exactly one model, which its answer names."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from schemas import Record, UseCase

from .answer import Answer, answer, answers
from .candidates import falls_to
from .serving import Candidate, Served


def answer_one(case: UseCase, served: Served, canary: Candidate, record: Record[Any]) -> Answer:
    """Classify one record, by the canary if its id falls to it. A canary that fails is no reason to fail.

    Raises:
        NoProbability: the served model gave something that is no probability.
    """
    if falls_to(canary.served.model_version, canary.share, record.record_id):
        try:
            return answer(case, _dated(canary, served), record)
        except Exception as error:
            canary.drop(error)
    return answer(case, served, record)


def answer_each(case: UseCase, served: Served, canary: Candidate, records: Sequence[Record[Any]]) -> list[Answer]:
    """Classify ``records`` in their order, some by the canary, the others by the served model.

    Raises:
        NoProbability: the served model gave something that is no probability.
    """
    version = canary.served.model_version
    falls = [falls_to(version, canary.share, record.record_id) for record in records]
    chosen = [record for record, does in zip(records, falls, strict=True) if does]
    try:
        tried = iter(answers(case, _dated(canary, served), chosen))
    except Exception as error:
        canary.drop(error)
        return answers(case, served, records)
    others = iter(answers(case, served, [record for record, does in zip(records, falls, strict=True) if not does]))
    return [next(tried if does else others) for does in falls]


def _dated(canary: Candidate, served: Served) -> Served:
    return replace(canary.served, stale=True) if served.stale else canary.served
