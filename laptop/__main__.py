"""``laptop``, or ``python -m laptop``: run the servers, and print what one needs to talk to them."""

import json
import logging
import os
import shlex
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from laptop import private
from laptop.identity import Identity
from laptop.supervisor import SERVICES, Supervisor, SupervisorError

app = typer.Typer(
    help="Servers that stand in for Google Cloud on this machine, on loopback: " + ", ".join(SERVICES) + ".",
    epilog='Examples: laptop up · in another terminal: eval "$(laptop env)" · laptop up --state FOLDER --only '
    "pubsub,storage. Where the command is not installed: python -m laptop",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
StateOption = Annotated[Path, typer.Option("--state", help="The folder that keeps everything.")]
STATE = Path(".laptop")


def _fail(message: str) -> None:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)


@app.command(epilog="Examples: laptop up · laptop up --state FOLDER --only pubsub,storage")
def up(
    state: StateOption = STATE,
    only: Annotated[str, typer.Option(help="Some of the services, by comma.")] = ",".join(SERVICES),
) -> None:
    """Start the servers and keep them running until Ctrl-C or SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.umask(private.UMASK)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        with Supervisor(state, only.split(",")) as supervisor:
            supervisor.wait_ready(stopped=stopped)
            if not stopped.is_set():
                for service, address in supervisor.endpoints.items():
                    typer.echo(f"{service:10} {address['http']:24} gRPC {address['grpc']}")
                typer.echo("ready")
            stopped.wait()
    except SupervisorError as error:
        _fail(str(error))


@app.command(epilog='Example: eval "$(laptop env)"')
def env(
    state: StateOption = STATE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of shell exports.")] = False,
    project: Annotated[str, typer.Option(help="The project id.")] = "local-dev",
) -> None:
    """Print the environment that sends Google's libraries and gcloud to these servers."""
    try:
        endpoints = json.loads((state / "endpoints.json").read_text())
    except FileNotFoundError:
        _fail(f"{state} has no servers: start them with `python -m laptop up --state {state}`")
    variables = environment(endpoints, state.resolve(), project)
    if as_json:
        typer.echo(json.dumps(variables, indent=2))
    else:
        for name, value in variables.items():
            typer.echo(f"export {name}={shlex.quote(value)}")


def environment(endpoints: dict[str, dict[str, str]], state: Path, project: str) -> dict[str, str]:
    """Variables by name, for the servers that are there. gcloud gets a configuration of its own: a real one is kept."""
    variables = {
        "GOOGLE_CLOUD_PROJECT": project,
        "CLOUDSDK_CORE_PROJECT": project,
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CONFIG": str(state / "gcloud"),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
    }
    for service, protocol in (("pubsub", "grpc"), ("datastore", "grpc"), ("storage", "http")):
        if service in endpoints:
            variables[f"{service.upper()}_EMULATOR_HOST"] = endpoints[service][protocol]
    for api, service in (
        ("WORKFLOWS", "workflows"),
        ("WORKFLOWEXECUTIONS", "workflows"),
        ("DATAPROC", "dataproc"),
        ("CLOUDSCHEDULER", "scheduler"),
        ("CLOUDFUNCTIONS", "functions"),
        ("PUBSUB", "pubsub"),
        ("STORAGE", "storage"),
        ("DATASTORE", "datastore"),
        ("DATAFLOW", "dataflow"),
    ):
        if service in endpoints:
            variables[f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api}"] = endpoints[service]["http"] + "/"
    return variables


@app.command(
    epilog="Example: "
    'curl -H "Authorization: Bearer $(laptop token --email me@local-dev.iam.gserviceaccount.com --audience URL)" URL',
)
def token(
    audience: Annotated[str, typer.Option(help="Whom the token is for: a function's URL.")],
    email: Annotated[str, typer.Option(help="Whose token: an account with roles/run.invoker on the function.")],
    state: StateOption = STATE,
) -> None:
    """Print an identity token that the function servers on this state accept."""
    typer.echo(Identity(state).token(email, audience))


if __name__ == "__main__":
    app(prog_name="laptop")
