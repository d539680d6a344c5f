"""What tests share: laptop servers as child processes, and polling with a deadline."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from laptop import secret

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent


def eventually(look: Callable[[], T], seconds: float = 20.0, what: str = "") -> T:
    """What ``look`` returns once it is truthy; fails when ``seconds`` are over."""
    deadline = time.monotonic() + seconds
    pause = 0.01
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or look}; last seen: {found!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)


class ServerProcess:
    """One laptop server in a process of its own; the same ports after a restart.

    Also writes its address into ``state/endpoints.json``, as the supervisor would, so that other servers find it.
    """

    def __init__(self, service: str, state: Path) -> None:
        self.service = service
        self.state = state
        self.http = ""
        self.grpc = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start (again) and wait for the line that tells the ports."""
        if self._process is not None and self._process.poll() is not None:
            self._close()  # it ended by itself
        self.state.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", f"laptop.{self.service}", "--state", str(self.state)]
        if self.http:
            command += ["--http-port", self.http.rsplit(":", 1)[1], "--grpc-port", self.grpc.rsplit(":", 1)[1]]
        with (self.state / f"{self.service}.log").open("a") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            text = (self.state / f"{self.service}.log").read_text()[-3000:]
            raise AssertionError(f"{self.service} did not start:\n{text}")
        ports = json.loads(line)
        self.http, self.grpc = ports["http"], ports["grpc"]
        path = self.state / "endpoints.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        # At once, as the supervisor does: the server may be reading it for work that it has taken up.
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({**known, self.service: {"http": self.http, "grpc": self.grpc}}))
        fresh.replace(path)

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._close()

    def stop(self) -> None:
        """End it in order; kill it when that takes more than ten seconds."""
        if self._process is None:
            return
        if self._process.poll() is not None:
            self._close()
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.service} did not end within 10 s of SIGTERM") from None
        self._close()

    def _close(self) -> None:
        """Close the pipe that the ports were read from; while the server runs, it may still write there."""
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.stdout.close()

    def fault(self, **fault: Any) -> dict[str, Any]:
        """Set a fault (``laptop.faults.Fault``'s fields)."""
        return self.admin("POST", "/_laptop/faults", fault)

    def faults(self) -> list[dict[str, Any]]:
        """The faults that are set, with their counts."""
        return self.admin("GET", "/_laptop/faults")

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """One JSON request to the server's own pages."""
        request = urllib.request.Request(
            self.http + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **secret.headers(self.state)},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)
