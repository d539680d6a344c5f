"""Datastore: entities in SQLite, transactions, compare-and-set, queries by scanning a kind."""

import itertools
import secrets
import sqlite3
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.cloud.datastore_admin_v1 import DatastoreAdminClient
from google.cloud.datastore_admin_v1 import types as admin
from google.cloud.datastore_v1 import types
from google.cloud.datastore_v1.services.datastore import DatastoreClient
from google.protobuf.timestamp_pb2 import Timestamp

from laptop import operations
from laptop.errors import ServiceError, invalid, not_found
from laptop.operations import Operations
from laptop.service import Api, Context, main, surfaces
from laptop.store import Store

Entity: Any = types.Entity.pb()
Key: Any = types.Key.pb()
Value: Any = types.Value.pb()
Mutation: Any = types.Mutation.pb()
LookupResponse: Any = types.LookupResponse.pb()
CommitRequest: Any = types.CommitRequest.pb()
CommitResponse: Any = types.CommitResponse.pb()
RunQueryResponse: Any = types.RunQueryResponse.pb()
RunAggregationQueryResponse: Any = types.RunAggregationQueryResponse.pb()
BeginTransactionResponse: Any = types.BeginTransactionResponse.pb()
RollbackResponse: Any = types.RollbackResponse.pb()
AllocateIdsResponse: Any = types.AllocateIdsResponse.pb()
ReserveIdsResponse: Any = types.ReserveIdsResponse.pb()
Query: Any = types.Query.pb()
PropertyFilter: Any = types.PropertyFilter.pb()
PropertyOrder: Any = types.PropertyOrder.pb()
QueryResultBatch: Any = types.QueryResultBatch.pb()
Index: Any = admin.Index.pb()
IndexOperationMetadata: Any = admin.IndexOperationMetadata.pb()
ListIndexesResponse: Any = admin.ListIndexesResponse.pb()

SCHEMA = (
    operations.SCHEMA
    + """
CREATE TABLE IF NOT EXISTS entity (
    scope TEXT NOT NULL, kind TEXT NOT NULL, path BLOB NOT NULL, version INTEGER NOT NULL, created REAL NOT NULL,
    updated REAL NOT NULL, body BLOB NOT NULL, PRIMARY KEY (scope, path)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entity_by_kind ON entity (scope, kind, path);
CREATE TABLE IF NOT EXISTS counter (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL);
INSERT OR IGNORE INTO counter VALUES (1, 1);
CREATE TABLE IF NOT EXISTS composite (id TEXT PRIMARY KEY, message BLOB NOT NULL);
"""
)
MAX_ENTITY_BYTES = 1_048_572
MAX_INDEXED_BYTES = 1500
TRANSACTION_SECONDS = 270
BATCH = 1000


@dataclass(frozen=True)
class Stored:
    """An entity as it is kept."""

    entity: Any
    version: int
    created: float
    updated: float

    def result(self, keys_only: bool = False) -> Any:
        """As a lookup or a query gives it."""
        found = types.EntityResult.pb()(version=self.version)
        if keys_only:
            found.entity.key.CopyFrom(self.entity.key)
        else:
            found.entity.CopyFrom(self.entity)
        found.create_time.CopyFrom(_stamp(self.created))
        found.update_time.CopyFrom(_stamp(self.updated))
        return found


@dataclass
class Transaction:
    """What a transaction has read, to be found unchanged when it commits."""

    read_only: bool
    began: float
    version: int
    read: dict[tuple[str, bytes], int] = field(default_factory=dict)
    """Version by key; 0 for an entity that was not there."""
    queried: set[tuple[str, str]] = field(default_factory=set)


