"""Publishing, over real gRPC."""

import asyncio

import grpc
import pytest

from functions.runtime.batcher import Batcher, Entry
from functions.runtime.channel import open_channel
from functions.runtime.errors import OverloadedError
from functions.runtime.publisher import MessageRefusedError, Publisher
from functions.runtime.rpc import RpcError

Code = grpc.StatusCode


def test_messages_share_requests_and_each_gets_its_own_id(google, run):
    """A thousand callers cost a handful of requests; each id is that of the caller's own message."""

    async def scenario() -> None:
        publisher = Publisher(open_channel(google.endpoint), "local-dev", "things")
        ids = await asyncio.gather(*(publisher.publish(f"{i}".encode(), {"n": str(i)}) for i in range(1000)))
        for number, message_id in enumerate(ids):
            topic, data, attributes = google.published[int(message_id) - 1]
            assert topic == "projects/local-dev/topics/things"
            assert (data, attributes) == (f"{number}".encode(), {"n": str(number)})
        assert len(google.publish_requests) < 5
        assert google.metadata[0]["x-goog-request-params"] == "topic=projects/local-dev/topics/things"

    run(scenario)


def test_one_bad_message_fails_only_its_own_caller(google, run):
    """Pub/Sub refuses the request whole; the others are published once each."""

    async def scenario() -> None:
        publisher = Publisher(open_channel(google.endpoint), "local-dev", "things")
        results = await asyncio.gather(
            *(publisher.publish(b"x", {"poison": "1"} if i == 5 else {"n": str(i)}) for i in range(20)),
            return_exceptions=True,
        )
        assert isinstance(results[5], MessageRefusedError)
        assert sum(isinstance(result, str) for result in results) == 19
        assert len(google.published) == 19

    run(scenario)


def test_a_message_over_the_limit_is_refused_before_it_is_sent(google, run):
    """More than 10 MB never leaves the process."""

    async def scenario() -> None:
        publisher = Publisher(open_channel(google.endpoint), "local-dev", "things")
        with pytest.raises(MessageRefusedError, match="Pub/Sub takes 10000000"):
            await publisher.publish(b"x" * 10_000_001, {})
        assert google.publish_requests == []

    run(scenario)


def test_no_id_without_an_acknowledgement(google, run):
    """Pub/Sub away beyond the last attempt is told to every caller."""

    async def scenario() -> None:
        google.fail("Publish", Code.UNAVAILABLE, times=3)
        publisher = Publisher(open_channel(google.endpoint), "local-dev", "things")
        results = await asyncio.gather(publisher.publish(b"a", {}), publisher.publish(b"b", {}), return_exceptions=True)
        assert [type(result) for result in results] == [RpcError, RpcError]

    run(scenario)


def test_what_waits_is_bounded():
    """When a service is slower than what comes in, memory does not grow: the caller is told at once."""

    async def scenario() -> None:
        opened = asyncio.Event()

        async def send(batch: list[Entry]) -> None:
            await opened.wait()
            for entry in batch:
                entry.resolve()

        batcher = Batcher(send, max_items=10, max_bytes=100, max_in_flight=1, max_waiting_bytes=500)
        tasks = [asyncio.create_task(batcher.put(i, 50)) for i in range(100)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        refused = sum(task.done() and isinstance(task.exception(), OverloadedError) for task in tasks)
        assert refused == 90
        opened.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(result is None for result in results) == 10

    asyncio.run(scenario())
