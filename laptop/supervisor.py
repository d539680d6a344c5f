"""Starts every server as a child process, starts again what dies, and ends everything it started."""

import contextlib
import fcntl
import http.client
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from laptop import private, secret
from laptop.children import open_log, tail
from laptop.ports import HOST, free_port

SERVICES = ("pubsub", "datastore", "storage", "workflows", "dataproc", "scheduler", "functions", "dataflow")
BACKOFF_SECONDS = (0.2, 10.0)
STOP_SECONDS = 15.0
LOCK = "supervisor.lock"
log = logging.getLogger("laptop")


class SupervisorError(Exception):
    """The servers cannot run; the text says why and what to do."""


class Supervisor:
    """The servers of one state folder, while the ``with`` block lasts.

    Args:
        state: the folder. Ports are chosen on first use and kept in it.
        only: some of :data:`SERVICES`.
        anew: empty the folder first.

    Raises:
        SupervisorError: another supervisor runs on the folder.
    """

    def __init__(self, state: Path, only: Sequence[str] = SERVICES, *, anew: bool = False) -> None:
        unknown = set(only) - set(SERVICES)
        if unknown:
            raise SupervisorError(f"no service {', '.join(sorted(unknown))}; there are: {', '.join(SERVICES)}")
        self.state = state.resolve()
        self.endpoints: dict[str, dict[str, str]] = {}
        self._services = [service for service in SERVICES if service in only]
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = threading.Event()
        self._watchers: list[threading.Thread] = []
        self._lock: IO[str] | None = None
        self._anew = anew
        self._headers: dict[str, str] = {}

    def __enter__(self) -> "Supervisor":
        try:
            private.folder(self.state)
        except PermissionError as error:
            raise SupervisorError(
                f"{self.state} is not yours alone, and cannot be made so: {error}; name another folder"
            ) from error
        self._lock = self._only_one()
        if self._anew:
            self._empty()
        private.folder(self.state / "logs")
        self._headers = secret.headers(self.state)
        self.endpoints = self._choose_ports()
        for service in self._services:
            self._start(service)
            watcher = threading.Thread(target=self._watch, args=(service,), name=f"watch {service}", daemon=True)
            self._watchers.append(watcher)
            watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        # Those that have children of their own first, while what these talk to is still there.
        for service in reversed(self._services):
            self._children[service].terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for service in self._services:
            child = self._children[service]
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("%s did not end in %.0f s and is killed", service, STOP_SECONDS)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        for watcher in self._watchers:
            watcher.join()
        if self._lock is not None:
            self._lock.close()

    def pid(self, service: str) -> int:
        """The process id of a server."""
        return self._children[service].pid

    def wait_ready(self, seconds: float = 60.0, stopped: threading.Event | None = None) -> None:
        """Wait until every server answers, or ``stopped`` is set.

        Raises:
            SupervisorError: one does not; the text ends with its log.
        """
        deadline = time.monotonic() + seconds
        for service in self._services:
            while not self._answers(service):
                if stopped is not None and stopped.is_set():
                    return
                if time.monotonic() > deadline:
                    raise SupervisorError(
                        f"{service} does not answer after {seconds:.0f} s. The end of {self._log(service)}:\n"
                        + tail(self._log(service))
                    )
                time.sleep(0.05)

    # --- inside

    def _answers(self, service: str) -> bool:
        """Whether it is this server that answers at its address, not another program."""
        url = f"{self.endpoints[service]['http']}/_laptop/health"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=self._headers), timeout=2) as response:
                document = json.load(response)
        except (OSError, http.client.HTTPException, ValueError):
            return False
        return isinstance(document, dict) and document.get("service") == service

    def _log(self, service: str) -> Path:
        return self.state / "logs" / f"{service}.log"

    def _only_one(self) -> IO[str]:
        file = os.fdopen(private.opener(str(self.state / LOCK), os.O_RDWR | os.O_CREAT | os.O_APPEND), "a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            other = file.read().strip()
            file.close()
            raise SupervisorError(
                f"the servers of {self.state} run already, under process {other}: use them, or end that process first"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        return file

    def _empty(self) -> None:
        for path in self.state.iterdir():
            if path.name == LOCK:  # it is held
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _choose_ports(self) -> dict[str, dict[str, str]]:
        path = self.state / "endpoints.json"
        try:
            known: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.exists() else {}
            taken = {int(address.rsplit(":", 1)[1]) for pair in known.values() for address in pair.values()}
        except (ValueError, LookupError, AttributeError) as error:
            raise SupervisorError(
                f"{path} is no list of the servers' addresses ({error}): delete it, and they get new ones"
            ) from error
        for service in self._services:
            if service in known:
                continue
            ports = []
            for _ in range(2):
                ports.append(free_port(taken))
                taken.add(ports[-1])
            known[service] = {"http": f"http://{HOST}:{ports[0]}", "grpc": f"{HOST}:{ports[1]}"}
        fresh = path.with_suffix(".new")
        with open(fresh, "w", opener=private.opener) as file:
            file.write(json.dumps(known, indent=1))
        fresh.replace(path)
        return {service: known[service] for service in self._services}

    def _start(self, service: str) -> None:
        address = self.endpoints[service]
        with open_log(self._log(service)) as output:
            self._children[service] = subprocess.Popen(
                [
                    *(sys.executable, "-m", f"laptop.{service}", "--state", str(self.state)),
                    *("--http-port", address["http"].rsplit(":", 1)[1]),
                    *("--grpc-port", address["grpc"].rsplit(":", 1)[1]),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=Path(__file__).resolve().parent.parent,
                start_new_session=True,  # Ctrl-C is for the supervisor, which ends its children in order
            )

    def _watch(self, service: str) -> None:
        pause = BACKOFF_SECONDS[0]
        while True:
            started = time.monotonic()
            code = self._children[service].wait()
            if self._stopping.is_set():
                return
            if time.monotonic() - started > 30:
                pause = BACKOFF_SECONDS[0]
            log.warning("%s ended with %s; started again in %.1f s; see %s", service, code, pause, self._log(service))
            if self._stopping.wait(pause):
                return
            pause = min(BACKOFF_SECONDS[1], pause * 2)
            self._start(service)
            if self._stopping.is_set():
                self._children[service].terminate()
