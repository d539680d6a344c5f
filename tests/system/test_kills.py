"""The deployed system while its processes die: every record arrives, each malformed one in the dead letters."""

import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
import pytest
from google.cloud import datastore
from typer.testing import CliRunner

from demo.history import malformed
from demo.traffic import publish
from laptop import secret
from laptop.supervisor import SERVICES, Supervisor
from lunation import ledger
from lunation.cli import app
from lunation.clients import Clients
from lunation.deploy import artefacts
from lunation.deploy.names import archive_bucket, models_bucket
from lunation.deploy.plan import apply
from lunation.deploy.table import resources
from lunation.ledger import archived_objects
from lunation.settings import load
from schemas import use_case
from tests.functions.doubles import models
from tests.support import eventually

UNITS = ("archive", "ingest_fast", "classify")


class Stream:
    """Publishes records without a pause, some malformed ones among them, and knows which ones were taken."""

    def __init__(self, clients: Clients) -> None:
        self.records: set[str] = set()
        self.malformed: list[str] = []
        self._clients = clients
        self._topic = f"projects/{clients.project}/topics/records"
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="stream")
        self._thread.start()

    def _run(self) -> None:
        bad = malformed(use_case("flights"), models.record("spoilt"))
        try:
            while not self._stop.wait(0.05):
                ids = [f"r{len(self.records) + number}" for number in range(5)]
                data = [json.dumps(models.record(one)).encode() for one in ids]
                publish(self._clients.publisher, self._topic, data)
                self.records.update(ids)
                if (message := next(bad, None)) is not None:
                    self.malformed += publish(self._clients.publisher, self._topic, [message])
        except Exception as error:  # raised where the stream is ended
            self._failure = error

    def end(self) -> None:
        """Stop publishing."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def some_more(self) -> None:
        """Wait until records were taken after now."""
        seen = len(self.records)
        eventually(lambda: len(self.records) > seen + 20, 60, "publishing goes on")


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """All of them."""
    monkeypatch.setattr(artefacts, "BUILD", tmp_path / "build")
    for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(variable, "")  # the clients set them; they are put back afterwards
    with Supervisor(tmp_path / "state") as running:
        running.wait_ready()
        yield running


def promote(clients: Clients) -> None:
    """Put a model into the bucket and move the pointer to it."""
    case = use_case("flights")
    files = models.folder(case, bias=0.75)
    bucket = models_bucket(clients.target)
    pointer = models.pointer(files, 1, bucket)
    for name, content in files.items():
        clients.storage.bucket(bucket).blob(f"models/{pointer.model_version}/{name}").upload_from_string(content)
    entity = datastore.Entity(clients.datastore.key("ModelPointer", case.name))
    entity.update(pointer.model_dump())
    clients.datastore.put(entity)


def function_processes(servers: Supervisor) -> list[int]:
    """The process of every instance of every function; none while one is being started."""
    try:
        url = f"{servers.endpoints['functions']['http']}/_laptop/functions"
        request = urllib.request.Request(url, headers=secret.headers(servers.state))
        with urllib.request.urlopen(request, timeout=5) as response:
            found = [one for function in json.load(response) for one in function["instances"]]
    except OSError:
        return []
    return [one["pid"] for one in found] if found and all(one["ready"] for one in found) else []


def archive_process(servers: Supervisor) -> psutil.Process | None:
    """The archive pipeline's process."""
    try:
        below = psutil.Process(servers.pid("dataflow")).children()
        return next((child for child in below if any("--archive_bucket" in part for part in child.cmdline())), None)
    except psutil.Error:
        return None


@pytest.mark.system
def test_nothing_is_lost_whatever_process_is_killed(servers: Supervisor) -> None:
    """``kill -9`` of each server, each function and the archive job, one after the other, under traffic: every
    record is in the archive, mirrored and classified, every malformed one in the dead letters of each unit. What an
    operator loses afterwards, ``lunation verify`` names and ``lunation replay`` mends."""
    settings = load()
    target = settings.target("laptop").model_copy(update={"endpoints": servers.state / "endpoints.json"})
    clients = Clients(target)
    apply(resources(settings, target), clients)
    promote(clients)
    stream = Stream(clients)
    try:
        stream.some_more()
        for process in eventually(lambda: function_processes(servers), 30):
            psutil.Process(process).kill()
            stream.some_more()
        eventually(lambda: archive_process(servers), 30).kill()
        stream.some_more()
        # Pub/Sub last: with it end the leases of what a killed process held, a minute before their time.
        for service in reversed(SERVICES):
            psutil.Process(servers.pid(service)).kill()
            stream.some_more()
            servers.wait_ready()
    finally:
        stream.end()
    expected = stream.records
    dead = {(unit, one) for unit in UNITS for one in stream.malformed}
    found: dict[str, Any] = {}

    def arrived() -> bool:
        now = ledger.read(clients)
        found["missing"] = {
            "archived": sorted(expected - now.archived),
            "mirrored": sorted(expected - now.mirrored),
            "classified": sorted(expected - now.classified),
            "dead-lettered": sorted(dead - now.dead),
        }
        found["extra"] = (now.archived | now.mirrored | now.classified) - expected
        return not any(found["missing"].values())

    try:
        eventually(arrived, 90)
    finally:
        assert found["missing"] == {"archived": [], "mirrored": [], "classified": [], "dead-lettered": []}
    assert found["extra"] == set()
    assert len(stream.malformed) == len(list(malformed(use_case("flights"), models.record())))
    lose_and_mend(clients, servers.state / "endpoints.json")


def lose_and_mend(clients: Clients, endpoints: Path) -> None:
    """Delete answers, a copy, and a whole object of the archive; the commands bring back all that somebody has."""
    variables = {"LUNATION_TARGETS__LAPTOP__ENDPOINTS": str(endpoints), "LUNATION_ARCHIVE__WINDOW_SECONDS": "1"}
    span = ["--from", "2013-01-01", "--settle", "0"]

    def lunation(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*arguments, *span], env=variables, catch_exceptions=False)
        return done.exit_code, done.stdout

    def whole() -> bool:
        return lunation("verify")[0] == 0

    eventually(whole, 30)
    client = clients.datastore
    client.delete_multi([client.key("Classification", one) for one in ("r1", "r2")])
    client.delete(client.key("Record", "r3"))
    objects = {
        blob.name: {json.loads(line)["record_id"] for line in blob.download_as_bytes().splitlines()}
        for blob in archived_objects(clients.storage, archive_bucket(clients.target), "records")
    }
    # One with a record that no other has: what came again after a kill is in two. And none with r3: gone from the
    # archive, too, nobody would have it left, and replay would rightly say so.
    often = Counter(chain.from_iterable(objects.values()))
    fit = [
        (name, ids)
        for name, ids in objects.items()
        if not ids & {"r1", "r2", "r3"} and any(often[one] == 1 for one in ids)
    ]
    assert fit, "every object of the archive has r1, r2 or r3, or nothing of its own"
    lost, unkept = fit[0]
    clients.storage.bucket(archive_bucket(clients.target)).blob(lost).delete()

    def named() -> dict[str, int]:
        code, printed = lunation("verify", "--json")
        found = json.loads(printed)
        return {} if found["under_way"] else {"code": code, **{k: v["count"] for k, v in found["missing"].items()}}

    seen = eventually(named, 30)
    assert seen["code"] == 2
    assert seen["Classification"] <= 2
    assert seen["archive"] >= len(unkept - ledger.read(clients).archived) > 0
    assert lunation("replay", "--yes")[0] == 0
    eventually(whole, 60, "all of it is there again")
