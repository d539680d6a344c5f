"""Composite indexes: kept, and demanded of the queries that need one."""

import secrets
from typing import Any

from google.cloud.datastore_admin_v1 import types

from laptop.datastore.queries import Query
from laptop.errors import ServiceError, invalid, not_found
from laptop.operations import Operations
from laptop.store import Store

Index: Any = types.Index.pb()
IndexOperationMetadata: Any = types.IndexOperationMetadata.pb()
ListIndexesResponse: Any = types.ListIndexesResponse.pb()
DESCENDING = types.Index.Direction.DESCENDING
ALL_ANCESTORS = types.Index.AncestorMode.ALL_ANCESTORS


class Composites:
    """RPC handlers of the Admin API's indexes.

    Args:
        store: the server's.
        operations: where creations are recorded.
    """

    def __init__(self, store: Store, operations: Operations) -> None:
        self._store = store
        self._operations = operations

    async def create_index(self, request: Any) -> Any:
        """Make a composite index known; queries that need one are refused without it."""
        index = Index()
        index.CopyFrom(request.index)
        if not index.kind:
            raise invalid("an index needs a kind")
        simple = len(index.properties) < 2 and index.ancestor != ALL_ANCESTORS
        if not index.properties or (simple and index.properties[0].name != "__key__"):
            raise invalid("a composite index has two properties at least; single ones are built in")
        index.project_id, index.index_id = request.project_id, secrets.token_hex(8)
        for known in self._all(request.project_id):
            if (known.kind, known.ancestor, list(known.properties)) == (
                index.kind,
                index.ancestor,
                list(index.properties),
            ):
                raise ServiceError("ALREADY_EXISTS", "index already exists")
        index.state = types.Index.State.READY
        await self._store.write(
            lambda connection: connection.execute(
                "INSERT INTO composite VALUES (?, ?)", (index.index_id, index.SerializeToString())
            )
        )
        return await self._operations.finished(
            _operation(request), IndexOperationMetadata(index_id=index.index_id), index
        )

    async def list_indexes(self, request: Any) -> Any:
        """The composite indexes of a project."""
        return ListIndexesResponse(indexes=self._all(request.project_id))

    async def get_index(self, request: Any) -> Any:
        """One index."""
        for one in self._all(request.project_id):
            if one.index_id == request.index_id:
                return one
        raise not_found(f"index {request.index_id}")

    async def delete_index(self, request: Any) -> Any:
        """Forget an index."""
        index = await self.get_index(request)
        await self._store.write(
            lambda connection: connection.execute("DELETE FROM composite WHERE id = ?", (index.index_id,))
        )
        return await self._operations.finished(
            _operation(request), IndexOperationMetadata(index_id=index.index_id), index
        )

    def check(self, project: str, query: Query) -> None:
        """Refuse a query that the service would refuse for want of an index.

        Equality filters alone are merged from built-in indexes, within an ancestor too. With an order or an
        inequality on another property, each equality needs an index that ends in the same order:
        https://cloud.google.com/datastore/docs/concepts/indexes#index_configuration

        Raises:
            ServiceError: FAILED_PRECONDITION, with the index that is missing.
        """
        equal = query.equal_names - {"__key__"}
        tail = [pair for pair in query.orders if pair[0] not in equal]
        built_in = not tail or (not equal and len(tail) == 1 and not query.by_ancestor)
        if built_in and not query.key_descends:
            return
        tail += [("__key__", True)] * query.key_descends
        covered: set[str] = set()
        for index in self._all(project):
            if index.kind != query.kind or (index.ancestor == ALL_ANCESTORS) != query.by_ancestor:
                continue
            columns = [(one.name, one.direction == DESCENDING) for one in index.properties]
            head, end = columns[: -len(tail)], columns[-len(tail) :]
            if end == tail and {name for name, _ in head} <= equal:
                covered |= {name for name, _ in head} or {""}
        if equal <= covered and covered:
            return
        wanted = ", ".join([*sorted(equal), *(f"{name} {'DESC' if down else 'ASC'}" for name, down in tail)])
        within = " with ancestors" if query.by_ancestor else ""
        raise ServiceError(
            "FAILED_PRECONDITION",
            f"no matching index found. The query over {query.kind} needs a composite index on ({wanted}){within}",
        )

    def _all(self, project: str) -> list[Any]:
        rows = self._store.read("SELECT message FROM composite")
        return [index for row in rows if (index := Index.FromString(row["message"])).project_id == project]


def _operation(request: Any) -> str:
    return f"projects/{request.project_id}/operations/{secrets.token_hex(8)}"
