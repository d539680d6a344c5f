"""Push: the documented request, a token that the receiver can check, and patience with an endpoint that fails."""

import base64
import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core import exceptions

from laptop.identity import Identity
from laptop.pubsub.push import MAX_PAUSE_SECONDS, MAX_WINDOW, Window
from tests.pubsub_support import Clients, Endpoint, Push, endpoint
from tests.support import ServerProcess, eventually

EMAIL = "pusher@local-dev.iam.gserviceaccount.com"
BRISK = {"minimum_backoff": {"nanos": 100_000_000}, "maximum_backoff": {"nanos": 400_000_000}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for this file; each test has a project of its own."""
    server = ServerProcess("pubsub", tmp_path_factory.mktemp("state"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def clients(server: ServerProcess) -> Iterator[Clients]:
    clients = Clients(server.grpc, f"local-{uuid.uuid4().hex[:8]}")
    yield clients
    for subscription in clients.subscriber.list_subscriptions(project=f"projects/{clients.project}"):
        clients.subscriber.delete_subscription(subscription=subscription.name)
    clients.close()


def pushed(known: Endpoint) -> list[bytes]:
    return [base64.b64decode(push.document["message"]["data"]) for push in known.pushes]


def test_request_is_the_documented_one(server: ServerProcess, clients: Clients) -> None:
    """Wrapped JSON with both spellings, the subscription, and a token for the endpoint's own URL."""
    topic = clients.topic()
    with endpoint() as known:
        config = {"push_endpoint": known.url, "oidc_token": {"service_account_email": EMAIL}}
        path = clients.subscription(topic, push_config=config)
        request = {"topic": topic, "messages": [{"data": b"\xfb\xff", "attributes": {"a": "1"}, "ordering_key": "k"}]}
        (message_id,) = clients.publisher.api.publish(request=request).message_ids
        eventually(lambda: known.pushes)
    (push,) = known.pushes
    document = push.document
    time_text = document["message"].pop("publishTime")
    assert document["message"].pop("publish_time") == time_text
    assert time_text.endswith("Z")
    assert document == {
        "message": {
            "attributes": {"a": "1"},
            "data": "+/8=",
            "messageId": message_id,
            "message_id": message_id,
            "orderingKey": "k",
        },
        "subscription": path,
    }
    assert push.path == "/projects/local-dev/topics/records"
    assert push.headers["content-type"] == "application/json"
    scheme, _, token = push.headers["authorization"].partition(" ")
    assert scheme == "Bearer"
    assert Identity(server.state).verify(token, known.url)["email"] == EMAIL


def test_audience_is_the_one_that_was_given(server: ServerProcess, clients: Clients) -> None:
    """A front door behind several paths checks one audience."""
    topic = clients.topic()
    with endpoint() as known:
        token = {"service_account_email": EMAIL, "audience": "https://front.door"}
        clients.subscription(topic, push_config={"push_endpoint": known.url, "oidc_token": token})
        clients.publish(topic, b"m")
        (push,) = eventually(lambda: known.pushes)
    text = push.headers["authorization"].removeprefix("Bearer ")
    assert Identity(server.state).verify(text, "https://front.door")


def test_message_of_attributes_has_no_data(clients: Clients) -> None:
    """Empty fields are left out, and without a service account there is no token."""
    topic = clients.topic()
    with endpoint() as known:
        clients.subscription(topic, push_config={"push_endpoint": known.url})
        clients.publish(topic, b"", only="attributes")
        (push,) = eventually(lambda: known.pushes)
    assert "data" not in push.document["message"]
    assert "orderingKey" not in push.document["message"]
    assert "deliveryAttempt" not in push.document
    assert "authorization" not in push.headers


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_success_acknowledges(clients: Clients, status: int) -> None:
    """The message is settled: it does not come back when the subscription is pulled later."""
    topic = clients.topic()
    with endpoint(lambda _: status) as known:
        path = clients.subscription(topic, push_config={"push_endpoint": known.url})
        clients.publish(topic, b"m")
        eventually(lambda: known.pushes)
        clients.publish(topic, b"n")
        eventually(lambda: len(known.pushes) == 2)
    clients.subscriber.modify_push_config(subscription=path, push_config={})
    assert eventually(lambda: clients.pull(path) == [])
    assert pushed(known) == [b"m", b"n"]


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503, 301, 206])
def test_anything_else_is_delivered_again(clients: Clients, status: int) -> None:
    """With the backoff of the retry policy, until it is acknowledged."""
    topic = clients.topic()
    answers = iter([status, status, 204])
    times: list[float] = []

    def answer(_: Push) -> int:
        times.append(time.monotonic())
        return next(answers)

    with endpoint(answer) as known:
        clients.subscription(topic, push_config={"push_endpoint": known.url}, retry_policy=BRISK)
        clients.publish(topic, b"m")
        eventually(lambda: len(known.pushes) == 3)
    assert times[1] - times[0] >= 0.1
    assert times[2] - times[1] >= 0.2


def test_endpoint_that_is_down_is_probed_and_then_drained(clients: Clients, server: ServerProcess) -> None:
    """Nobody listens: few attempts, no spinning. Somebody listens again: everything arrives."""
    topic = clients.topic()
    with endpoint() as known:
        port = int(known.url.split(":")[2].split("/")[0])
    clients.subscription(topic, push_config={"push_endpoint": known.url}, retry_policy=BRISK)
    expected = [b"%d" % number for number in range(300)]
    clients.publish(topic, *expected)
    log = server.state / "pubsub.log"
    before = log.read_text().count("attempt ")
    start = time.monotonic()
    eventually(lambda: time.monotonic() - start > 2)
    assert 0 < log.read_text().count("attempt ") - before < 60
    with endpoint(port=port) as again:
        eventually(lambda: len(set(pushed(again))) == 300)


