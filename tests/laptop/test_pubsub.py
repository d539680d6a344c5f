"""Topics, subscriptions and delivery through Google's own clients."""

import json
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.pubsub_v1 import types
from google.cloud.pubsub_v1.subscriber import exceptions as subscriber_exceptions

from tests.pubsub_support import Clients
from tests.support import ServerProcess, eventually


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
    clients.close()


def rest(server: ServerProcess, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    request = urllib.request.Request(
        server.http + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


# --- resources


def test_topic_is_made_read_changed_listed_and_deleted(clients: Clients) -> None:
    """The life of a topic."""
    path = clients.topic("records", labels={"a": "1", "b": "2"})
    assert clients.publisher.get_topic(topic=path).labels == {"a": "1", "b": "2"}
    clients.publisher.update_topic(
        request={"topic": {"name": path, "labels": {"c": "3"}}, "update_mask": {"paths": ["labels"]}}
    )
    assert clients.publisher.get_topic(topic=path).labels == {"c": "3"}
    assert [topic.name for topic in clients.publisher.list_topics(project=f"projects/{clients.project}")] == [path]
    clients.publisher.delete_topic(topic=path)
    with pytest.raises(exceptions.NotFound):
        clients.publisher.get_topic(topic=path)


def test_lists_come_in_pages(clients: Clients) -> None:
    """A client that follows the tokens sees each resource once."""
    made = [clients.topic(f"topic-{number:02}") for number in range(7)]
    pager = clients.publisher.list_topics(request={"project": f"projects/{clients.project}", "page_size": 3})
    assert [len(page.topics) for page in pager.pages] == [3, 3, 1]
    again = clients.publisher.list_topics(request={"project": f"projects/{clients.project}", "page_size": 3})
    assert [topic.name for topic in again] == made
    assert list(clients.publisher.list_topics(project="projects/other")) == []


def test_subscription_shows_the_defaults_of_the_service(clients: Clients) -> None:
    """What was not given is filled in, so that a plan that compares sees what the cloud would show."""
    path = clients.subscription(clients.topic())
    found = clients.subscriber.get_subscription(subscription=path)
    assert found.ack_deadline_seconds == 10
    assert found.message_retention_duration.total_seconds() == 7 * 86400
    assert found.expiration_policy.ttl.total_seconds() == 31 * 86400
    assert found.state == types.Subscription.State.ACTIVE


def test_subscription_that_never_expires_stays_so(clients: Clients) -> None:
    """An expiration policy without a time is not the default one."""
    path = clients.subscription(clients.topic(), expiration_policy={})
    found = types.Subscription.pb(clients.subscriber.get_subscription(subscription=path))
    assert found.HasField("expiration_policy")
    assert not found.expiration_policy.HasField("ttl")


def test_update_changes_what_the_mask_names_and_nothing_else(clients: Clients) -> None:
    """Also a field inside a message."""
    topic = clients.topic()
    dead = clients.topic("dead-letters")
    path = clients.subscription(topic, labels={"a": "1"}, ack_deadline_seconds=20)
    body = {
        "name": path,
        "ack_deadline_seconds": 30,
        "labels": {"z": "9"},
        "dead_letter_policy": {"dead_letter_topic": dead, "max_delivery_attempts": 7},
    }
    mask = ["ack_deadline_seconds", "dead_letter_policy"]
    clients.subscriber.update_subscription(request={"subscription": body, "update_mask": {"paths": mask}})
    found = clients.subscriber.get_subscription(subscription=path)
    assert (found.ack_deadline_seconds, dict(found.labels)) == (30, {"a": "1"})
    body["dead_letter_policy"]["max_delivery_attempts"] = 9  # type: ignore[index]
    mask = ["dead_letter_policy.max_delivery_attempts"]
    clients.subscriber.update_subscription(request={"subscription": body, "update_mask": {"paths": mask}})
    policy = clients.subscriber.get_subscription(subscription=path).dead_letter_policy
    assert (policy.max_delivery_attempts, policy.dead_letter_topic) == (9, dead)


@pytest.mark.parametrize("mask", [["topic"], ["filter"], ["no_such_field"], [], ["push_config.nothing"]])
def test_update_refuses_what_cannot_be_changed(clients: Clients, mask: list[str]) -> None:
    """With INVALID_ARGUMENT, and nothing is changed."""
    path = clients.subscription(clients.topic())
    with pytest.raises(exceptions.InvalidArgument):
        clients.subscriber.update_subscription(request={"subscription": {"name": path}, "update_mask": {"paths": mask}})


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"ack_deadline_seconds": 5}, exceptions.InvalidArgument),
        ({"ack_deadline_seconds": 601}, exceptions.InvalidArgument),
        ({"message_retention_duration": {"seconds": 60}}, exceptions.InvalidArgument),
        ({"filter": "attributes.a ="}, exceptions.InvalidArgument),
        ({"push_config": {"push_endpoint": "ftp://x"}}, exceptions.InvalidArgument),
        ({"retry_policy": {"minimum_backoff": {"seconds": 601}}}, exceptions.InvalidArgument),
        ({"dead_letter_policy": {"dead_letter_topic": "projects/p/topics/none"}}, exceptions.NotFound),
        ({"bigquery_config": {"table": "p.d.t"}}, exceptions.MethodNotImplemented),
        ({"enable_message_ordering": True}, exceptions.MethodNotImplemented),
    ],
)
def test_subscription_that_cannot_be_served_is_refused(clients: Clients, fields: dict, error: type) -> None:
    """What is wrong is INVALID_ARGUMENT, what this server does not do UNIMPLEMENTED; never silently ignored."""
    topic = clients.topic()
    with pytest.raises(error):
        clients.subscription(topic, **fields)
    assert list(clients.subscriber.list_subscriptions(project=f"projects/{clients.project}")) == []


