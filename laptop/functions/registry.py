"""What is kept about each function, so that all serve again after ``kill -9``."""

from dataclasses import dataclass
from typing import Any

from google.cloud.functions_v2 import types

from laptop.errors import not_found
from laptop.store import Store

Function = types.Function.pb()

SCHEMA = """
CREATE TABLE IF NOT EXISTS function (
    name TEXT PRIMARY KEY,
    port INTEGER NOT NULL,     -- of the front door; never changes
    serial INTEGER NOT NULL,   -- of the newest revision
    serving BLOB,              -- the declaration that serves; NULL before the first success
    shown BLOB NOT NULL,       -- what get answers
    pending BLOB,              -- the declaration that is being deployed; NULL if none is
    operation TEXT NOT NULL);  -- the newest operation
"""


@dataclass
class Row:
    """One function."""

    name: str
    port: int
    serial: int
    serving: Any | None
    shown: Any
    pending: Any | None
    operation: str


class Registry:
    """All functions.

    Args:
        store: a store whose schema includes :data:`SCHEMA`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def rows(self) -> list[Row]:
        """All, by name."""
        return [_row(found) for found in self._store.read("SELECT * FROM function ORDER BY name")]

    def read(self, name: str) -> Row:
        """One.

        Raises:
            ServiceError: NOT_FOUND.
        """
        found = self._store.read("SELECT * FROM function WHERE name = ?", (name,))
        if not found:
            raise not_found(name)
        return _row(found[0])

    def exists(self, name: str) -> bool:
        """Whether there is one of that name."""
        return bool(self._store.read("SELECT 1 FROM function WHERE name = ?", (name,)))

    def ports(self) -> set[int]:
        """The ports that are given away."""
        return {row["port"] for row in self._store.read("SELECT port FROM function")}

    async def save(self, row: Row) -> None:
        """Keep a row as it is now."""
        values = (
            row.name,
            row.port,
            row.serial,
            None if row.serving is None else row.serving.SerializeToString(),
            row.shown.SerializeToString(),
            None if row.pending is None else row.pending.SerializeToString(),
            row.operation,
        )
        await self._store.write(
            lambda connection: connection.execute("REPLACE INTO function VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        )

    async def delete(self, name: str) -> None:
        """Forget a function and its policy."""

        def work(connection: Any) -> None:
            connection.execute("DELETE FROM function WHERE name = ?", (name,))
            connection.execute("DELETE FROM policy WHERE resource = ?", (name,))

        await self._store.write(work)


def _row(found: Any) -> Row:
    def parsed(blob: bytes | None) -> Any:
        return None if blob is None else Function.FromString(blob)

    return Row(
        found["name"],
        found["port"],
        found["serial"],
        parsed(found["serving"]),
        parsed(found["shown"]),
        parsed(found["pending"]),
        found["operation"],
    )
