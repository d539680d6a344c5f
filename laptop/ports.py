"""Ports that stay the same from one start to the next."""

import random
import socket
from collections.abc import Iterable

HOST = "127.0.0.1"
# Below what systems hand out to outgoing connections (Linux from 32768, macOS from 49152), or such a connection
# could sit on a server's port while the server is started again.
RANGE = range(20000, 32768)


def free_port(taken: Iterable[int] = ()) -> int:
    """A port that nobody listens on, none of ``taken``."""
    avoided = set(taken)
    while True:
        port = random.choice(RANGE)  # noqa: S311 - any will do
        if port not in avoided and is_free(port):
            return port


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` now."""
    try:
        with socket.create_server((HOST, port)):
            return True
    except OSError:
        return False
