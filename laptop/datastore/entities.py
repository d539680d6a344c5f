"""The tables of entities and of their indexed values, and how a commit changes both."""

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from google.cloud.datastore_v1 import types
from google.protobuf.timestamp_pb2 import Timestamp

from laptop.datastore.transactions import Read
from laptop.datastore.values import encode, indexed

Entity: Any = types.Entity.pb()
EntityResult: Any = types.EntityResult.pb()

SCHEMA = """
CREATE TABLE IF NOT EXISTS entities (
    scope TEXT NOT NULL, kind TEXT NOT NULL, path BLOB NOT NULL, version INTEGER NOT NULL,
    created REAL NOT NULL, updated REAL NOT NULL, body BLOB NOT NULL, PRIMARY KEY (scope, kind, path));
-- Each indexed value of each entity. The first column stands for scope, kind and property.
CREATE TABLE IF NOT EXISTS entries (
    property INTEGER NOT NULL, value BLOB NOT NULL, path BLOB NOT NULL, PRIMARY KEY (property, value, path)
) WITHOUT ROWID;
-- When something of a kind changed last.
CREATE TABLE IF NOT EXISTS kinds (
    scope TEXT NOT NULL, kind TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (scope, kind)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL);
INSERT OR IGNORE INTO counter VALUES (1, 1);
CREATE TABLE IF NOT EXISTS composite (id TEXT PRIMARY KEY, message BLOB NOT NULL);
"""
Entry = tuple[int, bytes, bytes]


@dataclass(frozen=True)
class Stored:
    """An entity as it is kept."""

    path: bytes
    body: bytes
    """The message, serialized in one way only: equal entities have equal bytes."""
    version: int
    created: float
    updated: float

    @cached_property
    def entity(self) -> Any:
        """The message."""
        return Entity.FromString(self.body)

    def result(self, keys_only: bool = False) -> Any:
        """As a lookup or a query gives it."""
        found = EntityResult(version=self.version)
        if keys_only:
            found.entity.key.CopyFrom(self.entity.key)
        else:
            found.entity.MergeFromString(self.body)
        found.create_time.CopyFrom(stamp(self.created))
        found.update_time.CopyFrom(stamp(self.updated))
        return found


class Changes:
    """What one commit does to the tables.

    Args:
        connection: the writer's, in its savepoint.
        version: the commit's.
        now: the commit's time, seconds since 1970.
    """

    def __init__(self, connection: sqlite3.Connection, version: int, now: float) -> None:
        self._connection = connection
        self.version = version
        self.now = now
        self._entries: dict[Entry, bool] = {}
        self._kinds: set[tuple[str, str]] = set()

    def put(self, scope: str, path: bytes, entity: Any, before: Stored | None) -> Stored:
        """Write an entity; answers it as it is now. One that is the same as before keeps its version."""
        kind = entity.key.path[-1].kind
        body = entity.SerializeToString(deterministic=True)
        if before is not None and before.body == body:
            return before
        if before is None:
            self._connection.execute(
                "INSERT INTO entities VALUES (?, ?, ?, ?, ?, ?, ?)",
                (scope, kind, path, self.version, self.now, self.now, body),
            )
        else:
            self._connection.execute(
                "UPDATE entities SET version = ?, updated = ?, body = ? WHERE scope = ? AND kind = ? AND path = ?",
                (self.version, self.now, body, scope, kind, path),
            )
            self._entries.update(dict.fromkeys(_entries(scope, kind, path, before.entity), False))
        self._entries.update(dict.fromkeys(_entries(scope, kind, path, entity), True))
        self._kinds.add((scope, kind))
        return Stored(path, body, self.version, before.created if before else self.now, self.now)

    def delete(self, scope: str, before: Stored) -> None:
        """Remove an entity."""
        kind = before.entity.key.path[-1].kind
        self._connection.execute(
            "DELETE FROM entities WHERE scope = ? AND kind = ? AND path = ?", (scope, kind, before.path)
        )
        self._entries.update(dict.fromkeys(_entries(scope, kind, before.path, before.entity), False))
        self._kinds.add((scope, kind))

    def finish(self) -> int:
        """Bring the indexes up to date; answers how many entries have changed."""
        self._connection.executemany(
            "DELETE FROM entries WHERE property = ? AND value = ? AND path = ?",
            [entry for entry, there in self._entries.items() if not there],
        )
        self._connection.executemany(
            "INSERT OR IGNORE INTO entries VALUES (?, ?, ?)",
            sorted(entry for entry, there in self._entries.items() if there),
        )
        self._connection.executemany(
            "INSERT OR REPLACE INTO kinds VALUES (?, ?, ?)", [(*one, self.version) for one in self._kinds]
        )
        return len(self._entries)


@lru_cache(10_000)
def property_number(scope: str, kind: str, name: str) -> int:
    """What stands for a property of a kind in the table of entries."""
    data = "\x00".join((scope, kind, name)).encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big", signed=True)


def read_entity(read: Read, scope: str, kind: str, path: bytes) -> Stored | None:
    """An entity, or None if it is not there."""
    sql = "SELECT * FROM entities WHERE scope = ? AND kind = ? AND path = ?"
    return next(map(stored, read(sql, (scope, kind, path))), None)


def stored(row: sqlite3.Row) -> Stored:
    """An entity from its row."""
    return Stored(row["path"], row["body"], row["version"], row["created"], row["updated"])


def stamp(seconds: float) -> Timestamp:
    """A time as messages hold it."""
    made = Timestamp()
    made.FromMicroseconds(round(seconds * 1e6))
    return made


def _entries(scope: str, kind: str, path: bytes, entity: Any) -> Iterator[Entry]:
    for name, value in indexed(entity):
        yield property_number(scope, kind, name), encode(value), path
