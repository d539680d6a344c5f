"""A server that is measured, in a process group of its own; it is gone when the block ends."""

import contextlib
import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from laptop.children import tail
from laptop.ports import HOST, free_port

START_SECONDS = 90.0
STOP_SECONDS = 10.0
PORT = "{port}"
"""In a command: the port that was chosen."""


class DidNotStartError(Exception):
    """The server does not answer; the text ends with what it printed."""


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """Processor time of the process and its children so far."""
        total = 0.0
        leader = psutil.Process(self.pid)
        for process in (leader, *leader.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                spent = process.cpu_times()
                total += spent.user + spent.system
        return total


@contextlib.contextmanager
def serving(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path, path: str, body: bytes
) -> Iterator[Running]:
    """Run ``command`` and give the server, once a POST of ``body`` to ``path`` is answered with a 2xx.

    Raises:
        DidNotStartError: it ended, or did not answer in time.
    """
    port = free_port()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [part.replace(PORT, str(port)) for part in command],
            cwd=folder,
            env={name: value.replace(PORT, str(port)) for name, value in {**os.environ, **environment}.items()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait(process, port, path, body, log)
        yield Running(f"http://{HOST}:{port}", process.pid)
    finally:
        _end(process)


def answers(port: int, path: str, body: bytes, timeout: float = 10.0) -> tuple[int, bytes] | None:
    """Status and body of one POST; None if nobody answers."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _wait(process: subprocess.Popen[bytes], port: int, path: str, body: bytes, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        given = answers(port, path, body)
        if given is not None and 200 <= given[0] < 300:
            return
        if process.poll() is not None:
            raise DidNotStartError(f"it ended with {process.returncode}:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise DidNotStartError(f"no answer to {path} within {START_SECONDS:.0f} s, last {given}:\n{tail(log)}")
        time.sleep(0.01)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole group: some servers leave workers behind."""
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
