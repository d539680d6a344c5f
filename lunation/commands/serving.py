"""``models`` and ``served-at`` show which model serves; ``promote``, ``rollback``, ``shadow``, ``canary`` change it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from lunation.commands.naming import A_RUN, model_version
from lunation.commands.options import JsonOption, LimitOption, TargetOption
from lunation.commands.printing import clock, document, err, fail, out, plain, print_json, print_table
from lunation.commands.session import session
from schemas.model_pointer import HARD_BOUND_SECONDS

if TYPE_CHECKING:
    from lunation.asked import Asked
    from lunation.model_pointer import Try
    from lunation.query import Broken
    from lunation.settings import Settings
    from schemas import ModelPointer, ModelPromotion


def _not_empty(text: str) -> str:
    if not text.strip():
        raise typer.BadParameter("say why in a few words")
    return text.strip()


ReasonOption = Annotated[
    str, typer.Option("--reason", callback=_not_empty, help="Why. It is kept in the pointer's history.")
]
DespiteOption = Annotated[bool, typer.Option("--despite-verdict", help="Also a model that the gate rejected.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help=f"Whose model: {A_RUN}")]
CandidateArgument = Annotated[str, typer.Argument(metavar="RUN|none", help=f"Whose model, or none: {A_RUN}")]


def models(limit: LimitOption = 20, target: TargetOption = None, as_json: JsonOption = False) -> None:
    """Show the model that serves now, its candidates, and the pointer's history.

    The deployed classifier is asked which model it serves: what the pointer names and does not load is told with the
    reason. What cannot be read is named on the error stream.
    """
    from lunation import query as fast_path
    from lunation.asked import ask
    from lunation.commands.findings import broken_json, tell_broken
    from lunation.runs import short_id

    broken: list[Broken] = []
    with session(target) as (settings, clients):
        now = fast_path.pointer(clients.datastore, settings.use_case, broken.append)
        history = fast_path.promotions(clients.datastore, settings.use_case, limit, broken.append)
        asked = ask(clients) if now is not None or broken else None
    tell_broken(broken)
    if as_json:
        print_json(
            {
                "pointer": now and document(now),
                "history": [document(move) for move in history],
                "instance": asked and asked.report,
                "troubles": list(asked.troubles) if asked else [],
                "unasked": asked and asked.unanswered,
                "broken": broken_json(broken),
            }
        )
        return
    if asked is None:
        out.print("No model yet: the first cycle has not been promoted. `lunation retrain` starts what is due.")
        return
    if now is None:
        out.print(
            "The pointer cannot be read, so no instance follows it: `lunation promote --repair MODEL_VERSION --reason "
            "…` replaces it. Instances go on with what they have loaded."
        )
    else:
        out.print(f"The pointer names [bold]{plain(now.model_version)}[/], generation {now.generation}, since "
                  f"{clock(now.moved_at)} UTC")  # fmt: skip
        _print_candidates(now)
    _print_asked(now, asked)
    out.print()
    print_table(
        "History, newest first",
        ["generation", "run", "verdict", "moved at (UTC)", "by", "reason"],
        [
            [move.generation, short_id(move.model_version), _kind(move), clock(move.moved_at), short_id(move.actor),
             move.reason]
            for move in history
        ],
        prose=["reason"],
        drop=["by"],
    )  # fmt: skip


def _print_asked(now: "ModelPointer | None", asked: "Asked") -> None:
    """What an instance says: only it knows what serves."""
    report = asked.report or {}
    version = report.get("model_version")
    if asked.unanswered is not None:
        out.print(f"[yellow]Whether it serves, nobody says:[/] {plain(asked.unanswered)}")
    elif version is None:
        out.print("[red]No model serves[/] in the instance that was asked.")
    elif now is None or (version, report.get("generation")) == (now.model_version, now.generation):
        since = str(report.get("serving_since") or "")[:19].replace("T", " ")
        out.print(f"[bold]{plain(version)}[/] serves since {plain(since)} UTC in the instance that was asked.")
    else:
        out.print(
            f"[yellow]{plain(version)}, generation {plain(report.get('generation'))}, still serves[/] in the instance "
            "that was asked."
        )
    if isinstance(report.get("loading"), str):
        out.print(f"It is loading {plain(report['loading'])}.")
    for trouble in asked.troubles:
        err.print(f"[red]the pointer is not followed:[/] {plain(trouble)}")
    if asked.troubles:
        out.print("`lunation rollback` goes back to the model before, `lunation promote` to another one.")


def _kind(move: "ModelPromotion") -> str:
    """The verdict; of a candidate's move, the candidate."""
    from lunation.runs import short_id

    if move.verdict == "CANARY":
        one = move.canary
        return "CANARY none" if one is None else f"CANARY {short_id(one.model_version)} {one.share:.0%}"
    if move.verdict == "SHADOW":
        return f"SHADOW {short_id(move.shadow.model_version) if move.shadow is not None else 'none'}"
    return move.verdict


