"""A client that takes its time."""

import socket
import time


def dripped(port: int, begin: bytes, drop: bytes) -> bytes:
    """What a server says before it ends a connection on which little comes at a time, within five seconds."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(begin)
        connection.settimeout(0.05)
        deadline = time.monotonic() + 5
        answer = b""
        while time.monotonic() < deadline:
            try:
                connection.sendall(drop)
                piece = connection.recv(4096)
            except TimeoutError:
                continue
            except ConnectionError:
                return answer
            if not piece:
                return answer
            answer += piece
    raise AssertionError("the server goes on waiting")
