"""Commits: mutations checked, then applied: all or nothing in a transaction, one after the other without."""

import sqlite3
import time
from typing import Any

from google.cloud.datastore_v1 import types

from laptop.datastore.entities import Changes, Stored, read_entity, stamp
from laptop.datastore.keys import MAX_NAME_BYTES, check_key, complete, new_id, path_of, reserved, scope_of, show
from laptop.datastore.transactions import Transaction, Transactions
from laptop.datastore.values import check_value
from laptop.errors import ServiceError, invalid, not_found
from laptop.store import Store

CommitRequest: Any = types.CommitRequest.pb()
CommitResponse: Any = types.CommitResponse.pb()
Entity: Any = types.Entity.pb()
Key: Any = types.Key.pb()
Mutation: Any = types.Mutation.pb()

# https://cloud.google.com/datastore/docs/concepts/limits
MAX_COMMIT_BYTES = 10 * 1024 * 1024
MAX_ENTITY_BYTES = 1_048_572
NON_TRANSACTIONAL = CommitRequest.Mode.Value("NON_TRANSACTIONAL")
Address = tuple[str, str, bytes]
"""Scope, kind and path."""
FAIL = Mutation.ConflictResolutionStrategy.Value("FAIL")


class Commits:
    """RPC handlers.

    Args:
        store: the server's.
        transactions: those under way.
    """

    def __init__(self, store: Store, transactions: Transactions) -> None:
        self._store = store
        self._transactions = transactions

    async def commit(self, request: Any) -> Any:
        """Write. Answers when it is on the disk.

        Without a transaction, what stands before a mutation that fails stays written, as with the service.
        """
        if request.ByteSize() > MAX_COMMIT_BYTES:
            raise invalid(f"the commit has {request.ByteSize()} bytes of {MAX_COMMIT_BYTES}: split it")
        transaction = self._transaction(request)
        for mutation in request.mutations:
            _check(request, mutation)
        addresses = [_address(request, _key_of(mutation)) for mutation in request.mutations]
        if request.mode == NON_TRANSACTIONAL:
            _check_distinct(addresses)
        response, failure = await self._store.write(
            lambda connection: _apply(connection, request, addresses, transaction)
        )
        if failure is not None:
            raise failure
        return response

    def _transaction(self, request: Any) -> Transaction | None:
        selector = request.WhichOneof("transaction_selector")
        if request.mode == NON_TRANSACTIONAL:
            if selector is not None:
                raise invalid("commit: a non-transactional commit cannot name a transaction")
            return None
        if selector is None:
            raise invalid("commit: a transactional commit needs a transaction")
        if selector == "single_use_transaction":
            if request.single_use_transaction.HasField("read_only"):
                raise invalid("commit: a read-only transaction cannot write")
            return None
        transaction = self._transactions.committing(request.transaction)
        if transaction.read_only and request.mutations:
            raise invalid("commit: a read-only transaction cannot write")
        return transaction


def _key_of(mutation: Any) -> Any:
    operation = mutation.WhichOneof("operation")
    return mutation.delete if operation == "delete" else getattr(mutation, operation).key


def _check(request: Any, mutation: Any) -> None:
    operation = mutation.WhichOneof("operation")
    if operation is None:
        raise invalid("a mutation needs an operation")
    if mutation.property_transforms:
        raise ServiceError("UNIMPLEMENTED", "property_transforms are not served on a laptop (LIMITATIONS.md)")
    if mutation.conflict_resolution_strategy and mutation.WhichOneof("conflict_detection_strategy") is None:
        raise invalid("conflict_resolution_strategy needs base_version or update_time")
    check_key(request, _key_of(mutation), must_be_complete=operation in ("update", "delete"))
    if operation == "delete":
        return
    entity = getattr(mutation, operation)
    size = entity.ByteSize()
    if size > MAX_ENTITY_BYTES:
        raise invalid(f"entity is too big: {show(entity.key)} has {size} bytes of {MAX_ENTITY_BYTES}")
    check_mask(mutation.property_mask)
    properties = entity.properties
    for name in properties:  # items() would go through Python for each
        if not name or reserved(name) or len(name.encode()) > MAX_NAME_BYTES:
            raise invalid(f'the property name "{name[:100]}" is empty, reserved or longer than {MAX_NAME_BYTES} bytes')
        check_value(name, properties[name])


