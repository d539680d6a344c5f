"""The ``lunation`` command: which commands there are, in the order in which ``--help`` lists them."""

import sys
from io import TextIOWrapper

import typer

from lunation.commands import (
    calling,
    checking,
    comparing,
    deployment,
    judging,
    reading,
    reconciling,
    sending,
    serving,
    training,
)
from lunation.commands.printing import complain
from lunation.commands.session import explain

app = typer.Typer(
    help="Deploy Lunation, look at what it keeps, and start a training.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command(epilog="Examples: lunation doctor --target production · lunation doctor --json")(checking.doctor)
app.command(epilog="Example: lunation plan --target laptop --json")(deployment.plan)
app.command(
    epilog="Examples: lunation deploy --target laptop --yes · lunation deploy --plan plan.json · "
    "lunation deploy --target production --release 0c1f5e9a2b7d --from staging"
)(deployment.deploy)
app.command(epilog="Examples: lunation smoke --target production · lunation smoke --patience 300 --json")(
    checking.smoke
)
app.command(epilog="Example: lunation destroy --target laptop --yes")(deployment.destroy)
app.command(epilog="Example: lunation releases --target staging --json")(deployment.releases)
app.command(epilog="Examples: lunation stage · lunation stage classify")(deployment.stage)
app.command(
    epilog="Examples: lunation query 2013-02-26.AA.305.LGA.0700 · lunation query --label late --limit 5 --json"
)(reading.query)
app.command(epilog="Examples: lunation verify · lunation verify --from 2013-03-01 --to 2013-03-03 --json")(
    reconciling.verify
)
app.command(epilog="Examples: lunation replay --date 2013-03-01 · lunation replay --from 2013-03-01 --all --yes")(
    reconciling.replay
)
app.command(
    epilog="Examples: lunation send flights.ndjson · zcat flights.ndjson.gz | lunation send - --rate 50 · "
    "lunation send landed.ndjson --labels"
)(sending.send)
app.command(epilog="Examples: lunation urls · lunation urls classify-http")(calling.urls)
app.command(epilog="Example: lunation models --json")(serving.models)
app.command("served-at", epilog="Example: lunation served-at 2026-11-24T09:30:00")(serving.served_at)
app.command(epilog="Example: lunation promote 1a2b3c4d --reason 'held for too few rows'")(serving.promote)
app.command(
    epilog="Examples: lunation rollback --reason 'false alarms' · lunation rollback --to 3 --reason 'as in May'"
)(serving.rollback)
app.command(epilog="Examples: lunation shadow 1a2b3c4d --reason 'a closer look' · lunation shadow none --reason seen")(
    serving.shadow
)
app.command(
    epilog="Examples: lunation canary 1a2b3c4d --share 0.1 --reason 'a trial' · lunation canary none --reason over"
)(serving.canary)
app.command(epilog="Examples: lunation compare --days 7 · lunation compare 1a2b3c4d --json")(comparing.compare)
app.command(epilog="Examples: lunation runs · lunation runs 1a2b3c4d · lunation runs latest --all")(training.runs)
app.command(epilog="Examples: lunation report 1a2b3c4d · lunation report latest --open")(judging.report)
app.command(epilog="Example: lunation diff 5e6f7a8b 1a2b3c4d --json")(judging.diff)
app.command(epilog="Examples: lunation quality --days 7 · lunation quality --retrain --json")(judging.quality)
app.command(epilog="Examples: lunation retrain --force --wait · lunation retrain --like 1a2b3c4d")(training.retrain)
app.command(epilog="Example: lunation backfill --records 'history/records-*.json' --labels 'history/labels-*.json'")(
    training.backfill
)


def main() -> None:
    """The command as a process of its own: whatever goes wrong is one line and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8
    try:
        app(prog_name="lunation")
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        complain(explain(error))
        sys.exit(1)
