"""Fixtures for the tests of the functions."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.functions.doubles.google_server import GoogleServer


@pytest.fixture
def google() -> GoogleServer:
    """Google's services in memory; a test starts it inside its own event loop through ``run``."""
    return GoogleServer()


@pytest.fixture
def run(google: GoogleServer) -> Callable[[Callable[[], Coroutine[Any, Any, None]]], None]:
    """Runs a test's coroutine function while ``google`` serves, within ten seconds."""

    def runner(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def served() -> None:
            await google.start()
            try:
                await asyncio.wait_for(scenario(), 10)
            finally:
                google.commits_open.set()
                await google.stop()

        asyncio.run(served())

    return runner
