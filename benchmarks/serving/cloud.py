"""The services that the functions talk to: the laptop's servers, and Google's Datastore emulator where it is."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from google.cloud import datastore, pubsub_v1, storage  # type: ignore[attr-defined]
from google.cloud.datastore.query import PropertyFilter

from benchmarks.serving.model import CASE
from laptop.children import tail
from laptop.ports import HOST, free_port
from laptop.supervisor import Supervisor
from schemas import ModelManifest, ModelPointer

PROJECT = "local-dev"
BUCKET = "local-dev-models"
TOPICS = ("records", "classifications", "dead-letters")


@dataclass(frozen=True)
class Cloud:
    """Where the services listen."""

    datastore: str
    """``host:port``, of gRPC."""
    pubsub: str
    """``host:port``, of gRPC."""
    storage: str
    """URL."""

    def settings(self) -> dict[str, str]:
        """The environment of our functions."""
        return {
            "PROJECT": PROJECT,
            "MODELS_BUCKET": BUCKET,
            "DATASTORE_ENDPOINT": f"http://{self.datastore}",
            "PUBSUB_ENDPOINT": f"http://{self.pubsub}",
            "STORAGE_EMULATOR_HOST": self.storage,
        }

    def client_settings(self) -> dict[str, str]:
        """The environment of a program that uses Google's clients as they come."""
        return {
            "PROJECT": PROJECT,
            "DATASTORE_EMULATOR_HOST": self.datastore,
            "PUBSUB_EMULATOR_HOST": self.pubsub,
            "STORAGE_EMULATOR_HOST": self.storage,
        }

    def promote(self, files: Mapping[str, bytes], generation: int = 1) -> None:
        """Put a model into the bucket and let the pointer name it."""
        version = ModelManifest.model_validate_json(files["manifest.json"]).model_version
        with _environment(self.client_settings()):
            bucket = storage.Client(project=PROJECT).bucket(BUCKET)
            for name, content in files.items():
                bucket.blob(f"models/{version}/{name}").upload_from_string(content)
            pointer = ModelPointer(
                use_case=CASE.name,
                model_version=version,
                uri=f"gs://{BUCKET}/models/{version}",
                manifest_sha256=hashlib.sha256(files["manifest.json"]).hexdigest(),
                generation=generation,
                moved_at=datetime(2013, 3, 1, tzinfo=UTC),
            )
            client = datastore.Client(project=PROJECT)
            entity = datastore.Entity(client.key("ModelPointer", CASE.name))
            entity.update(pointer.model_dump())
            client.put(entity)

    def stored(self, kind: str, prefix: str) -> int:
        """How many entities of ``kind`` have a key name that starts with ``prefix``."""
        with _environment(self.client_settings()):
            client = datastore.Client(project=PROJECT)
            query = client.query(kind=kind)
            query.keys_only()
            for operator, name in ((">=", prefix), ("<", prefix + "\uffff")):
                query.add_filter(filter=PropertyFilter("__key__", operator, client.key(kind, name)))
            return sum(1 for _ in query.fetch())


@contextlib.contextmanager
def laptop(state: Path) -> Iterator[Cloud]:
    """The laptop's servers, with the topics and the bucket."""
    with Supervisor(state, ["pubsub", "datastore", "storage"]) as servers:
        servers.wait_ready()
        cloud = Cloud(
            datastore=servers.endpoints["datastore"]["grpc"],
            pubsub=servers.endpoints["pubsub"]["grpc"],
            storage=servers.endpoints["storage"]["http"],
        )
        with _environment(cloud.client_settings()):
            storage.Client(project=PROJECT).create_bucket(BUCKET)
            publisher = pubsub_v1.PublisherClient()
            for topic in TOPICS:
                publisher.create_topic(name=publisher.topic_path(PROJECT, topic))
        yield cloud


def emulator_jar() -> Path | None:
    """Google's Datastore emulator, of the Cloud SDK whose gcloud is on the PATH."""
    gcloud = shutil.which("gcloud")
    if gcloud is None or shutil.which("java") is None:
        return None
    folder = Path(gcloud).resolve().parent.parent / "platform" / "cloud-datastore-emulator"
    jar = folder / "CloudDatastore.jar"
    return jar if jar.exists() else None


@contextlib.contextmanager
def emulator(jar: Path, folder: Path) -> Iterator[str]:
    """Google's Datastore emulator, in memory; gives its ``host:port``."""
    port = free_port()
    log = folder / "emulator.log"
    # The gcloud wrapper would leave its Java child behind, so Java is started here, as the wrapper does.
    command = ["java", "-Xmx1g", "-cp", str(jar), "com.google.cloud.datastore.emulator.CloudDatastore", "start"]
    command += [f"--host={HOST}", f"--port={port}", "--store_on_disk=false", "--consistency=1.0", str(folder / "data")]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while "is now running" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the Datastore emulator did not start:\n{tail(log)}")
            time.sleep(0.05)
        yield f"{HOST}:{port}"
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Google's clients read where the servers are from the environment."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
