"""``plan``, ``deploy``, ``destroy``."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lunation.commands.options import JsonOption, TargetOption, YesOption
from lunation.commands.printing import clock, err, fail, out, plain, print_json, print_table
from lunation.commands.session import HOW_TO_CONFIGURE, an_example, session
from lunation.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from lunation.clients import Clients
    from lunation.deploy.costs import Cost
    from lunation.deploy.plan import Change
    from lunation.deploy.releases import Release

MARKS = {
    "create": "[green]+[/]",
    "change": "[yellow]~[/]",
    "replace": "[red]±[/]",
    "delete": "[red]-[/]",
    "keep": "[blue]=[/]",
}

FEW = 3
"""What stays for one reason, up to so many things, gets a line each."""
NO_PROJECT = f"no project at Google's is configured. {HOW_TO_CONFIGURE}"

OutOption = Annotated[Path | None, typer.Option("--out", help="Write the plan to this file, for `deploy --plan`.")]
PlanOption = Annotated[Path | None, typer.Option("--plan", help="Do what this plan says, and nothing else.")]
ReleaseOption = Annotated[
    str | None, typer.Option("--release", help="Deploy this release again, instead of what the sources make now.")
]
FromOption = Annotated[
    str | None, typer.Option("--from", help="The target whose release that is, to promote its bytes to this one.")
]
DataOption = Annotated[
    list[str] | None,
    typer.Option("--delete-data", help="Delete this, too, though it keeps data: an address such as bucket/NAME."),
]


def plan(
    target: TargetOption = None,
    as_json: JsonOption = False,
    to_file: OutOption = None,
    release: ReleaseOption = None,
    origin: FromOption = None,
) -> None:
    """Show what a deployment would create, change, replace or delete, who may do what, and what it costs.

    Exit code 0: nothing to do; 2: something; 1: an error.
    """
    from lunation.deploy import plan as deployment
    from lunation.deploy.place import check_project
    from lunation.deploy.table import resources

    _check_release(release, origin)
    with session(target, examples=True) as (settings, clients):
        check_project(clients)
        shipped = _shipped(settings, clients, release, origin)
        rows = resources(settings, clients.target, shipped)
        changes = deployment.plan(rows, clients)
        document = {**_document(settings, clients, changes, rows), "release": shipped.id, "from": origin}
    pending = [change for change in changes if change.action != "unchanged"]
    if to_file is not None:
        to_file.write_text(json.dumps(document, indent=1, default=str) + "\n")
    if as_json:
        print_json(document)
    else:
        _show_all(changes, document)
    raise typer.Exit(2 if pending else 0)


def deploy(
    target: TargetOption = None,
    yes: YesOption = False,
    planned: PlanOption = None,
    release: ReleaseOption = None,
    origin: FromOption = None,
) -> None:
    """Make the target as lunation.toml says. Run twice, the second run changes nothing."""
    from lunation.deploy import plan as deployment
    from lunation.deploy.place import check_project
    from lunation.deploy.table import resources

    _check_release(release, origin)
    agreed = _read_plan(planned) if planned is not None else None
    if agreed is not None and release is None and agreed["from"] is not None:
        release, origin = agreed["release"], agreed["from"]
    target = target or (agreed["target"] if agreed else _project_to_deploy_to(release))
    with session(target, examples=True) as (settings, clients):
        check_project(clients)
        shipped = _shipped(settings, clients, release, origin)
        if agreed is not None and agreed["release"] != shipped.id:
            if release is not None:
                fail(f"{planned} is a plan for release {agreed['release']}, not {release}")
            fail(
                f"{planned} is a plan for release {agreed['release']}, and the sources now make {shipped.id}. Make a "
                f"new plan, or deploy that one: --release {agreed['release']}"
            )
        rows = resources(settings, clients.target, shipped)
        changes = deployment.plan(rows, clients)
        pending = [change for change in changes if change.action != "unchanged"]
        if clients.target.sample:
            _show_all(changes, _document(settings, clients, changes, rows))
            fail(f"{target}: {NO_PROJECT}")
        if agreed is not None:
            if agreed["project"] != clients.project:
                fail(f"{planned} is a plan for project {agreed['project']}, and {target} is {clients.project}")
            expected = [deployment.Change.from_json(change) for change in agreed["changes"]]
            deployment.check(expected, changes)
        else:
            expected = changes
        if not pending:
            out.print("Nothing to do: everything is as declared.")
            deployment.clear_up(rows, clients, _once())
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

            deployment.apply(rows, clients, report, expected, say=_once())
        out.print(f"Deployed: {len(rows)} resources in project {clients.project}, release {shipped.id}.")


def destroy(target: TargetOption = None, yes: YesOption = False, delete_data: DataOption = None) -> None:
    """Take the deployment down. Buckets with data, and Datastore, stay unless they are named; the list says which."""
    from lunation.deploy import plan as deployment
    from lunation.deploy.place import check_project
    from lunation.deploy.table import resources

    named = delete_data or []
    with session(target, examples=True) as (settings, clients):
        if clients.target.sample:
            fail(f"{target}: there is nothing to take down. {NO_PROJECT}")
        check_project(clients)
        rows = resources(settings, clients.target)
        what = f"Records and models stay{', except ' + ', '.join(named) if named else ''}; "
        what += "messages that wait in a subscription go with it."
        if not yes and not typer.confirm(f"Take down project {clients.project}? {what}"):
            raise typer.Exit(1)
        with err.status("draining and deleting …"):
            done = deployment.destroy(rows, clients, _show, named, say=_once())
    kept = [change for change in done if change.action == "keep"]
    out.print(f"Deleted {len(done) - len(kept)} resources. What remains:")
    for why, changes in _by_reason(kept).items():
        for addresses in [changes] if len(changes) > FEW else [[one] for one in changes]:
            out.print(f"  {plain(', '.join(addresses))}: {plain(why)}")
    if not any(change.address.startswith("database/") for change in kept):
        out.print("  the entities in Datastore" if not named else "  nothing else")


def releases(target: TargetOption = None, as_json: JsonOption = False) -> None:
    """List what was deployed to a target, newest first, and which of it runs now."""
    from lunation.deploy import releases as kept
    from lunation.deploy.names import build_bucket

    with session(target) as (_, clients):
        found = list(kept.known(clients, build_bucket(clients.target)))
    if as_json:
        print_json([{"id": one.id, "deployed_at": one.deployed_at, "runs": one.runs} for one in found])
        return
    print_table(
        "Releases, newest first",
        ["release", "first deployed (UTC)", "runs now"],
        [[one.id, clock(one.deployed_at), ", ".join(one.runs)] for one in found],
        prose=["runs now"],
    )


def stage(
    part: Annotated[str | None, typer.Argument(help="One artefact: list its files with their hashes.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Build what would be shipped, under build/, and list it with the hash of its bytes."""
    from lunation.deploy.artefacts import contents
    from lunation.deploy.releases import staged

    made = staged()
    if part is not None:
        artefact = next((one for one in made.artefacts.all() if part in (one.path.stem, one.path.name)), None)
        if artefact is None:
            fail(f"no artefact {part!r}; there are: {', '.join(one.path.name for one in made.artefacts.all())}")
        rows = [list(row) for row in contents(artefact)]
        title, columns = f"{artefact.object_name}, SHA-256 {artefact.sha256}", ["file", "SHA-256", "bytes"]
    else:
        rows = [[one.path.name, one.object_name, one.sha256, one.path.stat().st_size] for one in made.artefacts.all()]
        title, columns = f"Release {made.id}", ["artefact", "object", "SHA-256", "bytes"]
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(title, columns, rows)