class Datastore:
    """RPC handlers.

    Args:
        store: its state.
    """

    def __init__(self, store: Store) -> None:
        self.operations = Operations(store)
        self._store = store
        self._transactions: dict[bytes, Transaction] = {}

    # --- reading

    async def lookup(self, request: Any) -> Any:
        """Entities by key."""
        transaction, identifier = self._reading(request.read_options)
        response = LookupResponse()
        if identifier:
            response.transaction = identifier
        seen = set()
        for key in request.keys:
            _check_key(key, complete=True)
            scope, path = _scope(request, key), _path(key)
            if (scope, path) in seen:
                continue
            seen.add((scope, path))
            stored = self._get(scope, path)
            if transaction is not None:
                transaction.read[scope, path] = stored.version if stored else 0
            if stored is None:
                missing = response.missing.add(version=self._version())
                missing.entity.key.CopyFrom(key)
            else:
                response.found.append(stored.result())
        response.read_time.GetCurrentTime()
        return response

    async def run_query(self, request: Any) -> Any:
        """Entities by kind, filter and order."""
        if request.WhichOneof("query_type") != "query":
            raise ServiceError("UNIMPLEMENTED", "GQL is not served on a laptop: use a structured query")
        transaction, identifier = self._reading(request.read_options)
        response = RunQueryResponse()
        if identifier:
            response.transaction = identifier
        batch = response.batch
        limit = request.query.limit.value if request.query.HasField("limit") else None
        query = request.query
        results = self._query(request, query, transaction)
        offset = query.offset
        skipped = len(list(itertools.islice(results, offset))) if offset else 0
        keys_only = [one.property.name for one in query.projection] == ["__key__"]
        names = [one.property.name for one in query.projection]
        batch.entity_result_type = (
            types.EntityResult.ResultType.KEY_ONLY
            if keys_only
            else types.EntityResult.ResultType.PROJECTION
            if names
            else types.EntityResult.ResultType.FULL
        )
        take = min(BATCH, limit) if limit is not None else BATCH
        found = list(itertools.islice(results, take + 1))
        more = len(found) > take
        for sort_key, stored in found[:take]:
            result = stored.result(keys_only)
            if names and not keys_only:
                for name in list(result.entity.properties):
                    if name not in names:
                        del result.entity.properties[name]
            result.cursor = sort_key
            batch.entity_results.append(result)
        batch.skipped_results = skipped
        batch.end_cursor = found[:take][-1][0] if found[:take] else query.start_cursor
        batch.more_results = (
            QueryResultBatch.MoreResultsType.Value("NOT_FINISHED")
            if more and (limit is None or take < limit)
            else QueryResultBatch.MoreResultsType.Value("MORE_RESULTS_AFTER_LIMIT")
            if more
            else QueryResultBatch.MoreResultsType.Value("NO_MORE_RESULTS")
        )
        batch.read_time.GetCurrentTime()
        return response

    async def run_aggregation_query(self, request: Any) -> Any:
        """Count, sum and average over a query."""
        transaction, identifier = self._reading(request.read_options)
        nested = request.aggregation_query.nested_query
        response = RunAggregationQueryResponse()
        if identifier:
            response.transaction = identifier
        aggregations = request.aggregation_query.aggregations
        only_count = all(one.WhichOneof("operator") == "count" for one in aggregations)
        if only_count and not nested.HasField("filter") and not nested.HasField("limit") and len(nested.kind) == 1:
            rows = self._store.read(
                "SELECT COUNT(*) AS n FROM entity WHERE scope = ? AND kind = ?", (_scope(request), nested.kind[0].name)
            )
            entities: list[Stored] = []
            total = int(rows[0]["n"])
        else:
            limit = nested.limit.value if nested.HasField("limit") else None
            entities = [stored for _, stored in itertools.islice(self._query(request, nested, transaction), limit)]
            total = len(entities)
        result = response.batch.aggregation_results.add()
        for number, one in enumerate(aggregations):
            alias = one.alias or f"property_{number + 1}"
            operator = one.WhichOneof("operator")
            value = result.aggregate_properties[alias]
            if operator == "count":
                ceiling = one.count.up_to.value if one.count.HasField("up_to") else total
                value.integer_value = min(total, ceiling)
                continue
            numbers = [
                number
                for stored in entities
                for number in _numbers(stored.entity, getattr(one, operator).property.name)
            ]
            if operator == "avg":
                if numbers:
                    value.double_value = sum(numbers) / len(numbers)
                else:
                    value.null_value = 0
            elif all(isinstance(number, int) for number in numbers):
                value.integer_value = sum(numbers)
            else:
                value.double_value = float(sum(numbers))
        response.batch.more_results = QueryResultBatch.MoreResultsType.Value("NO_MORE_RESULTS")
        response.batch.read_time.GetCurrentTime()
        return response

    def _query(self, request: Any, query: Any, transaction: Transaction | None) -> Iterator[tuple[bytes, Stored]]:
        """Matching entities in order, each with its cursor."""
        if len(query.kind) > 1:
            raise invalid("a query has one kind at most")
        if query.distinct_on:
            raise ServiceError("UNIMPLEMENTED", "distinct_on is not served on a laptop (LIMITATIONS.md)")
        scope = _scope(request)
        kind = query.kind[0].name if query.kind else None
        self._check_composite(query, kind)
        if transaction is not None and kind is not None:
            transaction.queried.add((scope, kind))
        matches = _filter(query.filter) if query.HasField("filter") else (lambda _: True)
        orders = [
            (one.property.name, one.direction == PropertyOrder.Direction.Value("DESCENDING")) for one in query.order
        ]
        found: list[tuple[Any, Stored]] = []
        for stored in self._scan(scope, kind):
            if not matches(stored.entity):
                continue
            keys = []
            for name, descending in orders:
                values = _sort_values(stored.entity, name)
                if not values:
                    break
                chosen = max(values) if descending else min(values)
                keys.append(_Reversed(chosen) if descending else chosen)
            else:
                if all(_sort_values(stored.entity, one.property.name) for one in query.projection):
                    found.append((keys, stored))
        found.sort(key=lambda pair: (pair[0], _path(pair[1].entity.key)))
        start = int(query.start_cursor or b"0")
        end = int(query.end_cursor) if query.end_cursor else len(found)
        for position, (_, stored) in enumerate(found[start:end], start + 1):
            yield str(position).encode(), stored

    def _scan(self, scope: str, kind: str | None) -> Iterator[Stored]:
        if kind:
            rows = self._store.read("SELECT * FROM entity WHERE scope = ? AND kind = ? ORDER BY path", (scope, kind))
        else:
            rows = self._store.read("SELECT * FROM entity WHERE scope = ? ORDER BY path", (scope,))
        yield from map(_stored, rows)

    def _get(self, scope: str, path: bytes) -> Stored | None:
        rows = self._store.read("SELECT * FROM entity WHERE scope = ? AND path = ?", (scope, path))
        return _stored(rows[0]) if rows else None

    def _version(self) -> int:
        return int(self._store.read("SELECT version FROM counter")[0]["version"])

    # --- transactions

    def _reading(self, options: Any) -> tuple[Transaction | None, bytes]:
        chosen = options.WhichOneof("consistency_type")
        if chosen == "new_transaction":
            identifier = self._begin(options.new_transaction)
            return self._transactions[identifier], identifier
        if chosen == "transaction":
            return self._transaction(options.transaction), b""
        if chosen == "read_time":
            raise ServiceError("UNIMPLEMENTED", "read_time is not served on a laptop (LIMITATIONS.md)")
        return None, b""

    def _begin(self, options: Any) -> bytes:
        now = time.monotonic()
        for identifier, transaction in list(self._transactions.items()):
            if now - transaction.began > TRANSACTION_SECONDS:
                del self._transactions[identifier]
        identifier = secrets.token_bytes(16)
        self._transactions[identifier] = Transaction(options.HasField("read_only"), now, self._version())
        return identifier

    def _transaction(self, identifier: bytes) -> Transaction:
        transaction = self._transactions.get(identifier)
        if transaction is None:
            raise invalid("The referenced transaction has expired or is no longer valid.")
        return transaction

    async def begin_transaction(self, request: Any) -> Any:
        """Start a transaction. Nothing is locked: the commit finds out whether what was read is still so."""
        return BeginTransactionResponse(transaction=self._begin(request.transaction_options))

    async def rollback(self, request: Any) -> Any:
        """Forget a transaction."""
        self._transactions.pop(request.transaction, None)
        return RollbackResponse()

    async def commit(self, request: Any) -> Any:
        """Write, all or nothing. Answers when it is on the disk."""
        transaction = None
        mode = request.mode
        if mode == CommitRequest.Mode.Value("MODE_UNSPECIFIED"):
            raise invalid("commit: mode is required")
        if mode == CommitRequest.Mode.Value("TRANSACTIONAL"):
            selector = request.WhichOneof("transaction_selector")
            if selector == "transaction":
                transaction = self._transaction(request.transaction)
                self._transactions.pop(request.transaction)
                if transaction.read_only and request.mutations:
                    raise invalid("a read-only transaction cannot write")
            elif selector is None:
                raise invalid("commit: a transactional commit needs a transaction")
        elif request.WhichOneof("transaction_selector"):
            raise invalid("commit: a non-transactional commit cannot name a transaction")
        else:
            keys = [_path(_key_of(mutation)) for mutation in request.mutations if _complete(_key_of(mutation))]
            if len(set(keys)) != len(keys):
                raise invalid(
                    "A non-transactional commit may not contain multiple mutations affecting the same entity."
                )
        for mutation in request.mutations:
            _check_mutation(mutation)
        return await self._store.write(lambda connection: self._apply(connection, request, transaction))

    def _apply(self, connection: sqlite3.Connection, request: Any, transaction: Transaction | None) -> Any:
        if transaction is not None:
            for (scope, path), version in transaction.read.items():
                now = connection.execute(
                    "SELECT version FROM entity WHERE scope = ? AND path = ?", (scope, path)
                ).fetchone()
                if (now["version"] if now else 0) != version:
                    raise ServiceError("ABORTED", "Aborted due to cross-transaction contention. Try again.")
            for scope, kind in transaction.queried:
                newest = connection.execute(
                    "SELECT MAX(version) AS v FROM entity WHERE scope = ? AND kind = ?", (scope, kind)
                ).fetchone()["v"]
                if newest is not None and newest > transaction.version:
                    raise ServiceError("ABORTED", "Aborted due to cross-transaction contention. Try again.")
        connection.execute("UPDATE counter SET version = version + 1")
        version = connection.execute("SELECT version FROM counter").fetchone()["version"]
        now = time.time()
        response = CommitResponse()
        for mutation in request.mutations:
            self._mutate(connection, request, mutation, version, now, response.mutation_results.add())
            response.index_updates += 1
        response.commit_time.CopyFrom(_stamp(now))
        return response

    def _mutate(
        self, connection: sqlite3.Connection, request: Any, mutation: Any, version: int, now: float, result: Any
    ) -> None:
        operation = mutation.WhichOneof("operation")
        key = Key()
        key.CopyFrom(_key_of(mutation))
        if not _complete(key):
            key.path[-1].id = secrets.randbits(52) + 1
            result.key.CopyFrom(key)
        scope, path = _scope(request, key), _path(key)
        row = connection.execute("SELECT * FROM entity WHERE scope = ? AND path = ?", (scope, path)).fetchone()
        result.version = version
        detection = mutation.WhichOneof("conflict_detection_strategy")
        conflict = (detection == "base_version" and (row["version"] if row else 0) != mutation.base_version) or (
            detection == "update_time" and (row is None or _stamp(row["updated"]) != mutation.update_time)
        )
        if conflict:
            if mutation.conflict_resolution_strategy == Mutation.ConflictResolutionStrategy.Value("FAIL"):
                raise ServiceError(
                    "FAILED_PRECONDITION", f"the stored version of {_show(key)} does not match the given base version"
                )
            result.conflict_detected = True
            result.version = row["version"] if row else version
            return
        if operation == "insert" and row is not None:
            raise ServiceError("ALREADY_EXISTS", f"entity already exists: {_show(key)}")
        if operation == "update" and row is None:
            raise not_found(f"no entity to update: {_show(key)}")
        if operation == "delete":
            connection.execute("DELETE FROM entity WHERE scope = ? AND path = ?", (scope, path))
            return
        entity = Entity()
        entity.CopyFrom(getattr(mutation, operation))
        entity.key.CopyFrom(key)
        entity.key.partition_id.project_id = request.project_id
        if mutation.HasField("property_mask"):
            entity = _masked(entity, row, mutation.property_mask)
        created = row["created"] if row else now
        connection.execute(
            "INSERT OR REPLACE INTO entity VALUES (?, ?, ?, ?, ?, ?, ?)",
            (scope, key.path[-1].kind, path, version, created, now, entity.SerializeToString()),
        )
        result.create_time.CopyFrom(_stamp(created))
        result.update_time.CopyFrom(_stamp(now))

    async def allocate_ids(self, request: Any) -> Any:
        """Ids that nobody else gets."""
        response = AllocateIdsResponse()
        for key in request.keys:
            complete = response.keys.add()
            complete.CopyFrom(key)
            complete.path[-1].id = secrets.randbits(52) + 1
        return response

    async def reserve_ids(self, request: Any) -> Any:
        """Nothing to do: allocated ids are random."""
        return ReserveIdsResponse()

    # --- composite indexes

    async def create_index(self, request: Any) -> Any:
        """Make a composite index known; queries that need one are refused without it."""
        index = Index()
        index.CopyFrom(request.index)
        if len(index.properties) < 2:
            raise invalid("a composite index has two properties at least; single ones are built in")
        for known in self._composites():
            if (known.kind, list(known.properties)) == (index.kind, list(index.properties)):
                raise ServiceError("ALREADY_EXISTS", "index already exists")
        index.project_id, index.index_id = request.project_id, secrets.token_hex(8)
        index.state = admin.Index.State.READY
        await self._store.write(
            lambda connection: connection.execute(
                "INSERT INTO composite VALUES (?, ?)", (index.index_id, index.SerializeToString())
            )
        )
        metadata = IndexOperationMetadata(index_id=index.index_id)
        name = f"projects/{request.project_id}/operations/{secrets.token_hex(8)}"
        return await self.operations.finished(name, metadata, index)

    async def list_indexes(self, request: Any) -> Any:
        """The composite indexes of a project."""
        return ListIndexesResponse(indexes=[one for one in self._composites() if one.project_id == request.project_id])

    async def get_index(self, request: Any) -> Any:
        """One index."""
        for one in self._composites():
            if one.index_id == request.index_id:
                return one
        raise not_found(f"index {request.index_id}")

    async def delete_index(self, request: Any) -> Any:
        """Forget an index."""
        index = await self.get_index(request)
        await self._store.write(
            lambda connection: connection.execute("DELETE FROM composite WHERE id = ?", (index.index_id,))
        )
        name = f"projects/{request.project_id}/operations/{secrets.token_hex(8)}"
        return await self.operations.finished(name, IndexOperationMetadata(index_id=index.index_id), index)

    def _composites(self) -> list[Any]:
        return [Index.FromString(row["message"]) for row in self._store.read("SELECT message FROM composite")]

    def _check_composite(self, query: Any, kind: str | None) -> None:
        """Refuse a query that the service would refuse for want of an index.

        Equality filters alone are merged from built-in indexes; with an order or an inequality on another property,
        each equality needs an index that ends in the same order: https://cloud.google.com/datastore/docs/concepts/indexes
        """
        equal, unequal = _properties(query.filter) if query.HasField("filter") else (set(), set())
        orders = [
            (one.property.name, one.direction == PropertyOrder.Direction.Value("DESCENDING")) for one in query.order
        ]
        names = [name for name, _ in orders]
        tail = orders or [(name, False) for name in sorted(unequal)]
        tail = [pair for pair in tail if pair[0] not in equal and pair[0] != "__key__"]
        missing_in_order = unequal - set(names) - equal - {"__key__"}
        tail += [(name, False) for name in sorted(missing_in_order) if (name, False) not in tail]
        equal.discard("__key__")
        if not tail or (not equal and len(tail) == 1):
            return
        covered: set[str] = set()
        for index in self._composites():
            if index.kind != kind:
                continue
            columns = [(one.name, one.direction == admin.Index.Direction.DESCENDING) for one in index.properties]
            head, end = columns[: -len(tail)], columns[-len(tail) :]
            if end == tail and {name for name, _ in head} <= equal:
                covered |= {name for name, _ in head} or {""}
        if equal <= covered and covered:
            return
        wanted = ", ".join([*sorted(equal), *(f"{name} {'DESC' if down else 'ASC'}" for name, down in tail)])
        raise ServiceError(
            "FAILED_PRECONDITION",
            f"no matching index found. The query over {kind} needs a composite index on ({wanted})",
        )


