"""``python -m benchmarks serving``."""

import json
import signal
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.serving import contenders, http, load, memory, model, push, start
from benchmarks.serving.bench import Bench, Row
from benchmarks.serving.cloud import laptop
from lunation.deploy.artefacts import BUILD, stage_function

Peer = StrEnum("Peer", {name: name for name in (*contenders.NAMES, "thread")})  # type: ignore[misc]  # as many as there are contenders
RECORDS = 5000


class Measure(StrEnum):
    """A part of the benchmark."""

    HTTP = "http"
    PUSH = "push"
    START = "start"
    MEMORY = "memory"


def main(
    measure: Annotated[list[Measure] | None, typer.Option(help="Only this part; may be given again.")] = None,
    peer: Annotated[list[Peer] | None, typer.Option(help="Only this peer over HTTP; may be given again.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are reported.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, max=60, help="Of load, in each measurement.")] = 3,
    flat: Annotated[float, typer.Option(min=10, max=3600, help="Seconds in which memory may not grow.")] = 60,
    report: Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON.")] = None,
) -> None:
    """Classification over HTTP and from Pub/Sub, against an empty function, other servers, and one put a request.

    Each peer is installed on first use into an environment of its own, .nox/bench-PEER. The load is wrk's.
    """
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        load.wrk()
    except load.NoLoadError as error:
        console.print(f"[red]{error}", highlight=False)
        raise typer.Exit(2) from None
    console.print("making the model and its records from real flights", highlight=False)
    records = model.documents(RECORDS)
    files = model.folder(records)
    with tempfile.TemporaryDirectory(prefix="lunation-bench-") as name:
        folder = Path(name)
        (folder / "model").mkdir()
        for file, content in files.items():
            (folder / "model" / file).write_bytes(content)
        staged = {}
        for unit in ("classify", "ingest_fast"):
            stage_function(unit)
            staged[unit] = BUILD / unit
        with laptop(folder / "state") as cloud:
            cloud.promote(files)
            bench = Bench(
                folder=folder,
                staged=staged["classify"],
                model=folder / "model",
                cloud=cloud,
                records=records,
                rounds=rounds,
                seconds=seconds,
                say=lambda text: console.print(text, highlight=False),
            )
            rows: list[Row] = []
            parts = measure or list(Measure)
            if Measure.HTTP in parts:
                rows += http.measure(bench, [str(one) for one in peer or Peer])
            if Measure.PUSH in parts:
                rows += push.measure(bench, staged, files)
            if Measure.START in parts:
                rows += start.measure(bench)
            if Measure.MEMORY in parts:
                rows += memory.measure(bench, flat)
    show(rows)
    if report is not None:
        report.write_text(json.dumps(rows, indent=2) + "\n")
    raise typer.Exit(0 if all(row["ok"] for row in rows) else 1)


def show(rows: list[Row]) -> None:
    """Print them."""
    table = Table(title="serving", title_justify="left")
    for column in ("name", "ours", "other", "ratio", "target", "ok"):
        table.add_column(column, justify="right" if column in ("ours", "other", "ratio") else "left")
    for row in rows:
        table.add_row(*[_cell(row[column]) for column in ("name", "ours", "other", "ratio", "target", "ok")])
        if "note" in row:
            table.add_row(f"  not measured: {row['note'].splitlines()[-1]}", *[""] * 5)
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, int | float):
        return f"{value:,}"
    return value or ""
