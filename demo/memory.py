"""How much memory a tree of processes takes."""

import threading
from types import TracebackType

import psutil


class MemoryWatch:
    """Samples the memory of this process and all below it, every two seconds, in a thread.

    The figure is the sum of proportional set sizes where the system tells them (a page that two processes share
    counts once), else of resident set sizes.
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
        while not self._stopped.wait(2.0):  # each look halts a JVM for some milliseconds
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    info = process.memory_full_info()
                    total += getattr(info, "pss", 0) or info.rss
                except psutil.Error:  # it has ended in the meantime
                    continue
            self.peak_bytes = max(self.peak_bytes, total)
