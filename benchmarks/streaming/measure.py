"""What is measured of a system: latency at a pace, processor time, memory, its start, and a switch of the model."""

import itertools
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from benchmarks.streaming.systems import System

LONGEST_WAIT_SECONDS = 120.0
_IDS = itertools.count()


@dataclass(frozen=True)
class Pace:
    """One system at one pace."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms_a_record: float
    memory_mb: float
    """Proportional set size over all its processes, at the end."""


class Probe:
    """Sends records to a running system and knows when each was answered."""

    def __init__(self, system: System, documents: Sequence[bytes]) -> None:
        """``documents`` have the text ``RECORD_ID`` in the place of their id."""
        self._system = system
        self._documents = itertools.cycle(documents)
        self._sent: dict[str, float] = {}
        self._done: dict[str, float] = {}
        self._changed = threading.Condition()
        self.versions: list[tuple[float, str]] = []

    def answered(self, record_id: str, when: float, version: str) -> None:
        """To be called by the system."""
        with self._changed:
            self._done[record_id] = when
            self.versions.append((when, version))
            self._changed.notify_all()

    def send(self) -> str:
        """Send the next record; answers its id."""
        record_id = f"probe-{next(_IDS)}"
        self._sent[record_id] = time.monotonic()
        self._system.send(record_id, next(self._documents).replace(b"RECORD_ID", record_id.encode(), 1))
        return record_id

    def wait(self, ids: Sequence[str], seconds: float = LONGEST_WAIT_SECONDS) -> list[float]:
        """The latency of each, in seconds.

        Raises:
            TimeoutError: one was not answered in time; its number is told.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._done.keys() >= set(ids), seconds):
                missing = len(set(ids) - self._done.keys())
                raise TimeoutError(f"{self._system.name}: {missing} of {len(ids)} not answered in {seconds:.0f} s")
        return [self._done[one] - self._sent[one] for one in ids]

    def at_pace(self, per_second: float, seconds: float) -> Pace:
        """Send at an even pace for some seconds, whatever the answers do."""
        ids: list[str] = []
        before = _cpu_seconds(self._system)
        began = time.monotonic()
        for number in range(max(5, int(per_second * seconds))):
            due = began + number / per_second
            if (pause := due - time.monotonic()) > 0:
                time.sleep(pause)
            ids.append(self.send())
        latencies = sorted(self.wait(ids))
        used = _cpu_seconds(self._system) - before
        return Pace(
            per_second=per_second,
            p50_ms=statistics.median(latencies) * 1e3,
            p99_ms=latencies[len(latencies) * 99 // 100] * 1e3,
            cpu_ms_a_record=used / len(ids) * 1e3,
            memory_mb=_memory_bytes(self._system) / 1e6,
        )


def start(system: System, documents: Sequence[bytes]) -> tuple[Probe, float]:
    """Start a system; the seconds until its first answer."""
    probe = Probe(system, documents)
    began = time.monotonic()
    system.start(probe.answered)
    probe.wait([probe.send()])
    return probe, time.monotonic() - began


def switch(system: System, probe: Probe, per_second: float) -> float:
    """Seconds from the decision until the new model answers, under traffic at a pace. Records that the old system took
    and did not answer are not waited for: a streaming job that is started again reads them from its source again."""
    stop = threading.Event()

    def traffic() -> None:
        while not stop.wait(1 / per_second):
            probe.send()

    thread = threading.Thread(target=traffic)
    thread.start()
    old = {version for _, version in probe.versions}
    began = time.monotonic()
    try:
        system.switch()
        told = began if "" in old else None  # a job that was started again answers with the new model only
        deadline = began + LONGEST_WAIT_SECONDS
        restarted = time.monotonic()
        while time.monotonic() < deadline:
            for when, version in probe.versions[-200:]:
                if (told is not None and when > restarted) or (told is None and version not in old):
                    return when - began
            time.sleep(0.02)
    finally:
        stop.set()
        thread.join()
    raise TimeoutError(f"{system.name}: the new model did not answer in {LONGEST_WAIT_SECONDS:.0f} s")


def _cpu_seconds(system: System) -> float:
    total = 0.0
    for process in system.processes():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _memory_bytes(system: System) -> int:
    total = 0
    for process in system.processes():
        try:
            info = process.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        total += getattr(info, "pss", 0) or info.rss
    return total
