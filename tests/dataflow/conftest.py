"""What the archive's tests share: Pub/Sub and Storage on loopback, as the official clients find them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud import storage

from tests.pubsub_support import Clients
from tests.support import ServerProcess

PROJECT = "local-dev"
BUCKET = "kept"
RECORD: dict[str, Any] = {
    "record_id": "r1",
    "event_time": "2013-01-31T10:15:00Z",
    "features": {
        "carrier": "UA",
        "origin": "EWR",
        "dest": "IAH",
        "sched_dep_minute": 315,
        "sched_arr_minute": 499,
        "weekday": 1,
        "distance": 1400,
    },
}


def record(record_id: str = "r1", **changes: Any) -> bytes:
    """A good record's document, with changes."""
    return json.dumps({**RECORD, "record_id": record_id, **changes}).encode()


def label(record_id: str = "r1", **changes: Any) -> bytes:
    """A good label's document, with changes."""
    document = {"record_id": record_id, "label": "late", "event_time": "2013-01-31T12:00:00Z", **changes}
    return json.dumps(document).encode()


class Cloud:
    """Both servers with their clients, a topic and a subscription of each kind, and an empty bucket."""

    def __init__(self, pubsub: ServerProcess, storage_server: ServerProcess, name: str) -> None:
        self.pubsub = pubsub
        self.storage = storage_server
        self.clients = Clients(pubsub.grpc)
        self.bucket = storage.Client(project=PROJECT).create_bucket(f"{BUCKET}-{name}")
        self.topics = {topic: self.clients.topic(f"{topic}-{name}") for topic in ("records", "labels", "dead-letters")}
        self.subscriptions = {
            topic: self.clients.subscription(path, f"{topic}-{name}", ack_deadline_seconds=60)
            for topic, path in self.topics.items()
        }

    @property
    def arguments(self) -> list[str]:
        """The launcher's arguments that every run needs."""
        return [
            f"--project={PROJECT}",
            f"--archive_bucket={self.bucket.name}",
            f"--dead_letters_topic={self.topics['dead-letters']}",
        ]

    @property
    def streams(self) -> list[str]:
        """The launcher's arguments that name the subscriptions."""
        return [
            f"--{topic.replace('-', '_')}_subscription={subscription}"
            for topic, subscription in self.subscriptions.items()
        ]

    def objects(self, topic: str = "") -> dict[str, list[bytes]]:
        """The lines of each object in the archive, by its name."""
        blobs = self.bucket.client.list_blobs(self.bucket.name, prefix=f"archive/{topic}")
        return {blob.name: blob.download_as_bytes().splitlines() for blob in blobs}

    def lines(self, topic: str) -> list[bytes]:
        """Every line of a topic."""
        return [line for lines in self.objects(f"{topic}/").values() for line in lines]

    def refused(self) -> list[dict[str, Any]]:
        """The dead letters that were published and not yet taken by anyone."""
        return [json.loads(data) for data in self.clients.drain(self.subscriptions["dead-letters"])]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Pub/Sub and Storage for a module's tests, and the variables by which the official clients find them."""
    state = tmp_path_factory.mktemp("cloud")
    started = [ServerProcess(service, state) for service in ("pubsub", "storage")]
    with pytest.MonkeyPatch.context() as patch:
        try:
            for server in started:
                server.start()
            patch.setenv("PUBSUB_EMULATOR_HOST", started[0].grpc)
            patch.setenv("STORAGE_EMULATOR_HOST", started[1].http)
            yield started[0], started[1]
        finally:
            for server in started:
                server.stop()


@pytest.fixture
def cloud(servers: tuple[ServerProcess, ServerProcess], tmp_path: Path) -> Iterator[Cloud]:
    """The servers with a bucket, topics and subscriptions of this test's own."""
    made = Cloud(*servers, name=tmp_path.name.replace("_", "-").lower().rstrip("-")[-40:].strip("-"))
    yield made
    made.clients.close()
    for server in servers:
        server.admin("DELETE", "/_laptop/faults")
