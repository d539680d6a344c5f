"""``python -m demo``: the whole loop on this machine."""

import json
from pathlib import Path
from typing import Annotated

import typer

from demo.story import Scale, tell
from demo.summary import print_summary
from lunation.settings import ROOT

app = typer.Typer(pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.command(epilog="Example: nox -s demo -- --report report.json")
def demo(
    report: Annotated[Path | None, typer.Option("--report", help="Also write what happened as JSON.")] = None,
    sample: Annotated[int, typer.Option(min=1, max=1000, help="Take one flight in so many: 10 is a quick look.")] = 1,
) -> None:
    """Deploy to this machine, file eight weeks of flights, train, go live for three days, train again under traffic.

    Everything runs on loopback and is kept in .lunation/, which is made anew. `nox -s up` goes on from there.
    """
    told = tell(ROOT / ".lunation", Scale(sample=sample))
    if report is not None:
        report.write_text(json.dumps(told.to_json(), indent=2) + "\n")
    print_summary(told, report)
    raise typer.Exit(0 if told.lost == 0 and told.switch.errors == 0 else 1)


app(prog_name="demo")
