"""The memory of a process that has answered a lot and changed its model, and whether it stays the same."""

import json
import time
from collections.abc import Sequence

import psutil

from benchmarks.serving import contenders, load
from benchmarks.serving.bench import Bench, Row, row
from benchmarks.serving.model import folder
from benchmarks.serving.process import Running, answers, serving

REQUESTS = 100_000
MODELS = 3
MOST_MB = 180
GROWTH_MB = 5
FOLLOW_SECONDS = 30.0


def measure(bench: Bench, flat_seconds: float) -> list[Row]:
    """100,000 requests, three switches of the model, then load for so long again."""
    contender = contenders.function("classify", bench.staged, "classify_http", **bench.cloud.settings())
    one = bench.one()
    sizes = []
    with serving(
        contender.command,
        contender.folder,
        contender.environment,
        bench.log("memory"),
        contender.path,
        one.read_bytes(),
    ) as server:
        answered = 0
        while answered < REQUESTS:
            answered += load.post(server, contender.path, one, 5).requests
        for number in range(1, MODELS + 1):
            bench.cloud.promote(folder(bench.records, seed=7 + number), 1 + number)
            _follow(server, contender.path, one.read_bytes(), 1 + number)
        load.post(server, contender.path, one, 1)
        began = time.monotonic()
        sizes.append(_megabytes(server))
        while time.monotonic() - began < flat_seconds:
            answered += load.post(server, contender.path, one, min(10.0, flat_seconds)).requests
            sizes.append(_megabytes(server))
    bench.say(f"memory: {', '.join(f'{size:.0f}' for size in sizes)} MB; {answered:,} requests in all")
    return _rows(sizes, answered, flat_seconds)


def _rows(sizes: Sequence[float], answered: int, seconds: float) -> list[Row]:
    most, growth = round(max(sizes)), round(sizes[-1] - sizes[0], 1)
    name = f"MB of the process after {answered:,} requests and {MODELS} switches of the model"
    return [
        row(name, most, None, None, f"<= {MOST_MB}", most <= MOST_MB),
        row(f"MB that it grew within {seconds:.0f} s of load", growth, None, None, f"<= {GROWTH_MB}",
            growth <= GROWTH_MB),
    ]  # fmt: skip


def _follow(server: Running, path: str, body: bytes, generation: int) -> None:
    """Ask until this generation answers.

    Raises:
        TimeoutError: it does not.
    """
    port = int(server.url.rsplit(":", 1)[1])
    deadline = time.monotonic() + FOLLOW_SECONDS
    while True:
        given = answers(port, path, body)
        if given is not None and given[0] == 200 and json.loads(given[1])["generation"] == generation:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"generation {generation} does not answer within {FOLLOW_SECONDS:.0f} s; last {given}")
        time.sleep(0.05)


def _megabytes(server: Running) -> float:
    """Resident, of the largest process: the worker. The one that watches it shares most of its memory."""
    leader = psutil.Process(server.pid)
    return max(one.memory_info().rss for one in (leader, *leader.children(recursive=True))) / 1e6
