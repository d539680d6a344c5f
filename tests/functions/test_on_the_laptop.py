"""The functions behind real pushes: the laptop's Pub/Sub, Datastore and Storage, each in its own process."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.cloud import datastore
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.cloud.storage import Client as StorageClient

from schemas import Classification, DeadLetter, use_case
from tests.functions.doubles import models
from tests.functions.doubles.function_process import FunctionProcess, stage
from tests.support import ServerProcess, eventually

CASE = use_case("flights")
PROJECT = "local-dev"
BUCKET = "local-dev-models"
RECORDS = 200
MALFORMED = [b"not json", b"{}", json.dumps(models.record("bad", distance=-1)).encode()]


class Laptop:
    """The three servers, Google's clients to them, and the functions."""

    def __init__(self, servers: dict[str, ServerProcess], folder: Path) -> None:
        self.servers = servers
        self._folder = folder
        self._staged = 0
        self.publisher = PublisherClient()
        self.subscriber = SubscriberClient()
        self.datastore = datastore.Client(project=PROJECT)
        self.storage = StorageClient(project=PROJECT)

    def topic(self, name: str) -> str:
        """The topic's full name; created, with a subscription to pull from, if it is new."""
        path = self.publisher.topic_path(PROJECT, name)
        self.publisher.create_topic(name=path)
        self.subscriber.create_subscription(name=self.subscriber.subscription_path(PROJECT, name), topic=path)
        return path

    def function(self, unit: str, entry_point: str) -> FunctionProcess:
        """A function on these servers."""
        self._staged += 1
        folder = stage(unit, self._folder / f"{unit}-{self._staged}")
        return FunctionProcess(
            folder,
            entry_point,
            {
                "PROJECT": PROJECT,
                "MODELS_BUCKET": BUCKET,
                "DATASTORE_ENDPOINT": f"http://{self.servers['datastore'].grpc}",
                "PUBSUB_ENDPOINT": f"http://{self.servers['pubsub'].grpc}",
                "STORAGE_EMULATOR_HOST": self.servers["storage"].http,
            },
        )

    def push_to(self, function: FunctionProcess, topic: str, name: str) -> None:
        """A push subscription of the topic to the function, with quick retries."""
        self.subscriber.create_subscription(
            request={
                "name": self.subscriber.subscription_path(PROJECT, name),
                "topic": topic,
                "push_config": {"push_endpoint": function.url},
                "ack_deadline_seconds": 60,
                "retry_policy": {"minimum_backoff": {"nanos": 100_000_000}, "maximum_backoff": {"seconds": 1}},
            }
        )

    def promote(self, generation: int, bias: float) -> None:
        """Put a model into the bucket and move the pointer to it."""
        golden = [{"features": models.FEATURES, "probability": bias}]
        files = models.folder(CASE, run_id=f"run-{generation}", bias=bias, golden=golden)
        pointer = models.pointer(files, generation)
        for name, content in files.items():
            self.storage.bucket(BUCKET).blob(f"models/{pointer.model_version}/{name}").upload_from_string(content)
        entity = datastore.Entity(self.datastore.key("ModelPointer", CASE.name))
        entity.update(pointer.model_dump())
        self.datastore.put(entity)

    def stored(self, kind: str) -> dict[str, dict[str, Any]]:
        """The entities of a kind, by name."""
        return {entity.key.name: dict(entity) for entity in self.datastore.query(kind=kind).fetch()}

    def pulled(self, name: str) -> list[bytes]:
        """The messages that wait in the pull subscription, acknowledged."""
        path = self.subscriber.subscription_path(PROJECT, name)
        response = self.subscriber.pull(
            subscription=path, max_messages=1000, timeout=5, return_immediately=True, retry=None
        )
        if response.received_messages:
            ids = [message.ack_id for message in response.received_messages]
            self.subscriber.acknowledge(subscription=path, ack_ids=ids)
        return [message.message.data for message in response.received_messages]


@pytest.fixture
def laptop(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    """The servers, empty, with the bucket for models."""
    servers = {name: serve(name) for name in ("pubsub", "datastore", "storage")}
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", servers["pubsub"].grpc)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", servers["datastore"].grpc)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", servers["storage"].http)
    made = Laptop(servers, tmp_path)
    made.storage.create_bucket(BUCKET)
    yield made
    made.subscriber.close()


def collected(laptop: Laptop, subscription: str, enough: int) -> list[bytes]:
    """At least so many messages of a pull subscription."""
    found: list[bytes] = []

    def pull() -> bool:
        found.extend(laptop.pulled(subscription))
        return len(found) >= enough

    eventually(pull, 30)
    return found


