"""One test body against our Pub/Sub server and against Google's official emulator.

Where the two differ, DIFFERENCES tells in what, and the test holds the emulator to it: should a new version of the
emulator mend it, the test says so. In each of these cases our server does what the service's documentation says.
"""

import os
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.pubsub_v1 import types

from tests.pubsub_support import Clients, endpoint
from tests.support import ServerProcess, eventually

DIFFERENCES = {
    "test_filter": "the emulator delivers what the filter excludes",
    "test_push_details": "the emulator's push bodies carry no ordering key, attempt or token",
    "test_short_ack_deadline": "the emulator takes a deadline below ten seconds",
    "test_streaming_flow_control": "the emulator keeps messages of a cancelled stream for a minute",
    "test_topic_update": "the emulator does not know the field labels",
}


def emulator_jar() -> Path | None:
    """The emulator in the Cloud SDK whose gcloud is on the PATH."""
    gcloud = shutil.which("gcloud")
    if gcloud is None or shutil.which("java") is None:
        return None
    folder = Path(gcloud).resolve().parent.parent / "platform" / "pubsub-emulator" / "lib"
    return next(iter(sorted(folder.glob("cloud-pubsub-emulator-*-all.jar"))), None)


@pytest.fixture(scope="module", params=["laptop", pytest.param("emulator", marks=pytest.mark.emulator)])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server listens."""
    folder = tmp_path_factory.mktemp("state")
    if request.param == "laptop":
        server = ServerProcess("pubsub", folder)
        server.start()
        yield server.grpc
        server.stop()
        return
    jar = emulator_jar()
    if jar is None:
        problem = "no Pub/Sub emulator: install the Cloud SDK with its component pubsub-emulator, and Java"
        pytest.fail(problem) if os.environ.get("CI") else pytest.skip(problem)
    # The gcloud wrapper would leave its Java child behind, so Java is started here, as the wrapper does.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "emulator.log"
    with log.open("w") as output:
        command = ["java", "-Xmx512m", "-jar", str(jar), "--host=127.0.0.1", f"--port={port}"]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        eventually(lambda: "Server started" in log.read_text() or process.poll() is not None, 60, "the emulator is up")
        assert process.poll() is None, log.read_text()
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def clients(address: str, request: pytest.FixtureRequest) -> Iterator[Clients]:
    name = request.node.originalname
    if name in DIFFERENCES and "emulator" in request.node.callspec.id:
        request.applymarker(pytest.mark.xfail(reason=DIFFERENCES[name], strict=True))
    clients = Clients(address, f"contract-{uuid.uuid4().hex[:8]}")
    yield clients
    clients.close()


def pulled(clients: Clients, path: str, count: int) -> list[Any]:
    """So many messages, in as many pulls as it takes."""
    found: list[Any] = []

    def enough() -> bool:
        found.extend(clients.pull(path))
        return len(found) >= count

    eventually(enough, 20, f"{count} messages")
    assert len(found) == count
    return found


def data(messages: list[Any]) -> list[bytes]:
    return sorted(message.message.data for message in messages)


def test_topic(clients: Clients) -> None:
    """Made, read, listed, deleted."""
    path = clients.topic(labels={"a": "1"})
    assert clients.publisher.get_topic(topic=path).labels == {"a": "1"}
    assert [topic.name for topic in clients.publisher.list_topics(project=f"projects/{clients.project}")] == [path]
    with pytest.raises(exceptions.AlreadyExists):
        clients.topic()
    clients.publisher.delete_topic(topic=path)
    with pytest.raises(exceptions.NotFound):
        clients.publisher.get_topic(topic=path)


def test_topic_update(clients: Clients) -> None:
    """The mask tells what changes."""
    path = clients.topic(labels={"a": "1"})
    update = {"topic": {"name": path, "labels": {"b": "2"}}, "update_mask": {"paths": ["labels"]}}
    clients.publisher.update_topic(request=update)
    assert clients.publisher.get_topic(topic=path).labels == {"b": "2"}


def test_subscription_defaults(clients: Clients) -> None:
    """Ten seconds, seven days."""
    found = clients.subscriber.get_subscription(subscription=clients.subscription(clients.topic()))
    assert found.ack_deadline_seconds == 10
    assert found.message_retention_duration.total_seconds() == 604800


def test_subscription_update(clients: Clients) -> None:
    """The mask tells what changes."""
    path = clients.subscription(clients.topic(), labels={"a": "1"})
    body = {"name": path, "ack_deadline_seconds": 33}
    clients.subscriber.update_subscription(
        request={"subscription": body, "update_mask": {"paths": ["ack_deadline_seconds"]}}
    )
    found = clients.subscriber.get_subscription(subscription=path)
    assert (found.ack_deadline_seconds, dict(found.labels)) == (33, {"a": "1"})


def test_subscriptions_of_a_topic(clients: Clients) -> None:
    """Their full names."""
    topic = clients.topic()
    paths = [clients.subscription(topic, name) for name in ("one1", "two2")]
    assert sorted(clients.publisher.list_topic_subscriptions(topic=topic)) == paths


def test_subscription_of_no_topic(clients: Clients) -> None:
    """NOT_FOUND."""
    with pytest.raises(exceptions.NotFound):
        clients.subscription(f"projects/{clients.project}/topics/none")


def test_deleted_topic(clients: Clients) -> None:
    """Its subscriptions stay and say so."""
    topic = clients.topic()
    path = clients.subscription(topic)
    clients.publisher.delete_topic(topic=topic)
    assert clients.subscriber.get_subscription(subscription=path).topic == "_deleted-topic_"


def test_short_ack_deadline(clients: Clients) -> None:
    """Below ten seconds is refused."""
    topic = clients.topic()
    with pytest.raises(exceptions.InvalidArgument):
        clients.subscription(topic, ack_deadline_seconds=5)


@pytest.mark.parametrize("name", ["ab", "goog-x", "1abc"])
def test_bad_name(clients: Clients, name: str) -> None:
    """Names obey the service's rules."""
    with pytest.raises(exceptions.InvalidArgument):
        clients.topic(name)