def _address(request: Any, key: Any) -> Address | None:
    return (scope_of(request, key), key.path[-1].kind, path_of(key)) if complete(key) else None


def _check_distinct(addresses: list[Address | None]) -> None:
    known = [one for one in addresses if one is not None]
    if len(set(known)) != len(known):
        raise invalid("A non-transactional commit may not contain multiple mutations affecting the same entity.")


def _apply(
    connection: sqlite3.Connection, request: Any, addresses: list[Address | None], transaction: Transaction | None
) -> tuple[Any, ServiceError | None]:
    if transaction is not None:
        transaction.check(connection.execute)
    (version,) = connection.execute("UPDATE counter SET version = version + 1 RETURNING version").fetchone()
    changes = Changes(connection, version, time.time())
    response = CommitResponse()
    failure = None
    try:
        for mutation, address in zip(request.mutations, addresses, strict=True):
            _mutate(connection, changes, request, mutation, address, response.mutation_results.add())
    except ServiceError as error:
        if request.mode != NON_TRANSACTIONAL:
            raise
        failure = error
    response.index_updates = changes.finish()
    response.commit_time.CopyFrom(stamp(changes.now))
    return response, failure


def _mutate(
    connection: sqlite3.Connection,
    changes: Changes,
    request: Any,
    mutation: Any,
    address: Address | None,
    result: Any,
) -> None:
    operation = mutation.WhichOneof("operation")
    key = _key_of(mutation)
    if address is None:
        made = Key()
        made.CopyFrom(key)
        made.path[-1].id = new_id()
        key = made
        result.key.CopyFrom(key)
        address = scope_of(request, key), key.path[-1].kind, path_of(key)
    scope, kind, path = address
    before = read_entity(connection.execute, scope, kind, path)
    result.version = changes.version
    if _conflicts(mutation, before):
        if mutation.conflict_resolution_strategy == FAIL:
            raise ServiceError(
                "FAILED_PRECONDITION", f"the stored version of {show(key)} does not match the given base version"
            )
        result.conflict_detected = True
        result.version = before.version if before else changes.version
        return
    if operation == "insert" and before is not None:
        raise ServiceError("ALREADY_EXISTS", f"entity already exists: {show(key)}")
    if operation == "update" and before is None:
        raise not_found(f"no entity to update: {show(key)}")
    if operation == "delete":
        if before is not None:
            changes.delete(scope, before)
        return
    entity = getattr(mutation, operation)
    if mutation.HasField("property_mask"):
        entity = _masked(entity, before, mutation.property_mask.paths)
    entity.key.CopyFrom(key)
    entity.key.partition_id.project_id = request.project_id
    entity.key.partition_id.database_id = request.database_id
    after = changes.put(scope, path, entity, before)
    result.version = after.version
    result.create_time.CopyFrom(stamp(after.created))
    result.update_time.CopyFrom(stamp(after.updated))


def check_mask(mask: Any) -> None:
    """Refuse paths that lead into a property."""
    for path in mask.paths:
        if "." in path or "\\" in path:
            raise ServiceError(
                "UNIMPLEMENTED",
                f'property_mask "{path}": paths into a property are not served on a laptop (LIMITATIONS.md)',
            )


def _conflicts(mutation: Any, before: Stored | None) -> bool:
    detection = mutation.WhichOneof("conflict_detection_strategy")
    if detection == "base_version":
        return bool(mutation.base_version != (before.version if before else 0))
    if detection == "update_time":
        return before is None or stamp(before.updated) != mutation.update_time
    return False


def _masked(entity: Any, before: Stored | None, paths: Any) -> Any:
    merged = Entity()
    if before is not None:
        merged.CopyFrom(before.entity)
    for path in paths:
        if path in entity.properties:
            merged.properties[path].CopyFrom(entity.properties[path])
        else:
            merged.properties.pop(path, None)
    return merged
