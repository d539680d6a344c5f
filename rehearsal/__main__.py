"""``python -m rehearsal``: live through a deployment on this machine, and say whether all was as it should be."""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import requests
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from laptop.supervisor import SupervisorError
from lunation.deploy.plan import ApplyError
from rehearsal.life import Report, kinds, rehearse, rehearse_kills

EXAMPLES = """Examples:

nox -s rehearse

nox -s rehearse -- --json rehearsal.json

nox -s rehearse -- --all --json rehearsal.json

nox -s rehearse -- --kind function --kind access
"""

app = typer.Typer(pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})
console = Console(highlight=False, soft_wrap=True)


@app.command(epilog=EXAMPLES)
def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what came of it to this file.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Kill it at every row, before its call and after it, not at a sample of them.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--kind", help="Kill it only at rows of this kind. Can be given again.")
    ] = None,
) -> None:
    """Live through a deployment to Google's on this machine, and kill it.

    Deploy, edit, deploy, work, drift, crash, deploy, destroy, on the laptop's
    servers and recording ones. Then, in another project, kill the command at
    the rows of its table, and begin it anew each time. Other people's things
    in both projects have to stay as they are.

    Exit code 0: all is as it should be; 1: not. On two cores it takes three
    minutes, with --all a quarter of an hour.
    """
    if unknown := set(only or ()) - kinds():
        raise typer.BadParameter(f"no row is of kind {', '.join(unknown)}; there are: {', '.join(sorted(kinds()))}")
    with tempfile.TemporaryDirectory(prefix="lunation-rehearsal-") as folder, _progress() as progress:
        now = progress.add_task("")

        def say(text: str) -> None:
            progress.console.print(f"[dim]·[/] {escape(text)}")
            progress.reset(now, description=escape(text))

        def tell(number: int, what: str) -> None:
            progress.update(now, description=f"run {number}: {escape(what)}")
            if not console.is_terminal and number % 50 == 0:  # the log of a CI shows that it goes on
                console.print(f"[dim]·[/] run {number}: {escape(what)}")

        report = Report()
        try:
            rehearse(Path(folder) / "life", say, report=report)
            rehearse_kills(Path(folder) / "killed", report, say, tell, everything, only or ())
        except (ApplyError, SupervisorError, TimeoutError, RuntimeError, requests.RequestException) as error:
            # What was found before it ended is told all the same.
            report.details.append(f"not gone to the end: {error}")
    if json_file is not None:
        json_file.write_text(json.dumps(report.to_json(), indent=1) + "\n")
    _print(report)
    raise typer.Exit(0 if report.as_it_should_be else 1)


def _progress() -> Progress:
    """What is done now, and since when; nothing where there is no terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def _print(report: Report) -> None:
    wrong, meanings = report.wrong, report.meanings()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for name, value in report.to_json().items():
        if name != "details":
            counted = f"[red]{value}[/]" if name in wrong else str(value)
            table.add_row(name, counted, f"[dim]{escape(meanings[name])}[/]")
    console.print(table)
    for line in report.details:
        console.print(f"[red]{escape(line)}[/]")
    for name, should_be in wrong.items():
        console.print(f"[red]{name} is {getattr(report, name)}, and should be {should_be}[/]")
    console.print("[green]All is as it should be.[/]" if report.as_it_should_be else "[red]Not as it should be.[/]")


app(prog_name="rehearse")
