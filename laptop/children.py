"""Child processes of a server: each in a process group of its own, ended with it, and none left behind."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from laptop import guard, private

MAX_LOG_BYTES = 16 * 1024 * 1024


class Guard:
    """Ends the process groups that are added when this process is gone, also after ``kill -9``.

    Args:
        grace: seconds between SIGTERM and SIGKILL; 0 kills at once.
        keep: file descriptors that are to stay open until all has ended, such as a lock's.
    """

    def __init__(self, grace: float, keep: Sequence[int] = ()) -> None:
        self._grace = grace
        self._keep = tuple(keep)
        self._process: subprocess.Popen[str] | None = None
        self._groups: set[int] = set()
        self._lock = threading.Lock()

    def add(self, group: int) -> None:
        """Watch over a process group."""
        with self._lock:
            self._groups.add(group)
            self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        """Forget a process group: it has ended."""
        with self._lock:
            self._groups.discard(group)
            self._tell(f"-{group}\n")

    def close(self) -> None:
        """End the guard, and all groups that were not removed."""
        with self._lock:
            if self._process is not None:
                assert self._process.stdin is not None
                with contextlib.suppress(BrokenPipeError):
                    self._process.stdin.close()
                self._process.wait()
                self._process = None

    def _tell(self, line: str) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            assert process.stdin is not None
            try:
                process.stdin.write(line)
                process.stdin.flush()
                return
            except BrokenPipeError:
                process.wait()
        self._process = self._start()  # the first one, or one in the place of a guard that was killed
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"+{group}\n" for group in self._groups))
        self._process.stdin.flush()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(guard.__file__)), str(self._grace)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is not for it
            pass_fds=self._keep,
        )


class Child:
    """One running child process and its process group.

    Made by :meth:`start`; :meth:`wait` or :meth:`stop` must be awaited once it is to be gone.
    """

    def __init__(self, process: asyncio.subprocess.Process, watch: Guard) -> None:
        self._process = process
        self._watch = watch
        self._ended: asyncio.Task[int] = asyncio.create_task(self._end())

    @classmethod
    async def start(
        cls, command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], log: Path, watch: Guard
    ) -> "Child":
        """Start ``command`` with exactly ``environment``; what it prints is appended to ``log``."""
        with open_log(log) as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=cwd,
                env=dict(environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        watch.add(process.pid)
        return cls(process, watch)

    @property
    def pid(self) -> int:
        """The process id, which is the group's too."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Wait until it and its whole group are gone; answers the exit code, negative for a signal."""
        return await asyncio.shield(self._ended)

    async def stop(self, seconds: float) -> int:
        """Ask it to end, kill its group when ``seconds`` are over; answers the exit code."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                return await asyncio.wait_for(self.wait(), seconds)
            except TimeoutError:
                kill_group(self.pid)
        return await self.wait()

    async def _end(self) -> int:
        code = await self._process.wait()
        kill_group(self.pid)  # what it started itself and did not end
        self._watch.remove(self.pid)
        return code


def kill_group(group: int) -> None:
    """``kill -9`` for a process group; nothing if there is none."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def open_log(path: Path) -> IO[bytes]:
    """``path`` for appending. One that has grown too large is set aside as ``….1`` first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    return open(path, "ab", opener=private.opener)


def tail(path: Path, characters: int = 2000) -> str:
    """The end of a log."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - characters))
        return file.read().decode(errors="replace").strip()