@pytest.mark.parametrize("name", ["ab", "1abc", "goog-x", "with space", "a" * 256, "x/y"])
def test_bad_names_are_refused(clients: Clients, name: str) -> None:
    """The service's rules for names hold."""
    with pytest.raises(exceptions.InvalidArgument):
        clients.topic(name)


def test_what_exists_and_what_does_not(clients: Clients) -> None:
    """ALREADY_EXISTS and NOT_FOUND where the service gives them."""
    topic = clients.topic()
    path = clients.subscription(topic)
    with pytest.raises(exceptions.AlreadyExists):
        clients.topic()
    with pytest.raises(exceptions.AlreadyExists):
        clients.subscription(topic)
    with pytest.raises(exceptions.NotFound):
        clients.subscription(f"projects/{clients.project}/topics/none", "other")
    with pytest.raises(exceptions.NotFound):
        clients.publish(f"projects/{clients.project}/topics/none", b"x")
    clients.subscriber.delete_subscription(subscription=path)
    with pytest.raises(exceptions.NotFound):
        clients.pull(path)


def test_only_one_of_several_makes_it(clients: Clients) -> None:
    """At the same moment, too: the others are told that it exists."""
    topic = clients.topic()

    def taken(make: Callable[[], str]) -> bool:
        try:
            make()
        except exceptions.AlreadyExists:
            return True
        return False

    with ThreadPoolExecutor(8) as pool:
        for name in ("one", "two", "three"):
            for make in (partial(clients.topic, name), partial(clients.subscription, topic, name)):
                assert sorted(pool.map(taken, [make] * 8)) == [False] + [True] * 7


def test_deleted_topic_leaves_its_subscription_with_its_messages(clients: Clients) -> None:
    """They can still be pulled; a topic made anew under the name is another one."""
    topic = clients.topic()
    path = clients.subscription(topic)
    clients.publish(topic, b"kept")
    clients.publisher.delete_topic(topic=topic)
    assert clients.subscriber.get_subscription(subscription=path).topic == "_deleted-topic_"
    clients.publish(clients.topic(), b"other")
    assert clients.drain(path) == [b"kept"]


def test_policies_are_kept_and_guarded_by_their_etag(clients: Clients) -> None:
    """Deploying sets bindings by read, change, write; who comes late is told."""
    topic = clients.topic()
    policy = clients.publisher.get_iam_policy(request={"resource": topic})
    policy.bindings.add(role="roles/pubsub.publisher", members=["serviceAccount:a@b"])
    clients.publisher.set_iam_policy(request={"resource": topic, "policy": policy})
    stored = clients.publisher.get_iam_policy(request={"resource": topic})
    assert [(binding.role, list(binding.members)) for binding in stored.bindings] == [
        ("roles/pubsub.publisher", ["serviceAccount:a@b"])
    ]
    with pytest.raises(exceptions.Aborted):
        clients.publisher.set_iam_policy(request={"resource": topic, "policy": policy})
    with pytest.raises(exceptions.NotFound):
        clients.publisher.get_iam_policy(request={"resource": f"{topic}-none"})


