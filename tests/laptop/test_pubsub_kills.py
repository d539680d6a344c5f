"""kill -9 of the server in mid-stream: nothing that it said it has is lost, nothing settled comes back."""

import base64
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.api_core import exceptions

from tests.pubsub_support import Clients, endpoint
from tests.support import ServerProcess, eventually

Serve = Callable[..., ServerProcess]
KILLS = 3


@pytest.fixture
def server(serve: Serve) -> ServerProcess:
    return serve("pubsub")


@pytest.fixture
def clients(server: ServerProcess) -> Iterator[Clients]:
    clients = Clients(server.grpc)
    yield clients
    clients.close()


class Publishing:
    """Publishes numbered batches, ``pause`` seconds apart, and knows which ones the server has confirmed."""

    def __init__(self, clients: Clients, topic: str, pause: float = 0.0) -> None:
        self._pause = pause
        self.confirmed: list[bytes] = []
        self._clients = clients
        self._topic = topic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(self._pause):
            batch = [b"%d" % one for one in range(number, number + 20)]
            number += 20
            messages = [{"data": data} for data in batch]
            try:
                self._clients.publisher.api.publish(
                    request={"topic": self._topic, "messages": messages}, retry=None, timeout=5
                )
            except exceptions.GoogleAPICallError:
                self._stop.wait(0.02)  # the server is away; what was in this batch may or may not have arrived
                continue
            self.confirmed += batch

    def finish(self) -> set[bytes]:
        """Stop, and answer what was confirmed."""
        self._stop.set()
        self._thread.join()
        return set(self.confirmed)


def kill_while_growing(server: ServerProcess, progress: Callable[[], int], kills: int = KILLS) -> None:
    """Kill and restart the server a few times, each time after some more progress."""
    for _ in range(kills):
        seen = progress()
        eventually(lambda seen=seen: progress() > seen + 100, 30)  # type: ignore[misc]
        server.kill()
        server.start()
    seen = progress()
    eventually(lambda: progress() > seen + 100, 30)


def test_every_confirmed_publish_is_delivered(server: ServerProcess, clients: Clients) -> None:
    """However often the server dies while it is published to."""
    topic = clients.topic()
    path = clients.subscription(topic)
    publishing = Publishing(clients, topic)
    kill_while_growing(server, lambda: len(publishing.confirmed))
    confirmed = publishing.finish()
    assert confirmed <= set(clients.drain(path))


def test_acknowledged_messages_do_not_come_back(server: ServerProcess, clients: Clients) -> None:
    """What was pulled and not acknowledged does, once its lease has ended with the server."""
    topic = clients.topic()
    path = clients.subscription(topic)
    everything = [b"%d" % number for number in range(3000)]
    for start in range(0, 3000, 1000):
        clients.publish(topic, *everything[start : start + 1000])
    acknowledged: set[bytes] = set()
    twice: list[bytes] = []
    for kill in range(KILLS):
        for batch in range(20):
            messages = clients.pull(path, 37)
            data = [message.message.data for message in messages]
            twice += [one for one in data if one in acknowledged]
            if batch % 3:  # every third batch stays unanswered
                clients.acknowledge(path, messages)
                acknowledged |= set(data)
        server.kill()
        server.start()
        eventually(lambda: clients.subscriber.get_subscription(subscription=path), what=f"up after kill {kill}")
    rest = clients.drain(path)
    assert twice == []
    assert set(rest) == set(everything) - acknowledged
    assert len(rest) == len(set(rest))


def test_streaming_subscriber_goes_on_over_kills(server: ServerProcess, clients: Clients) -> None:
    """SubscriberClient reconnects by itself, and gets all that was confirmed."""
    topic = clients.topic()
    path = clients.subscription(topic)
    seen: set[bytes] = set()

    def receive(message: Any) -> None:
        seen.add(message.data)
        message.ack()

    future = clients.subscriber.subscribe(path, receive)
    publishing = Publishing(clients, topic, pause=0.02)
    kill_while_growing(server, lambda: len(seen), kills=1)  # Google's client takes ten seconds to come back
    confirmed = publishing.finish()
    eventually(lambda: confirmed <= seen, 40, "everything confirmed is delivered")
    future.cancel()
    future.result(10)


def test_pushes_go_on_over_kills(server: ServerProcess, clients: Clients) -> None:
    """Without anybody asking: the server starts to push again when it is back."""
    topic = clients.topic()
    with endpoint() as known:
        clients.subscription(topic, push_config={"push_endpoint": known.url})
        publishing = Publishing(clients, topic)
        kill_while_growing(server, lambda: len(known.pushes))
        confirmed = publishing.finish()

        def arrived() -> set[bytes]:
            return {base64.b64decode(push.document["message"]["data"]) for push in list(known.pushes)}

        eventually(lambda: confirmed <= arrived(), 60, "everything confirmed is pushed")


def test_answer_lost_after_the_commit(server: ServerProcess, clients: Clients) -> None:
    """The ambiguous case: the publisher got an error, the message is there; it publishes again, nothing is lost."""
    topic = clients.topic()
    path = clients.subscription(topic)
    server.fault(rpc="google.pubsub.v1.Publisher.Publish", when="after", action="kill")
    with pytest.raises(exceptions.GoogleAPICallError):
        clients.publisher.api.publish(request={"topic": topic, "messages": [{"data": b"m"}]}, retry=None, timeout=5)
    eventually(lambda: not running(server))
    server.start()
    assert clients.drain(path) == [b"m"]


def test_ids_rise_over_a_restart(server: ServerProcess, clients: Clients) -> None:
    """No id is given twice, also when everything was drained and removed before."""
    topic = clients.topic()
    path = clients.subscription(topic)
    first = clients.publish(topic, b"a", b"b")
    clients.drain(path)
    eventually(lambda: removed(server), what="settled messages are removed from the disk")
    server.kill()
    server.start()
    (later,) = eventually(lambda: clients.publish(topic, b"c"))
    assert int(later) > max(map(int, first))
    assert clients.drain(path) == [b"c"]


def running(server: ServerProcess) -> bool:
    assert server._process is not None
    return server._process.poll() is None


def removed(server: ServerProcess) -> bool:
    """Whether no message is left in the server's file."""
    connection = sqlite3.connect(f"file:{server.state / 'pubsub' / 'pubsub.sqlite'}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT count(*) FROM messages").fetchone() == (0,)
    finally:
        connection.close()
