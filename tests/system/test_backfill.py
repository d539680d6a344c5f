"""History in files as people have them, through a deployed system."""

import codecs
import gzip
import json
import re
from pathlib import Path

import pytest

from laptop.supervisor import Supervisor
from lunation import ledger, query, runs
from lunation.backfill import backfill
from lunation.clients import Clients
from lunation.deploy import artefacts
from lunation.deploy.names import archive_bucket
from lunation.deploy.plan import apply
from lunation.deploy.table import resources
from lunation.settings import load
from tests.dataflow.conftest import record
from tests.support import eventually


@pytest.mark.system
def test_what_a_file_holds_beside_documents_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte order mark, lines that end as on Windows, packing, an array of 11 MB, UTF-16, an upload that was cut,
    nothing, a folder: one job files every document there is, and each thing that is none is told once, with its file
    and line, in the archive's dead letters. A training that comes before it says that the archive is empty."""
    monkeypatch.setattr(artefacts, "BUILD", tmp_path / "build")
    for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(variable, "")  # the clients set them; they are put back afterwards
    history = tmp_path / "history"
    (history / "folder.json").mkdir(parents=True)
    lines = [record(f"r{number}") for number in range(2000)]
    members = [json.loads(record(f"m{number}")) for number in range(55_000)]
    packed = gzip.compress(b"\r\n".join(lines[1000:]) + b"\r\n", 1)
    for name, content in {
        "a.json": codecs.BOM_UTF8 + b"\r\n".join(lines[:1000]),
        "array.json": json.dumps(members).encode(),
        "b.json": packed,
        "cut.json": packed[:-500],
        "empty.json": b"",
        "sixteen.json": record("s").decode().encode("utf-16"),
    }.items():
        (history / name).write_bytes(content)
    settings = load(use_case="flights")
    with Supervisor(tmp_path / "state") as servers:
        servers.wait_ready()
        target = settings.target("laptop").model_copy(update={"endpoints": servers.state / "endpoints.json"})
        clients = Clients(target)
        apply(resources(settings, target), clients)
        started = runs.start(clients, force=True)
        assert runs.wait(clients, started.name, 300).state.name == "FAILED"
        (failed,) = query.training_runs(clients.datastore, settings.use_case)
        cause = f"gs://{archive_bucket(target)}/archive/records has no objects, so there is nothing to train on; check"
        assert (failed.state, (failed.cause or "")[: len(cause)]) == ("FAILED", cause)
        backfill(settings, clients, records=[str(history / "*.json")], labels=[])
        eventually(lambda: len(ledger.read(clients).dead) >= 3, 60)
        assert ledger.read(clients).archived == {f"r{number}" for number in range(2000)}
        letters = [
            json.loads(line)
            for blob in clients.storage.list_blobs(archive_bucket(target), prefix="archive/dead-letters/dt=")
            for line in blob.download_as_bytes().splitlines()
        ]
    # 000000-a.json: as it lies in the bucket.
    told = {one["message_id"].rpartition("/")[2][7:].partition(":")[0]: one["reason"] for one in letters}
    assert sorted(told) == ["array.json", "cut.json", "sixteen.json"]
    assert "is a JSON array" in told["array.json"]
    assert re.search(r"is broken after line [89]\d\d \(", told["cut.json"])
    assert "is written in UTF-16" in told["sixteen.json"]
