"""``plan``, ``deploy``, ``destroy``."""

import json
from typing import TYPE_CHECKING, Any

import typer

from lunation.commands.options import JsonOption, TargetOption, YesOption
from lunation.commands.printing import err, out, plain, print_json
from lunation.commands.session import session

if TYPE_CHECKING:
    from lunation.deploy.plan import Change

MARKS = {"create": "[green]+[/]", "change": "[yellow]~[/]", "delete": "[red]-[/]", "keep": "[blue]=[/]"}


def plan(target: TargetOption = None, as_json: JsonOption = False) -> None:
    """Show what a deployment would create or change. Exit code 0: nothing; 2: something; 1: an error."""
    from lunation.deploy import plan as deployment
    from lunation.deploy.table import resources

    with session(target) as (settings, clients):
        changes = deployment.plan(resources(settings, clients.target), clients)
    pending = [change for change in changes if change.action != "unchanged"]
    if as_json:
        print_json([change.to_json() for change in changes])
    else:
        for change in pending:
            _show(change)
        out.print(f"{len(pending)} to create or change, {len(changes) - len(pending)} unchanged.")
    raise typer.Exit(2 if pending else 0)


def deploy(target: TargetOption = None, yes: YesOption = False) -> None:
    """Make the target as lunation.toml says. Run twice, the second run changes nothing."""
    from lunation.deploy import plan as deployment
    from lunation.deploy.table import resources

    with session(target) as (settings, clients):
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
                    out.print(f"{MARKS[change.action]} {plain(change.address)}")
                if len(done) < len(rows):
                    status.update(f"{len(done) + 1}/{len(rows)} {plain(rows[len(done)].address)}")

            deployment.apply(rows, clients, report)
        out.print(f"Deployed: {len(rows)} resources in project {clients.project}.")


def destroy(target: TargetOption = None, yes: YesOption = False) -> None:
    """Take the deployment down. Buckets with data, and Datastore, stay; the list says which."""
    from lunation.deploy import plan as deployment
    from lunation.deploy.table import resources

    with session(target) as (settings, clients):
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
    out.print(f"{MARKS[change.action]} {plain(change.address)}")
    for path, now, then in change.fields:
        out.print(f"    {plain(path)}: {_short(now)} → {_short(then)}")


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return plain(text if len(text) <= 80 else f"{text[:77]}…")