def test_nothing_published_is_lost_when_datastore_and_the_functions_are_killed(laptop):
    """Each record ends in Datastore and in the topic of answers, each malformed one in the dead letters, whatever
    was in flight when the processes were killed; stored and published answers are the same."""
    laptop.promote(1, 0.75)
    records = laptop.topic("records")
    laptop.topic("classifications")
    laptop.topic("dead-letters")
    with (
        laptop.function("ingest_fast", "ingest_fast") as mirror,
        laptop.function("classify", "classify_push") as classify,
    ):
        laptop.push_to(mirror, records, "records-ingest-fast")
        laptop.push_to(classify, records, "records-classify")
        sent = [json.dumps(models.record(f"r{i}")).encode() for i in range(RECORDS)]
        for data in [*sent[: RECORDS // 2], *MALFORMED]:
            laptop.publisher.publish(records, data).result(10)
        eventually(lambda: laptop.stored("Record"))
        laptop.servers["datastore"].kill()
        for data in sent[RECORDS // 2 :]:
            laptop.publisher.publish(records, data).result(10)
        for function in (mirror, classify):
            function.kill()
        laptop.servers["datastore"].start()
        for function in (mirror, classify):
            function.start()
        eventually(lambda: len(laptop.stored("Record")) == RECORDS, 30)
        eventually(lambda: len(laptop.stored("Classification")) == RECORDS, 30)
        letters = [DeadLetter.model_validate_json(data) for data in collected(laptop, "dead-letters", 6)]
        published: dict[str, Classification] = {}

        def take() -> bool:
            for data in laptop.pulled("classifications"):
                item = Classification.model_validate_json(data)
                assert published.setdefault(item.record_id, item) == item, "two answers to one record"
            return len(published) == RECORDS

        eventually(take, 30)
    stored = laptop.stored("Classification")
    assert {name: Classification.model_validate(values) for name, values in stored.items()} == published
    mirrored = laptop.stored("Record")
    assert {values["payload"].encode() for values in mirrored.values()} == set(sent)
    assert {letter.unit for letter in letters} == {"ingest_fast", "classify"}
    assert {letter.topic for letter in letters} == {"records"}


@pytest.mark.parametrize(
    "beginning", [b'{"record_id": "large", "note": "', b"[" * 10, b"\xff"], ids=["a record", "brackets", "bytes"]
)
def test_a_message_of_nine_megabytes_is_one_dead_letter_of_each_function(laptop, beginning):
    """Across HTTP, in base64: acknowledged at the first attempt with the reason, though the payload fits into no
    letter; a record is named all the same. Its neighbours are stored and answered."""
    laptop.promote(1, 0.75)
    records = laptop.topic("records")
    laptop.topic("classifications")
    laptop.topic("dead-letters")
    with (
        laptop.function("ingest_fast", "ingest_fast") as mirror,
        laptop.function("classify", "classify_push") as classify,
    ):
        laptop.push_to(mirror, records, "records-ingest-fast")
        laptop.push_to(classify, records, "records-classify")
        large = beginning + b"x" * 9_000_000
        for data in (large, *(json.dumps(models.record(f"r{one}")).encode() for one in range(3))):
            laptop.publisher.publish(records, data).result(10)
        letters = [DeadLetter.model_validate_json(data) for data in collected(laptop, "dead-letters", 2)]
        eventually(lambda: len(laptop.stored("Record")) == len(laptop.stored("Classification")) == 3, 30)
        time.sleep(1.5)  # as long as a message that was not acknowledged takes to come again
        assert laptop.pulled("dead-letters") == []
    assert {letter.unit for letter in letters} == {"ingest_fast", "classify"}
    for letter in letters:
        assert letter.reason.startswith(f"document: the record has {len(large)} bytes; the limit is 1000000 (a message")
        assert letter.payload_base64 == ""
        assert letter.attributes == ({"record_id": "large"} if b"record_id" in beginning else {})


def test_a_model_in_the_bucket_serves_once_the_pointer_names_it(laptop):
    """503 before, then the first model, then the second, without a failed request in between."""
    with (
        laptop.function("classify", "classify_http") as function,
        httpx.Client(base_url=function.url, timeout=30) as client,
    ):
        assert client.post("/v1/classify", json=models.record()).status_code == 503
        seen: list[int] = []
        for generation, bias in ((1, 0.25), (2, 0.75)):
            laptop.promote(generation, bias)
            deadline = time.monotonic() + 30
            while True:
                answer = client.post("/v1/classify", json=models.record())
                if seen:
                    assert answer.status_code == 200
                if answer.status_code == 200:
                    given = answer.json()
                    assert given["probability"] == {1: 0.25, 2: 0.75}[given["generation"]]
                    seen.append(given["generation"])
                    if given["generation"] == generation:
                        break
                assert time.monotonic() < deadline
        assert seen == sorted(seen)


def test_what_submit_accepts_arrives_and_what_pubsub_has_not_is_never_accepted(laptop):
    """From a POST to the classification in its answer; with Pub/Sub killed in mid-stream every answer is 202 for what
    arrives in the end, or 503 with Retry-After."""
    laptop.promote(1, 0.75)
    records = laptop.topic("records")
    laptop.topic("classifications")
    laptop.topic("dead-letters")
    accepted: list[str] = []
    statuses: list[int] = []
    with (
        laptop.function("ingest_fast", "ingest_fast") as mirror,
        laptop.function("classify", "classify_push") as classify,
        laptop.function("submit", "submit") as submit,
        httpx.Client(base_url=submit.url, timeout=30) as caller,
    ):
        laptop.push_to(mirror, records, "records-ingest-fast")
        laptop.push_to(classify, records, "records-classify")
        answer = caller.post("/v1/records", params={"wait": 20}, json=models.record("first"))
        assert answer.status_code == 200
        assert answer.json()["classification"]["probability"] == 0.75
        assert caller.get("/v1/classifications/first").json() == answer.json()["classification"]
        eventually(lambda: caller.get("/v1/records/first").status_code == 200)
        assert caller.get("/v1/records/first").json()["record"] == models.record("first")

        def send(number: int) -> None:
            answer = caller.post("/v1/records", json=[models.record(f"r{number}.{one}") for one in range(5)])
            statuses.append(answer.status_code)
            if answer.status_code == 202:
                accepted.extend(one["record_id"] for one in answer.json()["results"])
            else:
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")

        for number in range(10):
            send(number)
        laptop.servers["pubsub"].kill()
        send(10)
        assert statuses[-1] == 503
        laptop.servers["pubsub"].start()

        def taken() -> bool:
            send(10 + len(statuses))
            return statuses[-1] == 202

        eventually(taken, 30)
        eventually(lambda: set(accepted) <= laptop.stored("Record").keys(), 30)
        eventually(lambda: set(accepted) <= laptop.stored("Classification").keys(), 30)
        assert len(accepted) >= 55