def served_at(
    time: Annotated[datetime, typer.Argument(help="UTC.")],
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which model the pointer named at a time, and why. What cannot be read is named on the error stream."""
    from lunation import query as fast_path
    from lunation.commands.findings import tell_broken

    when = time.replace(tzinfo=UTC)
    if when > datetime.now(UTC):
        fail(f"{clock(when)} UTC is still to come")
    broken: list[Broken] = []
    with session(target) as (settings, clients):
        move = fast_path.served_at(clients.datastore, settings.use_case, when, broken.append)
    tell_broken(broken)
    if as_json:
        print_json(move and document(move))
        return
    if move is None:
        out.print(f"No model of {settings.use_case} served at {clock(when)} UTC: the first was promoted later.")
        return
    out.print(f"[bold]{plain(move.model_version)}[/] served at {clock(when)} UTC, generation {move.generation}")
    _print_candidates(move)
    out.print(f"{move.verdict} of {clock(move.moved_at)} UTC by {plain(move.actor)}: {plain(move.reason)}")
    since = when - move.moved_at
    if since < timedelta(seconds=HARD_BOUND_SECONDS):
        out.print(
            f"The pointer had moved {since.total_seconds():.0f} s before, and an instance may take "
            f"{HARD_BOUND_SECONDS:g} s to follow: each answer itself says which model gave it (`lunation query`)."
        )


def promote(
    run: RunArgument,
    reason: ReasonOption,
    despite_verdict: DespiteOption = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Replace a pointer that cannot be read, at a generation above all others.")
    ] = False,
    target: TargetOption = None,
) -> None:
    """Serve a model, once it was tried as an instance would serve it. A canary ends with it."""
    from lunation import model_pointer

    with session(target) as (settings, clients):
        version = model_version(clients, settings.use_case, run)
        move = model_pointer.promote(
            clients,
            settings.use_case,
            version,
            reason,
            despite_verdict=despite_verdict,
            repair=repair,
            trial=_trial(settings),
        )
    _print_move(move)


def rollback(
    reason: ReasonOption,
    to: Annotated[int | None, typer.Option(help="A generation. Default: the model before the one that serves.")] = None,
    target: TargetOption = None,
) -> None:
    """Serve an older model again, once it was tried. A canary ends with it."""
    from lunation import model_pointer
    from lunation.commands.findings import tell_broken

    broken: list[Broken] = []
    with session(target) as (settings, clients):
        try:
            move = model_pointer.rollback(
                clients, settings.use_case, reason, to=to, broken=broken.append, trial=_trial(settings)
            )
        finally:
            tell_broken(broken)
    _print_move(move)


def shadow(run: CandidateArgument, reason: ReasonOption, target: TargetOption = None) -> None:
    """Have a model score every pushed record beside the one that serves; its answers only go to the archive."""
    from lunation import model_pointer

    with session(target) as (settings, clients):
        version = None if run == "none" else model_version(clients, settings.use_case, run)
        move = model_pointer.shadow(clients, settings.use_case, version, reason, trial=_trial(settings))
    _print_move(move)


def canary(
    run: CandidateArgument,
    reason: ReasonOption,
    share: Annotated[float, typer.Option(help="Of the record ids, above 0 and below 1.")] = 0.1,
    despite_verdict: DespiteOption = False,
    target: TargetOption = None,
) -> None:
    """Let a model answer a share of the records; a record id stays with the model it falls to."""
    from lunation import model_pointer

    if not 0 < share < 1:
        fail(f"--share is {share}: expected a number above 0 and below 1")
    with session(target) as (settings, clients):
        version = None if run == "none" else model_version(clients, settings.use_case, run)
        move = model_pointer.canary(
            clients,
            settings.use_case,
            version,
            reason,
            share=share,
            despite_verdict=despite_verdict,
            trial=_trial(settings),
        )
    _print_move(move)


def _trial(settings: "Settings") -> "Try":
    """With the memory that an instance has there."""
    from lunation import model_pointer

    return partial(model_pointer.serves_it, memory=settings.functions.classify.memory_mib * 2**20)


def _print_move(move: "ModelPromotion") -> None:
    out.print(f"Generation {move.generation}, {move.verdict}: the pointer names [bold]{plain(move.model_version)}[/]")
    _print_candidates(move)
    out.print(f"Every instance follows within {HARD_BOUND_SECONDS:g} s; `lunation models` asks one.")


def _print_candidates(pointer: "ModelPointer | ModelPromotion") -> None:
    for line in _candidates(pointer):
        out.print(f"  {line}")


def _candidates(pointer: "ModelPointer | ModelPromotion") -> Iterator[str]:
    if pointer.canary is not None:
        yield f"canary: {plain(pointer.canary.model_version)} answers {pointer.canary.share:.0%} of the record ids"
    if pointer.shadow is not None:
        yield f"shadow: {plain(pointer.shadow.model_version)} is compared with it, not served"
