"""``python -m rehearsal``: live through a deployment on this machine, and say whether all was as it should be."""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import requests
import typer
from rich.console import Console
from rich.markup import escape

from laptop.supervisor import SupervisorError
from lunation.deploy.plan import ApplyError
from rehearsal.life import Report, rehearse

app = typer.Typer(pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})
console = Console(highlight=False, soft_wrap=True)


@app.command(epilog="Example: nox -s rehearse -- --json rehearsal.json")
def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what came of it to this file.")] = None,
) -> None:
    """Deploy, plan, edit, deploy, work, drift, crash, deploy, destroy: on the laptop's servers and recording ones.

    Exit code 0: all is as it should be; 1: not.
    """
    with tempfile.TemporaryDirectory(prefix="lunation-rehearsal-") as folder:
        try:
            report = rehearse(Path(folder), lambda text: console.print(f"[dim]·[/] {text}"))
        except (ApplyError, SupervisorError, TimeoutError, RuntimeError, requests.RequestException) as error:
            console.print(f"[red]error:[/] {escape(str(error))}")
            raise typer.Exit(1) from error
    if json_file is not None:
        json_file.write_text(json.dumps(report.to_json(), indent=1) + "\n")
    _print(report)
    raise typer.Exit(0 if report.as_it_should_be else 1)


def _print(report: Report) -> None:
    for name, value in report.to_json().items():
        if name != "details":
            bad = name in Report.MUST_BE_ZERO and value
            console.print(f"  {name:34}{'[red]' if bad else ''}{value:>8}{'[/]' if bad else ''}")
    for line in report.details:
        console.print(f"[red]{escape(line)}[/]")
    console.print("[green]All is as it should be.[/]" if report.as_it_should_be else "[red]Not as it should be.[/]")


app(prog_name="rehearse")
