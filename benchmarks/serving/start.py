"""From the start of the process to the first answer: a new instance's first request waits so long."""

import statistics
import time

from benchmarks.serving import contenders
from benchmarks.serving.bench import Bench, Row, row
from benchmarks.serving.process import serving

MORE_SECONDS = 0.6
STARTS = 5


def measure(bench: Bench) -> list[Row]:
    """Ours, with its model read from the bucket, and the floor, in turn."""
    body = bench.one().read_bytes()
    entered = {
        "ours": contenders.function("classify", bench.staged, "classify_http", **bench.cloud.settings()),
        "floor": contenders.floor(),
    }
    seconds: dict[str, list[float]] = {name: [] for name in entered}
    for number in range(max(STARTS, bench.rounds)):
        for name, contender in entered.items():
            started = time.monotonic()
            with serving(
                contender.command,
                contender.folder,
                contender.environment,
                bench.log(f"start {name}"),
                contender.path,
                body,
            ):
                seconds[name].append(time.monotonic() - started)
        bench.say(f"start {number + 1}: classify {seconds['ours'][-1]:.2f} s, the floor {seconds['floor'][-1]:.2f} s")
    ours, floor = (statistics.median(seconds[name]) for name in ("ours", "floor"))
    name = "seconds from the start of the process to the first classification, against the floor"
    target = f"<= the floor + {MORE_SECONDS} s"
    return [row(name, round(ours, 2), round(floor, 2), round(ours / floor, 2), target, ours <= floor + MORE_SECONDS)]
