"""The archive is read back as a stream."""

import json
import threading
from typing import Any

import pytest
from google.cloud import storage  # type: ignore[attr-defined]

from lunation import ledger

BUCKET = "archive"
OBJECTS = 60


@pytest.fixture
def archive(serve: Any, monkeypatch: pytest.MonkeyPatch) -> storage.Client:
    """An object a minute, with two records each."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", serve("storage").http)
    client = storage.Client(project="local-dev")
    bucket = client.create_bucket(BUCKET)
    for number in range(OBJECTS):
        lines = [json.dumps({"record_id": f"r{number:02d}.{one}"}) for one in (0, 1)]
        bucket.blob(f"archive/records/dt=2013-03-01/{number:02d}.json").upload_from_string("\n".join(lines) + "\n")
    return client


def test_few_objects_are_in_memory_at_a_time(archive: storage.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the reader is, only so many are downloaded ahead of it, and all come in order."""
    asked, lock = 0, threading.Lock()
    download = storage.Blob.download_as_bytes

    def counted(blob: storage.Blob, *arguments: Any, **options: Any) -> bytes:
        nonlocal asked
        with lock:
            asked += 1
        return download(blob, *arguments, **options)

    monkeypatch.setattr(storage.Blob, "download_as_bytes", counted)
    seen, ahead = [], []
    for number, line in enumerate(ledger.archived_lines(archive, BUCKET, "records")):
        seen.append(str(ledger.id_in(line.data)))
        ahead.append(asked - number // 2)
    assert seen == sorted(seen)
    assert len(seen) == 2 * OBJECTS
    assert max(ahead) <= ledger.OBJECTS_IN_FLIGHT


def test_a_reader_may_stop_early(archive: storage.Client) -> None:
    """What is not asked for any more is not downloaded, and no thread stays behind."""
    before = threading.active_count()
    lines = ledger.archived_lines(archive, BUCKET, "records")
    assert ledger.id_in(next(lines).data) == "r00.0"
    lines.close()  # type: ignore[attr-defined]  # it is a generator
    assert threading.active_count() == before
