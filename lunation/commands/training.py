"""``runs``, ``retrain``, ``backfill``: the trainings, and what they read."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lunation.commands.naming import A_RUN, model_version, tell_latest
from lunation.commands.options import JsonOption, LimitOption, TargetOption
from lunation.commands.printing import clock, duration, err, fail, out, plain, print_json, print_prose, print_table
from lunation.commands.session import session

if TYPE_CHECKING:
    from google.cloud.workflows.executions_v1 import Execution

    from lunation.clients import Clients
    from lunation.phases import Phase
    from lunation.settings import Settings
    from schemas import TrainingRun

BAR = 24
"""Columns of a bar."""


def runs(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help=f"{A_RUN} Show what it spent its time on.")] = None,
    every_step: Annotated[bool, typer.Option("--all", help="With a run: every step of its workflow.")] = False,
    limit: LimitOption = 20,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the trainings, with the cause of each that failed; with one's id, what it spent its time on."""
    from lunation import query as fast_path
    from lunation import runs as workflow_runs
    from lunation.commands.findings import tell_broken

    broken: list[fast_path.Broken] = []
    with session(target) as (settings, clients):
        if run is not None:
            _one(settings, clients, run, every_step, as_json)
            return
        started = workflow_runs.executions(clients, limit)
        claims = fast_path.training_runs(clients.datastore, settings.use_case, limit, broken.append)
    tell_broken(broken)
    rows = _rows(started, claims)[:limit]
    if as_json:
        print_json(rows)
        return
    print_table(
        "Trainings, newest first",
        ["run", "cycle", "started (UTC)", "took", "state", "outcome"],
        [
            [workflow_runs.short_id(row["run_id"] or row["execution"]), _cycle(row["cycle"]), clock(row["started"]),
             duration(row["seconds"]), row["state"], row["outcome"]]
            for row in rows
        ],
        drop=["took", "cycle"],
    )  # fmt: skip
    _print_causes(rows)
    if rows:
        newest = workflow_runs.short_id(rows[0]["run_id"] or rows[0]["execution"])
        out.print(f"\nWhat one spent its time on: lunation runs {plain(newest)}")


def _rows(started: "Sequence[Execution]", claims: "Sequence[TrainingRun]") -> list[dict[str, Any]]:
    """Executions with the rows of the cycles that they have claimed; of a row that is older than what Workflows keeps,
    the row alone."""
    by_execution = {run.execution: run for run in claims}
    found = [_row(one.name, one, by_execution.get(one.name)) for one in started]
    names = {one.name for one in started}
    found += [_row(run.execution, None, run) for run in claims if run.execution not in names]
    # One that is queued has not begun, and is the newest (discovery document: ``state``, ``startTime`` of Execution).
    return sorted(found, key=lambda row: row["started"] or datetime.max.replace(tzinfo=UTC), reverse=True)


def _row(name: str, one: "Execution | None", claim: "TrainingRun | None") -> dict[str, Any]:
    begun = one.start_time if one is not None else claim.claimed_at if claim is not None else None
    ended = (one.end_time if one is not None else claim.finished_at if claim is not None else None) or None
    return {
        "execution": name.rsplit("/", 1)[-1],
        "state": one.state.name if one is not None else claim and claim.state.value,
        "started": begun,
        "seconds": round((ended - begun).total_seconds(), 1) if begun and ended else None,
        "cycle": claim and claim.cycle,
        "run_id": claim and claim.run_id,
        "run_state": claim and claim.state.value,
        "outcome": (claim and claim.verdict) or (_outcome(one.result) if one is not None else None),
        "model_version": claim and claim.model_version,
        "cause": (claim and claim.cause) or (one is not None and _message(one)) or None,
    }


def _print_causes(rows: Sequence[Mapping[str, Any]]) -> None:
    """Why each of them failed, in full; what is said of several, once."""
    from lunation.runs import short_id

    why: dict[str, list[str]] = {}
    for row in rows:
        if row["cause"]:
            why.setdefault(row["cause"], []).append(short_id(row["run_id"] or row["execution"]))
    for cause, names in why.items():
        out.print(f"\n[red]Why {plain(', '.join(names))} failed[/]")
        print_prose(cause)


def _outcome(result: str) -> str | None:
    """What the workflow answered: the verdict, or why it did nothing (``NOT_DUE``: the period's cycle has succeeded, or
    the first one has not begun; ``DONE`` or ``RUNNING``: another execution has, or had, the cycle)."""
    answered = json.loads(result) if result else None
    return answered.get("outcome") if isinstance(answered, dict) else None


def _message(one: "Execution") -> str | None:
    """The message of an execution's error; the payload is JSON where the workflow raised a map."""
    payload: str = one.error.payload
    try:
        raised = json.loads(payload)
    except ValueError:
        return payload or one.error.context or None
    return str(raised.get("message", payload)) if isinstance(raised, dict) else payload


