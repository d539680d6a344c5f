"""What every server does alike: both protocols, refusals by name, faults that count, loopback only."""

import asyncio
import gc
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import google.api_core.exceptions as errors
import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.pubsub_v1 import PublisherClient, types

from laptop.errors import not_found
from laptop.secret import HEADER
from laptop.service import Api, Server, ends_with_its_caller, surfaces
from tests.laptop.slow import dripped
from tests.support import eventually

SECRET = "a secret"
JSON = {"Content-Type": "application/json", HEADER: SECRET}


class Handler:
    """Answers some RPCs of Publisher."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.begun: list[str] = []
        self.ended: list[str] = []

    async def create_topic(self, request: Any) -> Any:
        """Echo."""
        return request

    async def update_topic(self, request: Any) -> Any:
        """Takes until the test lets it go on."""
        return await self._work("update")

    @ends_with_its_caller
    async def list_topics(self, request: Any) -> Any:
        """The same, while there is somebody who waits for it."""
        return await self._work("list")

    async def stop(self) -> None:
        """The end of the server."""
        self.ended.append("stop")

    async def _work(self, name: str) -> Any:
        self.begun.append(name)
        try:
            while not self.go_on.is_set():  # noqa: ASYNC110 - the test lets go, from a thread of its own
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.ended.append(f"{name} cancelled")
            raise
        self.ended.append(name)
        raise not_found(name)

    async def get_topic(self, request: Any) -> Any:
        """Not there, unless it breaks."""
        if request.topic.endswith("broken"):
            raise RuntimeError("a bug")
        raise not_found(request.topic)


@contextmanager
def running(handler: Handler) -> Iterator[Server]:
    """A server in a thread."""
    server = Server("sample", Api(surfaces(PublisherClient), [handler], stop=handler.stop), secret=SECRET)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    yield server
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that answers."""
    with running(Handler()) as server:
        yield server


@pytest.fixture(params=["grpc", "rest"])
def client(server: Server, request: pytest.FixtureRequest) -> PublisherClient:
    """Google's client, over either protocol."""
    transport = PublisherClient.get_transport_class(request.param)
    if request.param == "grpc":
        return PublisherClient(transport=transport(channel=grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")))
    host = f"http://127.0.0.1:{server.http_port}"
    return PublisherClient(transport=transport(host=host, credentials=AnonymousCredentials()))


def test_a_method_answers_over_both_protocols(client: PublisherClient) -> None:
    """What a handler returns arrives, labels and all."""
    topic = client.create_topic(request=types.Topic(name="projects/p/topics/t", labels={"a": "b"}))
    assert (topic.name, dict(topic.labels)) == ("projects/p/topics/t", {"a": "b"})


def test_an_error_keeps_its_code_and_text(client: PublisherClient) -> None:
    """NOT_FOUND arrives as NotFound, with the resource's name."""
    with pytest.raises(errors.NotFound, match="projects/p/topics/t"):
        client.get_topic(topic="projects/p/topics/t")


def test_a_bug_in_a_handler_is_an_internal_error_and_the_server_lives(client: PublisherClient) -> None:
    """An exception becomes INTERNAL; the next call is answered."""
    with pytest.raises(errors.InternalServerError, match="RuntimeError: a bug"):
        client.get_topic(topic="projects/p/topics/broken", retry=None)
    assert client.create_topic(name="projects/p/topics/t").name


def test_a_method_that_nobody_answers_is_refused_by_name(client: PublisherClient) -> None:
    """UNIMPLEMENTED says which method."""
    with pytest.raises(errors.MethodNotImplemented, match="DetachSubscription"):
        client.detach_subscription(request={"subscription": "projects/p/subscriptions/s"})


def abandon(server: Server, handler: Handler, name: str) -> None:
    """Begin a call that takes its time, and go."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = PublisherClient.get_transport_class("grpc")(channel=channel)
        calls = {
            "update": (stub.update_topic, types.UpdateTopicRequest()),
            "list": (stub.list_topics, types.ListTopicsRequest()),
        }
        method, request = calls[name]
        call = method.future(request)
        eventually(lambda: name in handler.begun)
        call.cancel()


def test_a_call_goes_to_its_end_without_its_caller(caplog: pytest.LogCaptureFixture) -> None:
    """What a server has begun to write it also remembers; only a call that waits for messages ends with its caller."""
    handler = Handler()
    with running(handler) as server:
        abandon(server, handler, "update")
        abandon(server, handler, "list")
        eventually(lambda: handler.ended)
        handler.go_on.set()
        eventually(lambda: len(handler.ended) == 2)
    assert handler.ended == ["list cancelled", "update", "stop"]
    gc.collect()  # a task that nobody asks for its error says so when it goes
    assert caplog.text == ""


def test_a_server_stops_after_its_calls() -> None:
    """Also after one whose caller has gone: what it works with is still there."""
    handler = Handler()
    with running(handler) as server:
        abandon(server, handler, "update")
        threading.Timer(0.2, handler.go_on.set).start()
    assert handler.ended == ["update", "stop"]


def test_a_path_that_no_api_has_is_refused(server: Server) -> None:
    """Over REST and over gRPC."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}/v9/nothing", timeout=5)
    assert caught.value.code == 501
    assert json.load(caught.value)["error"]["status"] == "UNIMPLEMENTED"
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/google.pubsub.v1.Publisher/Nothing")(b"", timeout=5)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert "Nothing" in refused.value.details()


def test_an_unknown_field_or_parameter_is_refused(server: Server) -> None:
    """As Google's front end does: a typo is an error, not silence."""
    for path, body in (("projects/p/topics/t?lable=x", b"{}"), ("projects/p/topics/t", b'{"lable": {}}')):
        url = f"http://127.0.0.1:{server.http_port}/v1/{path}"
        request = urllib.request.Request(url, method="PUT", data=body, headers=JSON)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=5)
        assert caught.value.code == 400
        assert "lable" in caught.value.read().decode()


