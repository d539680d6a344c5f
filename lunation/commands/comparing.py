"""``compare``: whether a shadow would have done better."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lunation.commands.options import JsonOption, TargetOption
from lunation.commands.printing import out, print_json, print_table
from lunation.commands.session import session

if TYPE_CHECKING:
    from lunation.scoring import Score


def compare(
    model_version: Annotated[str | None, typer.Argument(help="Only this shadow.")] = None,
    days: Annotated[
        int | None,
        typer.Option("--days", min=1, max=366, help="Records of the last so many days.", show_default="a cycle"),
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Records of that day or later, UTC, in place of --days.")
    ] = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what shadows said with what was served, on the same records, and with what came true.

    What in the archive is no comparison or no label is named on the error stream, and left out.
    """
    from dataclasses import asdict

    from lunation import comparing
    from lunation.commands.findings import tell_skipped
    from lunation.ledger import Tally
    from schemas import use_case

    with session(target) as (settings, clients):
        window = settings.schedule.cycle_days if days is None else days
        first = since.date() if since is not None else comparing.since(window)
        skipped = Tally()
        case = use_case(settings.use_case)
        found = comparing.compare(clients, case, first=first, shadow=model_version, skipped=skipped.add)
    tell_skipped(skipped)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        out.print(f"No shadow was compared on records since {first}. `lunation shadow` sets one.")
        return
    print_table(
        f"Shadows on records since {first}",
        ["model", "records", "same label", "difference", "outcomes", "AUC", "log-loss"],
        [
            row
            for one in found
            for row in (
                [f"shadow {one.shadow}", f"{one.records:,}", f"{one.same_label:.1%}", f"{one.difference:.4f}",
                 *_scored(one.shadow_score)],
                [f"served {one.served}", None, None, None, *_scored(one.served_score)],
            )
        ],
    )  # fmt: skip


def _scored(score: "Score | None") -> list[object]:
    if score is None:
        return ["0", None, None]
    return [f"{score.rows:,}", "–" if score.auc is None else f"{score.auc:.4f}", f"{score.log_loss:.4f}"]