# --- keys


def _scope(request: Any, key: Any = None) -> str:
    partition = key.partition_id if key is not None else request.partition_id
    database = request.database_id or partition.database_id
    return f"{request.project_id}|{database}|{partition.namespace_id}"


def _key_of(mutation: Any) -> Any:
    operation = mutation.WhichOneof("operation")
    return mutation.delete if operation == "delete" else getattr(mutation, operation).key


def _complete(key: Any) -> bool:
    return bool(key.path) and key.path[-1].WhichOneof("id_type") is not None


def _check_key(key: Any, complete: bool) -> None:
    if not key.path:
        raise invalid("a key needs a path")
    for number, element in enumerate(key.path):
        if not element.kind or (element.kind.startswith("__") and element.kind.endswith("__")):
            raise invalid(f"the kind {element.kind!r} is empty or reserved")
        last = number == len(key.path) - 1
        if element.WhichOneof("id_type") is None and (complete or not last):
            raise invalid(f"the key of {element.kind} is incomplete")
        if element.WhichOneof("id_type") == "name" and not 1 <= len(element.name.encode()) <= MAX_INDEXED_BYTES:
            raise invalid(f"a key name of {element.kind} has 1 to {MAX_INDEXED_BYTES} bytes")


def _path(key: Any) -> bytes:
    """A key as bytes that sort like keys: by kind, then ids before names."""
    parts = []
    for element in key.path:
        parts.append(element.kind.encode() + b"\x00")
        if element.WhichOneof("id_type") == "id":
            parts.append(b"\x01" + struct.pack(">q", element.id))
        else:
            parts.append(b"\x02" + element.name.encode() + b"\x00")
    return b"".join(parts)


