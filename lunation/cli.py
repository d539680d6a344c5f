"""The ``lunation`` command. Each command only wires: it reads the settings, makes the clients, calls and prints."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from lunation.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from lunation.clients import Clients
    from lunation.deploy.plan import Change

app = typer.Typer(
    help="Deploy Lunation, look at what it keeps, and start a training.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

TargetOption = Annotated[str | None, typer.Option("--target", help="A target of lunation.toml.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=10000, help="At most so many rows, newest first.")]

MARKS = {"create": "[green]+[/]", "change": "[yellow]~[/]", "delete": "[red]-[/]", "keep": "[blue]=[/]"}


@contextmanager
def _session(target: str | None) -> Iterator[tuple[Settings, "Clients"]]:
    """Settings and clients; every expected failure becomes one line and exit code 1."""
    import requests
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import GoogleAuthError

    from lunation.clients import Clients
    from lunation.deploy.plan import ApplyError

    try:
        settings = load()
        clients = Clients(settings.target(target))
        _check_reachable(clients)
        yield settings, clients
    except (SettingsError, ApplyError, ValueError, TimeoutError) as error:
        _fail(str(error))
    except (GoogleAPICallError, RetryError, GoogleAuthError, requests.RequestException) as error:
        _fail(f"{type(error).__name__}: {error}")


def _check_reachable(clients: "Clients") -> None:
    """A server that is not there would only show after the client libraries' retries, a minute later."""
    for service, address in clients.target.addresses().items():
        host, _, port = address["grpc"].rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=2).close()
        except OSError:
            raise SettingsError(
                f"{service} does not answer at {address['grpc']}: start the servers with `nox -s up`"
            ) from None


def _fail(message: str) -> None:
    err.print(f"[red]error:[/] {_plain(message)}")
    raise typer.Exit(1)


def _plain(text: Any) -> str:
    from rich.markup import escape

    return escape(str(text))


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def _document(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json")


def _table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*["" if cell is None else _plain(cell) for cell in row])
    out.print(table)


def _time(value: datetime | None) -> str:
    return "" if value is None else f"{value:%Y-%m-%d %H:%M:%S}"


# --- deployment


@app.command(epilog="Example: lunation plan --target laptop --json")
def plan(target: TargetOption = None, as_json: JsonOption = False) -> None:
    """Show what a deployment would create or change. Exit code 0: nothing; 2: something; 1: an error."""
    from lunation.deploy import plan as deployment
    from lunation.deploy.table import resources

    with _session(target) as (settings, clients):
        changes = deployment.plan(resources(settings, clients.target), clients)
    pending = [change for change in changes if change.action != "unchanged"]
    if as_json:
        _print_json([change.to_json() for change in changes])
    else:
        for change in pending:
            _show(change)
        out.print(f"{len(pending)} to create or change, {len(changes) - len(pending)} unchanged.")
    raise typer.Exit(2 if pending else 0)


