"""Group commit into Datastore: entities that wait while a commit is in flight share the next one.

A commit for each request costs one round trip per request; shared commits carry several times as many entities. Each
caller is answered only after its own entity is stored, and a bad entity fails only its own caller. The commits are not
transactional: the entities are unrelated, and a commit may be applied in part. Every mutation can therefore be sent
again: an upsert is idempotent, and an insert that meets itself returns the stored entity.
"""

from dataclasses import dataclass
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
from functions.runtime.errors import PermanentlyRefusedError
from functions.runtime.rpc import Code, Rpc, RpcError
from functions.runtime.wire import Repeated

MAX_MUTATIONS = 500
"""Limit for the number of mutations in one commit."""
MAX_BYTES = 4 << 20
"""Limit, in bytes, for one commit. Datastore accepts 10 MiB; a smaller commit is answered sooner."""
MAX_ENTITY_BYTES = 1_048_572
"""Datastore's own limit, in bytes, for an entity: 1 MiB less 4 bytes."""


_MUTATIONS = Repeated(CommitRequest, "mutations")
_UPSERT = Repeated(Mutation, "upsert")
_INSERT = Repeated(Mutation, "insert")


@dataclass(frozen=True, slots=True)
class _Write:
    """One mutation of one entity."""

    key: Any
    insert: bool
    wire: bytes
    """The serialized mutation, as an element of the commit request."""


class EntityRefusedError(PermanentlyRefusedError):
    """Datastore will never accept this entity, so sending it again is useless."""


class GroupCommit:
    """Stores entities, many per commit, with at most two commits in flight."""

    def __init__(self, channel: grpc.aio.Channel, project: str) -> None:
        head = CommitRequest(project_id=project, mode=CommitRequest.NON_TRANSACTIONAL)
        self._head: bytes = head.SerializeToString()
        self._commit = Rpc(
            channel,
            "/google.datastore.v1.Datastore/Commit",
            CommitResponse,
            routing={"project_id": project},
        )
        self._lookup = Lookup(channel, project)
        self._batcher = Batcher(self._send, max_items=MAX_MUTATIONS, max_bytes=MAX_BYTES, max_in_flight=2)

    async def upsert(self, entity: Any) -> None:
        """Store ``entity``, whether or not its key exists.

        Raises:
            EntityRefusedError: Datastore refuses the entity (too large, or an invalid value).
            RpcError: Datastore is unavailable or fails; the entity may or may not be stored.
            OverloadedError: too many bytes are waiting already.
        """
        await self._put(entity, insert=False)

    async def insert(self, entity: Any) -> Any:
        """Store ``entity`` unless its key exists. Returns None, or the entity that was stored before.

        After a commit with an unknown outcome is repeated, the returned entity may be ``entity`` itself.

        Raises:
            As :meth:`upsert`.
        """
        return await self._put(entity, insert=True)

    async def _put(self, entity: Any, *, insert: bool) -> Any:
        content: bytes = entity.SerializeToString()
        size = len(content)
        if size > MAX_ENTITY_BYTES:
            raise EntityRefusedError(
                f"the entity is {size} bytes; Datastore takes {MAX_ENTITY_BYTES}. Send smaller records"
            )
        # Datastore refuses two mutations of one entity in one commit, and they contend in two concurrent commits.
        wire = _MUTATIONS.element((_INSERT if insert else _UPSERT).element(content))
        return await self._batcher.put(_Write(entity.key, insert, wire), size, key=path(entity.key))

    async def _send(self, entries: list[Entry]) -> None:
        try:
            await self._commit(self._head + b"".join([entry.value.wire for entry in entries]))
        except RpcError as error:
            await self._resolve_failed(entries, error)
        else:
            for entry in entries:
                entry.resolve()

    async def _resolve_failed(self, entries: list[Entry], error: RpcError) -> None:
        """Fail or answer the entries that made a commit fail, and commit the others."""
        if error.code is Code.ALREADY_EXISTS:
            await self._answer_existing(entries, error)
        elif error.code is Code.INVALID_ARGUMENT and len(entries) > 1:
            middle = len(entries) // 2
            await self._send(entries[:middle])
            await self._send(entries[middle:])
        elif error.code is Code.INVALID_ARGUMENT:
            entries[0].fail(EntityRefusedError(f"Datastore refused the entity: {error.details}"))
        else:
            for entry in entries:
                entry.fail(error)

    async def _answer_existing(self, entries: list[Entry], error: RpcError) -> None:
        found = await self._lookup.entities([entry.value.key for entry in entries if entry.value.insert])
        others = []
        for entry in entries:
            stored = found.get(entry.key) if entry.value.insert and entry.key else None
            if stored is None:
                others.append(entry)
            else:
                entry.resolve(stored)
        if not found:
            # The entity was deleted between the commit and the lookup: the next delivery finds a stable state.
            for entry in others:
                entry.fail(error)
        elif others:
            await self._send(others)
