"""``report``, ``diff``, ``quality``: why a model is trusted, what changed, and whether it still holds."""

import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lunation.commands.options import JsonOption, TargetOption
from lunation.commands.printing import clock, document, err, fail, out, plain, print_json, print_table
from lunation.commands.session import session

if TYPE_CHECKING:
    from lunation.quality import Group, Quality
    from lunation.query import Broken
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
    """Show why a run's model was trusted or not: in short, as the run's page, or as its model card.

    The folder's files are first held against the hashes that its manifest has of them, and the manifest against those
    that the verdict, the pointer and its history have of it; what differs is said on the error stream.
    """
    from lunation import trained, vouched
    from lunation.commands.findings import broken_json, tell_broken

    broken: list[Broken] = []
    with session(target) as (settings, clients):
        found = trained.manifest(clients, trained.model_version(clients, settings.use_case, run))
        page = trained.evidence(clients, found, "report.html") if open_it or to is not None else b""
        text = trained.evidence(clients, found, "MODEL_CARD.md") if card else b""
        doubts = vouched.doubts(clients, found, broken.append)
    tell_broken(broken)
    for doubt in doubts:
        err.print(f"[red]not as it was:[/] {plain(doubt)}")
    if to is not None:
        to.write_bytes(page)
        out.print(f"Written to {plain(to)}.")
    if open_it:
        shown = to or Path(tempfile.mkdtemp(prefix="lunation-report-")) / "report.html"
        shown.write_bytes(page)
        if not webbrowser.open(shown.resolve().as_uri()):
            fail(f"no browser could be started; the page is in {shown}")
    if card:
        out.print(text.decode(errors="replace").removesuffix("\n"), markup=False, emoji=False)
    elif as_json:
        print_json({**document(found), "doubts": doubts, "broken": broken_json(broken)})
    elif to is None and not open_it:
        _print_report(found)


def _print_report(found: "ModelManifest") -> None:
    colour = {"PROMOTE": "green", "HOLD": "yellow", "REJECT": "red"}[found.verdict]
    out.print(f"[bold]{plain(found.model_version)}[/]  [{colour}]{found.verdict}[/]")
    for reason in found.reasons:
        out.print(f"  {plain(reason)}")
    out.print()
    columns = {
        "new model": found.metrics.get("challenger"),
        "champion": found.metrics.get("champion"),
        "new minus champion": found.metrics.get("difference"),
        "predecessor": found.metrics.get("frozen"),
        "constant": found.metrics.get("constant"),
    }
    shown = {label: values for label, values in columns.items() if isinstance(values, dict)}
    measured, window = found.rows.get("evaluate", 0), found.rows.get("window", 0)
    of_all = f" of {window:,}" if window > measured else ""
    first, last = (found.windows.get(name, "a day that it does not name") for name in ("evaluate_from", "evaluate_to"))
    print_table(
        f"On {measured:,}{of_all} records of {first} to {last}",
        ["measure", *shown],
        [[measure, *(_interval(label, values, measure) for label, values in shown.items())] for measure in MEASURES],
    )
    failed = [check for check in found.checks if not check.passed]
    out.print(f"Data checks: {len(found.checks) - len(failed)} of {len(found.checks)} passed")
    for check in failed:
        out.print(f"  [red]{plain(check.name)}[/]: {plain(check.text)}")
    out.print(f"The page: lunation report {plain(found.run_id)} --open")


def _interval(label: str, values: dict[str, float | None], measure: str) -> str:
    value, low, high = (values.get(name) for name in (measure, f"{measure}_low", f"{measure}_high"))
    if not isinstance(value, int | float):
        return "–"
    form = "+.4f" if "minus" in label else ".4f"
    bounds = isinstance(low, int | float) and isinstance(high, int | float) and label != "constant"
    return format(value, form) + (f" ({low:{form}} to {high:{form}})" if bounds else "")


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


def quality(
    days: Annotated[
        int | None, typer.Option("--days", min=1, max=366, help="Answers of so many days.", show_default="a cycle")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many answers, the newest.")] = 100_000,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Start a training if a bound is crossed; once in a week.")
    ] = False,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score what was served by what came true, by model, day and segment.

    What cannot be read is named on the error stream, and the rest is judged. Exit code 0: it holds; 2: retrain early;
    1: an error, or what it is judged by is broken.
    """
    from dataclasses import asdict

    from lunation import quality as live
    from lunation import runs as workflow_runs
    from lunation.commands.findings import skipped_json, tell_broken, tell_skipped
    from schemas import use_case

    started = None
    with session(target) as (settings, clients):
        case = use_case(settings.use_case)
        window = settings.schedule.cycle_days if days is None else days
        found = live.measure(clients, case, settings.quality, days=window, limit=limit)
        if retrain and found.findings:
            started = workflow_runs.start(clients, early=True).name
    tell_broken(found.broken)
    tell_skipped(found.skipped)
    if as_json:
        print_json(asdict(found) | {"started": started, "skipped": skipped_json(found.skipped)})
    else:
        _print_quality(found)
        if started is not None:
            out.print(f"Started a training: lunation runs {workflow_runs.short_id(started)}")
    raise typer.Exit(2 if found.findings else 1 if found.broken else 0)


def _print_quality(found: "Quality") -> None:
    out.print(
        f"{found.answers:,} answers since {clock(found.since)} UTC, {found.labelled:,} of them with an outcome. "
        + (f"[bold]{plain(found.serving)}[/] serves." if found.serving else "No model serves.")
    )
    if found.expected is not None:
        promised = found.expected
        out.print(
            f"The gate measured AUC {promised.auc or 0:.4f}, log-loss {promised.log_loss:.4f} and calibration error "
            f"{promised.calibration_error:.4f} of it on {promised.rows:,} records."
        )
    out.print()
    for title, groups in (
        ("By model", found.models),
        ("By day of the record", found.days),
        ("By segment", found.segments),
    ):
        print_table(
            title,
            ["", "answers", "outcomes", "AUC", "log-loss", "calibration error", "said", "came true"],
            [_measured(group) for group in groups],
        )
    print_table(
        "Drift of the serving model's inputs against its training",
        ["input", "stability index", "judged"],
        [[one.feature, f"{one.index:.3f}", "yes" if one.judged else "no"] for one in found.drift],
    )
    if found.findings:
        out.print("[yellow]Retrain early[/] (lunation quality --retrain):")
        for text in found.findings:
            out.print(f"  {plain(text)}")
    elif found.broken:
        out.print("[yellow]No bound is crossed of what could be judged.[/]")
    else:
        out.print("[green]No bound is crossed.[/]")


def _measured(group: "Group") -> list[object]:
    one = group.score
    if one is None:
        return [group.what, f"{group.answers:,}", "0", None, None, None, None, None]
    auc = "–" if one.auc is None else f"{one.auc:.4f}"
    return [
        group.what, f"{group.answers:,}", f"{one.rows:,}", auc, f"{one.log_loss:.4f}", f"{one.calibration_error:.4f}",
        f"{one.said:.1%}", f"{one.rate:.1%}",
    ]  # fmt: skip
