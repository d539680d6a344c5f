"""The functions' channels as they are in the cloud: TLS, credentials, and handshakes that take their time."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from rehearsal.handshakes import SlowHandshakes
from tests.functions.doubles import models
from tests.functions.doubles.function_process import FunctionProcess, stage

ASKED = "/v1/records?record_id=r1"

Scenario = Callable[[httpx.AsyncClient, SlowHandshakes], Coroutine[Any, Any, None]]


@pytest.fixture
def scene(google, tmp_path: Path):
    """Runs a scenario with a function behind whose Datastore handshakes are slow."""

    def run(unit: str, entry_point: str, scenario: Scenario, seconds: float = 0.0) -> None:
        async def main() -> None:
            await google.start()
            with SlowHandshakes(google.endpoint.removeprefix("http://"), tmp_path / "tls", seconds) as front:
                variables = {
                    "PROJECT": "local-dev",
                    "MODELS_BUCKET": "local-dev-models",
                    "DATASTORE_ENDPOINT": front.endpoint,
                    "PUBSUB_ENDPOINT": google.endpoint,
                    "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9",
                    **front.environment,
                }
                function = FunctionProcess(stage(unit, tmp_path / unit), entry_point, variables)
                try:
                    await asyncio.to_thread(function.start)
                    async with httpx.AsyncClient(base_url=function.url, timeout=30) as client:
                        await asyncio.wait_for(scenario(client, front), 60)
                finally:
                    await asyncio.to_thread(function.stop)
                    await google.stop()

        asyncio.run(main())

    return run


def test_a_slow_handshake_is_waited_for(google, scene):
    """The first call on a new connection succeeds at its first attempt, on the first connection, however long the
    handshake takes."""

    async def scenario(client: httpx.AsyncClient, front: SlowHandshakes) -> None:
        assert (await client.get(ASKED)).status_code == 404  # there is none, says Datastore
        for seconds in (0.1, 0.3, 1.0, 3.0):
            front.away()
            front.back()
            front.seconds, before, asked = seconds, front.accepted, len(google.lookups)
            began = time.monotonic()
            answer = await client.get(ASKED)
            took = time.monotonic() - began
            assert answer.status_code == 404, (seconds, answer.text)
            assert (front.accepted - before, len(google.lookups) - asked) == (1, 1), seconds
            assert seconds <= took < seconds + 2, seconds

    scene("submit", "submit", scenario)


def test_the_pointer_is_read_through_a_slow_handshake(scene):
    """Although a read of the pointer is given less time than the handshake takes: the next one finds the connection."""

    async def scenario(client: httpx.AsyncClient, front: SlowHandshakes) -> None:
        answer = await client.post("/v1/classify", json=models.record())
        assert answer.status_code == 503
        assert "no model" in answer.json()["detail"]
        assert front.accepted == 1

    scene("classify", "classify_http", scenario, 3.0)


def test_a_service_that_is_back_is_found_at_once(scene):
    """However long it was away, and with a handshake in between: a second and a half is enough."""

    async def scenario(client: httpx.AsyncClient, front: SlowHandshakes) -> None:
        assert (await client.get(ASKED)).status_code == 404
        front.away()
        until = time.monotonic() + 7
        while time.monotonic() < until:
            assert (await client.get(ASKED)).status_code == 503
        front.seconds = 0.3
        front.back()
        began = time.monotonic()
        while (await client.get(ASKED)).status_code != 404:
            assert time.monotonic() - began < 10
        assert time.monotonic() - began < 1.5 + front.seconds

    scene("submit", "submit", scenario)
