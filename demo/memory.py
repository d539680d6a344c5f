"""How much memory a tree of processes takes."""

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType

import psutil


class MemoryWatch:
    """Samples the memory of this process and all below it, every two seconds, in a thread.

    The figure is the sum of proportional set sizes where the system tells them (a page that two processes share
    counts once), else of resident set sizes. The former are asked for only when the latter, which cost next to
    nothing, are a hundredth higher than ever before: for them the system walks every page of every process, and a JVM
    stands still meanwhile.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        me = psutil.Process()
        highest = 0
        while not self._stopped.wait(2.0):
            tree = [me, *me.children(recursive=True)]
            resident = _sum(tree, lambda process: process.memory_info().rss)
            if resident > 1.01 * highest:
                highest = resident
                self.peak_bytes = max(self.peak_bytes, _sum(tree, _proportional))


def _sum(processes: list[psutil.Process], size: Callable[[psutil.Process], int]) -> int:
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):  # it has ended in the meantime
            total += size(process)
    return total


def _proportional(process: psutil.Process) -> int:
    info = process.memory_full_info()
    return getattr(info, "pss", 0) or info.rss
