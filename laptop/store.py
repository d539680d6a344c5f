"""A server's state: one SQLite file in WAL mode, written by one thread that commits what waits together."""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

MAX_GROUP = 256


class Store:
    """Durable state. What a ``write`` has answered is on the disk, also after the power is cut.

    Args:
        path: the file; its folder is made.
        schema: SQL that makes the tables if they are not there.
    """

    def __init__(self, path: Path, schema: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with self._connect() as connection:
            connection.executescript(schema)
        connection.close()
        self._reader = self._connect()
        self._queue: queue.SimpleQueue[tuple[Work[Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_forever, name=f"store {path.name}", daemon=True)
        self._thread.start()

    def read(self, sql: str, parameters: tuple[Any, ...] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        """Rows of what is committed. For short queries: it runs on the caller's thread, the event loop's."""
        return self._reader.execute(sql, parameters).fetchall()

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> Iterator[sqlite3.Row]:
        """The same, one row after the other, for results that may be large. Use them up, or drop them, soon."""
        return self._reader.execute(sql, parameters)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all reads within see one and the same state. Wait for nothing in it."""
        self._reader.execute("BEGIN")
        try:
            yield
        finally:
            self._reader.execute("COMMIT")

    async def write(self, work: Work[T]) -> T:
        """Run ``work`` on the writer's connection and answer when it is committed.

        Concurrent calls share a commit, each in a savepoint of its own: one that raises is rolled back alone.
        ``work`` must neither commit nor wait for anything.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put((work, future))
        return await future

    def close(self) -> None:
        """Finish what is queued and close the file."""
        self._queue.put(None)
        self._thread.join()
        self._reader.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    def _write_forever(self) -> None:
        connection = self._connect()
        while (first := self._queue.get()) is not None:
            group = [first]
            last = False
            while len(group) < MAX_GROUP and not self._queue.empty():
                item = self._queue.get()
                if item is None:
                    last = True
                    break
                group.append(item)
            self._commit(connection, group)
            if last:
                break
        connection.close()

    def _commit(self, connection: sqlite3.Connection, group: list[tuple[Work[Any], asyncio.Future[Any]]]) -> None:
        outcomes: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for work, future in group:
                connection.execute("SAVEPOINT one")
                try:
                    outcomes.append((future, work(connection), None))
                    connection.execute("RELEASE one")
                except Exception as error:
                    connection.execute("ROLLBACK TO one")
                    connection.execute("RELEASE one")
                    outcomes.append((future, None, error))
            connection.execute("COMMIT")
        except sqlite3.Error as error:  # the disk is full, or worse: nobody in this group may be told "done"
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            outcomes = [(future, None, error) for _, future in group]
        for future, result, failure in outcomes:
            try:
                future.get_loop().call_soon_threadsafe(_settle, future, result, failure)
            except RuntimeError:
                return  # the loop is closed: the server has stopped, nobody waits any more


def _settle(future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)
