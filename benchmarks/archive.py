"""The archive path: from a Pub/Sub backlog to closed objects, with validation, against Beam's own local runner."""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from google.cloud import pubsub_v1, storage  # type: ignore[attr-defined]
from rich.console import Console
from rich.table import Table

from laptop.supervisor import Supervisor
from lunation.settings import ROOT
from schemas import use_case

PROJECT = "local-dev"
OURS = "laptop.micro_batch.MicroBatchRunner"
THEIRS = "DirectRunner"
LIMIT_SECONDS = 300.0


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are reported.")] = 3,
    messages: Annotated[int, typer.Option(min=100, help="Backlog of ours in each round.")] = 100_000,
    their_messages: Annotated[int, typer.Option(min=100, help="Backlog of Beam's runner; it is slow.")] = 3_000,
    backlog: Annotated[int, typer.Option(min=0, help="Backlog for the memory figure; 0 leaves it out.")] = 1_000_000,
    report: Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON.")] = None,
) -> None:
    """Records a second from a Pub/Sub backlog to closed objects, and the memory of the process with a long backlog."""
    documents = [
        json.dumps(record, separators=(",", ":")).encode()
        for record, _ in use_case("flights").history(datetime(2013, 1, 31, tzinfo=UTC))
    ]
    ours, theirs = [], []
    memory = 0.0
    with (
        tempfile.TemporaryDirectory(prefix="lunation-bench-") as folder,
        Supervisor(Path(folder), ["pubsub", "storage"]) as servers,
    ):
        servers.wait_ready()
        environment = {
            "PUBSUB_EMULATOR_HOST": servers.endpoints["pubsub"]["grpc"],
            "STORAGE_EMULATOR_HOST": servers.endpoints["storage"]["http"],
        }
        os.environ.update(environment)
        for number in range(rounds):
            for runner, count, figures in ((OURS, messages, ours), (THEIRS, their_messages, theirs)):
                rate, _ = measure(runner, count, documents, f"{runner.rsplit('.')[-1].lower()}-{number}", Path(folder))
                figures.append(rate)
                typer.echo(f"round {number + 1}: {runner.rsplit('.')[-1]}: {rate:,.0f} records/s", err=True)
        if backlog:
            _, memory = measure(OURS, backlog, documents, "memory", Path(folder))
    rows = summary(statistics.median(ours), statistics.median(theirs), memory)
    show(rows)
    if report is not None:
        report.write_text(json.dumps(rows, indent=2) + "\n")
    raise typer.Exit(0 if all(row["ok"] for row in rows) else 1)


def measure(runner: str, count: int, documents: list[bytes], name: str, folder: Path) -> tuple[float, float]:
    """Records/s and peak resident bytes of one run over a backlog of ``count`` distinct records.

    The clock starts when the first object is there, so that starting the interpreter is not counted, and stops when
    every record is; what the first objects hold is not counted either.
    """
    publisher = pubsub_v1.PublisherClient(pubsub_v1.types.BatchSettings(max_messages=1000, max_bytes=5_000_000))
    subscriber = pubsub_v1.SubscriberClient()
    topic, dead = (f"projects/{PROJECT}/topics/{part}-{name}" for part in ("records", "dead"))
    subscription = f"projects/{PROJECT}/subscriptions/records-{name}"
    for path in (topic, dead):
        publisher.create_topic(name=path)
    subscriber.create_subscription(name=subscription, topic=topic)
    bucket = f"bench-{name}"
    storage.Client(project=PROJECT).create_bucket(bucket)
    futures = []
    for number in range(count):
        document = documents[number % len(documents)]
        # A record of its own: ".../EWR.0515" becomes "….17".
        futures.append(
            publisher.publish(topic, document.replace(b'","event_time"', f'.{number}","event_time"'.encode(), 1))
        )
        if len(futures) == 20_000:
            for future in futures:
                future.result(120)
            futures.clear()
    for future in futures:
        future.result(120)
    command = [
        *(sys.executable, "-m", "dataflow.launch", f"--runner={runner}", f"--project={PROJECT}"),
        *(f"--records_subscription={subscription}", f"--dead_letters_topic={dead}", f"--archive_bucket={bucket}"),
        *("--window_seconds=10", "--use_case=flights"),
    ]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log
        )
    try:
        return _follow(process, folder / "storage" / bucket, count)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _follow(process: subprocess.Popen[bytes], folder: Path, count: int) -> tuple[float, float]:
    seen: dict[Path, int] = {}
    first: tuple[float, int] | None = None
    peak = 0
    watched = psutil.Process(process.pid)
    started = time.monotonic()
    while True:
        for path in folder.rglob("*.json"):
            if path not in seen:
                seen[path] = path.read_bytes().count(b"\n")
        done = sum(seen.values())
        peak = max(peak, watched.memory_info().rss)
        now = time.monotonic()
        if first is None and done:
            first = (now, done)
        if done >= count or now - started > LIMIT_SECONDS:
            break
        time.sleep(0.05)
    if first is None:
        raise RuntimeError(f"no object within {LIMIT_SECONDS:.0f} s")
    # A run that closes everything at once has no second object to measure to: its start then counts as well.
    since, before = first if done > first[1] else (started, 0)
    return (done - before) / max(now - since, 1e-3), peak


def summary(ours: float, theirs: float, memory: float) -> list[dict[str, Any]]:
    """The rows of the report."""
    rows = [
        {"name": "records/s", "ours": round(ours), "other": None, "ratio": None, "target": ">= 5000",
         "ok": ours >= 5000},
        {"name": "records/s against Beam's local streaming runner", "ours": round(ours), "other": round(theirs),
         "ratio": round(ours / theirs, 1), "target": ">= 10", "ok": ours >= 10 * theirs},
    ]  # fmt: skip
    if memory:
        rows.append(
            {"name": "peak MB with the long backlog", "ours": round(memory / 1e6), "other": None, "ratio": None,
             "target": "<= 600", "ok": memory <= 600e6}
        )  # fmt: skip
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print them."""
    table = Table(title="archive", title_justify="left")
    for column in ("name", "ours", "other", "ratio", "target", "ok"):
        table.add_column(column)
    for row in rows:
        table.add_row(*["" if value is None else str(value) for value in row.values()])
    Console().print(table)
