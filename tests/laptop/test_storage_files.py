"""The laptop's objects as files, where several work on one at a time."""

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import pytest

from laptop.storage.files import SCHEMA, Files, Found
from laptop.storage.folders import Way
from laptop.store import Store

BUCKET, NAME = "one", "busy"


class Overtaken(Files):
    """Files of which another writer's content takes an object's place just after it was found."""

    def __init__(self, root: Path, scratch: Path, store: Store) -> None:
        super().__init__(root, scratch, store)
        self.contents: list[bytes] = []

    async def find(self, bucket: str, name: str) -> Found | None:
        found = await super().find(bucket, name)
        if self.contents:
            await put(self, name, self.contents.pop(0))
        return found


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Overtaken]:
    store = Store(tmp_path / "state.sqlite", SCHEMA)
    asyncio.run(store.write(lambda it: it.execute("INSERT INTO bucket VALUES (?, '{}')", (BUCKET,))))
    yield Overtaken(tmp_path / "objects", tmp_path / "scratch", store)
    store.close()


async def put(files: Files, name: str, content: bytes) -> None:
    scratch = files.new_scratch()
    scratch.write_bytes(content)
    await files.create(BUCKET, name, scratch, {}, lambda _: None)


def test_what_is_opened_is_of_one_generation(files: Overtaken) -> None:
    """The metadata are of the content that is open, also if another one came between the two."""

    async def scenario() -> None:
        await put(files, NAME, b"first")
        files.contents = [b"second", b"other!"]  # as long as the second
        opened = await files.open(BUCKET, NAME)
        assert opened is not None
        found, file = opened
        with file:
            content = file.read()
        assert found.document["crc32c"] == crc32c_of(content)
        assert content == b"other!"

    asyncio.run(scenario())


def test_what_another_process_puts_in_its_place_is_looked_at(files: Overtaken, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spark writes past the server, also while it puts an upload there: that has other metadata."""

    monkeypatch.setattr(Way, "sync", lambda _: (files.root / BUCKET / NAME).write_bytes(b"Spark's"))

    async def scenario() -> None:
        await put(files, NAME, b"server's")
        opened = await files.open(BUCKET, NAME)
        assert opened is not None
        found, file = opened
        with file:
            content = file.read()
        assert content == b"Spark's"
        assert found.document["crc32c"] == crc32c_of(content)

    asyncio.run(scenario())


def test_no_two_files_have_the_same_time(files: Overtaken) -> None:
    """Which tells a file from the one that takes its place, also if they are as long and of the same moment."""

    async def scenario() -> None:
        await asyncio.gather(*(put(files, f"{number}", b"same") for number in range(50)))

    asyncio.run(scenario())
    times = [(files.root / BUCKET / name).stat().st_mtime_ns for name in files.names(BUCKET, "")]
    assert len(times) == len(set(times)) == 50


def crc32c_of(content: bytes) -> str:
    """As Cloud Storage writes it."""
    return base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
