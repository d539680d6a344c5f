"""``runs``, ``retrain``, ``backfill``: the trainings, and what they read."""

import json
from typing import Annotated, Any

import typer

from lunation.commands.options import JsonOption, LimitOption, TargetOption
from lunation.commands.printing import clock, err, fail, out, print_json, print_table
from lunation.commands.session import session


def runs(
    execution: Annotated[
        str | None, typer.Argument(help="An execution's id, its beginning, or a run's id: show its steps.")
    ] = None,
    limit: LimitOption = 20,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the training runs and the workflow executions behind them; with an id, the steps of one."""
    from lunation import query as fast_path
    from lunation import runs as workflow_runs

    with session(target) as (settings, clients):
        if execution is not None:
            name = workflow_runs.find(clients, execution)
            _print_steps(name, workflow_runs.steps(clients, name), as_json)
            return
        started = workflow_runs.executions(clients, limit)
        claims = {run.execution: run for run in fast_path.training_runs(clients.datastore, settings.use_case, limit)}
    rows: list[dict[str, Any]] = []
    for one in started:
        claim = claims.get(one.name)
        rows.append(
            {
                "execution": one.name.rsplit("/", 1)[-1],
                "state": one.state.name,
                "started": one.start_time,
                "seconds": round((one.end_time - one.start_time).total_seconds(), 1) if one.end_time else None,
                "cycle": claim and claim.cycle,
                "run_id": claim and claim.run_id,
                "run_state": claim and claim.state.value,
                "outcome": (claim and claim.verdict) or _outcome(one.result),
                "model_version": claim and claim.model_version,
                "cause": (claim and claim.cause) or _message(one.error.payload) or one.error.context or None,
            }
        )
    if as_json:
        print_json(rows)
        return
    print_table(
        "Workflow runs, newest first",
        ["execution", "state", "started (UTC)", "seconds", "cycle", "run", "outcome", "cause"],
        [
            [workflow_runs.short_id(row["execution"]), row["state"], clock(row["started"]), row["seconds"],
             _cycle(row["cycle"]), row["run_id"], row["outcome"], row["cause"]]
            for row in rows
        ],
        prose=["cause"],
    )  # fmt: skip
    if rows:
        out.print(f"The steps of one: lunation runs {workflow_runs.short_id(rows[0]['execution'])}")


def _outcome(result: str) -> str | None:
    """What the workflow answered: the verdict, or why it did nothing (``NOT_DUE``: the period's cycle has succeeded, or
    the first one has not begun; ``DONE`` or ``RUNNING``: another execution has, or had, the cycle)."""
    answered = json.loads(result) if result else None
    return answered.get("outcome") if isinstance(answered, dict) else None


def _message(payload: str) -> str | None:
    """The message of an execution's error; the payload is JSON where the workflow raised a map."""
    try:
        raised = json.loads(payload)
    except ValueError:
        return payload or None
    return raised.get("message", payload) if isinstance(raised, dict) else payload


def _cycle(name: str | None) -> str:
    """``flights:2968``, or ``flights:forced`` without the execution's id, which the row has already."""
    return "" if name is None else ":".join(name.split(":")[:2])


def _print_steps(execution: str, steps: list[Any], as_json: bool) -> None:
    if as_json:
        print_json([vars(step) for step in steps])
        return
    print_table(
        f"Steps of {execution.rsplit('/', 1)[-1]}",
        ["#", "routine", "step", "kind", "state", "started", "ended"],
        [list(vars(step).values()) for step in steps],
    )


def retrain(
    force: Annotated[bool, typer.Option("--force", help="Also when no cycle is due.")] = False,
    like: Annotated[
        str | None, typer.Option("--like", metavar="RUN", help="Repeat this run, to be compared with it.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended.")] = False,
    target: TargetOption = None,
) -> None:
    """Start the retraining workflow: it trains the cycle that is due, if there is one, as the weekly schedule does."""
    from lunation import runs as workflow_runs
    from lunation import trained

    with session(target) as (settings, clients):
        version = like and trained.model_version(clients, settings.use_case, like)
        started = workflow_runs.start(clients, force=force, like=version)
        short = workflow_runs.short_id(started.name)
        out.print(f"Started {started.name.rsplit('/', 1)[-1]}. Follow it: lunation runs {short}")
        if wait:
            with err.status("training …"):
                ended = workflow_runs.wait(clients, started.name, 3600)
            if ended.state.name != "SUCCEEDED":
                fail(f"{short} {ended.state.name}: {ended.error.payload}")
            out.print(ended.result)


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
    out.print(f"Filed by job {job}.")
