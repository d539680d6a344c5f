"""``models`` and ``served-at`` show which model serves; ``promote``, ``rollback``, ``shadow``, ``canary`` change it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from lunation.commands.naming import A_RUN, model_version
from lunation.commands.options import JsonOption, LimitOption, TargetOption
from lunation.commands.printing import clock, document, fail, out, plain, print_json, print_table
from lunation.commands.session import session

if TYPE_CHECKING:
    from schemas import ModelPointer, ModelPromotion

HARD_BOUND_SECONDS = 30
"""What ``functions/classify`` keeps to: past it no request is answered by a model that the pointer no longer names."""


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
    """Show the model that serves now, its candidates, and the pointer's history."""
    from lunation import query as fast_path
    from lunation.runs import short_id

    with session(target) as (settings, clients):
        now = fast_path.pointer(clients.datastore, settings.use_case)
        history = fast_path.promotions(clients.datastore, settings.use_case, limit)
    if as_json:
        print_json({"pointer": now and document(now), "history": [document(move) for move in history]})
        return
    if now is None:
        out.print("No model yet: the first cycle has not been promoted. `lunation retrain` starts what is due.")
        return
    out.print(
        f"[bold]{plain(now.model_version)}[/] serves since {clock(now.moved_at)} UTC, generation {now.generation}"
    )
    _print_candidates(now)
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
    """Show which model served at a time, and why."""
    from lunation import query as fast_path

    when = time.replace(tzinfo=UTC)
    if when > datetime.now(UTC):
        fail(f"{clock(when)} UTC is still to come")
    with session(target) as (settings, clients):
        move = fast_path.served_at(clients.datastore, settings.use_case, when)
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
            f"{HARD_BOUND_SECONDS} s to follow: each answer itself says which model gave it (`lunation query`)."
        )


def promote(
    run: RunArgument,
    reason: ReasonOption,
    despite_verdict: DespiteOption = False,
    target: TargetOption = None,
) -> None:
    """Serve a model. A canary ends with it."""
    from lunation import moves

    with session(target) as (settings, clients):
        version = model_version(clients, settings.use_case, run)
        move = moves.promote(clients, settings.use_case, version, reason, despite_verdict=despite_verdict)
    _print_move(move)


def rollback(
    reason: ReasonOption,
    to: Annotated[int | None, typer.Option(help="A generation. Default: the model before the one that serves.")] = None,
    target: TargetOption = None,
) -> None:
    """Serve an older model again. A canary ends with it."""
    from lunation import moves

    with session(target) as (settings, clients):
        move = moves.rollback(clients, settings.use_case, reason, to=to)
    _print_move(move)


def shadow(run: CandidateArgument, reason: ReasonOption, target: TargetOption = None) -> None:
    """Have a model score every pushed record beside the one that serves; its answers only go to the archive."""
    from lunation import moves

    with session(target) as (settings, clients):
        version = None if run == "none" else model_version(clients, settings.use_case, run)
        move = moves.shadow(clients, settings.use_case, version, reason)
    _print_move(move)


def canary(
    run: CandidateArgument,
    reason: ReasonOption,
    share: Annotated[float, typer.Option(help="Of the record ids, above 0 and below 1.")] = 0.1,
    despite_verdict: DespiteOption = False,
    target: TargetOption = None,
) -> None:
    """Let a model answer a share of the records; a record id stays with the model it falls to."""
    from lunation import moves

    if not 0 < share < 1:
        fail(f"--share is {share}: expected a number above 0 and below 1")
    with session(target) as (settings, clients):
        version = None if run == "none" else model_version(clients, settings.use_case, run)
        move = moves.canary(clients, settings.use_case, version, reason, share=share, despite_verdict=despite_verdict)
    _print_move(move)


def _print_move(move: "ModelPromotion") -> None:
    out.print(f"Generation {move.generation}, {move.verdict}: [bold]{plain(move.model_version)}[/] serves")
    _print_candidates(move)
    out.print(f"Every instance follows within {HARD_BOUND_SECONDS} s.")


def _print_candidates(pointer: "ModelPointer | ModelPromotion") -> None:
    for line in _candidates(pointer):
        out.print(f"  {line}")


def _candidates(pointer: "ModelPointer | ModelPromotion") -> Iterator[str]:
    if pointer.canary is not None:
        yield f"canary: {plain(pointer.canary.model_version)} answers {pointer.canary.share:.0%} of the record ids"
    if pointer.shadow is not None:
        yield f"shadow: {plain(pointer.shadow.model_version)} is compared with it, not served"
