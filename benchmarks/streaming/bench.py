"""Function or Structured Streaming? Latency, processor time, memory, start, switch of the model, and cost."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.streaming import charts, cost
from benchmarks.streaming.measure import Pace, start, switch
from benchmarks.streaming.systems import Function, StreamingJob, System
from datasets import data_set
from laptop.dataproc.java import java_home
from laptop.supervisor import Supervisor
from lunation.commands.printing import print_table
from lunation.settings import ROOT

PACES = (1.0, 100.0, 1000.0)
SWITCH_PACE = 100.0
err = Console(stderr=True, highlight=False)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are reported.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, max=120, help="At each pace, in each round.")] = 10.0,
    report: Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON.")] = None,
    plots: Annotated[Path | None, typer.Option("--plots", help="Draw them into this folder.")] = None,
) -> None:
    """The same model on the same records by the function and by a Spark Structured Streaming job."""
    starts: dict[str, list[float]] = {}
    switches: dict[str, list[float]] = {}
    paces: dict[tuple[str, float], list[Pace]] = {}
    with tempfile.TemporaryDirectory(prefix="lunation-bench-") as scratch:
        folder = Path(scratch)
        with err.status("training one model for both"):
            _train(folder)
        documents = [
            json.dumps({**record, "record_id": "RECORD_ID"}, separators=(",", ":")).encode()
            for record, _ in data_set("flights").history(datetime(2013, 1, 5, tzinfo=UTC))
        ]
        with Supervisor(folder / "servers", ["datastore", "storage"]) as servers:
            servers.wait_ready()
            os.environ["DATASTORE_EMULATOR_HOST"] = servers.endpoints["datastore"]["grpc"]
            os.environ["STORAGE_EMULATOR_HOST"] = servers.endpoints["storage"]["http"]
            systems: list[System] = [Function(folder, servers), StreamingJob(folder, 0.0), StreamingJob(folder, 1.0)]
            for number in range(rounds):
                for system in systems:
                    try:
                        probe, took = start(system, documents)
                        starts.setdefault(system.name, []).append(took)
                        probe.at_pace(PACES[-1], 3)  # warm: compilers and caches of both have seen records
                        for pace in PACES:
                            # At one record a second a round has few of them, so it takes a little longer.
                            found = probe.at_pace(pace, max(seconds, 20.0) if pace == 1 else seconds)
                            paces.setdefault((system.name, pace), []).append(found)
                            err.print(f"round {number + 1}: {system.name}: {pace:,.0f}/s: p50 {found.p50_ms:,.1f} ms")
                        switches.setdefault(system.name, []).append(switch(system, probe, SWITCH_PACE))
                    finally:
                        system.stop()
    median = {key: _median(found) for key, found in paces.items()}
    rows = _rows(systems, starts, switches, median)
    _show(systems, rows)
    if report is not None:
        report.write_text(json.dumps(rows, indent=2) + "\n")
    if plots is not None:
        charts.write(rows, plots)


def _train(folder: Path) -> None:
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "JAVA_HOME": str(java_home()),
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_SUBMIT_ARGS": "--master local[2] --driver-memory 2g --conf spark.ui.enabled=false pyspark-shell",
    }
    command = [sys.executable, "-m", "benchmarks.streaming.train", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the model could not be trained:\n{done.stderr[-3000:]}")


def _median(found: list[Pace]) -> Pace:
    return Pace(**{field: statistics.median(getattr(one, field) for one in found) for field in vars(found[0])})


def _rows(
    systems: list[System],
    starts: dict[str, list[float]],
    switches: dict[str, list[float]],
    median: dict[tuple[str, float], Pace],
) -> list[dict[str, Any]]:
    """``ours`` is the function, ``other`` the streaming job; the ratio says how many times more the job takes. There
    are no targets: the figures are the answer (docs/decisions)."""
    function, *jobs = systems
    rows = []

    def row(name: str, ours: float, other: float) -> None:
        rows.append(
            {"name": name, "ours": round(ours, 3), "other": round(other, 3), "ratio": round(other / ours, 2),
             "target": None, "ok": None}
        )  # fmt: skip

    for job in jobs:
        for pace in PACES:
            ours, other = median[function.name, pace], median[job.name, pace]
            at = f"{pace:,.0f}/s, {job.name}"
            row(f"p50 ms at {at}", ours.p50_ms, other.p50_ms)
            row(f"p99 ms at {at}", ours.p99_ms, other.p99_ms)
            row(f"CPU ms a record at {at}", ours.cpu_ms_a_record, other.cpu_ms_a_record)
            row(f"memory MB at {at}", ours.memory_mb, other.memory_mb)
        row(f"start to first answer s, {job.name}", _of(starts, function), _of(starts, job))
        row(f"switch of the model s, {job.name}", _of(switches, function), _of(switches, job))
    busy = median[function.name, PACES[-1]].cpu_ms_a_record / 1e3
    for volume in cost.VOLUMES:
        row(f"USD a month at {volume:,.0f}/s", cost.function(volume, busy), cost.streaming())
    even = cost.even(busy)
    row(f"USD a month at {even:,.0f}/s, where the two cost the same", cost.function(even, busy), cost.streaming())
    return rows


def _of(found: dict[str, list[float]], system: System) -> float:
    return statistics.median(found[system.name])


def _show(systems: list[System], rows: list[dict[str, Any]]) -> None:
    """One line a measure, one column a system."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        name, _, job = row["name"].partition(", streaming, ")
        line = lines.setdefault(name, [f"{row['ours']:,.3g}", "", ""])
        line[1 if "default" in job or not job else 2] = f"{row['other']:,.3g}"
    print_table(
        "The same model on the same records",
        ["", *(system.name for system in systems)],
        [[name, *line] for name, line in lines.items()],
    )
