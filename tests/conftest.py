"""Fixtures that every test may use: one laptop server as a child process, or all of them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import ServerProcess

# In a process that uses gRPC, one fork in a hundred dies before it is another program: gRPC wakes its poller in it
# (https://github.com/grpc/grpc/issues/43055, since 1.81), and pyspark starts Java by a fork. Read when gRPC is loaded.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: begun last, one would keep a single worker busy while the others have nothing left."""
    items.sort(key=lambda item: [item.get_closest_marker(mark) is None for mark in ("system", "spark")])


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start laptop servers as child processes on ``tmp_path / "state"``; they end with the test."""
    started: list[ServerProcess] = []

    def start(service: str, state: Path | None = None) -> ServerProcess:
        server = ServerProcess(service, state or tmp_path / "state")
        started.append(server)
        server.start()
        return server

    yield start
    for server in reversed(started):
        server.stop()
