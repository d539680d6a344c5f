"""Classifies served records by the shadow model as well, and publishes both answers for comparison."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from functions.runtime.errors import OverloadedError, PermanentlyRefusedError
from functions.runtime.log import log
from functions.runtime.rpc import RpcError
from schemas import Comparison, Record, UseCase

from .answer import Answer, answer
from .serving import Candidate

if TYPE_CHECKING:
    from functions.runtime.publisher import Publisher


class Shadows:
    """Publishes comparisons to their own topic, which the archive stores."""

    def __init__(self, case: UseCase, publisher: "Publisher") -> None:
        self._case = case
        self._publisher = publisher
        self._lost = 0

    async def compare(self, shadow: Candidate, record: Record[Any], served: Answer) -> None:
        """Publish the answer of ``shadow`` to ``record`` together with the served answer.

        Never raises: a lost comparison costs one point of a curve, but an unacknowledged record is delivered again and
        again. The 1st, 2nd, 4th, 8th … lost comparison is logged with its number.
        """
        try:
            scored = answer(self._case, shadow.served, record)
        except Exception as error:
            shadow.drop(error)
            return
        comparison = Comparison(
            record_id=record.record_id,
            event_time=record.event_time,
            compared_at=datetime.now(UTC),
            generation=shadow.served.generation,
            served_version=served["model_version"],
            served_label=served["label"],
            served_probability=served["probability"],
            shadow_version=scored["model_version"],
            shadow_label=scored["label"],
            shadow_probability=scored["probability"],
        )
        try:
            await self._publisher.publish(comparison.model_dump_json().encode(), {"record_id": record.record_id})
        except (OverloadedError, PermanentlyRefusedError, RpcError) as error:
            self._lost += 1
            if self._lost & (self._lost - 1) == 0:
                log("WARNING", "comparison is lost", lost=self._lost, reason=str(error))