def test_pages(clients: Clients) -> None:
    """Each topic once."""
    made = {clients.topic(f"topic-{number}") for number in range(5)}
    listed = [
        topic.name
        for topic in clients.publisher.list_topics(request={"project": f"projects/{clients.project}", "page_size": 2})
    ]
    assert len(listed) == 5
    assert set(listed) == made


def test_message(clients: Clients) -> None:
    """Arrives as it was published."""
    topic = clients.topic()
    path = clients.subscription(topic)
    request = {"topic": topic, "messages": [{"data": b"\x00\xff", "attributes": {"a": "1"}, "ordering_key": "k"}]}
    (message_id,) = clients.publisher.api.publish(request=request).message_ids
    (received,) = pulled(clients, path, 1)
    assert received.message.data == b"\x00\xff"
    assert received.message.attributes == {"a": "1"}
    assert received.message.ordering_key == "k"
    assert received.message.message_id == message_id
    assert abs(received.message.publish_time.timestamp() - time.time()) < 60


def test_two_subscriptions(clients: Clients) -> None:
    """Each gets everything that was published since it was made."""
    topic = clients.topic()
    one = clients.subscription(topic, "one1")
    clients.publish(topic, b"1")
    two = clients.subscription(topic, "two2")
    clients.publish(topic, b"2")
    assert data(pulled(clients, one, 2)) == [b"1", b"2"]
    assert data(pulled(clients, two, 1)) == [b"2"]


def test_acknowledged_message(clients: Clients) -> None:
    """Does not come again; one that is not acknowledged is not given to a second pull while its lease runs."""
    topic = clients.topic()
    path = clients.subscription(topic)
    clients.publish(topic, b"1", b"2")
    clients.acknowledge(path, pulled(clients, path, 2))
    assert clients.pull(path) == []


def test_nack(clients: Clients) -> None:
    """Comes again, soon."""
    topic = clients.topic()
    path = clients.subscription(topic)
    clients.publish(topic, b"1")
    clients.nack(path, pulled(clients, path, 1))
    assert data(pulled(clients, path, 1)) == [b"1"]


def test_ack_deadline(clients: Clients) -> None:
    """Once it has passed the message is delivered again, to whoever asks."""
    topic = clients.topic()
    path = clients.subscription(topic, ack_deadline_seconds=10)
    clients.publish(topic, b"1")
    start = time.monotonic()
    pulled(clients, path, 1)
    assert data(pulled(clients, path, 1)) == [b"1"]
    assert time.monotonic() - start > 8


def test_empty_publish(clients: Clients) -> None:
    """A message has data or attributes."""
    topic = clients.topic()
    with pytest.raises(exceptions.InvalidArgument):
        clients.publisher.api.publish(request={"topic": topic, "messages": [{}]})


def test_publish_to_no_topic(clients: Clients) -> None:
    """NOT_FOUND."""
    with pytest.raises(exceptions.NotFound):
        clients.publish(f"projects/{clients.project}/topics/none", b"x")


def test_pull_waits(clients: Clients) -> None:
    """For the next message."""
    topic = clients.topic()
    path = clients.subscription(topic)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(clients.pull(path, wait=True)))
    thread.start()
    clients.publish(topic, b"x")
    thread.join(10)
    assert data(found) == [b"x"]


def test_unknown_ack_id(clients: Clients) -> None:
    """INVALID_ARGUMENT."""
    path = clients.subscription(clients.topic())
    with pytest.raises(exceptions.InvalidArgument):
        clients.subscriber.acknowledge(subscription=path, ack_ids=["nonsense"])


