"""The archive as it runs here: a process with the micro-batch runner, against Pub/Sub and Storage that fail."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dataflow.conftest import Cloud, label, record
from tests.support import ROOT, eventually


class Archive:
    """The pipeline in a process of its own."""

    def __init__(self, cloud: Cloud, log: Path) -> None:
        self._cloud = cloud
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it (again)."""
        command = [sys.executable, "-m", "dataflow.launch", "--runner=laptop.micro_batch.MicroBatchRunner"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._cloud.arguments, *self._cloud.streams, "--window_seconds=3600"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )

    def log(self) -> str:
        """What it said."""
        return self._log.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; answers the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(30)

    def close(self) -> None:
        """Leave nothing behind."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def archive(cloud: Cloud, tmp_path: Path) -> Iterator[Archive]:
    """The pipeline, not started."""
    made = Archive(cloud, tmp_path / "archive.log")
    yield made
    made.close()


def fired(server: object, fault: dict) -> int:
    """How often a fault has fired."""
    return next(one["fired"] for one in server.faults() if one["id"] == fault["id"])  # type: ignore[attr-defined]


def ids(lines: list[bytes]) -> list[str]:
    """The record ids of archived lines, in order."""
    return sorted(json.loads(line)["record_id"] for line in lines)


def test_all_three_topics_are_filed(cloud: Cloud, archive: Archive) -> None:
    """Records, labels and dead letters; what no one can read makes its way round into the archive as a dead letter."""
    cloud.clients.publish(cloud.topics["records"], record("good"), b"{", record("bad", event_time="soon"))
    cloud.clients.publish(cloud.topics["labels"], label("good"), label("good", label="lost"))
    archive.start()
    eventually(lambda: len(cloud.lines("dead-letters")) == 3, 30)
    assert cloud.lines("records") == [record("good")]
    assert cloud.lines("labels") == [label("good")]
    letters = [json.loads(line) for line in cloud.lines("dead-letters")]
    assert sorted(letter["topic"] for letter in letters) == ["labels", "records", "records"]
    assert {letter["unit"] for letter in letters} == {"archive"}
    assert archive.end() == 0


def test_nothing_is_acknowledged_before_it_is_written(cloud: Cloud, archive: Archive) -> None:
    """While Storage fails no message is let go, and once it works again every one is in an object."""
    failing = cloud.storage.fault(rpc="storage.objects.insert", code="PERMISSION_DENIED", times=10**6)
    settled = cloud.pubsub.fault(rpc="*.Acknowledge", action="delay", times=10**6)
    cloud.clients.publish(cloud.topics["records"], *(record(f"r{number}") for number in range(50)))
    archive.start()
    eventually(lambda: fired(cloud.storage, failing) >= 2, 40, "it is tried again")
    assert fired(cloud.pubsub, settled) == 0
    cloud.storage.admin("DELETE", "/_laptop/faults")
    eventually(lambda: fired(cloud.pubsub, settled), 40)
    assert ids(cloud.lines("records")) == sorted(f"r{number}" for number in range(50))
    assert archive.end() == 0
    assert cloud.clients.drain(cloud.subscriptions["records"]) == []


def test_a_dead_letter_that_cannot_be_published_keeps_its_message(cloud: Cloud, archive: Archive) -> None:
    """Refusing is a write like any other: without it the message comes again."""
    cloud.clients.publish(cloud.topics["records"], b"{")
    failing = cloud.pubsub.fault(rpc="*.Publish", code="PERMISSION_DENIED", times=2)
    archive.start()
    eventually(lambda: len(cloud.lines("dead-letters")) == 1, 40)
    assert fired(cloud.pubsub, failing) == 2
    assert archive.log().count("will come again") == 2


def test_what_was_written_and_not_acknowledged_is_not_doubled(cloud: Cloud, archive: Archive) -> None:
    """The same messages make the same object, so a delivery after a lost acknowledgement changes nothing."""
    lost = cloud.pubsub.fault(rpc="*.Acknowledge", code="PERMISSION_DENIED")
    cloud.clients.publish(cloud.topics["records"], *(record(f"r{number}") for number in range(50)))
    archive.start()
    eventually(lambda: fired(cloud.pubsub, lost), 30)
    (written,) = cloud.objects("records/")
    archive.end(signal.SIGKILL)
    cloud.pubsub.kill()  # and with it the leases of the killed process
    cloud.pubsub.start()
    archive.start()
    settled = cloud.pubsub.fault(rpc="*.Acknowledge", action="delay")
    eventually(lambda: fired(cloud.pubsub, settled), 30)
    assert list(cloud.objects("records/")) == [written]
    assert ids(cloud.lines("records")) == sorted(f"r{number}" for number in range(50))


def test_kill_9_in_mid_stream_loses_nothing(cloud: Cloud, archive: Archive) -> None:
    """Records are published all the while; whatever the process was doing when it died, each is in the archive."""
    published: list[str] = []
    stop = threading.Event()

    def publish() -> None:
        while not stop.wait(0.02):
            some = [f"r{len(published) + number}" for number in range(20)]
            cloud.clients.publish(cloud.topics["records"], *(record(one) for one in some))
            published.extend(some)

    def distinct() -> set[str]:
        return set(ids(cloud.lines("records")))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for _ in range(2):
            seen = len(distinct())
            archive.start()
            eventually(lambda seen=seen: len(distinct()) > seen, 30)  # type: ignore[misc]
            archive.end(signal.SIGKILL)
    finally:
        stop.set()
        thread.join()
    cloud.pubsub.kill()  # and with it the leases of the killed process
    cloud.pubsub.start()
    archive.start()
    eventually(lambda: distinct() == set(published), 40)
    assert archive.end() == 0
