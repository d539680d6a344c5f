"""Transactions: optimistic. Nothing is locked; whoever commits first wins, and the other one is told at its commit."""

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from google.cloud.datastore_v1 import types

from laptop.errors import ServiceError, invalid
from laptop.store import Store

BeginTransactionResponse: Any = types.BeginTransactionResponse.pb()
RollbackResponse: Any = types.RollbackResponse.pb()

# https://cloud.google.com/datastore/docs/concepts/transactions
MAX_SECONDS = 270
MAX_IDLE_SECONDS = 60
Read = Callable[[str, tuple[Any, ...]], Iterable[Any]]


@dataclass
class Transaction:
    """What a transaction has read, to be found unchanged at each later read and when it commits."""

    read_only: bool
    began: float
    used: float
    entities: dict[tuple[str, str, bytes], int] = field(default_factory=dict)
    """Version by scope, kind and path; 0 for an entity that was not there."""
    kinds: dict[tuple[str, str], int] = field(default_factory=dict)
    """When something of a queried kind had changed last, by scope and kind; the kind is empty for all of them."""

    def check(self, read: Read) -> None:
        """Raise ABORTED if anything is not as it was read.

        Args:
            read: runs SQL on the state to compare with.
        """
        for one, version in self.entities.items():
            sql = "SELECT version FROM entities WHERE scope = ? AND kind = ? AND path = ?"
            if next((row["version"] for row in read(sql, one)), 0) != version:
                raise _contention()
        for (scope, kind), version in self.kinds.items():
            if last_change(read, scope, kind) != version:
                raise _contention()


class Transactions:
    """RPC handlers, and the transactions that are under way. They end with the server.

    Args:
        store: the server's.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._under_way: dict[bytes, Transaction] = {}

    async def begin_transaction(self, request: Any) -> Any:
        """Start a transaction."""
        return BeginTransactionResponse(transaction=self._begin(request.transaction_options))

    async def rollback(self, request: Any) -> Any:
        """Forget a transaction."""
        self._under_way.pop(request.transaction, None)
        return RollbackResponse()

    def reading(self, options: Any) -> tuple[Transaction | None, bytes]:
        """The transaction of a read, found to be still valid, and its id if it was begun with this read.

        Args:
            options: ReadOptions.
        """
        chosen = options.WhichOneof("consistency_type")
        if chosen == "new_transaction":
            identifier = self._begin(options.new_transaction)
            return self._under_way[identifier], identifier
        if chosen == "transaction":
            transaction = self._find(options.transaction)
            transaction.check(self._store.read)
            return transaction, b""
        if chosen == "read_time":
            raise ServiceError("UNIMPLEMENTED", "read_time is not served on a laptop (LIMITATIONS.md)")
        return None, b""

    def committing(self, identifier: bytes) -> Transaction:
        """The transaction that is about to commit; it is over, whatever the commit brings."""
        transaction = self._find(identifier)
        del self._under_way[identifier]
        return transaction

    def _begin(self, options: Any) -> bytes:
        if options.read_only.HasField("read_time"):
            raise ServiceError("UNIMPLEMENTED", "read_time is not served on a laptop (LIMITATIONS.md)")
        now = time.monotonic()
        for identifier, one in list(self._under_way.items()):
            if _expired(one, now):
                del self._under_way[identifier]
        identifier = secrets.token_bytes(16)
        self._under_way[identifier] = Transaction(options.HasField("read_only"), now, now)
        return identifier

    def _find(self, identifier: bytes) -> Transaction:
        transaction, now = self._under_way.get(identifier), time.monotonic()
        if transaction is None or _expired(transaction, now):
            raise invalid("The referenced transaction has expired or is no longer valid.")
        transaction.used = now
        return transaction


def last_change(read: Read, scope: str, kind: str) -> int:
    """The version of the last commit that changed something of a kind, or of any if ``kind`` is empty; else 0."""
    if kind:
        rows = read("SELECT version FROM kinds WHERE scope = ? AND kind = ?", (scope, kind))
    else:
        rows = read("SELECT MAX(version) AS version FROM kinds WHERE scope = ?", (scope,))
    return next((row["version"] for row in rows), None) or 0


def _expired(transaction: Transaction, now: float) -> bool:
    return now - transaction.began > MAX_SECONDS or now - transaction.used > MAX_IDLE_SECONDS


def _contention() -> ServiceError:
    return ServiceError("ABORTED", "Aborted due to cross-transaction contention: what was read has changed. Try again.")