# --- messages


def test_what_is_published_is_pulled_once_and_acknowledged(clients: Clients) -> None:
    """Data, attributes, ordering key, id and time arrive as they were given."""
    topic = clients.topic()
    path = clients.subscription(topic)
    request = {"topic": topic, "messages": [{"data": b"\x00\xff", "attributes": {"a": "1"}, "ordering_key": "k"}]}
    (message_id,) = clients.publisher.api.publish(request=request).message_ids
    (received,) = clients.pull(path)
    message = received.message
    assert (message.data, dict(message.attributes), message.ordering_key) == (b"\x00\xff", {"a": "1"}, "k")
    assert message.message_id == message_id
    assert message.publish_time.timestamp() > 1.7e9
    assert received.delivery_attempt == 0
    assert clients.pull(path) == []
    clients.acknowledge(path, [received])
    assert clients.pull(path) == []


def test_each_subscription_gets_each_message(clients: Clients) -> None:
    """From its own beginning, at its own pace."""
    topic = clients.topic()
    early = clients.subscription(topic, "early")
    clients.publish(topic, b"1")
    late = clients.subscription(topic, "late")
    clients.publish(topic, b"2")
    assert clients.drain(early) == [b"1", b"2"]
    assert clients.drain(late) == [b"2"]


def test_message_without_a_subscription_is_not_kept(clients: Clients) -> None:
    """As in the service: a subscription starts empty."""
    topic = clients.topic()
    (first,) = clients.publish(topic, b"lost")
    path = clients.subscription(topic)
    (second,) = clients.publish(topic, b"kept")
    assert clients.drain(path) == [b"kept"]
    assert int(first) < int(second)


@pytest.mark.parametrize(
    "messages",
    [[], [{}], [{"ordering_key": "k"}], [{"data": b"x" * 10_000_001}], [{"data": b"x"}] * 1001,
     [{"data": b"x", "attributes": {"k" * 257: "v"}}], [{"data": b"x", "attributes": {"k": "v" * 1025}}]],
)  # fmt: skip
def test_publish_refuses_what_the_service_refuses(clients: Clients, messages: list) -> None:
    """Nothing of such a request is stored."""
    topic = clients.topic()
    path = clients.subscription(topic)
    with pytest.raises(exceptions.InvalidArgument):
        clients.publisher.api.publish(request={"topic": topic, "messages": messages})
    assert clients.pull(path) == []


def test_pull_waits_for_a_message(clients: Clients) -> None:
    """It answers as soon as there is one, not when its time is over."""
    topic = clients.topic()
    path = clients.subscription(topic)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(clients.pull(path, wait=True)))
    thread.start()
    clients.publish(topic, b"x")
    thread.join(4)
    assert [message.message.data for message in found] == [b"x"]


def test_message_given_back_comes_again(clients: Clients) -> None:
    """A deadline of zero is a refusal."""
    topic = clients.topic()
    path = clients.subscription(topic)
    clients.publish(topic, b"x")
    clients.nack(path, clients.pull(path))
    assert clients.drain(path) == [b"x"]


def test_foreign_ack_id_is_refused(clients: Clients) -> None:
    """An ack id is good for the subscription that gave it."""
    topic = clients.topic()
    one, two = clients.subscription(topic, "one1"), clients.subscription(topic, "two2")
    clients.publish(topic, b"x")
    messages = clients.pull(one)
    with pytest.raises(exceptions.InvalidArgument, match="invalid ack ID"):
        clients.acknowledge(two, messages)
    with pytest.raises(exceptions.InvalidArgument, match="invalid ack ID"):
        clients.subscriber.acknowledge(subscription=one, ack_ids=["nonsense"])


