"""From a pushed record to the archive: what a shadow says lies beside what was served."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from google.cloud import datastore, storage  # type: ignore[attr-defined]
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from lunation.ledger import archived_lines, documents
from schemas import Comparison, ModelPointer, NamedModel, use_case
from tests.functions.doubles import models
from tests.functions.doubles.function_process import FunctionProcess, stage
from tests.support import ROOT, ServerProcess, eventually

CASE = use_case("flights")
PROJECT = "local-dev"
BUCKET = "local-dev-models"


@pytest.mark.system
def test_a_comparison_of_every_pushed_record_is_archived(serve, tmp_path: Path, monkeypatch) -> None:
    """The function publishes it, the archive pipeline files it by the record's date; a message that is none becomes a
    dead letter."""
    servers: dict[str, ServerProcess] = {name: serve(name) for name in ("pubsub", "datastore", "storage")}
    emulators = {
        "PUBSUB_EMULATOR_HOST": servers["pubsub"].grpc,
        "DATASTORE_EMULATOR_HOST": servers["datastore"].grpc,
        "STORAGE_EMULATOR_HOST": servers["storage"].http,
    }
    for variable, value in emulators.items():
        monkeypatch.setenv(variable, value)
    bucket = storage.Client(project=PROJECT).create_bucket(BUCKET)
    archive = storage.Client(project=PROJECT).create_bucket("archive-of-tests")
    named = []
    for run_id, bias in (("served", 0.25), ("shadow", 0.75)):
        files = models.folder(CASE, run_id=run_id, bias=bias)
        named.append(models.pointer(files, 1))
        for name, content in files.items():
            bucket.blob(f"models/{named[-1].model_version}/{name}").upload_from_string(content)
    shadow = NamedModel.model_validate(named[1].model_dump())
    pointer = ModelPointer.model_validate({**named[0].model_dump(), "shadow": shadow.model_dump()})
    store = datastore.Client(project=PROJECT)
    entity = datastore.Entity(store.key("ModelPointer", CASE.name))
    entity.update(pointer.model_dump())
    store.put(entity)

    publisher, subscriber = PublisherClient(), SubscriberClient()
    topics = {
        name: f"projects/{PROJECT}/topics/{name}"
        for name in ("records", "classifications", "comparisons", "dead-letters")
    }
    subscriptions = {name: f"projects/{PROJECT}/subscriptions/{name}" for name in topics}
    for name, topic in topics.items():
        publisher.create_topic(name=topic)
        if name != "records":
            subscriber.create_subscription(name=subscriptions[name], topic=topic)
    pipeline = subprocess.Popen(
        [
            *(sys.executable, "-m", "dataflow.launch", "--runner=laptop.micro_batch.MicroBatchRunner"),
            *(f"--project={PROJECT}", f"--comparisons_subscription={subscriptions['comparisons']}"),
            *(f"--dead_letters_topic={topics['dead-letters']}", f"--archive_bucket={archive.name}"),
            *("--window_seconds=1", "--use_case=flights"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=(tmp_path / "pipeline.log").open("wb"),
    )
    variables = {
        "PROJECT": PROJECT,
        "MODELS_BUCKET": BUCKET,
        "DATASTORE_ENDPOINT": f"http://{servers['datastore'].grpc}",
        "PUBSUB_ENDPOINT": f"http://{servers['pubsub'].grpc}",
        "STORAGE_EMULATOR_HOST": servers["storage"].http,
    }
    try:
        with FunctionProcess(stage("classify", tmp_path / "classify"), "classify_push", variables) as function:
            subscriber.create_subscription(
                request={
                    "name": subscriptions["records"],
                    "topic": topics["records"],
                    "push_config": {"push_endpoint": function.url},
                    "ack_deadline_seconds": 60,
                    "retry_policy": {"minimum_backoff": {"nanos": 100_000_000}, "maximum_backoff": {"seconds": 1}},
                }
            )
            publisher.publish(topics["comparisons"], b"none").result(10)

            def push(record_id: str) -> None:
                publisher.publish(topics["records"], json.dumps(models.record(record_id)).encode()).result(10)

            def compared() -> dict[str, Comparison]:
                lines = archived_lines(storage.Client(project=PROJECT), archive.name, "comparisons")
                return {one.record_id: one for one in documents(lines, Comparison.model_validate_json)}

            def some() -> bool:
                push("early")
                return bool(compared())

            # The first record waits for the served model, and not for the shadow.
            eventually(some, 40, "the shadow is loaded")
            expected = {f"r{number}" for number in range(100)}
            for record_id in expected:
                push(record_id)
            eventually(lambda: expected <= compared().keys(), 40, "every record is compared")
    finally:
        pipeline.send_signal(signal.SIGTERM)
        pipeline.wait(20)
        subscriber.close()
    for one in compared().values():
        assert (one.served_version, one.served_probability) == (named[0].model_version, 0.25)
        assert (one.shadow_version, one.shadow_probability) == (shadow.model_version, 0.75)
    assert {blob.name.split("/")[2] for blob in archive.list_blobs(prefix="archive/comparisons/")} == {"dt=2013-03-02"}
    response = SubscriberClient().pull(
        subscription=subscriptions["dead-letters"], max_messages=10, timeout=5, return_immediately=True, retry=None
    )
    (letter,) = [json.loads(one.message.data) for one in response.received_messages]
    assert (letter["unit"], letter["topic"]) == ("archive", "comparisons")
