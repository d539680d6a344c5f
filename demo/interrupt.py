"""Ctrl-C: what runs is named, then seen to be gone."""

import contextlib
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

KINDS = (
    ("laptop.guard", "helper"),
    ("guard.py", "helper"),
    ("-m laptop.", "server"),
    ("dataflow", "archive job"),
    ("functions-framework", "function"),
    ("functions_framework", "function"),
    ("gunicorn", "function"),
    ("pyspark", "Spark process"),
    ("spark", "Spark process"),
)
"""What a command line contains, and what that is to a person; the first that fits."""
END_SECONDS = 30.0
"""So long have the processes of a server that did not end them itself, before they are killed."""


class Interrupt:
    """Two contexts: ``named`` within, and ``seen_to`` around, what starts processes and ends them.

    Args:
        say: is told, in a line, what is ended and what has.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._running: set[psutil.Process] = set()

    @contextmanager
    def named(self) -> Iterator[None]:
        """On Ctrl-C, name what runs. From then on another Ctrl-C changes nothing: all is being ended, in order."""
        try:
            yield
        except KeyboardInterrupt:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._look()
            self._say(f"stopping: {described(self._running)}")
            raise

    @contextmanager
    def seen_to(self) -> Iterator[None]:
        """On Ctrl-C, wait until all that ran has ended; what has not after a while is killed."""
        try:
            yield
        except KeyboardInterrupt:
            self._look()
            _, left = psutil.wait_procs(self._running, timeout=END_SECONDS)
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=END_SECONDS)
            killed = f", {len(left)} of them killed after {END_SECONDS:.0f} s" if left else ""
            self._say(f"{len(self._running)} processes have ended{killed}")
            raise

    def _look(self) -> None:
        self._running |= set(psutil.Process().children(recursive=True))


def described(processes: set[psutil.Process]) -> str:
    """How many there are of each kind."""
    kinds = Counter(_kind(process) for process in processes)
    return ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(kinds.items())) or "nothing"


def _kind(process: psutil.Process) -> str:
    try:
        command = " ".join(process.cmdline())
    except psutil.Error:
        return "helper"
    return next((kind for part, kind in KINDS if part in command), "helper")