def _show(key: Any) -> str:
    return "/".join(f"{element.kind}:{element.name or element.id}" for element in key.path)


# --- entities


def _stored(row: sqlite3.Row) -> Stored:
    return Stored(Entity.FromString(row["body"]), row["version"], row["created"], row["updated"])


def _stamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp


def _masked(entity: Any, row: sqlite3.Row | None, mask: Any) -> Any:
    merged = Entity.FromString(row["body"]) if row else Entity()
    merged.key.CopyFrom(entity.key)
    for path in mask.paths:
        if path in entity.properties:
            merged.properties[path].CopyFrom(entity.properties[path])
        else:
            merged.properties.pop(path, None)
    return merged


def _check_mutation(mutation: Any) -> None:
    operation = mutation.WhichOneof("operation")
    if operation is None:
        raise invalid("a mutation needs an operation")
    if mutation.property_transforms:
        raise ServiceError("UNIMPLEMENTED", "property_transforms are not served on a laptop (LIMITATIONS.md)")
    _check_key(_key_of(mutation), complete=operation in ("update", "delete"))
    if operation == "delete":
        return
    entity = getattr(mutation, operation)
    if entity.ByteSize() > MAX_ENTITY_BYTES:
        raise invalid(f"entity is too big: {_show(entity.key)} has {entity.ByteSize()} bytes of {MAX_ENTITY_BYTES}")
    for name, value in entity.properties.items():
        if not name or (name.startswith("__") and name.endswith("__")):
            raise invalid(f"the property name {name!r} is empty or reserved")
        _check_value(name, value)