def _cycle(name: str | None) -> str:
    """``flights:2968``, or ``flights:forced`` without the execution's id, which the row has already."""
    return "" if name is None else ":".join(name.split(":")[:2])


def _one(settings: "Settings", clients: "Clients", text: str, every_step: bool, as_json: bool) -> None:
    from lunation import phases as folded
    from lunation import runs as workflow_runs
    from lunation import trained
    from lunation.commands.findings import tell_broken
    from lunation.query import Broken

    others = [one.name for one in workflow_runs.executions(clients, 1000)]
    broken: list[Broken] = []
    try:
        named = trained.find(clients, settings.use_case, text, also=others, broken=broken.append)
    finally:
        tell_broken(broken)
    tell_latest(text, named)
    execution = workflow_runs.execution(clients, named.execution)
    row = _row(named.execution, execution, named.run)
    steps = workflow_runs.steps(clients, named.execution) if execution is not None else []
    jobs = folded.jobs(clients, named.run.run_id) if named.run is not None else []
    found = folded.phases(steps, jobs)
    now = datetime.now(UTC)
    if as_json:
        told = [{**vars(one), "seconds": one.seconds(now)} for one in found]
        print_json({**row, "phases": told, "steps": [vars(step) for step in steps]})
        return
    about = [row["state"], row["outcome"], duration(row["seconds"])]
    out.print(f"[bold]{plain(named.short_id)}[/]  {plain(', '.join(one for one in about if one))}")
    for name in dict.fromkeys(named.names()):
        out.print(f"  {plain(name)}")
    if execution is None:
        out.print("Its steps are gone: Workflows keeps an execution for 90 days.")
    elif every_step:
        print_table(
            "Every step",
            ["#", "routine", "step", "kind", "state", "started", "took"],
            [
                [step.number, step.routine, step.name, step.kind, step.state, step.started[11:19],
                 duration(step.seconds)]
                for step in steps
            ],
            drop=["kind", "took", "routine"],
        )  # fmt: skip
    else:
        out.print()
        _print_phases(found, now)
        out.print(f"Its {len(steps):,} steps: lunation runs {plain(named.short_id)} --all")
    _print_causes([row])


def _print_phases(found: "Sequence[Phase]", now: datetime) -> None:
    begun = [one for one in found if one.started is not None]
    first = min((one.started for one in begun if one.started), default=now)
    last = max((one.ended or now for one in begun), default=now)
    print_table(
        "What it spent its time on",
        ["phase", "started (UTC)", "took", "state", "when"],
        [[one.name, clock(one.started), duration(one.seconds(now)), one.state, _bar(one, first, last, now)]
         for one in found],
        drop=["when"],
    )  # fmt: skip


def _bar(one: "Phase", first: datetime, last: datetime, now: datetime) -> str:
    """Where in the whole it lies."""
    if one.started is None or last <= first:
        return ""
    column = (last - first) / BAR
    begin = min(BAR - 1, int((one.started - first) / column))
    end = max(begin + 1, round(((one.ended or now) - first) / column))
    return "·" * begin + "█" * (end - begin) + "·" * (BAR - end)


def retrain(
    force: Annotated[bool, typer.Option("--force", help="Also when no cycle is due.")] = False,
    like: Annotated[
        str | None, typer.Option("--like", metavar="RUN", help=f"Repeat this run, to be compared with it. {A_RUN}")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended.")] = False,
    target: TargetOption = None,
) -> None:
    """Start the retraining workflow: it trains the cycle that is due, if there is one, as the weekly schedule does."""
    from lunation import runs as workflow_runs

    with session(target) as (settings, clients):
        version = like and model_version(clients, settings.use_case, like)
        started = workflow_runs.start(clients, force=force, like=version)
        short = workflow_runs.short_id(started.name)
        out.print(f"Started {plain(started.name.rsplit('/', 1)[-1])}. Follow it: lunation runs {plain(short)}")
        if wait:
            with err.status("training …"):
                ended = workflow_runs.wait(clients, started.name, 3600)
            if ended.state.name != "SUCCEEDED":
                fail(f"{short} {ended.state.name}: {_message(ended) or 'no cause is recorded'}")
            out.print(plain(ended.result))


def backfill(
    records: Annotated[list[str] | None, typer.Option(help="Files of records: paths or gs:// patterns.")] = None,
    labels: Annotated[list[str] | None, typer.Option(help="Files of labels: paths or gs:// patterns.")] = None,
    target: TargetOption = None,
) -> None:
    """Bring history in files (a JSON document a line) into the archive, through the archive pipeline."""
    from lunation import backfill as history

    if not records and not labels:
        fail("nothing to read: give --records or --labels")
    with session(target) as (settings, clients), err.status("filing history …"):
        job = history.backfill(settings, clients, records=records or [], labels=labels or [])
    out.print(f"Filed by job {plain(job)}.")
