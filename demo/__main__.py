"""``python -m demo``: the whole loop on this machine."""

import json
from pathlib import Path
from typing import Annotated

import typer

from demo.story import Scale, StoryError, tell
from demo.summary import print_summary
from laptop.supervisor import SupervisorError
from lunation.backfill import BackfillError
from lunation.commands.printing import err, fail
from lunation.settings import ROOT

app = typer.Typer(pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})
STATE = ROOT / ".lunation"


def _writable(path: Path | None) -> Path | None:
    """Refuse a file that could not be written, before minutes are spent on what it is to hold."""
    if path is None:
        return None
    there = path.exists()
    try:
        path.open("a").close()
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}") from None
    if not there:
        path.unlink()
    return path


@app.command(epilog="Example: nox -s demo -- --report report.json")
def demo(
    report: Annotated[
        Path | None, typer.Option("--report", callback=_writable, help="Also write what happened as JSON.")
    ] = None,
    sample: Annotated[int, typer.Option(min=1, max=1000, help="Take one flight in so many: 10 is a quick look.")] = 1,
) -> None:
    """Deploy to this machine, file eight weeks of flights, train, go live for three days, train again under traffic.

    Everything runs on loopback and is kept in .lunation/, which is made anew. `nox -s up` goes on from there.
    """
    try:
        told = tell(STATE, Scale(sample=sample))
    except (StoryError, SupervisorError, BackfillError) as error:
        fail(f"{error}\nThe logs are in {STATE / 'logs'}")
    except KeyboardInterrupt:
        err.print("stopped; everything that was started has ended")
        raise typer.Exit(130) from None
    if report is not None:
        report.write_text(json.dumps(told.to_json(), indent=2) + "\n")
    print_summary(told, report)
    raise typer.Exit(1 if told.broken() else 0)


if __name__ == "__main__":
    app(prog_name="demo")