def _check_value(name: str, value: Any) -> None:
    if value.WhichOneof("value_type") == "array_value":
        for one in value.array_value.values:
            _check_value(name, one)
        return
    if value.exclude_from_indexes:
        return
    size = len(value.string_value.encode()) or len(value.blob_value)
    if size > MAX_INDEXED_BYTES:
        raise invalid(
            f'The value of property "{name}" is longer than {MAX_INDEXED_BYTES} bytes. Exclude it from the indexes.'
        )


# --- values: how they are compared (https://cloud.google.com/datastore/docs/concepts/entities#value_type_ordering)


class _Reversed:
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: "_Reversed") -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and bool(other.value == self.value)


def _sortable(value: Any) -> Any:
    kind = value.WhichOneof("value_type")
    if kind in (None, "null_value"):
        return (0, 0)
    if kind == "boolean_value":
        return (1, value.boolean_value)
    if kind == "integer_value":
        return (2, value.integer_value)
    if kind == "double_value":
        return (2, float("-inf") if value.double_value != value.double_value else value.double_value)
    if kind == "timestamp_value":
        return (3, value.timestamp_value.seconds * 10**9 + value.timestamp_value.nanos)
    if kind == "string_value":
        return (4, value.string_value.encode())
    if kind == "blob_value":
        return (5, value.blob_value)
    if kind == "key_value":
        return (6, _path(value.key_value))
    if kind == "geo_point_value":
        return (7, (value.geo_point_value.latitude, value.geo_point_value.longitude))
    raise invalid(f"a value of type {kind} cannot be compared")