def test_filter_lets_through_what_matches(clients: Clients) -> None:
    """And the rest is settled, not kept."""
    topic = clients.topic()
    path = clients.subscription(topic, filter='attributes.kind = "a"')
    clients.publish(topic, b"1", b"2", kind="a")
    clients.publish(topic, b"3", kind="b")
    clients.publish(topic, b"4", kind="a")
    assert clients.drain(path) == [b"1", b"2", b"4"]


def test_failed_too_often_goes_to_the_dead_letters(clients: Clients) -> None:
    """After exactly max_delivery_attempts, with its origin in the attributes, and gone from the source."""
    topic, dead = clients.topic(), clients.topic("dead-letters")
    review = clients.subscription(dead, "review")
    path = clients.subscription(topic, dead_letter_policy={"dead_letter_topic": dead, "max_delivery_attempts": 5})
    clients.publish(topic, b"poison", colour="green")
    for attempt in range(1, 6):
        (message,) = eventually(lambda: clients.pull(path))
        assert message.delivery_attempt == attempt
        clients.nack(path, [message])
    (forwarded,) = eventually(lambda: clients.pull(review))
    attributes = dict(forwarded.message.attributes)
    assert forwarded.message.data == b"poison"
    assert attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime").endswith("+00:00")
    assert attributes == {
        "colour": "green",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": "reader",
        "CloudPubSubDeadLetterSourceSubscriptionProject": clients.project,
    }
    assert clients.pull(path) == []


def test_dead_letter_stays_while_its_topic_is_gone(clients: Clients) -> None:
    """Rather delivered once more than lost."""
    topic, dead = clients.topic(), clients.topic("dead-letters")
    path = clients.subscription(topic, dead_letter_policy={"dead_letter_topic": dead})
    clients.publisher.delete_topic(topic=dead)
    clients.publish(topic, b"poison")
    for _ in range(6):
        clients.nack(path, eventually(lambda: clients.pull(path)))
    held = eventually(lambda: clients.pull(path))
    review = clients.subscription(clients.topic("dead-letters"), "review")
    clients.nack(path, held)
    assert [message.message.data for message in eventually(lambda: clients.pull(review))] == [b"poison"]


def test_seek_to_a_time_settles_what_is_older(clients: Clients) -> None:
    """Seeking to now empties a subscription; seeking back brings what it retains."""
    topic = clients.topic()
    path = clients.subscription(topic, retain_acked_messages=True)
    clients.publish(topic, b"1", b"2")
    first = clients.pull(path)
    clients.acknowledge(path, first)
    start = first[0].message.publish_time
    clients.publish(topic, b"3")
    clients.subscriber.seek(request={"subscription": path, "time": start})
    assert clients.drain(path) == [b"1", b"2", b"3"]
    clients.publish(topic, b"4")
    clients.subscriber.seek(request={"subscription": path, "time": {"seconds": int(start.timestamp()) + 3600}})
    assert clients.drain(path) == []
    with pytest.raises(exceptions.MethodNotImplemented):
        clients.subscriber.seek(request={"subscription": path, "snapshot": "projects/local-dev/snapshots/s"})


# --- streaming pull


def test_subscriber_client_streams(clients: Clients) -> None:
    """``SubscriberClient.subscribe`` gets each message, and what it acknowledged does not come back."""
    topic = clients.topic()
    path = clients.subscription(topic)
    clients.publish(topic, *[b"%d" % number for number in range(200)])
    seen: list[bytes] = []

    def receive(message: Any) -> None:
        seen.append(message.data)
        message.ack()

    future = clients.subscriber.subscribe(path, receive)
    eventually(lambda: len(seen) == 200)
    clients.publish(topic, *[b"%d" % number for number in range(200, 300)])
    eventually(lambda: len(seen) == 300)
    future.cancel()
    future.result(10)
    assert sorted(map(int, seen)) == list(range(300))
    assert clients.pull(path) == []


def test_stream_respects_flow_control(clients: Clients) -> None:
    """A client that takes five at a time has five at a time."""
    topic = clients.topic()
    path = clients.subscription(topic)
    clients.publish(topic, *[b"m"] * 12)
    held: list[Any] = []
    future = clients.subscriber.subscribe(path, held.append, types.FlowControl(max_messages=5))
    eventually(lambda: len(held) == 5)
    assert len(clients.pull(path, 100)) == 7
    assert len(held) == 5
    for message in held:
        message.ack()
    future.cancel()
    future.result(10)


