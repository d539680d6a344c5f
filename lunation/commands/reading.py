"""``query``: what the fast path holds."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lunation.commands.naming import A_RUN, model_version
from lunation.commands.options import JsonOption, LimitOption, TargetOption
from lunation.commands.printing import clock, document, fail, out, print_json, print_table
from lunation.commands.session import session

if TYPE_CHECKING:
    from lunation.clients import Clients


def query(
    record_id: Annotated[str | None, typer.Argument(help="One record: what was sent and what was answered.")] = None,
    label: Annotated[str | None, typer.Option(help="Only answers with this label.")] = None,
    model: Annotated[str | None, typer.Option(metavar="RUN", help=f"Only answers of this run's model. {A_RUN}")] = None,
    since: Annotated[datetime | None, typer.Option(help="Answered then or later, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Answered before, UTC.")] = None,
    limit: LimitOption = 20,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look up classifications: of one record, by label, by model version, by time."""
    from lunation import query as fast_path
    from lunation.runs import short_id
    from schemas import use_case

    with session(target) as (settings, clients):
        if record_id is not None:
            _one_record(clients, record_id, as_json)
            return
        known = use_case(settings.use_case).labels
        if label is not None and label not in known:
            fail(f"--label {label}: use case {settings.use_case} answers {' or '.join(known)}")
        found = list(
            fast_path.classifications(
                clients.datastore,
                label=label,
                model_version=model and model_version(clients, settings.use_case, model),
                since=since and since.replace(tzinfo=UTC),
                until=until and until.replace(tzinfo=UTC),
                limit=limit,
            )
        )
    if as_json:
        print_json([document(answer) for answer in found])
        return
    print_table(
        "Classifications, newest first",
        ["record", "label", "probability", "run", "generation", "classified at (UTC)"],
        [
            [one.record_id, one.label, f"{one.probability:.4f}", short_id(one.model_version), one.generation,
             clock(one.classified_at)]
            for one in found
        ],
        drop=["generation", "probability"],
    )  # fmt: skip


def _one_record(clients: "Clients", record_id: str, as_json: bool) -> None:
    from lunation import query as fast_path

    record = fast_path.record(clients.datastore, record_id)
    answer = fast_path.classification(clients.datastore, record_id)
    if record is None and answer is None:
        fail(f"no record {record_id!r} in Datastore. It may be older than its time to live; the archive keeps it")
    if as_json:
        print_json({"record": record, "classification": None if answer is None else document(answer)})
        return
    for title, values in (("Record", record), ("Classification", None if answer is None else document(answer))):
        if values is None:
            out.print(f"{title}: none yet")
        else:
            print_table(title, ["field", "value"], list(values.items()), prose=["value"])
