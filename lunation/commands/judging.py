"""``report``, ``diff``, ``quality``: why a model is trusted, what changed, and whether it still holds."""

import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lunation.commands.options import JsonOption, TargetOption
from lunation.commands.printing import document, fail, out, plain, print_json, print_table
from lunation.commands.session import session

if TYPE_CHECKING:
    from schemas import ModelManifest

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or <training date>/<run id>.")]
MEASURES = ("auc", "pr_auc", "log_loss", "brier", "calibration_error")


def report(
    run: RunArgument,
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    to: Annotated[Path | None, typer.Option("--out", help="Write the page to this file.")] = None,
    card: Annotated[bool, typer.Option("--card", help="Print the model card (Markdown).")] = False,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show why a run's model was trusted or not: in short, as the run's page, or as its model card."""
    from lunation import trained

    with session(target) as (settings, clients):
        found = trained.manifest(clients, trained.model_version(clients, settings.use_case, run))
        page = trained.evidence(clients, found, "report.html") if open_it or to is not None else b""
        text = trained.evidence(clients, found, "MODEL_CARD.md") if card else b""
    if to is not None:
        to.write_bytes(page)
        out.print(f"Written to {plain(to)}.")
    if open_it:
        shown = to or Path(tempfile.mkdtemp(prefix="lunation-report-")) / "report.html"
        shown.write_bytes(page)
        if not webbrowser.open(shown.resolve().as_uri()):
            fail(f"no browser could be started; the page is in {shown}")
    if card:
        typer.echo(text.decode())
    elif as_json:
        print_json(document(found))
    elif to is None and not open_it:
        _print_report(found)


def _print_report(found: "ModelManifest") -> None:
    colour = {"PROMOTE": "green", "HOLD": "yellow", "REJECT": "red"}[found.verdict]
    out.print(f"[bold]{plain(found.model_version)}[/]  [{colour}]{found.verdict}[/]")
    for reason in found.reasons:
        out.print(f"  {plain(reason)}")
    out.print()
    names = ("challenger", "champion", "frozen", "constant", "difference")
    labels = ("new model", "champion", "before the champion", "constant", "new model minus champion")
    print_table(
        f"On {found.rows['evaluate']:,} records of {found.windows['evaluate_from']} to {found.windows['evaluate_to']}",
        ["model", *MEASURES],
        [
            [label, *(_interval(found.metrics[name], measure, name == "difference") for measure in MEASURES)]
            for name, label in zip(names, labels, strict=True)
            if found.metrics.get(name)
        ],
    )
    failed = [check for check in found.checks if not check.passed]
    out.print(f"Data checks: {len(found.checks) - len(failed)} of {len(found.checks)} passed")
    for check in failed:
        out.print(f"  [red]{plain(check.name)}[/]: {plain(check.text)}")
    out.print(f"The page: lunation report {plain(found.run_id)} --open")


def _interval(values: dict[str, float | None], measure: str, signed: bool) -> str:
    value, low, high = (values.get(name) for name in (measure, f"{measure}_low", f"{measure}_high"))
    if value is None:
        return "–"
    form = "+.4f" if signed else ".4f"
    return format(value, form) + (f" ({low:{form}} to {high:{form}})" if low is not None and high is not None else "")


def diff(before: RunArgument, now: RunArgument, target: TargetOption = None, as_json: JsonOption = False) -> None:
    """Show what two runs differ in: data, windows, parameters, code, versions, results."""
    from lunation import trained
    from schemas.manifest_diff import differences

    with session(target) as (settings, clients):
        left, right = (
            trained.manifest(clients, trained.model_version(clients, settings.use_case, run)) for run in (before, now)
        )
    found = differences(left, right)
    if as_json:
        print_json([vars(one) for one in found])
        return
    if not found:
        out.print("They are the same in everything.")
        return
    print_table(
        "What is not the same",
        ["what", left.model_version, right.model_version],
        [[one.what, _short(one.before), _short(one.now)] for one in found],
        prose=[left.model_version, right.model_version],
    )


def _short(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value
