"""The archive path: from a Pub/Sub backlog to closed objects, with validation, against Beam's own local runner."""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from google.cloud import pubsub_v1, storage  # type: ignore[attr-defined]
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from datasets import data_set
from laptop import secret
from laptop.supervisor import Supervisor
from lunation.settings import ROOT
from schemas.archive_objects import SUFFIX

PROJECT = "local-dev"
OURS = "laptop.micro_batch.MicroBatchRunner"
THEIRS = "DirectRunner"
LIMIT_SECONDS = 600.0
NUMBERED = re.compile(rb'"record_id":"[^"]*\.(\d+)"')


@dataclass(frozen=True)
class Run:
    """One backlog, drained.

    Args:
        rate: records a second, from the first pull to the last record in a closed object.
        doubled: lines beyond one a record.
        peak_bytes: resident memory of the pipeline's process and its children together.
    """

    rate: float
    doubled: int
    peak_bytes: int


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are reported.")] = 3,
    messages: Annotated[int, typer.Option(min=100, help="Backlog of ours in each round.")] = 100_000,
    their_messages: Annotated[int, typer.Option(min=100, help="Backlog of Beam's runner; it is slow.")] = 3_000,
    backlog: Annotated[int, typer.Option(min=0, help="Backlog for the memory figure; 0 leaves it out.")] = 1_000_000,
    report: Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON.")] = None,
) -> None:
    """Records a second from a Pub/Sub backlog to closed objects, and the memory that a long backlog takes."""
    if report is not None and not report.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {report.parent}", param_hint="--json")
    documents = [
        json.dumps(record, separators=(",", ":")).encode()
        for record, _ in data_set("flights").history(datetime(2013, 1, 31, tzinfo=UTC))
    ]
    ours: list[Run] = []
    theirs: list[Run] = []
    long: Run | None = None
    with (
        tempfile.TemporaryDirectory(prefix="lunation-bench-") as folder,
        Supervisor(Path(folder), ["pubsub", "storage"]) as servers,
    ):
        servers.wait_ready()
        os.environ["PUBSUB_EMULATOR_HOST"] = servers.endpoints["pubsub"]["grpc"]
        os.environ["STORAGE_EMULATOR_HOST"] = servers.endpoints["storage"]["http"]
        bench = _Bench(Path(folder), servers.endpoints["pubsub"]["http"], documents)
        for number in range(rounds):
            sides = [(OURS, messages, ours), (THEIRS, their_messages, theirs)]
            for runner, count, runs in sides if number % 2 == 0 else reversed(sides):
                short = runner.rpartition(".")[2]
                runs.append(bench.run(runner, count, f"{short.lower()}-{number}"))
                typer.echo(f"round {number + 1}: {short}: {runs[-1].rate:,.0f} records/s", err=True)
        if backlog:
            long = bench.run(OURS, backlog, "long")
            typer.echo(f"{backlog:,} records: {long.rate:,.0f} records/s, {long.peak_bytes / 1e6:.0f} MB", err=True)
    rows = summary(ours, theirs, long)
    show(rows)
    if report is not None:
        report.write_text(json.dumps(rows, indent=2) + "\n")
    raise typer.Exit(0 if all(row["ok"] for row in rows) else 1)


