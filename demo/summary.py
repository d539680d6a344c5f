"""Prints the report so that a person understands it."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from demo.report import Report


def print_summary(report: Report, file: Path | None) -> None:
    """Print what happened, what it cost in time and memory, and what to try next."""
    console = Console(highlight=False)
    console.print()
    table = Table(title="Where the records are", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for text, number in (
        ("filed as history", report.backfilled),
        ("published live", report.published),
        ("  of which malformed, each in the dead letters with its reason", report.dead_lettered),
        ("records in the archive", report.archived),
        ("labels in the archive", report.labels_archived),
        ("mirrored into Datastore", report.mirrored),
        ("classified", report.classified),
    ):
        table.add_row(text, f"{number:,}")
    table.add_row("[bold]lost[/]", f"[bold {'green' if report.lost == 0 else 'red'}]{report.lost:,}[/]")
    console.print(table)
    for place, ids in report.missing.items():
        console.print(f"[red]not {place}:[/] {', '.join(ids)} …")
    cycles = Table(title="What was trained", title_justify="left")
    for column in ("model version", "verdict", "rows", "AUC", "AUC of the old model", "log-loss", "parity", "seconds"):
        cycles.add_column(column, justify="left" if column in ("model version", "verdict") else "right")
    for cycle in report.cycles:
        cycles.add_row(
            cycle.model_version,
            cycle.verdict,
            f"{cycle.rows:,}",
            f"{cycle.auc:.3f}",
            "" if cycle.champion_auc is None else f"{cycle.champion_auc:.3f}",
            f"{cycle.log_loss:.3f}",
            f"{cycle.parity_max_abs_diff:.0e}",
            f"{cycle.seconds:.0f}",
        )
    console.print(cycles)
    switch = report.switch
    console.print(
        f"The switch: {switch.requests:,} requests, [bold {'green' if switch.errors == 0 else 'red'}]"
        f"{switch.errors} errors[/], p50 {switch.p50_ms:.1f} ms, p99 {switch.p99_ms:.1f} ms. "
        f"The last answer of the old model came {switch.seconds_to_last_old_answer:.1f} s after the pointer moved "
        f"(promised: {switch.bound_seconds:.0f} s)."
    )
    if switch.first_error:
        console.print(f"[red]first error:[/] {switch.first_error}")
    console.print(f"{report.wall_seconds:.0f} s, {report.peak_memory_mb / 1000:.1f} GB of memory at most.")
    if file is not None:
        console.print(f"The report is in {file}.")
    console.print(
        "\nEverything is kept in .lunation/. Look at it:\n"
        "  nox -s up                             # the servers again, on the same state; then, in another terminal:\n"
        "  .nox/lunation/bin/python -m lunation query --label late --limit 5\n"
        "  .nox/lunation/bin/python -m lunation models\n"
        "  .nox/lunation/bin/python -m lunation runs"
    )