# --- what is shipped, and to which project


def _shipped(settings: Settings, clients: "Clients", release: str | None, origin: str | None) -> "Release":
    """The release to deploy: a known one of this target or of another, or what the sources make now."""
    from lunation.clients import Clients
    from lunation.deploy import releases as kept
    from lunation.deploy.images import Image, Repository
    from lunation.deploy.names import REPOSITORY, build_bucket

    if release is None:
        return kept.staged()
    owner = clients.target if origin is None else settings.target(origin)
    if owner.sample:
        fail(f"there is no release {release}: {an_example(owner)}")
    if origin is None:
        return kept.fetch(clients, build_bucket(clients.target), release)
    found = kept.fetch(Clients(owner), build_bucket(owner), release)
    if not owner.serves(Image.service):
        return found
    image = Image(
        f"archive:{found.artefacts.dataflow.label}",
        repository=Repository(REPOSITORY),
        source=("", ""),
        build_account="",
    )
    return kept.Release(found.artefacts, image.uri(owner))


def _check_release(release: str | None, origin: str | None) -> None:
    if origin is not None and release is None:
        known = f"lunation releases --target {origin}"
        fail(f"--from {origin} says whose release it is. Say which: --release ID, from `{known}`")


def _project_to_deploy_to(release: str | None) -> str | None:
    """The target of a deployment that names none: the one project at Google's that is configured.

    Args:
        release: what is to be deployed there. None: what the sources make now, which can be shown beforehand.

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
    if release is not None:
        fail(f"release {release} has nowhere to go: {NO_PROJECT}")
    out.print(f"{NO_PROJECT}\nThis is what [bold]{samples[-1]}[/] would be, in an empty project:\n")
    with session(samples[-1], examples=True) as (settings, clients):
        from lunation.deploy import plan as deployment
        from lunation.deploy.table import resources

        rows = resources(settings, clients.target)
        changes = deployment.plan(rows, clients)
        _show_all(changes, _document(settings, clients, changes, rows))
    raise typer.Exit(0)


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
        if {"target", "project", "release", "from", "changes"} <= document.keys():
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


def _by_reason(kept: Sequence["Change"]) -> dict[str, list[str]]:
    """The addresses of what stays, by why it does."""
    found: dict[str, list[str]] = {}
    for change in kept:
        found.setdefault(change.summary, []).append(change.address)
    return found


def _once() -> Callable[[str], None]:
    """Tells what is waited for, however often that is tried, once; and what could not be cleared up."""
    told: set[str] = set()

    def say(text: str) -> None:
        if text not in told:
            told.add(text)
            err.print(f"[dim]… {plain(text)}[/]")

    return say


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