def test_a_fault_fires_as_often_as_it_was_set_and_says_so(server: Server, client: PublisherClient) -> None:
    """Two refusals, then answers; the admin endpoint counts both."""
    url = f"http://127.0.0.1:{server.http_port}/_laptop/faults"
    fault = {"rpc": "*.CreateTopic", "code": "PERMISSION_DENIED", "times": 2}
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(fault).encode(), JSON), timeout=5).close()
    for _ in range(2):
        with pytest.raises(errors.Forbidden):
            client.create_topic(name="projects/p/topics/t")
    assert client.create_topic(name="projects/p/topics/t").name
    with urllib.request.urlopen(urllib.request.Request(url, headers=JSON), timeout=5) as response:
        assert [one["fired"] for one in json.load(response)] == [2]


def test_a_server_listens_on_loopback_only(server: Server) -> None:
    """Nobody else on the network can reach it."""
    others = {
        address[4][0]
        for address in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        if not address[4][0].startswith("127.")
    }
    for address in others:
        for port in (server.http_port, server.grpc_port):
            with pytest.raises((ConnectionError, TimeoutError)):
                socket.create_connection((address, port), timeout=1)


def test_what_is_no_fault_is_refused(server: Server) -> None:
    """A typo in a fault must not make a test pass for want of a fault."""
    url = f"http://127.0.0.1:{server.http_port}/_laptop/faults"
    wrong = ({"code": "NOPE"}, {"times": "2"}, {"times": True}, {"delay_seconds": None}, {"when": 5}, {"action": []},
             {"rpc": 5}, {"id": {}})  # fmt: skip
    bodies = [json.dumps({"rpc": "*", **one}).encode() for one in wrong]
    for body in (b'{"rcp": "*"}', b"{}", b"nonsense", *bodies):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(urllib.request.Request(url, body, JSON), timeout=5)
        assert caught.value.code == 400
        assert "not a fault" in caught.value.read().decode()


# --- who is slow


def test_slow_headers_are_not_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then does not hold a connection: it is told so, and ended."""
    monkeypatch.setattr("laptop.patience.HEAD_SECONDS", 0.5)
    answer = dripped(server.http_port, b"GET /v9/nothing HTTP/1.1\r\n", b"a: ")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"headers took longer than 0.5 s" in answer


def test_a_slow_body_is_not_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a body that comes more slowly than any program sends one."""
    monkeypatch.setattr("laptop.patience.BODY_SECONDS", 0.5)
    head = f"PUT /v1/projects/p/topics/t HTTP/1.1\r\nHost: 127.0.0.1:{server.http_port}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    dripped(server.http_port, head.encode(), b" ")


def test_slow_headers_break_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the request before, which takes its time: it comes whole, and then the other is told that it is too slow."""
    monkeypatch.setattr("laptop.patience.HEAD_SECONDS", 0.2)
    handler = Handler()
    with running(handler) as server:
        head = f"PATCH /v1/projects/p/topics/t HTTP/1.1\r\nHost: 127.0.0.1:{server.http_port}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 2\r\n"
        with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as connection:
            connection.sendall(f"{head}\r\n{{}}".encode())
            eventually(lambda: handler.begun == ["update"], 10)
            connection.sendall(b"GET / HTTP/1.1\r\n")
            connection.settimeout(0.6)
            with pytest.raises(TimeoutError):
                connection.recv(1000)
            connection.settimeout(10)
            handler.go_on.set()
            answers = b"".join(iter(lambda: connection.recv(65536), b""))
    assert re.findall(rb"HTTP/1\.1 (\d+)", answers) == [b"404", b"408"]


def test_a_body_that_takes_long_but_comes_is_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large ones may take their time; so may a connection on which nothing is asked."""
    monkeypatch.setattr("laptop.patience.HEAD_SECONDS", 0.3)
    monkeypatch.setattr("laptop.patience.BODY_SECONDS", 0.3)
    monkeypatch.setattr("laptop.patience.BODY_BYTES_PER_SECOND", 1000)
    body = b'{"labels": {}}' + b" " * 5000
    head = f"PUT /v1/projects/p/topics/t HTTP/1.1\r\nHost: 127.0.0.1:{server.http_port}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as connection:
        for _ in range(2):
            time.sleep(0.6)
            connection.sendall(head.encode())
            for start in range(0, len(body), 500):
                connection.sendall(body[start : start + 500])
                time.sleep(0.1)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
