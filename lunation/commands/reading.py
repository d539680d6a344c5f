"""``query``: what the fast path holds, and who refused what it does not."""

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lunation.commands.options import JsonOption, LimitOption, TargetOption
from lunation.commands.printing import clock, document, err, fail, out, plain, print_json, print_table
from lunation.commands.session import session

if TYPE_CHECKING:
    from lunation.clients import Clients
    from lunation.refused import Refusal, Search


def query(
    record_id: Annotated[str | None, typer.Argument(help="One record: what was sent and what was answered.")] = None,
    label: Annotated[str | None, typer.Option(help="Only answers with this label.")] = None,
    model: Annotated[str | None, typer.Option(help="Only answers of this model version.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Answered then or later, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Answered before, UTC.")] = None,
    limit: LimitOption = 20,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look up classifications: of one record, by label, by model version, by time.

    Of one record that is not there, or has no answer, the dead letters are searched for who refused it, and why. An
    entity that cannot be read is named on the error stream.
    """
    from lunation import query as fast_path
    from lunation.commands.findings import tell_broken
    from schemas import use_case

    with session(target) as (settings, clients):
        if record_id is not None:
            _one_record(clients, record_id, as_json)
            return
        known = use_case(settings.use_case).labels
        if label is not None and label not in known:
            fail(f"--label {label}: use case {settings.use_case} answers {' or '.join(known)}")
        broken: list[fast_path.Broken] = []
        found = list(
            fast_path.classifications(
                clients.datastore,
                label=label,
                model_version=model,
                since=since and since.replace(tzinfo=UTC),
                until=until and until.replace(tzinfo=UTC),
                limit=limit,
                broken=broken.append,
            )
        )
    tell_broken(broken)
    if as_json:
        print_json([document(answer) for answer in found])
        return
    print_table(
        "Classifications, newest first",
        ["record", "label", "probability", "model version", "generation", "classified at (UTC)"],
        [
            [one.record_id, one.label, f"{one.probability:.4f}", one.model_version, one.generation,
             clock(one.classified_at)]
            for one in found
        ],
    )  # fmt: skip


def _one_record(clients: "Clients", record_id: str, as_json: bool) -> None:
    from lunation import query as fast_path
    from lunation import refused
    from lunation.commands.findings import broken_json, skipped_json, tell_broken, tell_skipped

    broken: list[fast_path.Broken] = []
    record = fast_path.record(clients.datastore, record_id, broken.append)
    answer = fast_path.classification(clients.datastore, record_id, broken.append)
    searched = None
    if record is None or (answer is None and not any(one.kind == "Classification" for one in broken)):
        with err.status("looking for dead letters …") as status:
            searched = refused.find(
                clients, record_id, since=_first_day(record), show=lambda text: status.update(f"{plain(text)} …")
            )
        tell_skipped(searched.skipped)
    tell_broken(broken)
    if record is None and answer is None and not broken and searched is not None and not searched.found:
        fail(
            f"no record {record_id!r} in Datastore, and {_looked_at(searched)}. "
            "It may be older than its time to live; the archive keeps it"
        )
    if as_json:
        print_json(
            {
                "record": record,
                "classification": None if answer is None else document(answer),
                "refused": [] if searched is None else [_refusal(one) for one in searched.found],
                "searched": searched and {
                    "dead_letters": searched.letters,
                    "nameless": searched.nameless,
                    "back_to": searched.back_to,
                    "all": searched.whole,
                    "skipped": skipped_json(searched.skipped),
                },
                "broken": broken_json(broken),
            }
        )  # fmt: skip
        return
    for title, values in (("Record", record), ("Classification", None if answer is None else document(answer))):
        if values is not None:
            print_table(title, ["field", "value"], list(values.items()), prose=["value"])
        elif not any(one.kind == title for one in broken):
            out.print(f"{title}: none" if searched is not None and searched.found else f"{title}: none yet")
    if searched is None:
        return
    if searched.found:
        print_table(
            "Refused",
            ["by", "from topic", "at (UTC)", "message", "reason"],
            [
                [one.letter.unit, one.letter.topic, clock(one.letter.refused_at), one.letter.message_id,
                 one.letter.reason + FOUND_BY[one.found_by]]
                for one in searched.found
            ],
            prose=["reason"],
        )  # fmt: skip
    out.print(f"Of the dead letters, {_looked_at(searched)}.")


FOUND_BY = {
    "record_id": "",
    "message_id": "",
    "attribute": " (the id is that of the message's attribute)",
    "text": " (the payload is no JSON, and the id stands in it)",
}


def _first_day(record: dict[str, Any] | None) -> date | None:
    """Before it, nobody refused what was stored then: messages are delivered again for a week at most."""
    stored = None if record is None else record.get("stored_at")
    return (stored - timedelta(days=7)).date() if isinstance(stored, datetime) else None


def _refusal(found: "Refusal") -> dict[str, Any]:
    return {**found.letter.model_dump(mode="json", exclude={"payload_base64"}), "found_by": found.found_by}


def _looked_at(searched: "Search") -> str:
    text = f"{searched.letters:,} were looked at"
    if searched.back_to is not None:
        text += f", back to {searched.back_to}"
    if not searched.found:
        text += ": none names it"
    if searched.nameless:
        text += f"; {searched.nameless:,} of them cannot be read and name no record"
    if not searched.whole:
        text += "; older ones were not looked at"
    return text
