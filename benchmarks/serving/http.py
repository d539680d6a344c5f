"""Records over HTTP: one in a request, and a hundred or a thousand in one."""

import statistics
from collections import defaultdict
from collections.abc import Sequence

from benchmarks.serving import contenders, load
from benchmarks.serving.bench import Bench, Row, compared, not_measured, row
from benchmarks.serving.contenders import Contender
from benchmarks.serving.environments import NotInstalledError
from benchmarks.serving.load import Answered
from benchmarks.serving.process import DidNotStartError, serving

OURS = "classify"
COUNTS = (100, 1000)
RECORDS_PER_SECOND = 80_000
ONE = {"floor": 0.65, "fastapi": 1.6, "litserve": 6, "mlserver": 6, "bentoml": 12, "ray": 30, "mlflow": 80, "thread": 4}
"""How many times the requests per second of each ours must answer."""
MANY = {"fastapi": 1.7}
P99_OF_FLOOR = 3
WARM_SECONDS = 1

Seen = dict[tuple[str, int], list[Answered]]
"""What was seen of each contender with so many records in a request, a round each."""


def measure(bench: Bench, peers: Sequence[str]) -> list[Row]:
    """One record at a time, then lists, everybody in turn in each round."""
    entered: dict[str, Contender] = {
        "floor": contenders.floor(),
        OURS: contenders.function("classify", bench.staged, "classify_http", **bench.cloud.settings()),
    }
    missing: dict[str, str] = {}
    for name in peers:
        try:
            if name == "thread":
                entered[name] = contenders.thread_mode(bench.model)
            else:
                entered[name] = contenders.peer(name, bench.model, bench.say)
        except NotInstalledError as error:
            missing[name] = str(error)
    seen: Seen = defaultdict(list)
    for number in range(bench.rounds):
        for name, contender in entered.items():
            if name in missing:
                continue
            try:
                _round(bench, name, contender, seen)
            except DidNotStartError as error:
                missing[name] = str(error)
                bench.say(f"{contender.title} did not start, and is left out")
            else:
                for count in (1, *COUNTS):
                    if seen[name, count]:
                        _say(bench, number + 1, contender.title, count, seen[name, count][-1])
    return [*_one(seen, missing, ["floor", *peers], entered), *_many(seen, missing, peers, entered)]


def _round(bench: Bench, name: str, contender: Contender, seen: Seen) -> None:
    one = bench.one(contender.body)
    with serving(
        contender.command,
        contender.folder,
        contender.environment,
        bench.log(contender.title),
        contender.path,
        one.read_bytes(),
    ) as server:
        load.post(server, contender.path, one, WARM_SECONDS)
        seen[name, 1].append(load.post(server, contender.path, one, bench.seconds))
        if name == OURS or name in MANY:
            for count in COUNTS:
                seen[name, count].append(load.post(server, contender.many_path, bench.many(count), bench.seconds))


def _say(bench: Bench, number: int, title: str, count: int, answered: Answered) -> None:
    what = (
        f"{count * answered.per_second:,.0f} records/s in requests of {count}"
        if count > 1
        else (f"{answered.per_second:,.0f} requests/s")
    )
    bench.say(
        f"round {number}: {title}: {what}, p99 {answered.p99_ms:.1f} ms, "
        f"{answered.cpu_microseconds / count:,.1f} µs of processor time a record"
    )


def _one(seen: Seen, missing: dict[str, str], others: Sequence[str], entered: dict[str, Contender]) -> list[Row]:
    rows = []
    ours = [answered.per_second for answered in seen[OURS, 1]]
    for name in others:
        title = f"one record, requests/s, against {entered[name].title if name in entered else name}"
        if name in missing:
            rows.append(not_measured(title, f">= {ONE[name]} x", missing[name]))
        else:
            rows.append(compared(title, ours, [answered.per_second for answered in seen[name, 1]], ONE[name]))
    p99, floor = ([answered.p99_ms for answered in seen[name, 1]] for name in (OURS, "floor"))
    ratio = statistics.median(mine / theirs for mine, theirs in zip(p99, floor, strict=True))
    rows.append(row("one record, p99 in ms, against the floor", statistics.median(p99), statistics.median(floor),
                    round(ratio, 2), f"<= {P99_OF_FLOOR} x", ratio <= P99_OF_FLOOR))  # fmt: skip
    failed = sum(answered.failed for count in (1, *COUNTS) for answered in seen[OURS, count])
    rows.append(row("requests that failed", failed, None, None, "0", failed == 0))
    return rows


def _many(seen: Seen, missing: dict[str, str], peers: Sequence[str], entered: dict[str, Contender]) -> list[Row]:
    rows = []
    for count in COUNTS:
        title = f"{count:,} records in a request, records/s"
        ours = [count * answered.per_second for answered in seen[OURS, count]]
        rate = round(statistics.median(ours))
        rows.append(row(title, rate, None, None, f">= {RECORDS_PER_SECOND}", rate >= RECORDS_PER_SECOND))
        for name, least in MANY.items():
            if name in missing:
                rows.append(not_measured(f"{title}, against {name}", f">= {least} x", missing[name]))
            elif name in peers:
                theirs = [count * answered.per_second for answered in seen[name, count]]
                rows.append(compared(f"{title}, against {entered[name].title}", ours, theirs, least))
    return rows
