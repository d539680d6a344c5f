"""``doctor`` and ``smoke``: what a project lacks before a deployment, and whether one works after it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from lunation.commands.options import JsonOption, TargetOption
from lunation.commands.printing import err, out, plain, print_json
from lunation.commands.session import session

if TYPE_CHECKING:
    from lunation.doctor import Finding
    from lunation.smoke import Step

MARKS = {
    "ok": "[green]✓[/]",
    "warning": "[yellow]![/]",
    "not yet": "[yellow]![/]",
    "not seen": "[yellow]?[/]",
    "failed": "[red]✗[/]",
}


def doctor(target: TargetOption = None, as_json: JsonOption = False) -> None:
    """Look at a project before its first deployment: what is missing, each with its fix. Changes nothing.

    Exit code 0: nothing stops a deployment; 2: something does; 1: an error.
    """
    from lunation import doctor as examination
    from lunation.deploy.table import resources

    with session(target) as (settings, clients), err.status("looking …") as status:
        patient = examination.Patient(settings, clients, resources(settings, clients.target))
        findings: list[Finding] = []
        for finding in examination.examine(patient, lambda text: status.update(f"looking at {plain(text)} …")):
            findings.append(finding)
            if not as_json:
                _print(finding.state, finding.check, finding.found, finding.fix)
    if as_json:
        print_json([finding.to_json() for finding in findings])
    else:
        _count(finding.state for finding in findings)
    raise typer.Exit(2 if any(finding.state == "failed" for finding in findings) else 0)


def smoke(
    target: TargetOption = None,
    patience: Annotated[
        float, typer.Option("--patience", min=0, help="Seconds beyond the archive's window to wait for anything.")
    ] = 180,
    as_json: JsonOption = False,
) -> None:
    """Try a deployment: a marked record goes in, is seen in archive, mirror and answer, and is taken away again.

    A message that is no record has to come out as a dead letter of all three consumers, where it stays and sets off the
    alert "dead letters"; the filter of each alert is tried. Subscribers of `classifications` see the marked record's
    answer: its id begins with lunation-smoke-. Exit code 0: all was seen, or there is a reason why not yet; 2:
    something was not; 1: an error.
    """
    from lunation import smoke as trial
    from lunation.deploy.table import resources

    with session(target) as (settings, clients), err.status("publishing …") as status:
        rows = resources(settings, clients.target)
        steps: list[Step] = []

        def say(text: str) -> None:
            status.update(f"{plain(text)} …")

        for step in trial.smoke(settings, clients, rows, patience=patience, say=say):
            steps.append(step)
            if not as_json:
                after = f", after {step.seconds:g} s" if step.seconds is not None and step.state == "ok" else ""
                _print(step.state, step.name, step.found + after, step.fix)
    if as_json:
        print_json([step.to_json() for step in steps])
    else:
        _count(step.state for step in steps)
    raise typer.Exit(2 if any(step.state == "failed" for step in steps) else 0)


def _print(state: str, name: str, found: str, fix: str) -> None:
    out.print(f"{MARKS[state]} [bold]{plain(name)}[/]: {plain(found)}")
    if fix:
        out.print(f"  → {plain(fix)}")


def _count(states: Iterable[str]) -> None:
    all_of_them = list(states)
    parts = [f"{all_of_them.count(state)} {state}" for state in MARKS if state in all_of_them]
    out.print(f"{len(all_of_them)} looked at: {', '.join(parts)}.")