class _Bench:
    """Publishes backlogs and has them drained.

    Args:
        folder: the servers' state.
        pubsub: the address of Pub/Sub's admin endpoint.
        documents: real records.
    """

    def __init__(self, folder: Path, pubsub: str, documents: list[bytes]) -> None:
        self._folder = folder
        self._pubsub = pubsub
        self._documents = documents
        self._publisher = pubsub_v1.PublisherClient(
            pubsub_v1.types.BatchSettings(max_messages=1000, max_bytes=5_000_000)
        )
        self._subscriber = pubsub_v1.SubscriberClient()

    def run(self, runner: str, count: int, name: str) -> Run:
        """Have the deployed pipeline drain a backlog of ``count`` distinct records under a runner.

        Raises:
            RuntimeError: the process ended, or records are missing from the objects after :data:`LIMIT_SECONDS`.
        """
        topic, dead = (f"projects/{PROJECT}/topics/{part}-{name}" for part in ("records", "dead"))
        subscription = f"projects/{PROJECT}/subscriptions/records-{name}"
        bucket = f"bench-{name}"
        for path in (topic, dead):
            self._publisher.create_topic(name=path)
        self._subscriber.create_subscription(name=subscription, topic=topic, ack_deadline_seconds=60)
        storage.Client(project=PROJECT).create_bucket(bucket)
        self._publish(topic, count)
        command = [
            *(sys.executable, "-m", "dataflow.launch", f"--runner={runner}", f"--project={PROJECT}"),
            *(f"--records_subscription={subscription}", f"--dead_letters_topic={dead}", f"--archive_bucket={bucket}"),
            # Short, because Beam's runner waits for a window to end; the micro-batch runner does not.
            *("--window_seconds=1", "--use_case=flights"),
        ]
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=output, stderr=output
            )
        try:
            return self._follow(process, self._folder / "storage" / bucket, count, runner.rpartition(".")[2], log)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._subscriber.delete_subscription(subscription=subscription)

    def _publish(self, topic: str, count: int) -> None:
        with progress(f"publish {count:,}", count) as (bar, task):
            futures = []
            for number in range(count):
                document = self._documents[number % len(self._documents)]
                # A record of its own: ".../EWR.0515" becomes "….17".
                own = document.replace(b'","event_time"', f'.{number}","event_time"'.encode(), 1)
                futures.append(self._publisher.publish(topic, own))
                if len(futures) == 20_000 or number == count - 1:
                    for future in futures:
                        future.result(120)
                    bar.advance(task, len(futures))
                    futures.clear()

    def _follow(self, process: subprocess.Popen[bytes], folder: Path, count: int, title: str, log: Path) -> Run:
        """The clock runs from the first pull, which is the same moment for every runner, to the last record in an
        object; every object is read to tell which records it holds."""
        first_pull = self._mark("google.pubsub.v1.Subscriber.*Pull")
        found, lines, peak = bytearray(count), 0, 0
        seen: set[Path] = set()
        watched = psutil.Process(process.pid)
        began: float | None = None
        deadline = time.monotonic() + LIMIT_SECONDS
        with progress(f"drain with {title}", count) as (bar, task):
            while True:
                if began is None and first_pull():
                    began = time.monotonic()
                now = time.monotonic()  # what is counted below was there at this moment or came after it
                for path in folder.rglob(f"*{SUFFIX}"):
                    if path not in seen:
                        seen.add(path)
                        numbers = NUMBERED.findall(path.read_bytes())
                        lines += len(numbers)
                        for number in numbers:
                            found[int(number)] = 1
                bar.update(task, completed=found.count(1))
                peak = max(peak, _resident(watched))
                if began is not None and found.count(1) == count:
                    return Run(count / (now - began), lines - count, peak)
                if process.poll() is not None or now > deadline:
                    missing = count - found.count(1)
                    raise RuntimeError(
                        f"{title}: {missing:,} of {count:,} are not archived:\n{log.read_text()[-2000:]}"
                    )
                time.sleep(0.1)

    def _mark(self, rpc: str) -> Any:
        """Tells whether a call came since: a fault of no consequence that fires at the first one."""
        fault = self._admin({"rpc": rpc, "action": "delay", "delay_seconds": 0.001})
        return lambda: any(one["id"] == fault["id"] and one["fired"] for one in self._admin(None))

    def _admin(self, body: Any) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **secret.headers(self._folder)}
        request = urllib.request.Request(f"{self._pubsub}/_laptop/faults", data, headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)


def _resident(process: psutil.Process) -> int:
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.Error:  # it has ended in the meantime
            continue
    return total


@contextmanager
def progress(title: str, total: int) -> Iterator[tuple[Progress, Any]]:
    """A bar on standard error; a line where that is no terminal."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console.print(f"{title} …")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar, bar.add_task(title, total=total)


def summary(ours: list[Run], theirs: list[Run], long: Run | None) -> list[dict[str, Any]]:
    """The rows of the report."""
    rate, other = (statistics.median(run.rate for run in runs) for runs in (ours, theirs))
    doubled = sum(run.doubled for run in (*ours, *([long] if long else [])))
    rows = [
        {"name": "records/s", "ours": round(rate), "other": None, "ratio": None, "target": ">= 5000",
         "ok": rate >= 5000},
        {"name": "records/s against Beam's local streaming runner", "ours": round(rate), "other": round(other),
         "ratio": round(rate / other, 1), "target": ">= 10", "ok": rate >= 10 * other},
        {"name": "lines written twice", "ours": doubled, "other": None, "ratio": None, "target": "0",
         "ok": not doubled},
    ]  # fmt: skip
    if long:
        rows.append(
            {"name": "peak MB with the long backlog", "ours": round(long.peak_bytes / 1e6), "other": None,
             "ratio": None, "target": "< 600", "ok": long.peak_bytes < 600e6}
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
