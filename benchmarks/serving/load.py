"""Load from ``wrk``: one thread, kept connections, the same for everyone who is measured."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.process import Running

HERE = Path(__file__).parent
CONNECTIONS = 8


class NoLoadError(Exception):
    """The load cannot be made, or went wrong; the text says what to do."""


@dataclass(frozen=True)
class Answered:
    """What one run of the load saw."""

    requests: int
    """Answered with a status below 400."""
    failed: int
    """Answered with another status, or not at all."""
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_seconds: float
    """Processor time that the server spent meanwhile: it says more than the clock where others use the machine."""

    @property
    def per_second(self) -> float:
        """Good answers a second."""
        return self.requests / self.seconds

    @property
    def cpu_microseconds(self) -> float:
        """Of the server's processor time, for each good answer."""
        return self.cpu_seconds / max(1, self.requests) * 1e6


def wrk() -> str:
    """Where ``wrk`` is.

    Raises:
        NoLoadError: nowhere.
    """
    found = shutil.which("wrk")
    if found is None:
        raise NoLoadError("the load comes from wrk, which is not on the PATH: apt install wrk, or brew install wrk")
    return found


def post(server: Running, path: str, body: Path, seconds: float, connections: int = CONNECTIONS) -> Answered:
    """POST the same body again and again.

    Raises:
        NoLoadError: see :func:`wrk`; or wrk itself failed.
    """
    return _run("post.lua", server, path, {"BODY": str(body)}, seconds, connections)


def push(server: Running, body: Path, first: int, seconds: float, connections: int = CONNECTIONS) -> Answered:
    """POST push bodies, each with a record of its own: its id ends in a number that grows from ``first``.

    Raises:
        NoLoadError: see :func:`wrk`; or wrk itself failed.
    """
    return _run("push.lua", server, "/", {"BODY": str(body), "FIRST": str(first)}, seconds, connections)


def _run(
    script: str, server: Running, path: str, variables: dict[str, str], seconds: float, connections: int
) -> Answered:
    url = server.url + path
    command = [wrk(), "--threads", "1", "--connections", str(connections), "--duration", f"{round(seconds)}s"]
    command += ["--timeout", "20s", "--script", str(HERE / script), url]
    before = server.cpu_seconds()
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    spent = server.cpu_seconds() - before
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        raise NoLoadError(f"wrk failed on {url}: {done.stderr or done.stdout}")
    seen = json.loads(lines[-1])
    return Answered(
        requests=seen["requests"] - seen["status"],
        failed=seen["status"] + seen["broken"],
        seconds=seen["microseconds"] / 1e6,
        p50_ms=seen["p50"] / 1000,
        p99_ms=seen["p99"] / 1000,
        cpu_seconds=spent,
    )