def test_filter(clients: Clients) -> None:
    """Only what matches."""
    topic = clients.topic()
    path = clients.subscription(topic, filter='attributes.kind = "a"')
    clients.publish(topic, b"no", kind="b")
    clients.publish(topic, b"yes", kind="a")
    assert data(pulled(clients, path, 1)) == [b"yes"]


def test_dead_letters(clients: Clients) -> None:
    """What failed five times is in the dead-letter topic, and no longer in the subscription."""
    topic, dead = clients.topic(), clients.topic("dead-letters")
    review = clients.subscription(dead, "review")
    path = clients.subscription(topic, dead_letter_policy={"dead_letter_topic": dead, "max_delivery_attempts": 5})
    clients.publish(topic, b"poison", colour="green")
    for attempt in range(1, 6):
        (message,) = pulled(clients, path, 1)
        assert message.delivery_attempt == attempt
        clients.nack(path, [message])
    # The emulator forwards when it would deliver for the sixth time, ours at the fifth failure.
    (forwarded,) = eventually(lambda: clients.pull(path) or clients.pull(review))
    assert forwarded.message.attributes["colour"] == "green"
    assert forwarded.message.attributes["CloudPubSubDeadLetterSourceSubscription"] == "reader"
    assert forwarded.message.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"


def test_seek_to_now(clients: Clients) -> None:
    """Empties the subscription."""
    topic = clients.topic()
    path = clients.subscription(topic)
    clients.publish(topic, b"1")
    clients.subscriber.seek(request={"subscription": path, "time": {"seconds": int(time.time()) + 60}})
    assert clients.pull(path) == []


def test_streaming(clients: Clients) -> None:
    """SubscriberClient gets what was there and what comes."""
    topic = clients.topic()
    path = clients.subscription(topic)
    clients.publish(topic, *[b"%d" % number for number in range(50)])
    seen: list[bytes] = []

    def receive(message: Any) -> None:
        seen.append(message.data)
        message.ack()

    future = clients.subscriber.subscribe(path, receive)
    eventually(lambda: len(seen) == 50)
    clients.publish(topic, b"50")
    eventually(lambda: len(seen) == 51)
    future.cancel()
    future.result(10)
    assert sorted(map(int, seen)) == list(range(51))


def test_streaming_flow_control(clients: Clients) -> None:
    """No more than asked for is outstanding."""
    topic = clients.topic()
    path = clients.subscription(topic)
    clients.publish(topic, *[b"m"] * 12)
    held: list[Any] = []
    future = clients.subscriber.subscribe(path, held.append, types.FlowControl(max_messages=5))
    eventually(lambda: len(held) == 5)
    assert len(pulled(clients, path, 7)) == 7
    assert len(held) == 5
    future.cancel()
    future.result(10)


def test_push(clients: Clients) -> None:
    """The wrapped message, until the endpoint accepts it."""
    topic = clients.topic()
    answers = iter([500, 204])
    with endpoint(lambda _: next(answers, 204)) as known:
        path = clients.subscription(topic, push_config={"push_endpoint": known.url})
        (message_id,) = clients.publish(topic, b"\xfb\xff", a="1")
        eventually(lambda: len(known.pushes) == 2, 30)
        clients.subscriber.delete_subscription(subscription=path)
    document = known.pushes[-1].document
    assert document["subscription"] == path
    assert document["message"]["data"] == "+/8="
    assert document["message"]["attributes"] == {"a": "1"}
    assert document["message"]["messageId"] == document["message"]["message_id"] == message_id
    assert document["message"]["publishTime"] == document["message"]["publish_time"]


def test_push_details(clients: Clients) -> None:
    """The ordering key, the attempt where there is a dead-letter policy, and a token where an account is named."""
    topic, dead = clients.topic(), clients.topic("dead-letters")
    with endpoint() as known:
        config = {"push_endpoint": known.url, "oidc_token": {"service_account_email": "a@b.iam.gserviceaccount.com"}}
        policy = {"dead_letter_topic": dead, "max_delivery_attempts": 5}
        path = clients.subscription(topic, push_config=config, dead_letter_policy=policy)
        clients.publisher.api.publish(request={"topic": topic, "messages": [{"data": b"m", "ordering_key": "k"}]})
        (push,) = eventually(lambda: known.pushes)
        clients.subscriber.delete_subscription(subscription=path)
    assert push.document["message"]["orderingKey"] == "k"
    assert push.document["deliveryAttempt"] == 1
    assert push.headers["authorization"].startswith("Bearer ")


def test_exactly_once(clients: Clients) -> None:
    """An acknowledgement that comes too late is refused."""
    topic = clients.topic()
    path = clients.subscription(topic, enable_exactly_once_delivery=True)
    clients.publish(topic, b"m")
    first = pulled(clients, path, 1)
    clients.nack(path, first)
    pulled(clients, path, 1)
    with pytest.raises(exceptions.GoogleAPICallError):
        clients.acknowledge(path, first)
