"""``plan``, ``deploy``, ``destroy``."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lunation.commands.options import JsonOption, TargetOption, YesOption
from lunation.commands.printing import err, fail, out, plain, print_json
from lunation.commands.session import session
from lunation.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from lunation.clients import Clients
    from lunation.deploy.costs import Cost
    from lunation.deploy.plan import Change

MARKS = {
    "create": "[green]+[/]",
    "change": "[yellow]~[/]",
    "replace": "[red]±[/]",
    "delete": "[red]-[/]",
    "keep": "[blue]=[/]",
}

OutOption = Annotated[Path | None, typer.Option("--out", help="Write the plan to this file, for `deploy --plan`.")]
PlanOption = Annotated[Path | None, typer.Option("--plan", help="Do what this plan says, and nothing else.")]
DataOption = Annotated[
    list[str] | None,
    typer.Option("--delete-data", help="Delete this, too, though it keeps data: an address such as bucket/NAME."),
]


def plan(target: TargetOption = None, as_json: JsonOption = False, to_file: OutOption = None) -> None:
    """Show what a deployment would create, change, replace or delete, who may do what, and what it costs.

    Exit code 0: nothing to do; 2: something; 1: an error.
    """
    from lunation.deploy import plan as deployment
    from lunation.deploy.table import resources

    with _session(target) as (settings, clients):
        rows = resources(settings, clients.target)
        changes = deployment.plan(rows, clients)
        document = _document(settings, clients, changes, rows)
    pending = [change for change in changes if change.action != "unchanged"]
    if to_file is not None:
        to_file.write_text(json.dumps(document, indent=1, default=str) + "\n")
    if as_json:
        print_json(document)
    else:
        _show_all(changes, document)
    raise typer.Exit(2 if pending else 0)


def deploy(target: TargetOption = None, yes: YesOption = False, planned: PlanOption = None) -> None:
    """Make the target as lunation.toml says. Run twice, the second run changes nothing."""
    from lunation.deploy import plan as deployment
    from lunation.deploy.table import resources

    agreed = _read_plan(planned) if planned is not None else None
    target = target or (agreed["target"] if agreed else _project_to_deploy_to())
    with _session(target) as (settings, clients):
        rows = resources(settings, clients.target)
        changes = deployment.plan(rows, clients)
        pending = [change for change in changes if change.action != "unchanged"]
        if clients.target.sample:
            _show_all(changes, _document(settings, clients, changes, rows))
            fail(f"{target}: {_how_to_configure(settings)}")
        if agreed is not None:
            if agreed["project"] != clients.project:
                fail(f"{planned} is a plan for project {agreed['project']}, and {target} is {clients.project}")
            expected = [deployment.Change.from_json(change) for change in agreed["changes"]]
            deployment.check(expected, changes)
        else:
            expected = changes
        if not pending:
            out.print("Nothing to do: everything is as declared.")
            return
        _show_all(changes, _document(settings, clients, changes, rows))
        if not yes and agreed is None and not typer.confirm(f"Apply to project {clients.project}?"):
            raise typer.Exit(1)
        with err.status("deploying …") as status:
            done: list[Change] = []

            def report(change: "Change") -> None:
                done.append(change)
                if change.action != "unchanged":
                    out.print(f"{MARKS[change.action]} {plain(change.address)}")
                if len(done) < len(rows):
                    status.update(f"{len(done) + 1}/{len(rows)} {plain(rows[len(done)].address)}")

            deployment.apply(rows, clients, report, expected)
        out.print(f"Deployed: {len(rows)} resources in project {clients.project}.")


def destroy(target: TargetOption = None, yes: YesOption = False, delete_data: DataOption = None) -> None:
    """Take the deployment down. Buckets with data, and Datastore, stay unless they are named; the list says which."""
    from lunation.deploy import plan as deployment
    from lunation.deploy.table import resources

    named = delete_data or []
    with _session(target) as (settings, clients):
        if clients.target.sample:
            fail(f"{target}: there is nothing to take down. {_how_to_configure(settings)}")
        rows = resources(settings, clients.target)
        what = f"Records and models stay{', except ' + ', '.join(named) if named else ''}."
        if not yes and not typer.confirm(f"Take down project {clients.project}? {what}"):
            raise typer.Exit(1)
        with err.status("draining and deleting …"):
            done = deployment.destroy(rows, clients, _show, named)
    kept = [change for change in done if change.action == "keep"]
    out.print(f"Deleted {len(done) - len(kept)} resources. What remains:")
    for change in kept:
        out.print(f"  {plain(change.address)}: {plain(change.summary)}")
    if not any(change.address.startswith("database/") for change in kept):
        out.print("  the entities in Datastore" if not named else "  nothing else")


# --- which project


@contextmanager
def _session(target: str | None) -> Iterator[tuple[Settings, "Clients"]]:
    """As :func:`session`; for a sample target with a rehearsal of an empty project, so that nothing goes to Google."""
    try:
        settings = load()
        sample = settings.target(target).sample
    except SettingsError as error:
        fail(str(error))
    if not sample:
        with session(target) as pair:
            yield pair
        return
    # The one place where this package needs the rehearsal: an example has no project that could be asked.
    from rehearsal.offline import empty_project

    with empty_project(settings.target(target)) as stand_in, session(target, stand_in) as pair:
        yield pair


def _project_to_deploy_to() -> str | None:
    """The target of a deployment that names none: the one project at Google's that is configured.

    Raises:
        typer.Exit: there is none, which is explained, or there are several.
    """
    try:
        settings = load()
    except SettingsError as error:
        fail(str(error))
    if settings.target().at_google:
        return settings.default_target
    projects = sorted(name for name, target in settings.targets.items() if target.at_google)
    if len(projects) == 1:
        return projects[0]
    if projects:
        fail(f"there are several projects: say which, for example --target {projects[0]}")
    samples = sorted(name for name, target in settings.targets.items() if target.sample)
    if not samples:
        return settings.default_target
    out.print(f"{_how_to_configure(settings)}\nThis is what [bold]{samples[-1]}[/] would be, in an empty project:\n")
    with _session(samples[-1]) as (settings, clients):
        from lunation.deploy import plan as deployment
        from lunation.deploy.table import resources

        rows = resources(settings, clients.target)
        changes = deployment.plan(rows, clients)
        _show_all(changes, _document(settings, clients, changes, rows))
    raise typer.Exit(0)


def _how_to_configure(settings: Settings) -> str:
    return (
        "no project at Google's is configured. In lunation.toml, put the id of a project of yours into `project` of a "
        "target and delete its line `sample = true`; then sign in with `gcloud auth application-default login`, and "
        "run it again with --target NAME. docs/deploy.md has every step. On this machine: --target laptop"
    )


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
        if {"target", "project", "changes"} <= document.keys():
            return document
    except (OSError, ValueError, AttributeError) as error:
        fail(f"{path}: {error}")
    fail(f"{path} is no plan; `lunation plan --out {path}` writes one")


# --- what is printed


def _document(
    settings: Settings, clients: "Clients", changes: Sequence["Change"], rows: Sequence[Any]
) -> dict[str, Any]:
    from lunation.deploy import costs
    from lunation.deploy.access import Access, lines

    access = {row.address: row for row in rows if isinstance(row, Access)}
    granted = []
    for change in changes:
        row = access.get(change.address)
        if row is None or change.action not in ("create", "change"):
            continue
        fields = change.fields or [(role, None, members) for role, members in row.desired(clients).items()]
        granted += [
            {"sign": sign, "resource": row.name, "role": role, "member": member} for sign, role, member in lines(fields)
        ]
    estimate = [] if clients.target.endpoints is not None and not clients.target.sample else rows
    found: list[Cost] = costs.estimate(estimate, settings)
    return {
        "target": next(
            (name for name, one in settings.targets.items() if one.project == clients.project), settings.default_target
        ),
        "project": clients.project,
        "changes": [change.to_json() for change in changes],
        "access": granted,
        "cost": {
            "usd_a_month": round(sum(cost.usd for cost in found), 2),
            "prices_of": costs.DATE,
            "volumes": settings.volumes.model_dump(),
            "rows": [{"address": cost.address, "usd_a_month": round(cost.usd, 2), "why": cost.why} for cost in found],
        },
    }


def _show_all(changes: Sequence["Change"], document: dict[str, Any]) -> None:
    for change in changes:
        if not change.address.startswith("access/"):
            _show(change)
    if document["access"]:
        out.print("\n[bold]Who may do what[/]")
        for one in document["access"]:
            mark = "[green]+[/]" if one["sign"] == "+" else "[red]-[/]"
            out.print(f"{mark} {plain(one['resource'])}: {plain(_who(one['member']))} {plain(_role(one['role']))}")
    cost = document["cost"]
    if cost["rows"]:
        volumes = cost["volumes"]
        out.print(
            f"\n[bold]What it costs[/]: about ${cost['usd_a_month']:,.0f} a month at {volumes['records_per_day']:,} "
            f"records of {volumes['record_bytes']:,} bytes a day, by list prices of {cost['prices_of']}"
        )
        for row in cost["rows"]:
            out.print(f"  {row['usd_a_month']:8,.2f}  {plain(row['address'])}: {plain(row['why'])}")
    number = {action: sum(change.action == action for change in changes) for action in (*MARKS, "unchanged")}
    out.print(
        f"\n{number['create']} to create, {number['change']} to change, {number['replace']} to replace, "
        f"{number['delete']} to delete, {number['unchanged']} unchanged."
    )


def _who(member: str) -> str:
    """A member, our own by the short name that the table above gives it."""
    return re.sub(r"^serviceAccount:(lunation-[a-z-]+)@.*", r"\1", member)


def _role(role: str) -> str:
    """A role, our own by its id."""
    return re.sub(r"^projects/[^/]+/roles/", "", role)


def _show(change: "Change") -> None:
    if change.action == "unchanged":
        return
    summary = f"  [dim]{plain(change.summary)}[/]" if change.summary else ""
    out.print(f"{MARKS[change.action]} {plain(change.address)}{summary}")
    for path, now, then in change.fields:
        out.print(f"    {plain(path)}: {_short(now)} → {_short(then)}")


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return plain(text if len(text) <= 80 else f"{text[:77]}…")
