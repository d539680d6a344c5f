"""``verify`` and ``replay``: whether every record is where it should be, and mending it."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lunation.commands.options import JsonOption, TargetOption, YesOption
from lunation.commands.printing import err, fail, out, plain, print_json, print_table
from lunation.commands.session import session

if TYPE_CHECKING:
    from lunation.verify import Reconciliation

DayOption = Annotated[
    datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="Only records of this event date (UTC).")
]
FromOption = Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="The first event date.")]
ToOption = Annotated[
    datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="The last event date; without it, there is none.")
]
DaysOption = Annotated[
    int, typer.Option("--days", min=1, max=3660, help="Without dates: the last so many, and all that are to come.")
]
SettleOption = Annotated[
    float,
    typer.Option("--settle", min=0, help="Seconds after the archive's window in which a record may be on its way."),
]


def verify(
    day: DayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    days: DaysOption = 7,
    settle: SettleOption = 120,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Name so many records of each kind.")] = 10,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Account for every record: compare archive, Record and Classification, and name what is missing where.

    Exit code 0: nothing is; 2: something is, or something cannot be read, or the model that the pointer names does not
    load; 1: an error. What is none of the archive's objects, and what today's class refuses of what is archived, is
    named and not missed. It reads the archive's objects of these days and looks up each record in Datastore (a read
    each); of the answers it reads the keys. What is in the subscriptions it does not see: a record that no consumer has
    taken is in none of the three.
    """
    from lunation import verify as reconciliation
    from lunation.commands.findings import tell_broken, tell_skipped

    begin, end = _span(day, first, last, days)
    with session(target) as (settings, clients), err.status("reading …") as status:
        found = reconciliation.verify(
            settings,
            clients,
            first=begin,
            last=end,
            settle=settle,
            show=lambda text: status.update(f"{plain(text)} …"),
        )
    tell_broken(found.broken)
    tell_skipped(found.unreadable, "unreadable", limit)
    tell_skipped(found.set_aside, "set aside", limit)
    tell_skipped(found.strangers, "none of the archive's objects", limit)
    for trouble in found.troubles:
        err.print(f"[red]the pointer is not followed:[/] {plain(trouble)}")
    if found.unasked is not None:
        err.print(f"[yellow]nobody says whether the pointer's model loads:[/] {plain(found.unasked)}")
    if as_json:
        print_json(_document(found, limit))
    else:
        _print(found, limit, settle + settings.archive.window_seconds)
    raise typer.Exit(0 if found.whole else 2)


def replay(
    day: DayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    days: DaysOption = 7,
    settle: SettleOption = 120,
    everything: Annotated[
        bool, typer.Option("--all", help="Every archived record of these days, not only those that are missing.")
    ] = False,
    yes: YesOption = False,
    target: TargetOption = None,
) -> None:
    """Publish again what verify names as missing: from the archive, or from Record what the archive lacks.

    Every consumer knows a record by its id, so nothing is answered anew: an answer that was stored is published again,
    a copy in Record lives as long as a new one, and the archive gets one more line, which Spark drops. What today's
    class refuses is named and not published: every consumer would refuse it. Exit code 0: all are published; 2: some
    are nowhere to be had; 1: an error.
    """
    from lunation import replay as again
    from lunation import verify as reconciliation
    from lunation.commands.findings import tell_broken, tell_skipped
    from lunation.ledger import Tally, archived_objects
    from schemas import use_case

    begin, end = _span(day, first, last, days)
    span = _describe(begin, end)
    skipped = Tally()
    with session(target) as (settings, clients):
        case = use_case(settings.use_case)
        if everything:
            wanted = None
            bucket = reconciliation.archive_bucket(clients.target)
            sizes = [blob.size for blob in archived_objects(clients.storage, bucket, "records", begin, end)]
            what = f"all records {span}: {len(sizes):,} objects, {sum(sizes) / 1e6:,.1f} MB"
            nothing = not sizes
            messages = again.archived(clients, case, begin, end, skipped.add)
        else:
            with err.status("reading …") as status:
                found = reconciliation.verify(
                    settings,
                    clients,
                    first=begin,
                    last=end,
                    settle=settle,
                    show=lambda text: status.update(f"{plain(text)} …"),
                )
            wanted = found.missed
            places = [f"{found.count(place):,} not in {place}" for place in found.missing if found.count(place)]
            what = f"{wanted:,} records {span}: {', '.join(places)}"
            nothing = not wanted
            tell_broken(found.broken)
            messages = again.missing(clients, case, found, skipped.add)
        if nothing:
            out.print(f"Nothing to publish: no record {span} is {'archived' if everything else 'missing'}.")
            return
        out.print(f"To publish again: {plain(what)}")
        if not yes and not typer.confirm(f"Publish to topic records of project {clients.project}?"):
            raise typer.Exit(1)
        with err.status("publishing …") as status:
            count = again.publish(clients, messages, lambda text: status.update(f"{plain(text)} …"))
    tell_skipped(skipped)
    out.print(f"Published {count:,} records. `lunation verify` tells when they have arrived.")
    if wanted is not None and count < wanted:
        only = wanted - count - skipped.count
        if only > 0:
            out.print(f"{only:,} are in Classification only: whoever published them must send them again.")
        raise typer.Exit(2)


