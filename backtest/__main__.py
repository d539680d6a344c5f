"""``python -m backtest``: a year in cycles of four weeks."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from backtest import summary
from backtest.cycles import ARCHIVE, MODELS, Cycle, run
from backtest.machine import machine
from schemas.use_cases import USE_CASES, use_case

app = typer.Typer(pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.command(epilog="Example: nox -s backtest -- --use-case weather --json weather.json")
def backtest(
    use_case_name: Annotated[
        str, typer.Option("--use-case", help=f"One of {', '.join(sorted(USE_CASES))}.")
    ] = "flights",
    cycles: Annotated[int, typer.Option(min=3, max=13, help="How many cycles of four weeks.")] = 13,
    report: Annotated[Path | None, typer.Option("--json", help="Write the cycles as a JSON list.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a chart as SVG.")] = None,
) -> None:
    """Train every four weeks of a real year by the jobs that are deployed, and compare with never training again."""
    if use_case_name not in USE_CASES:
        raise typer.BadParameter(f"there is no {use_case_name!r}; there are: {', '.join(sorted(USE_CASES))}")
    console, errors = Console(highlight=False, width=200), Console(stderr=True, highlight=False)
    done: list[Cycle] = []
    with machine((ARCHIVE, MODELS)) as here:
        for cycle in run(here, use_case(use_case_name), cycles):
            done.append(cycle)
            errors.print(f"[bold]{_line(cycle, cycles)}[/]")
    summary.tell(console, use_case_name, done)
    if report is not None:
        report.write_text(json.dumps(summary.as_rows(done), indent=2) + "\n")
    if plot is not None:
        plot.write_bytes(summary.chart(use_case_name, done))


def _line(cycle: Cycle, cycles: int) -> str:
    number = f"cycle {cycle.cycle} of {cycles}"
    if cycle.retrained is None or cycle.frozen is None:
        return f"{number}: {cycle.verdict}: {cycle.reason}"
    return (
        f"{number}: {cycle.verdict}, AUC retrained {cycle.retrained.auc:.3f}, frozen "
        f"{cycle.frozen.auc:.3f}; convert {cycle.convert_seconds:.0f} s, train {cycle.train_seconds:.0f} s, "
        f"evaluate {cycle.evaluate_seconds:.0f} s"
    )


app(prog_name="backtest")
