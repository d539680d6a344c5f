"""Waits for classifications. All requests that wait in an instance share its lookups.

The instance polls Datastore instead of subscribing to the topic of answers: a subscription per instance would deliver
every answer to every instance. A lookup costs one read for each record that still waits. An answer usually exists
within 0.1 to 0.2 s, so waiting for a record costs two or three reads.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from functions.runtime.datastore import Lookup, key, path, values
from functions.runtime.log import log
from functions.runtime.rpc import RpcError
from schemas import Classification
from schemas.dead_letter import explain

MAX_WAIT_SECONDS = 30.0
"""Longest time, in seconds, that a caller may ask to wait for classifications."""
MAX_WAITED_FOR = 100
"""Limit for the number of records in a request that waits for classifications."""
PAUSES_SECONDS = (0.05, 0.05, 0.1, 0.2, 0.4)
"""Pauses, in seconds, between the lookups of one record. The last pause is repeated."""
SHARED_LOOKUP_SECONDS = 0.02
"""Time, in seconds, by which a lookup may be early to share a request with those that are due."""
MAX_KEYS = 1000
"""Limit for the number of keys in one lookup; Datastore's own."""


@dataclass(slots=True, eq=False)
class _Waiter:
    record_id: str
    path: bytes
    due: float
    found: "asyncio.Future[dict[str, Any]]"
    looks: int = 1


@dataclass
class Waiting:
    """The requests that wait, in one event loop."""

    lookup: Lookup
    project: str
    clock: Callable[[], float] = time.monotonic
    _waiters: set[_Waiter] = field(default_factory=set)
    _task: "asyncio.Task[None] | None" = None

    async def classifications(self, record_ids: Sequence[str], seconds: float) -> dict[str, dict[str, Any]]:
        """Return the classifications that exist within ``seconds``, by record id, as dicts of ``Classification``.

        If Datastore is unavailable, nothing is found: the records are published all the same.
        """
        loop = asyncio.get_running_loop()
        due = self.clock() + PAUSES_SECONDS[0]
        mine = [
            _Waiter(one, path(key(self.project, "Classification", one)), due, loop.create_future())
            for one in dict.fromkeys(record_ids)
        ]
        self._waiters.update(mine)
        if self._task is None:
            self._task = asyncio.create_task(self._look())
        try:
            await asyncio.wait([one.found for one in mine], timeout=seconds)
        finally:
            self._waiters.difference_update(mine)
        return {one.record_id: one.found.result() for one in mine if one.found.done()}

    async def _look(self) -> None:
        try:
            while self._waiters:
                now = self.clock()
                due = [one for one in self._waiters if one.due <= now + SHARED_LOOKUP_SECONDS][:MAX_KEYS]
                if not due:
                    await asyncio.sleep(min(one.due for one in self._waiters) - now)
                    continue
                for one in due:
                    one.due = now + PAUSES_SECONDS[min(one.looks, len(PAUSES_SECONDS) - 1)]
                    one.looks += 1
                await self._ask(due)
        finally:
            self._task = None

    async def _ask(self, due: list[_Waiter]) -> None:
        keys = {one.path: key(self.project, "Classification", one.record_id) for one in due}
        try:
            found = await self.lookup.entities(keys.values())
        except RpcError:
            return
        for one in due:
            stored = found.get(one.path)
            if stored is None or one.found.done():
                continue
            self._waiters.discard(one)
            try:
                one.found.set_result(Classification.model_validate(values(stored)).model_dump())
            except (TypeError, ValidationError) as error:
                # The caller learns that the record is accepted, which is true; the others continue to wait.
                log("ERROR", "classification cannot be read", record_id=one.record_id, reason=explain(error))
