"""``nox -s up``: keeps the servers running on the state that the demo left, and prints what to try."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from demo.machine import port_in_use, why
from laptop.supervisor import Supervisor, SupervisorError
from lunation.settings import ROOT, SettingsError, load
from schemas import use_case

app = typer.Typer(pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})
console = Console(highlight=False, soft_wrap=True)

TRY = """\
[bold]The servers run.[/] Ctrl-C ends them all. Try, in another terminal:

  alias lunation="{root}/.nox/lunation/bin/lunation"    # in any folder of the project
  lunation deploy --target laptop             # makes what lunation.toml declares; nothing, if the demo ran before
  lunation query --label {positive} --limit 5       # the newest answers
  lunation verify --date {day}          # every record of a day accounted for
  lunation urls                               # where to send records and ask the model, by curl
  lunation send FILE                          # records of your own, a JSON document a line
  lunation models                             # what the pointer names, and what serves
  lunation runs                               # the trainings, and why one failed
  lunation runs latest                        # what the newest spent its time on
  lunation report latest --open               # why its model was trusted, and what changed
  lunation quality                            # how the answers hold, now that outcomes are known
  lunation retrain --force --wait             # another training

With Google's own command line, if it is installed:

  eval "$(.nox/lunation/bin/python -m laptop env --state {state})"
  gcloud workflows executions list retrain --location us-central1
  gcloud pubsub subscriptions list
  gcloud functions list
"""


@app.command(epilog="Example: nox -s up")
def up(state: Annotated[Path, typer.Option(help="The folder that keeps everything.")] = ROOT / ".lunation") -> None:
    """Start the servers on the kept state and run until Ctrl-C."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        positive = use_case(load().use_case).positive
        if taken := port_in_use(state):
            raise SupervisorError(taken)
        with Supervisor(state) as supervisor:
            with console.status("starting the servers …"):
                supervisor.wait_ready(stopped=stopped)
            if not stopped.is_set():
                shown = state.relative_to(ROOT) if state.is_relative_to(ROOT) else state
                root, day = escape(str(ROOT)), _newest_day(state)
                console.print(TRY.format(root=root, state=shown, positive=positive, day=day))
            stopped.wait()
            console.print("stopping …")
    except (SupervisorError, SettingsError) as error:
        console.print(f"[red]error:[/] {escape(str(error))}")
        raise typer.Exit(1) from error
    except OSError as error:
        console.print(f"[red]error:[/] {escape(why(error, state))}")
        raise typer.Exit(1) from error


def _newest_day(state: Path) -> str:
    """Of the records that are kept; a placeholder if there are none."""
    days = sorted(path.name.removeprefix("dt=") for path in state.glob("storage/*/archive/records/dt=*"))
    return days[-1] if days else "YYYY-MM-DD"


if __name__ == "__main__":
    app(prog_name="up")
