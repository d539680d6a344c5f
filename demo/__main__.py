"""``python -m demo``: the whole loop on this machine."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from google.api_core.exceptions import GoogleAPIError

from datasets import DataSetError
from demo.history import HistoryError
from demo.machine import why
from demo.narrator import Narrator
from demo.old_state import make_room
from demo.story import Scale, StoryError, tell
from demo.summary import print_summary
from laptop.supervisor import SupervisorError
from lunation.backfill import BackfillError
from lunation.commands.printing import err, fail
from lunation.deploy.plan import ApplyError
from lunation.settings import ROOT, SettingsError

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


def _logs() -> str:
    return f"\nThe logs are in {STATE / 'logs'}" if (STATE / "logs").exists() else ""


def _on_a_terminal() -> bool:
    return sys.stdin.isatty()


@app.command(epilog="Example: nox -s demo -- --report report.json")
def demo(
    report: Annotated[
        Path | None, typer.Option("--report", callback=_writable, help="Also write what happened as JSON.")
    ] = None,
    sample: Annotated[
        int, typer.Option(min=1, max=1000, help="Take one record in so many: of flights, 10 is a quick look.")
    ] = 1,
    delete: Annotated[bool, typer.Option("--yes", help="Delete what an earlier run left, without asking.")] = False,
) -> None:
    """Deploy to this machine, file eight weeks of records, train, go live for three days, train again under traffic.

    The records are the history of lunation.toml's use case, from its first day on. Everything runs on loopback and is
    kept in .lunation/. What an earlier run left there is deleted if you say so, else kept aside: without a terminal to
    ask on, always. `nox -s up` goes on from there.
    """
    narrator = Narrator()

    def may_delete(what: str) -> bool:
        if delete or not _on_a_terminal():
            return delete
        return typer.confirm(f"{what}. Delete it? (no keeps it aside)")

    try:
        told = tell(STATE, Scale(sample=sample), narrator, lambda: make_room(STATE, may_delete, narrator.say))
        if report is not None:
            report.write_text(json.dumps(told.to_json(), indent=2) + "\n")
    except (SettingsError, DataSetError, HistoryError) as error:
        fail(str(error))
    except (StoryError, SupervisorError, BackfillError, ApplyError) as error:
        fail(f"{error}{_logs()}")
    except (OSError, GoogleAPIError) as error:
        fail(f"{why(error, STATE)}{_logs()}")
    except (KeyboardInterrupt, typer.Abort):
        err.print("stopped; everything that was started has ended")
        raise typer.Exit(130) from None
    print_summary(told, report, os.environ.get("LUNATION_USE_CASE"))
    raise typer.Exit(1 if told.broken() else 0)


if __name__ == "__main__":
    app(prog_name="demo")
