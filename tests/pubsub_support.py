"""What the Pub/Sub tests share: Google's clients on one address, names, and an endpoint that messages are pushed to."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Clients:
    """Google's publisher and subscriber on ``address`` (host:port), and short names for what they make."""

    def __init__(self, address: str, project: str = "local-dev") -> None:
        self.project = project
        self.channel = grpc.insecure_channel(address, options=OPTIONS)
        self.publisher = pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=self.channel))
        self.subscriber = pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=self.channel))

    def topic(self, name: str = "records", **fields: Any) -> str:
        """Make a topic; answers its full name."""
        path = f"projects/{self.project}/topics/{name}"
        self.publisher.create_topic(request={"name": path, **fields})
        return path

    def subscription(self, topic: str, name: str = "reader", **fields: Any) -> str:
        """Make a subscription; answers its full name."""
        path = f"projects/{self.project}/subscriptions/{name}"
        self.subscriber.create_subscription(request={"name": path, "topic": topic, **fields})
        return path

    def publish(self, topic: str, *data: bytes, **attributes: str) -> list[str]:
        """Publish in one request; answers the ids."""
        messages = [{"data": one, "attributes": attributes} for one in data]
        request = pubsub_v1.types.PublishRequest(topic=topic, messages=messages)
        return list(self.publisher.api.publish(request=request).message_ids)

    def pull(self, subscription: str, count: int = 100, wait: bool = False) -> list[Any]:
        """What one pull brings."""
        request: dict[str, Any] = {"subscription": subscription, "max_messages": count, "return_immediately": not wait}
        return list(self.subscriber.pull(request=request, timeout=20).received_messages)

    def acknowledge(self, subscription: str, messages: list[Any]) -> None:
        """Acknowledge what was pulled."""
        self.subscriber.acknowledge(subscription=subscription, ack_ids=[message.ack_id for message in messages])

    def nack(self, subscription: str, messages: list[Any]) -> None:
        """Give back what was pulled."""
        self.subscriber.modify_ack_deadline(
            subscription=subscription, ack_ids=[message.ack_id for message in messages], ack_deadline_seconds=0
        )

    def drain(self, subscription: str) -> list[bytes]:
        """Pull and acknowledge until nothing is left; answers the data in the order it came."""
        found: list[bytes] = []
        while messages := self.pull(subscription, 1000):
            found += [message.message.data for message in messages]
            self.acknowledge(subscription, messages)
        return found

    def close(self) -> None:
        """Close the connection."""
        self.channel.close()


@dataclass
class Push:
    """One request that the endpoint got."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Endpoint:
    """An HTTP server that remembers what was posted and answers what ``answer`` returns for it."""

    url: str = ""
    answer: Callable[[Push], int] = lambda _: 204
    pushes: list[Push] = field(default_factory=list)
    at_once: int = 0
    """How many requests were under way at the same time, at most."""


@contextmanager
def endpoint(answer: Callable[[Push], int] = lambda _: 204, port: int = 0) -> Iterator[Endpoint]:
    """An :class:`Endpoint` on a free port, or on a given one."""
    known = Endpoint(answer=answer)
    lock = threading.Lock()
    under_way = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            nonlocal under_way
            body = self.rfile.read(int(self.headers["Content-Length"]))
            push = Push(self.path, {key.lower(): value for key, value in self.headers.items()}, body)
            with lock:
                under_way += 1
                known.at_once = max(known.at_once, under_way)
                known.pushes.append(push)
            try:
                status = known.answer(push)
            finally:
                with lock:
                    under_way -= 1
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Be quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server(("127.0.0.1", port), Handler)
    known.url = f"http://127.0.0.1:{server.server_port}/projects/local-dev/topics/records"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