def _span(day: datetime | None, first: datetime | None, last: datetime | None, days: int) -> tuple[date, date | None]:
    from lunation.comparing import since

    if day is not None:
        if first is not None or last is not None:
            fail("--date is one day: give it, or --from and --to")
        return day.date(), day.date()
    begin = first.date() if first is not None else since(days)
    end = last.date() if last is not None else None
    if end is not None and end < begin:
        fail(f"there is no day from {begin} to {end}" + ("" if first else ": give --from"))
    return begin, end


def _describe(first: date, last: date | None) -> str:
    if first == last:
        return f"of {first}"
    return f"from {first} on" if last is None else f"of {first} to {last}"


def _document(found: "Reconciliation", limit: int) -> dict[str, Any]:
    from lunation.commands.findings import broken_json, skipped_json

    return {
        "from": found.first,
        "to": found.last,
        "accounted": found.whole,
        "archived": found.archived,
        "history": found.history,
        "duplicates": found.duplicates,
        "unreadable": skipped_json(found.unreadable, limit),
        "set_aside": skipped_json(found.set_aside, limit),
        "strangers": skipped_json(found.strangers, limit),
        "broken": broken_json(found.broken),
        "mirrored": found.mirrored,
        "expired": found.expired,
        "classified": found.classified,
        "under_way": found.under_way,
        "refused": found.refused,
        "troubles": found.troubles,
        "unasked": found.unasked,
        "missing": {
            place: {"count": found.count(place), "record_ids": found.first_ids(place, limit)} for place in found.missing
        },
        "dead_letters": [
            {**vars(one), "message_ids": one.message_ids[:limit], "messages": len(one.message_ids)}
            for one in found.dead
        ],
    }


def _print(found: "Reconciliation", limit: int, grace: float) -> None:
    besides = {
        "archive": {
            "of history only": found.history,
            "lines more than once": found.duplicates,
            "unreadable": found.unreadable.count,
            "lines set aside": found.set_aside.count,
            "strange objects": found.strangers.count,
        },
        "Record": {"expired": found.expired},
        "Classification": {},
    }
    held = {"archive": found.archived, "Record": found.mirrored, "Classification": found.classified}
    print_table(
        f"Records {_describe(found.first, found.last)}",
        ["where", "records", "missing", "refused", "besides"],
        [
            [
                place,
                f"{held[place]:,}",
                f"{found.count(place):,}",
                f"{found.refused[place]:,}",
                ", ".join(f"{count:,} {what}" for what, count in besides[place].items() if count),
            ]
            for place in held
        ],
        prose=["besides"],
    )
    if not found.whole and limit:
        print_table(
            "Missing",
            ["in", "record"],
            [[place, one] for place in found.missing for one in found.first_ids(place, limit)]
            + [["archive, unreadable", one.where] for one in found.unreadable.first[:limit]],
            prose=["in"],
        )
    if found.dead:
        print_table(
            "Dead letters",
            ["refused by", "from topic", "messages", "first message", "reason"],
            [[one.unit, one.topic, f"{len(one.message_ids):,}", one.message_ids[0], one.reason] for one in found.dead],
            prose=["refused by", "from topic", "reason"],
            drop=["first message"],
        )
    if found.under_way:
        out.print(f"{found.under_way:,} records are under way: they are younger than {grace:.0f} s.")
    if found.whole:
        out.print("Every record is accounted for.")
    elif found.missed:
        out.print(f"{found.missed:,} records are missing somewhere. `lunation replay` with the same dates mends it.")
