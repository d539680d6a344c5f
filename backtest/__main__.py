"""``python -m backtest``: a year in cycles of ``[schedule] cycle_weeks``."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from backtest import summary
from backtest.cycles import ARCHIVE, FEWEST, MODELS, BacktestError, Cycle, run
from backtest.machine import machine
from datasets import DATA_SETS, DataSetError, data_set
from lunation.commands.printing import fail
from lunation.settings import SettingsError, load
from schemas.use_cases import USE_CASES, use_case

WEEKS = 52
"""Of a year."""

app = typer.Typer(pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.command(epilog="Example: nox -s backtest -- --use-case weather --json weather.json")
def backtest(
    use_case_name: Annotated[
        str, typer.Option("--use-case", help=f"One of {', '.join(sorted(DATA_SETS))}.")
    ] = "flights",
    cycles: Annotated[
        int | None, typer.Option(min=FEWEST, help="How many cycles.", show_default="those of a year")
    ] = None,
    report: Annotated[Path | None, typer.Option("--json", help="Write the cycles as a JSON list.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a chart as SVG.")] = None,
) -> None:
    """Train each cycle of a real year by the jobs that are deployed, and compare with never training again."""
    if use_case_name not in USE_CASES:
        raise typer.BadParameter(f"there is no {use_case_name!r}; there are: {', '.join(sorted(USE_CASES))}")
    try:
        data = data_set(use_case_name)
    except DataSetError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        schedule = load().schedule
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from None
    year = WEEKS // schedule.cycle_weeks
    number = year if cycles is None else cycles
    if not FEWEST <= number <= year:
        raise typer.BadParameter(
            f"a year has {year} cycles of [schedule] cycle_weeks = {schedule.cycle_weeks}; a comparison takes "
            f"{FEWEST} to {year} of them, not {number}"
        )
    console, errors = Console(highlight=False, width=200), Console(stderr=True, highlight=False)
    done: list[Cycle] = []
    try:
        with machine((ARCHIVE, MODELS)) as here:
            for cycle in run(here, use_case(use_case_name), data.history(None), number, schedule):
                done.append(cycle)
                errors.print(f"[bold]{escape(_line(cycle))}[/]")
        if sum(cycle.retrained is not None for cycle in done) < FEWEST - 1:
            told = "; ".join(f"cycle {cycle.cycle}: {cycle.reason}" for cycle in done if cycle.retrained is None)
            raise BacktestError(f"fewer than {FEWEST - 1} cycles have a model, so there is nothing to compare: {told}")
    except BacktestError as error:
        fail(str(error))
    summary.tell(console, use_case_name, done, schedule.cycle_weeks)
    if report is not None:
        report.write_text(json.dumps(summary.as_rows(done), indent=2) + "\n")
    if plot is not None:
        plot.write_bytes(summary.chart(use_case_name, done, schedule))


def _line(cycle: Cycle) -> str:
    number = f"cycle {cycle.cycle}"
    if cycle.retrained is None or cycle.frozen is None:
        return f"{number}: {cycle.verdict}: {cycle.reason}"
    return (
        f"{number}: {cycle.verdict}, AUC retrained {cycle.retrained.auc:.3f}, frozen "
        f"{cycle.frozen.auc:.3f}; convert {cycle.convert_seconds:.0f} s, train {cycle.train_seconds:.0f} s, "
        f"evaluate {cycle.evaluate_seconds:.0f} s"
    )


app(prog_name="backtest")
