"""Pushed records with their write into Datastore, against the usual function with one ``put`` a request."""

import base64
import contextlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.serving import contenders, load
from benchmarks.serving.bench import Bench, Row, compared, not_measured, row
from benchmarks.serving.cloud import Cloud, emulator, emulator_jar
from benchmarks.serving.contenders import Contender
from benchmarks.serving.load import Answered
from benchmarks.serving.process import serving

LEAST = 5
CONNECTIONS = 64
"""As many messages are on their way to one instance; a deployed one takes 80 (lunation.toml)."""
WARM_SECONDS = 1
KINDS = {"classify": "Classification", "ingest_fast": "Record"}
TARGETS = {"classify": "classify_push", "ingest_fast": "ingest_fast"}
NO_EMULATOR = "no Datastore emulator: install the Cloud SDK with its component cloud-datastore-emulator, and Java"


def measure(bench: Bench, staged: dict[str, Path], files: dict[str, bytes]) -> list[Row]:
    """Both functions on both Datastores."""
    rows = []
    for server in ("laptop", "emulator"):
        with _datastore(bench, server, files) as cloud:
            if cloud is None:
                for unit in KINDS:
                    rows.append(not_measured(_title(unit, server), f">= {LEAST} x", NO_EMULATOR))
            else:
                rows += _on(bench, server, cloud, staged)
    return rows


@contextlib.contextmanager
def _datastore(bench: Bench, server: str, files: dict[str, bytes]) -> Iterator[Cloud | None]:
    if server == "laptop":
        yield bench.cloud
        return
    jar = emulator_jar()
    if jar is None:
        yield None
        return
    with emulator(jar, bench.folder) as address:
        cloud = replace(bench.cloud, datastore=address)
        cloud.promote(files)
        yield cloud


def _title(unit: str, server: str) -> str:
    return f"{unit} pushes/s, {_place(server)}"


def _place(server: str) -> str:
    return "the official Datastore emulator" if server == "emulator" else "the laptop's Datastore"


def _on(bench: Bench, server: str, cloud: Cloud, staged: dict[str, Path]) -> list[Row]:
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    acknowledged = stored = lost = 0
    # Round 0 is left out of the rates: the emulator's Java is several times slower in its first seconds.
    for number in range(bench.rounds + 1):
        for unit, kind in KINDS.items():
            both: dict[str, Contender] = {
                "ours": contenders.function(unit, staged[unit], TARGETS[unit], **cloud.settings()),
                "usual": contenders.usual(unit, bench.model, cloud.client_settings()),
            }
            for who, contender in both.items():
                prefix = f"{server[0]}{number}-{who[0]}-"
                answered, acked, there = _round(bench, cloud, contender, kind, prefix)
                if number:
                    rates[unit, who].append(answered.per_second)
                    bench.say(
                        f"round {number}: {contender.title} on {server}: {answered.per_second:,.0f} pushes/s, "
                        f"p99 {answered.p99_ms:.0f} ms, {answered.cpu_microseconds:,.0f} µs of processor time each"
                    )
                if who == "ours":
                    acknowledged, stored = acknowledged + acked, stored + there
                    lost += max(0, acked - there)
    rows = [
        compared(f"{_title(unit, server)}, against one put a request", rates[unit, "ours"], rates[unit, "usual"], LEAST)
        for unit in KINDS
    ]
    name = f"pushes acknowledged and not stored, of {acknowledged:,}, {_place(server)}"
    return [*rows, row(name, lost, None, None, "0", lost == 0 and stored > 0)]


def _round(bench: Bench, cloud: Cloud, contender: Contender, kind: str, prefix: str) -> tuple[Answered, int, int]:
    """What the load saw, how many were acknowledged in all, and how many of these are stored."""
    body, prefix = _body(bench, prefix)
    with serving(
        contender.command, contender.folder, contender.environment, bench.log(contender.title), "/", body.read_bytes()
    ) as server:
        # The first push, which waited for the process, is stored as number zero.
        warm = load.push(server, body, 1, WARM_SECONDS, CONNECTIONS)
        first = 1_000_000
        answered = load.push(server, body, first, bench.seconds, CONNECTIONS)
    return answered, 1 + warm.requests + answered.requests, cloud.stored(kind, prefix)


def _body(bench: Bench, prefix: str) -> tuple[Path, str]:
    """The push body that ``push.lua`` changes: nine zeros at a multiple of three bytes end the id."""
    document = {**bench.records[0], "record_id": ""}
    start = json.dumps(document, separators=(",", ":")).index('""') + 1
    prefix += "." * (-(start + len(prefix)) % 3)
    data = json.dumps({**document, "record_id": f"{prefix}000000000"}, separators=(",", ":")).encode()
    message = {"data": base64.b64encode(data).decode(), "messageId": "1", "publishTime": "2013-01-01T00:00:00Z"}
    path = bench.folder / f"push-{prefix}.json"
    path.write_text(json.dumps({"message": message, "subscription": "projects/local-dev/subscriptions/records"}))
    return path, prefix
