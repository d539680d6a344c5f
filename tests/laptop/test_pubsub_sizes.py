"""How large requests and answers may be, with Google's client as PUBSUB_EMULATOR_HOST makes it: it takes 4 MiB."""

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import pubsub_v1

from tests.pubsub_support import Clients
from tests.support import ServerProcess, eventually

LARGEST = 10_000_000
"""Bytes of a publish request: https://cloud.google.com/pubsub/quotas#resource_limits."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for this file; each test has a project of its own."""
    server = ServerProcess("pubsub", tmp_path_factory.mktemp("state"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def clients(server: ServerProcess) -> Iterator[Clients]:
    """Clients that take any size."""
    clients = Clients(server.grpc, f"local-{uuid.uuid4().hex[:8]}")
    yield clients
    clients.close()


@pytest.fixture
def subscriber(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[pubsub_v1.SubscriberClient]:
    """Google's client as everybody gets it."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.grpc)
    with pubsub_v1.SubscriberClient() as client:
        yield client


def publish(clients: Clients, topic: str, *sizes: int) -> None:
    """Publish messages of these sizes, few at a time: a request has at most 10 MB."""
    step = max(1, LARGEST // (max(sizes) + 100))
    for start in range(0, len(sizes), min(step, 1000)):
        clients.publish(topic, *(b"x" * size for size in sizes[start : start + min(step, 1000)]))


def pull_all(subscriber: Any, path: str, sizes: list[int]) -> None:
    """Acknowledge all that is there, and add its sizes. Each pull asks for as much as it may."""
    while True:
        request = {"subscription": path, "max_messages": 1000, "return_immediately": True}
        received = subscriber.pull(request=request, timeout=20, retry=None).received_messages
        if not received:
            return
        sizes += [len(one.message.data) for one in received]
        subscriber.acknowledge(subscription=path, ack_ids=[one.ack_id for one in received])


MIXED = [100] * 50 + [2_000_000] + [6_000] * 300 + [2_000_000, 2_000_000, 4_000_000] + [100] * 50

ALMOST = [6_000] * 150 + [4_000_000] + [6_000] * 150
"""A message that fits by itself, behind some that fit as well."""


@pytest.mark.parametrize("sizes", [[6_000] * 1000, [50_000] * 200, MIXED], ids=["6 kB", "50 kB", "mixed"])
def test_a_pull_answers_what_google_s_client_takes(clients: Clients, subscriber: Any, sizes: list[int]) -> None:
    """However much is there: an answer above 4 MiB never reaches its caller, and what it held would wait for ever."""
    topic = clients.topic()
    path = clients.subscription(topic, ack_deadline_seconds=600)  # what was lost on the way would not come again
    publish(clients, topic, *sizes)
    seen: list[int] = []
    pull_all(subscriber, path, seen)
    assert sorted(seen) == sorted(sizes)


def test_a_stream_answers_what_google_s_client_takes(clients: Clients, subscriber: Any) -> None:
    """The same for a streaming pull."""
    topic = clients.topic()
    path = clients.subscription(topic, ack_deadline_seconds=600)
    publish(clients, topic, *ALMOST)
    seen: list[int] = []

    def receive(message: Any) -> None:
        seen.append(len(message.data))
        message.ack()

    future = subscriber.subscribe(path, receive)
    eventually(lambda: len(seen) >= len(ALMOST))
    future.cancel()
    future.result(10)
    assert sorted(seen) == sorted(ALMOST)


def test_the_largest_message_is_delivered_to_who_takes_it(clients: Clients) -> None:
    """10 MB less what surrounds the message; it comes alone."""
    topic = clients.topic()
    path = clients.subscription(topic)
    publish(clients, topic, 100)
    clients.publish(topic, b"x" * (LARGEST - 200))
    publish(clients, topic, 100)
    pulls = [[len(one.message.data) for one in clients.pull(path)] for _ in range(3)]
    assert pulls == [[100], [LARGEST - 200], [100]]


def test_what_does_not_get_through_is_said_and_holds_nothing_up(
    server: ServerProcess, clients: Clients, subscriber: Any
) -> None:
    """A client that takes 4 MiB loses a message of 5 MB, not its neighbours; the log tells which, and what helps."""
    topic = clients.topic()
    path = clients.subscription(topic, ack_deadline_seconds=10)
    publish(clients, topic, 100, 5_000_000, 200)
    seen: list[int] = []

    def neighbours_are_there() -> bool:
        with contextlib.suppress(exceptions.ResourceExhausted):  # "Received message larger than max"
            pull_all(subscriber, path, seen)
        return sorted(seen) == [100, 200]

    eventually(neighbours_are_there)
    # Its lease runs out, and it is delivered again.
    (again,) = eventually(lambda: clients.pull(path), 20)
    said = (server.state / "pubsub.log").read_text()
    assert f"{path}: a message of 5000" in said
    assert "2. time" in said
    assert "grpc.max_receive_message_length" in said
    clients.acknowledge(path, [again])


@pytest.mark.parametrize("call", ["acknowledge", "modify_ack_deadline"])
def test_a_request_of_ack_ids_has_half_a_mebibyte(clients: Clients, call: str) -> None:
    """As at the service: who sends more is refused, and nothing of it counts."""
    topic = clients.topic()
    path = clients.subscription(topic)
    clients.publish(topic, b"m")
    (held,) = clients.pull(path)
    more = {} if call == "acknowledge" else {"ack_deadline_seconds": 0}
    request = {"subscription": path, "ack_ids": [held.ack_id] * (512 * 1024 // len(held.ack_id)), **more}
    with pytest.raises(exceptions.InvalidArgument, match="Request payload size exceeds the limit: 524288 bytes"):
        getattr(clients.subscriber, call)(request=request)
    assert clients.pull(path) == []
    request["ack_ids"] = request["ack_ids"][: 500 * 1024 // (len(held.ack_id) + 2)]
    getattr(clients.subscriber, call)(request=request)
    assert len(clients.pull(path)) == (call == "modify_ack_deadline")


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([1] * 1001, "The value for message_count is too large. You passed 1001 in the request, but the maximum value "
         "is 1000."),
        ([10_000_000], r"The value for request_size is too large. You passed 100000\d\d in the request, but the "
         "maximum value is 10000000."),
        ([10_485_761], "Request payload size exceeds the limit: 10485760 bytes."),
    ],
)  # fmt: skip
def test_a_publish_request_has_the_service_s_size(clients: Clients, sizes: list[int], words: str) -> None:
    """In messages and in bytes; none of the messages is kept."""
    topic = clients.topic()
    path = clients.subscription(topic)
    with pytest.raises(exceptions.InvalidArgument, match=words):
        clients.publish(topic, *(b"x" * size for size in sizes))
    assert clients.pull(path) == []
    clients.publish(topic, *[b"x"] * 1000)
    assert len(clients.drain(path)) == 1000
