"""A function as it is deployed: its staged folder, served by the functions framework in a process of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[3]


def stage(unit: str, target: Path) -> Path:
    """Put together what the zip of ``unit`` holds: its own files, functions/runtime and what all units share."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "functions" / unit, target, ignore=ignore)
    shutil.copytree(ROOT / "functions" / "runtime", target / "functions" / "runtime", ignore=ignore)
    for shared in ("schemas", "telemetry"):
        shutil.copytree(ROOT / shared, target / shared, ignore=ignore)
    return target


class FunctionProcess:
    """``functions-framework`` on a staged folder; nothing of this repository is on its path."""

    def __init__(self, folder: Path, entry_point: str, variables: dict[str, str]) -> None:
        self._folder = folder
        self._entry_point = entry_point
        self._variables = variables
        self._log = folder.parent / f"{entry_point}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self, wait: bool = True) -> None:
        """Start on a free port (again on the same one), and wait until it answers."""
        if not self.url:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        port = self.url.rsplit(":", 1)[1]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "functions-framework"),
                    *("--source", str(self._folder / "main.py"), "--target", self._entry_point),
                    *("--host", "127.0.0.1", "--port", port),
                ],
                cwd=self._folder.parent,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that a kill takes the server's worker process too
                env={"PATH": os.environ["PATH"], "PYTHONSAFEPATH": "1", **self._variables},
            )
        if wait:
            self._wait_until_it_answers()

    def _wait_until_it_answers(self, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(self.url + "/v1/health", timeout=5):
                    return
            except urllib.error.HTTPError:
                return
            except OSError:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"{self._entry_point} does not answer:\n{self.log()}") from None
                time.sleep(0.02)

    def ended(self, seconds: float = 30.0) -> int:
        """Wait for the process to end by itself; its exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    @property
    def pid(self) -> int:
        """The server's process; its worker is a child."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """What it wrote so far."""
        return self._log.read_text()

    def kill(self) -> None:
        """End it as a power cut would, its worker included."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it, its worker included."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
