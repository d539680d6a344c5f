"""Stores a copy of each record in Datastore, where it can be read within moments.

The key is the record's id and the write is an upsert, so a message that is delivered twice changes nothing.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from functions.runtime.datastore import entity
from functions.runtime.dead_letters import DeadLetters
from functions.runtime.group_commit import GroupCommit
from functions.runtime.push import read_record, receive
from schemas import Envelope, Record

KIND = "Record"
"""The Datastore kind of the stored copies."""
UNINDEXED = frozenset({"payload", "event_time", "stored_at", "expire_at"})
"""The unindexed properties: all, because a record is read by its id, and an index on increasing times is a hot spot."""


class IngestFast:
    """The function ``ingest_fast``, with its clients."""

    def __init__(
        self,
        read: Callable[[bytes], Record[Any]],
        project: str,
        keep_for: timedelta,
        commits: GroupCommit,
        dead_letters: DeadLetters,
    ) -> None:
        self._read = read
        self._project = project
        self._keep_for = keep_for
        self._commits = commits
        self._dead_letters = dead_letters

    async def push(self, request: Request) -> Response:
        """Answer one push request: 204 once the record is stored or its dead letter is published."""
        return await receive(request, self._mirror, self._dead_letters)

    async def _mirror(self, envelope: Envelope) -> None:
        record = read_record(envelope, self._read)
        now = datetime.now(UTC)
        await self._commits.upsert(
            entity(
                self._project,
                KIND,
                record.record_id,
                {
                    "payload": envelope.data.decode(),  # the document as it was sent, unknown fields included
                    "event_time": record.event_time,
                    "stored_at": now,
                    "expire_at": now + self._keep_for,
                },
                UNINDEXED,
            )
        )
