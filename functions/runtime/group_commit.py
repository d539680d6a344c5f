"""Group commit into Datastore: what waits while a commit is in flight goes into the next one.

One write a request costs a round trip each; shared commits carry several times as many. Each caller is answered
only after its own entity is stored, and a bad entity fails only its own caller. The commits are not transactional:
entities have nothing to do with each other, and such a commit may be applied in part. All mutations here can
therefore be sent again: an upsert is idempotent, and an insert that meets itself answers what is stored.
"""

from typing import Any

import grpc.aio

from functions.runtime.batcher import Batcher, Entry
from functions.runtime.datastore import (
    CommitRequest,
    CommitResponse,
    Lookup,
    Mutation,
    path,
)
from functions.runtime.rpc import Code, Refused, Rpc, RpcError

MAX_MUTATIONS = 500
MAX_BYTES = 4 << 20
"""Of one commit. Datastore takes 10 MiB; a smaller one is answered sooner."""
MAX_ENTITY_BYTES = 1_048_572
"""Datastore's own limit for an entity: 1 MiB less 4 bytes."""


class EntityRefused(Refused):
    """Datastore will never take this entity; sending it again is useless."""


class GroupCommit:
    """Stores entities, many to a commit, at most two commits in flight."""

    def __init__(self, channel: grpc.aio.Channel, project: str) -> None:
        self._project = project
        self._commit = Rpc(
            channel,
            "/google.datastore.v1.Datastore/Commit",
            CommitRequest,
            CommitResponse,
            routing={"project_id": project},
        )
        self._lookup = Lookup(channel, project)
        self._batcher = Batcher(self._send, max_items=MAX_MUTATIONS, max_bytes=MAX_BYTES, max_in_flight=2)

    async def upsert(self, entity: Any) -> None:
        """Store ``entity``, whether or not there is one with its key.

        Raises:
            EntityRefused: Datastore does not take it (too big, a bad value).
            RpcError: Datastore is out of reach or fails; the entity may or may not be stored.
            Overloaded: too much is waiting already.
        """
        await self._put(Mutation(upsert=entity), entity)

    async def insert(self, entity: Any) -> Any:
        """Store ``entity`` unless there is one with its key. Returns None, or the entity that was there before.

        After a failure that left open whether the commit was applied, what was there may be ``entity`` itself.

        Raises: as :meth:`upsert`.
        """
        return await self._put(Mutation(insert=entity), entity)

    async def _put(self, mutation: Any, entity: Any) -> Any:
        size = mutation.ByteSize()
        if size > MAX_ENTITY_BYTES:
            raise EntityRefused(f"the entity is {size} bytes; Datastore takes {MAX_ENTITY_BYTES}. Send smaller records")
        # Two mutations of one entity are refused in one such commit, and contend in two at the same time.
        return await self._batcher.put(mutation, size, key=path(entity.key))

    async def _send(self, entries: list[Entry]) -> None:
        request = CommitRequest(
            project_id=self._project,
            mode=CommitRequest.NON_TRANSACTIONAL,
            mutations=[entry.value for entry in entries],
        )
        try:
            await self._commit(request)
        except RpcError as error:
            await self._settle(entries, error)
        else:
            for entry in entries:
                entry.resolve()

    async def _settle(self, entries: list[Entry], error: RpcError) -> None:
        """Find whose fault a failed commit is, fail or answer those, and commit the others."""
        if error.code is Code.ALREADY_EXISTS:
            await self._answer_existing(entries, error)
        elif error.code is Code.INVALID_ARGUMENT and len(entries) > 1:
            middle = len(entries) // 2
            await self._send(entries[:middle])
            await self._send(entries[middle:])
        elif error.code is Code.INVALID_ARGUMENT:
            entries[0].fail(EntityRefused(f"Datastore refused the entity: {error.details}"))
        else:
            for entry in entries:
                entry.fail(error)

    async def _answer_existing(self, entries: list[Entry], error: RpcError) -> None:
        inserts = [entry for entry in entries if entry.value.HasField("insert")]
        found = await self._lookup.entities([entry.value.insert.key for entry in inserts])
        others = []
        for entry in entries:
            stored = found.get(entry.key) if entry.value.HasField("insert") and entry.key else None
            if stored is None:
                others.append(entry)
            else:
                entry.resolve(stored)
        if not found:
            # Deleted between the commit and the lookup: the next delivery finds a settled state.
            for entry in others:
                entry.fail(error)
        elif others:
            await self._send(others)
