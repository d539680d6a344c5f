"""Prints the report so that a person understands it."""

from pathlib import Path

from demo.report import Report
from lunation.commands.printing import out, plain, print_table
from schemas import use_case


def print_summary(report: Report, file: Path | None, chosen: str | None = None) -> None:
    """Print what happened, what it cost in time and memory, and what to try next.

    Args:
        file: where the report is, too.
        chosen: the use case that the environment names in place of lunation.toml's: later commands must, too.
    """
    out.print()
    print_table(
        "Where the records are",
        ["", "count"],
        [
            ["filed as history", f"{report.backfilled:,}"],
            ["published live", f"{report.published:,}"],
            ["  of which malformed, each in the dead letters with its reason", f"{report.dead_lettered:,}"],
            ["records in the archive", f"{report.archived:,}"],
            ["labels in the archive", f"{report.labels_archived:,}"],
            ["mirrored into Datastore", f"{report.mirrored:,}"],
            ["classified", f"{report.classified:,}"],
            ["lost", f"{report.lost:,}"],
        ],
    )
    for place, ids in report.missing.items():
        out.print(f"[red]not {place}:[/] {', '.join(ids)} …")
    print_table(
        "What was trained",
        ["model version", "verdict", "rows", "AUC", "AUC of the old model", "log-loss", "parity", "seconds"],
        [
            [
                cycle.model_version,
                cycle.verdict,
                f"{cycle.rows:,}",
                f"{cycle.auc:.3f}",
                None if cycle.champion_auc is None else f"{cycle.champion_auc:.3f}",
                f"{cycle.log_loss:.3f}",
                f"{cycle.parity_max_abs_diff:.0e}",
                f"{cycle.seconds:.0f}",
            ]
            for cycle in report.cycles
        ],
    )
    switch = report.switch
    out.print(
        f"The switch: {switch.requests:,} requests, [bold {'green' if switch.errors == 0 else 'red'}]"
        f"{switch.errors} errors[/], p50 {switch.p50_ms:.1f} ms, p99 {switch.p99_ms:.1f} ms. "
        f"The last answer of the old model came {switch.seconds_to_last_old_answer:.1f} s after the pointer moved "
        f"(promised: {switch.bound_seconds:.0f} s)."
    )
    for sentence in report.broken():
        out.print(f"[red]not as promised:[/] {plain(sentence)}")
    out.print(f"{report.wall_seconds:.0f} s, {report.peak_memory_mb / 1000:.1f} GB of memory at most.")
    if file is not None:
        out.print(f"The report is in {file}.")
    newest = report.cycles[-1].run_id if report.cycles else "RUN"
    out.print(
        "\nEverything is kept in .lunation/. Look at it:\n"
        + (f"  export LUNATION_USE_CASE={plain(chosen)}  # in each terminal, as for this demo\n" if chosen else "")
        + "  nox -s up                             # the servers again, on the same state; then, in another terminal:\n"
        f"  .nox/lunation/bin/lunation query --label {plain(use_case(report.use_case).positive)} --limit 5\n"
        "  .nox/lunation/bin/lunation models\n"
        "  .nox/lunation/bin/lunation runs\n"
        f"  .nox/lunation/bin/lunation report {plain(newest)} --open\n"
        "  .nox/lunation/bin/lunation quality"
    )