@app.command(epilog="Example: lunation deploy --target laptop --yes")
def deploy(
    target: TargetOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Make the target as lunation.toml says. Run twice, the second run changes nothing."""
    from lunation.deploy import plan as deployment
    from lunation.deploy.table import resources

    with _session(target) as (settings, clients):
        rows = resources(settings, clients.target)
        pending = [change for change in deployment.plan(rows, clients) if change.action != "unchanged"]
        for change in pending:
            _show(change)
        if not pending:
            out.print("Nothing to do: everything is as declared.")
            return
        if not yes and not typer.confirm(f"Apply {len(pending)} changes to project {clients.project}?"):
            raise typer.Exit(1)
        with err.status("deploying …") as status:
            done: list[Change] = []

            def report(change: "Change") -> None:
                done.append(change)
                if change.action != "unchanged":
                    out.print(f"{MARKS[change.action]} {_plain(change.address)}")
                if len(done) < len(rows):
                    status.update(f"{len(done) + 1}/{len(rows)} {_plain(rows[len(done)].address)}")

            deployment.apply(rows, clients, report)
        out.print(f"Deployed: {len(rows)} resources in project {clients.project}.")


@app.command(epilog="Example: lunation destroy --target laptop --yes")
def destroy(
    target: TargetOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take the deployment down. Buckets with data, and Datastore, stay; the list says which."""
    from lunation.deploy import plan as deployment
    from lunation.deploy.table import resources

    with _session(target) as (settings, clients):
        rows = resources(settings, clients.target)
        if not yes and not typer.confirm(f"Take down project {clients.project}? Records and models stay."):
            raise typer.Exit(1)
        with err.status("draining and deleting …"):
            done = deployment.destroy(rows, clients, _show)
    kept = [change.address for change in done if change.action == "keep"]
    out.print(f"Deleted {len(done) - len(kept)} resources. Kept: {', '.join(kept)}, and the entities in Datastore.")


def _show(change: "Change") -> None:
    if change.action == "unchanged":
        return
    out.print(f"{MARKS[change.action]} {_plain(change.address)}")
    for path, now, then in change.fields:
        out.print(f"    {_plain(path)}: {_short(now)} → {_short(then)}")


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return _plain(text if len(text) <= 80 else f"{text[:77]}…")


# --- reading


@app.command(
    epilog="Examples: lunation query 2013-02-26.UA.1545.EWR.0515 · lunation query --label late --limit 5 --json"
)
def query(
    record_id: Annotated[str | None, typer.Argument(help="One record: what was sent and what was answered.")] = None,
    label: Annotated[str | None, typer.Option(help="Only answers with this label.")] = None,
    model: Annotated[str | None, typer.Option(help="Only answers of this model version.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Answered then or later, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Answered before, UTC.")] = None,
    limit: LimitOption = 20,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look up classifications: of one record, by label, by model version, by time."""
    from datetime import UTC

    from lunation import query as fast_path

    with _session(target) as (_, clients):
        if record_id is not None:
            _one_record(clients, record_id, as_json)
            return
        found = list(
            fast_path.classifications(
                clients.datastore,
                label=label,
                model_version=model,
                since=since and since.replace(tzinfo=UTC),
                until=until and until.replace(tzinfo=UTC),
                limit=limit,
            )
        )
    if as_json:
        _print_json([_document(answer) for answer in found])
        return
    _table(
        "Classifications, newest first",
        ["record", "label", "probability", "model version", "generation", "classified at (UTC)"],
        [
            [one.record_id, one.label, f"{one.probability:.4f}", one.model_version, one.generation,
             _time(one.classified_at)]
            for one in found
        ],
    )  # fmt: skip


def _one_record(clients: "Clients", record_id: str, as_json: bool) -> None:
    from lunation import query as fast_path

    record = fast_path.record(clients.datastore, record_id)
    answer = fast_path.classification(clients.datastore, record_id)
    if record is None and answer is None:
        _fail(f"no record {record_id!r} in Datastore. It may be older than its time to live; the archive keeps it")
    if as_json:
        _print_json({"record": record, "classification": None if answer is None else _document(answer)})
        return
    for title, document in (("Record", record), ("Classification", None if answer is None else _document(answer))):
        if document is None:
            out.print(f"{title}: none yet")
        else:
            _table(title, ["field", "value"], [[name, value] for name, value in document.items()])


@app.command(epilog="Example: lunation models --json")
def models(limit: LimitOption = 20, target: TargetOption = None, as_json: JsonOption = False) -> None:
    """Show the model that serves now, and the pointer's history."""
    from lunation import query as fast_path

    with _session(target) as (settings, clients):
        now = fast_path.pointer(clients.datastore, settings.use_case)
        history = fast_path.promotions(clients.datastore, settings.use_case, limit)
    if as_json:
        _print_json({"pointer": now and _document(now), "history": [_document(move) for move in history]})
        return
    if now is None:
        out.print("No model yet: the first cycle has not been promoted. `lunation retrain --force` starts one.")
        return
    out.print(
        f"[bold]{_plain(now.model_version)}[/] serves since {_time(now.moved_at)} UTC, generation {now.generation}"
    )
    _table(
        "History, newest first",
        ["generation", "model version", "verdict", "reason", "moved at (UTC)", "by"],
        [
            [move.generation, move.model_version, move.verdict, move.reason, _time(move.moved_at),
             move.actor.rsplit("/", 1)[-1]]
            for move in history
        ],
    )  # fmt: skip


@app.command(epilog="Examples: lunation runs · lunation runs 3f2a… --json")
def runs(
    execution: Annotated[str | None, typer.Argument(help="An execution's id: show its steps.")] = None,
    limit: LimitOption = 20,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the training runs and the workflow executions behind them; with an id, the steps of one."""
    from lunation import query as fast_path
    from lunation import runs as workflow_runs

    with _session(target) as (settings, clients):
        if execution is not None:
            steps = workflow_runs.steps(clients, f"{workflow_runs.workflow_path(clients)}/executions/{execution}")
            if as_json:
                _print_json([vars(step) for step in steps])
            else:
                _table(
                    f"Steps of {execution}",
                    ["#", "routine", "step", "kind", "state", "started", "ended"],
                    [list(vars(step).values()) for step in steps],
                )
            return
        started = workflow_runs.executions(clients, limit)
        claims = {run.execution.rsplit("/", 1)[-1]: run for run in fast_path.training_runs(
            clients.datastore, settings.use_case, limit)}  # fmt: skip
    rows: list[dict[str, Any]] = []
    for one in started:
        short = one.name.rsplit("/", 1)[-1]
        claim = claims.get(short)
        rows.append(
            {
                "execution": short,
                "state": one.state.name,
                "started": one.start_time,
                "seconds": round((one.end_time - one.start_time).total_seconds(), 1) if one.end_time else None,
                "cycle": claim and claim.cycle,
                "run_id": claim and claim.run_id,
                "run_state": claim and claim.state.value,
                "verdict": claim and claim.verdict,
                "cause": (claim and claim.cause) or one.error.context or None,
            }
        )
    if as_json:
        _print_json(rows)
        return
    _table(
        "Workflow runs, newest first",
        ["execution", "state", "started (UTC)", "seconds", "cycle", "run", "verdict", "cause"],
        [
            [row["execution"], row["state"], _time(row["started"]), row["seconds"], row["cycle"], row["run_id"],
             row["verdict"], row["cause"]]
            for row in rows
        ],
    )  # fmt: skip


# --- acting


@app.command(epilog="Example: lunation retrain --force --wait")
def retrain(
    force: Annotated[bool, typer.Option("--force", help="Also when this is not the week of a cycle.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended.")] = False,
    target: TargetOption = None,
) -> None:
    """Start the retraining workflow."""
    from lunation import runs as workflow_runs

    with _session(target) as (_, clients):
        started = workflow_runs.start(clients, force=force)
        name = started.name.rsplit("/", 1)[-1]
        out.print(f"Started {name}. Follow it: lunation runs {name}")
        if wait:
            with err.status("training …"):
                ended = workflow_runs.wait(clients, started.name, 3600)
            if ended.state.name != "SUCCEEDED":
                _fail(f"{name} {ended.state.name}: {ended.error.payload}")
            out.print(ended.result)


@app.command(epilog="Example: lunation backfill --records 'history/records-*.json' --labels 'history/labels-*.json'")
def backfill(
    records: Annotated[list[str] | None, typer.Option(help="Files of records: paths or gs:// patterns.")] = None,
    labels: Annotated[list[str] | None, typer.Option(help="Files of labels: paths or gs:// patterns.")] = None,
    target: TargetOption = None,
) -> None:
    """Bring history in files (a JSON document a line) into the archive, through the archive pipeline."""
    from lunation import backfill as history

    if not records and not labels:
        _fail("nothing to read: give --records or --labels")
    with _session(target) as (settings, clients), err.status("filing history …"):
        job = history.backfill(settings, clients, records=records or [], labels=labels or [])
    out.print(f"Filed by job {job}.")
