"""A server's store keeps what it has answered, and one bad write does not spoil its neighbours."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from laptop.store import Store
from tests.support import ROOT

SCHEMA = "CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY);"


def test_concurrent_writes_share_a_commit_and_fail_alone(tmp_path: Path) -> None:
    """Of a hundred writes at once, the one that breaks a rule fails; the others are kept."""
    store = Store(tmp_path / "state.sqlite", SCHEMA)

    async def main() -> list[object]:
        def insert(number: int) -> object:
            return store.write(lambda connection: connection.execute("INSERT INTO item VALUES (?)", (number,)).rowcount)

        numbers = [*range(99), 50]
        return await asyncio.gather(*[insert(number) for number in numbers], return_exceptions=True)

    outcomes = asyncio.run(main())
    assert [type(one) for one in outcomes].count(sqlite3.IntegrityError) == 1
    assert len(store.read("SELECT id FROM item")) == 99
    store.close()


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    """A process that is killed right after the answer has lost nothing."""
    program = f"""
import asyncio, os, signal
from pathlib import Path
from laptop.store import Store
async def main():
    store = Store(Path({str(tmp_path / "state.sqlite")!r}), {SCHEMA!r})
    await store.write(lambda connection: connection.execute("INSERT INTO item VALUES (7)"))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    store = Store(tmp_path / "state.sqlite", SCHEMA)
    assert [row["id"] for row in store.read("SELECT id FROM item")] == [7]
    store.close()


def test_a_write_that_raises_changes_nothing(tmp_path: Path) -> None:
    """What a write did before it raised is rolled back."""
    store = Store(tmp_path / "state.sqlite", SCHEMA)

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO item VALUES (1)")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(store.write(work))
    assert not store.read("SELECT id FROM item")
    store.close()