def test_nack_in_a_stream_brings_the_message_again(clients: Clients) -> None:
    """And says how often it was delivered, where a dead-letter policy asks for it."""
    topic, dead = clients.topic(), clients.topic("dead-letters")
    path = clients.subscription(topic, dead_letter_policy={"dead_letter_topic": dead, "max_delivery_attempts": 10})
    clients.publish(topic, b"m")
    attempts: list[int] = []

    def receive(message: Any) -> None:
        attempts.append(message.delivery_attempt)
        message.ack() if len(attempts) == 3 else message.nack()

    future = clients.subscriber.subscribe(path, receive)
    eventually(lambda: len(attempts) == 3)
    future.cancel()
    future.result(10)
    assert attempts == [1, 2, 3]


def test_stream_of_a_deleted_subscription_ends(clients: Clients) -> None:
    """The consumer learns that nothing more will come."""
    path = clients.subscription(clients.topic())
    future = clients.subscriber.subscribe(path, lambda message: message.ack())
    assert clients.pull(path) == []
    clients.subscriber.delete_subscription(subscription=path)
    with pytest.raises(exceptions.NotFound):
        future.result(10)


def test_exactly_once_delivery_confirms_acknowledgements(clients: Clients) -> None:
    """A consumer learns whether its acknowledgement counted; one that came too late did not."""
    topic = clients.topic()
    path = clients.subscription(topic, enable_exactly_once_delivery=True)
    clients.publish(topic, b"m")
    (first,) = clients.pull(path)
    clients.nack(path, [first])
    (second,) = eventually(lambda: clients.pull(path))
    with pytest.raises(exceptions.FailedPrecondition) as refused:
        clients.acknowledge(path, [first])
    assert refused.value.details[0].metadata == {first.ack_id: "PERMANENT_FAILURE_INVALID_ACK_ID"}
    clients.acknowledge(path, [second])

    clients.publish(topic, b"streamed")
    outcome: list[Any] = []
    future = clients.subscriber.subscribe(path, lambda message: outcome.append(message.ack_with_response().result(10)))
    eventually(lambda: outcome)
    future.cancel()
    future.result(10)
    assert outcome == [subscriber_exceptions.AcknowledgeStatus.SUCCESS]


# --- REST


def test_rest_does_the_same(server: ServerProcess) -> None:
    """Paths, camel case and base64 as documented; errors in Google's form."""
    topic, path = "/v1/projects/local-dev/topics/records", "/v1/projects/local-dev/subscriptions/reader"
    assert rest(server, "PUT", topic, {"labels": {"a": "1"}})[1]["labels"] == {"a": "1"}
    assert rest(server, "PUT", topic, {})[0] == 409
    made = rest(server, "PUT", path, {"topic": "projects/local-dev/topics/records", "ackDeadlineSeconds": 20})
    assert made[1]["messageRetentionDuration"] == "604800s"
    changed = rest(
        server, "PATCH", path, {"subscription": {"ackDeadlineSeconds": 60}, "updateMask": "ackDeadlineSeconds"}
    )
    assert changed[1]["ackDeadlineSeconds"] == 60
    ids = rest(server, "POST", f"{topic}:publish", {"messages": [{"data": "aGk=", "attributes": {"k": "v"}}]})[1]
    (pulled,) = rest(server, "POST", f"{path}:pull", {"maxMessages": 10})[1]["receivedMessages"]
    assert pulled["message"]["data"] == "aGk="
    assert pulled["message"]["messageId"] == ids["messageIds"][0]
    assert rest(server, "POST", f"{path}:acknowledge", {"ackIds": [pulled["ackId"]]}) == (200, {})
    assert rest(server, "POST", f"{path}:pull", {"maxMessages": 10, "returnImmediately": True}) == (200, {})
    assert (
        rest(server, "GET", "/v1/projects/local-dev/subscriptions")[1]["subscriptions"][0]["ackDeadlineSeconds"] == 60
    )
    status, body = rest(server, "GET", "/v1/projects/local-dev/topics/none")
    assert (status, body["error"]["status"]) == (404, "NOT_FOUND")
    status, body = rest(server, "PUT", "/v1/projects/local-dev/snapshots/snap", {})
    assert (status, body["error"]["status"]) == (501, "UNIMPLEMENTED")