def _indexed(entity: Any, name: str) -> list[Any]:
    if name == "__key__":
        value = Value()
        value.key_value.CopyFrom(entity.key)
        return [value]
    if name not in entity.properties:
        return []
    value = entity.properties[name]
    if value.exclude_from_indexes:
        return []
    if value.WhichOneof("value_type") == "array_value":
        return [one for one in value.array_value.values if not one.exclude_from_indexes]
    return [] if value.WhichOneof("value_type") == "entity_value" else [value]


def _sort_values(entity: Any, name: str) -> list[Any]:
    return [_sortable(value) for value in _indexed(entity, name)]


def _numbers(entity: Any, name: str) -> Iterable[int | float]:
    for value in _indexed(entity, name):
        if value.WhichOneof("value_type") == "integer_value":
            yield value.integer_value
        elif value.WhichOneof("value_type") == "double_value":
            yield value.double_value


def _filter(tree: Any) -> Callable[[Any], bool]:
    if tree.WhichOneof("filter_type") == "composite_filter":
        parts = [_filter(one) for one in tree.composite_filter.filters]
        both = all if types.CompositeFilter.Operator(tree.composite_filter.op).name == "AND" else any
        return lambda entity: both(part(entity) for part in parts)
    name = tree.property_filter.property.name
    operator = PropertyFilter.Operator.Name(tree.property_filter.op)
    wanted = tree.property_filter.value
    if operator == "HAS_ANCESTOR":
        prefix = _path(wanted.key_value)
        return lambda entity: _path(entity.key).startswith(prefix)
    if operator in ("IN", "NOT_IN"):
        choices = [_sortable(one) for one in wanted.array_value.values]
        if operator == "IN":
            return lambda entity: any(value in choices for value in _sort_values(entity, name))
        return lambda entity: bool(values := _sort_values(entity, name)) and not any(v in choices for v in values)
    bound = _sortable(wanted)
    if operator == "EQUAL":
        return lambda entity: bound in _sort_values(entity, name)
    if operator == "NOT_EQUAL":
        return lambda entity: any(value != bound for value in _sort_values(entity, name))
    compare: dict[str, Callable[[Any], bool]] = {
        "LESS_THAN": lambda value: value < bound,
        "LESS_THAN_OR_EQUAL": lambda value: value <= bound,
        "GREATER_THAN": lambda value: value > bound,
        "GREATER_THAN_OR_EQUAL": lambda value: value >= bound,
    }
    if operator not in compare:
        raise invalid(f"filter on {name}: no operator")
    test = compare[operator]
    # An inequality stays within the type of its bound.
    return lambda entity: any(value[0] == bound[0] and test(value) for value in _sort_values(entity, name))


def _properties(tree: Any) -> tuple[set[str], set[str]]:
    """The properties that a filter compares for equality, and the others."""
    if tree.WhichOneof("filter_type") == "composite_filter":
        equal: set[str] = set()
        unequal: set[str] = set()
        for one in tree.composite_filter.filters:
            more_equal, more_unequal = _properties(one)
            equal |= more_equal
            unequal |= more_unequal
        return equal, unequal
    name = tree.property_filter.property.name
    operator = PropertyFilter.Operator.Name(tree.property_filter.op)
    return ({name}, set()) if operator in ("EQUAL", "IN", "HAS_ANCESTOR") else (set(), {name})


def build(context: Context) -> Api:
    """Datastore on loopback."""
    store = Store(context.folder("datastore") / "state.sqlite", SCHEMA)
    service = Datastore(store)

    async def stop() -> None:
        store.close()

    return Api(rpcs=surfaces(DatastoreClient, DatastoreAdminClient), handlers=[service, service.operations], stop=stop)


if __name__ == "__main__":
    main("datastore", build)