def test_hanging_endpoint_loses_the_message_after_the_ack_deadline(clients: Clients) -> None:
    """It is delivered again; the answer that comes too late does not count."""
    topic = clients.topic()
    release = threading.Event()

    def answer(_: Push) -> int:
        if len(known.pushes) == 1:
            release.wait(30)
        return 204

    with endpoint(answer) as known:
        path = clients.subscription(topic, push_config={"push_endpoint": known.url}, ack_deadline_seconds=10)
        clients.publish(topic, b"m")
        eventually(lambda: len(known.pushes) == 2, 20)
        release.set()
        clients.subscriber.modify_push_config(subscription=path, push_config={})
        assert clients.pull(path) == []


def test_refused_too_often_goes_to_the_dead_letters(clients: Clients) -> None:
    """Each push tells its attempt; the others are not held up by it."""
    topic, dead = clients.topic(), clients.topic("dead-letters")
    review = clients.subscription(dead, "review")

    def answer(push: Push) -> int:
        return 500 if push.document["message"]["data"] == base64.b64encode(b"poison").decode() else 204

    with endpoint(answer) as known:
        clients.subscription(
            topic,
            push_config={"push_endpoint": known.url},
            retry_policy=BRISK,
            dead_letter_policy={"dead_letter_topic": dead, "max_delivery_attempts": 5},
        )
        clients.publish(topic, b"poison", *[b"good%d" % number for number in range(50)])
        (forwarded,) = eventually(lambda: clients.pull(review))
        eventually(lambda: len(set(pushed(known))) == 51)
    assert forwarded.message.data == b"poison"
    assert forwarded.message.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"
    poison = [push.document for push in known.pushes if push.document["message"].get("data") == "cG9pc29u"]
    assert [document["deliveryAttempt"] for document in poison] == [1, 2, 3, 4, 5]
    assert len(known.pushes) == 55


def test_many_at_once_over_kept_connections(clients: Clients) -> None:
    """A backlog drains with up to 64 requests at the same time, once the endpoint shows that it keeps up."""
    topic = clients.topic()

    def answer(_: Push) -> int:
        time.sleep(0.02)
        return 204

    with endpoint(answer) as known:
        path = clients.subscription(topic)
        for _ in range(3):
            clients.publish(topic, *[b"m"] * 1000)
        clients.subscriber.modify_push_config(subscription=path, push_config={"push_endpoint": known.url})
        eventually(lambda: len(known.pushes) >= 3000, 60)
    assert 16 <= known.at_once <= MAX_WINDOW


def test_change_of_the_endpoint_takes_effect(clients: Clients) -> None:
    """From the next message on; an empty one makes it a pull subscription, which a push subscription is not."""
    topic = clients.topic()
    with endpoint() as one, endpoint() as two:
        path = clients.subscription(topic, push_config={"push_endpoint": one.url})
        clients.publish(topic, b"1")
        eventually(lambda: one.pushes)
        with pytest.raises(exceptions.FailedPrecondition):
            clients.pull(path)
        clients.subscriber.modify_push_config(subscription=path, push_config={"push_endpoint": two.url})
        clients.publish(topic, b"2")
        eventually(lambda: two.pushes)
        clients.subscriber.modify_push_config(subscription=path, push_config={})
        clients.publish(topic, b"3")
        assert clients.drain(path) == [b"3"]
    assert (pushed(one), pushed(two)) == ([b"1"], [b"2"])


def test_unwrapped_push_is_the_data_alone(clients: Clients) -> None:
    """With the message's metadata and attributes as headers where that is asked for."""
    topic = clients.topic()
    with endpoint() as known:
        config = {"push_endpoint": known.url, "no_wrapper": {"write_metadata": True}}
        path = clients.subscription(topic, push_config=config)
        (message_id,) = clients.publish(topic, b'{"a": 1}', colour="red", umlaut="ü")
        (push,) = eventually(lambda: known.pushes)
    assert json.loads(push.body) == {"a": 1}
    assert push.headers["colour"] == "red"
    assert "umlaut" not in push.headers
    assert push.headers["x-goog-pubsub-message-id"] == message_id
    assert push.headers["x-goog-pubsub-subscription-name"] == path


def test_fault_fails_a_push_and_tells_that_it_did(clients: Clients, server: ServerProcess) -> None:
    """A test of a consumer can lose a delivery on purpose."""
    topic = clients.topic()
    fault = server.fault(rpc="laptop.pubsub.Push", times=1)
    with endpoint() as known:
        clients.subscription(topic, push_config={"push_endpoint": known.url})
        clients.publish(topic, b"m")
        eventually(lambda: known.pushes)
    assert [row["fired"] for row in server.faults() if row["id"] == fault["id"]] == [1]
    server.admin("DELETE", "/_laptop/faults")


def test_window_opens_fast_and_closes_once_for_one_trouble() -> None:
    """Doubling up to the limit; many failures of one moment halve it once."""
    window = Window()
    for _ in range(200):
        window.succeeded()
    assert window.size == MAX_WINDOW
    for _ in range(64):
        window.failed(started=1.0, now=2.0)
    assert window.size == MAX_WINDOW / 2
    assert window.pause == 0


def test_window_pauses_when_nothing_succeeds() -> None:
    """Up to two seconds between probes, and none after the first success."""
    window = Window()
    moments: Any = iter(range(100))
    pauses = []
    for _ in range(8):
        started = next(moments)
        window.failed(started, next(moments))
        pauses.append(window.pause)
    assert pauses == sorted(pauses)
    assert pauses[0] == 0.1
    assert pauses[-1] == MAX_PAUSE_SECONDS
    window.succeeded()
    assert window.pause == 0
