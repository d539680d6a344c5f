"""Reconciles every record: what the archive holds is in the fast path, and what was answered is in the archive."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

from google.cloud import storage  # type: ignore[attr-defined]

from lunation import query
from lunation.asked import ask
from lunation.clients import Clients
from lunation.deploy.names import archive_bucket
from lunation.ledger import Skipped, Tally, archived_objects, contents, documents, id_in, lines_of, why
from lunation.query import Broken
from lunation.refused import payload_of
from lunation.settings import Settings
from schemas import DeadLetter, UseCase, use_case
from schemas.archive_objects import day_of

SETTLE_SECONDS = 120.0
"""How long after its window an object may take to be written, and a push to be answered, before it is missed."""
HISTORY = "backfill-"
"""How the names of objects begin that were filed by ``lunation backfill``: nobody mirrored or classified those."""
REFUSED_BY = {"archive": "archive", "ingest_fast": "Record", "classify": "Classification"}
"""Where a record is not, by the unit that refused it."""


@dataclass
class DeadLetters:
    """Messages that a unit refused for the same reason."""

    unit: str
    topic: str
    reason: str
    message_ids: list[str] = field(default_factory=list)


@dataclass
class Reconciliation:
    """Where the records of some event dates are. Counts are of distinct ids, if nothing else is said."""

    first: date
    last: date | None
    archived: int = 0
    history: int = 0
    """Of these, filed by a backfill only: they are expected nowhere else."""
    duplicates: int = 0
    """Lines of the archive whose id another line has, too. Spark drops them."""
    unreadable: Tally = field(default_factory=Tally)
    """Lines that are no record at all, objects that are damaged, dead letters that are none."""
    set_aside: Tally = field(default_factory=Tally)
    """Lines with an id that today's class refuses. They are archived, and expected nowhere else: no consumer would take
    them."""
    strangers: Tally = field(default_factory=Tally)
    """Objects that are none of the archive's, whoever put them there. Nothing reads them."""
    broken: dict[Broken, None] = field(default_factory=dict)
    """Entities that cannot be read, each once."""
    mirrored: int = 0
    """Of the archived ones, in ``Record``."""
    expired: int = 0
    """Archived for longer than ``Record`` keeps a copy."""
    classified: int = 0
    under_way: int = 0
    """Not everywhere, and too young to be missed."""
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REFUSED_BY.values(), 0))
    """Good records that one unit refused, which a dead letter tells: too large for it, for example."""
    missing: dict[str, dict[date, set[str]]] = field(
        default_factory=lambda: {place: {} for place in ("archive", "Record", "Classification")}
    )
    """Ids by event date, by the place that lacks them. What ``archive`` lacks was answered, but is not kept."""
    dead: list[DeadLetters] = field(default_factory=list)
    """What was refused since the first of these days, or since the first of these records was archived."""

    troubles: tuple[str, ...] = ()
    """Why what the pointer names is not served, as an instance of the classifier says."""
    unasked: str | None = None
    """Why no instance said whether it is."""

    def count(self, place: str) -> int:
        """How many records a place lacks."""
        return sum(map(len, self.missing[place].values()))

    def first_ids(self, place: str, limit: int) -> list[str]:
        """Some that a place lacks, the oldest event dates first."""
        return [one for _, ids in sorted(self.missing[place].items()) for one in sorted(ids)][:limit]

    @property
    def missed(self) -> int:
        """How many records are missing somewhere."""
        return len({one for days in self.missing.values() for ids in days.values() for one in ids})

    @property
    def whole(self) -> bool:
        """Whether nothing is missing, nothing that was looked at is broken, and what the pointer names is served."""
        well = not self.unreadable.count and not self.broken and not self.troubles
        return well and not any(map(self.count, self.missing))


def verify(
    settings: Settings,
    clients: Clients,
    *,
    first: date,
    last: date | None = None,
    settle: float = SETTLE_SECONDS,
    now: datetime | None = None,
    show: Callable[[str], None] = lambda _: None,
) -> Reconciliation:
    """Compare archive, ``Record`` and ``Classification`` day by day.

    Reads every object of these days, looks up each record in ``Record`` without its payload, and reads the keys of
    ``Classification``. In memory are the ids of one day, and all that are missing. What cannot be read is named in the
    result, and the rest is compared.

    Args:
        first: the first event date, in UTC.
        last: the last one; None: there is no last one.
        settle: seconds after the archive's window, within which a record may be on its way.
        show: told how far it is.
    """
    began = now or datetime.now(UTC)
    grace = timedelta(seconds=settings.archive.window_seconds + settle)
    young = began - grace
    old = began - timedelta(days=settings.records.ttl_days) + grace  # the copy is older than what is archived
    reconciliation = Reconciliation(first, last)
    case = use_case(settings.use_case)

    def tell(found: Broken) -> None:
        reconciliation.broken[found] = None

    refused_since = first
    for day, objects in _days(clients, reconciliation, tell):
        filed, aside = _filed(reconciliation, day, objects, case, show)
        live = {record_id: at for record_id, at in filed.items() if at is not None}
        reconciliation.archived += len(filed)
        reconciliation.history += len(filed) - len(live)
        if live:  # a unit may have refused one before the archive's window had ended
            refused_since = min(refused_since, (min(live.values()) - timedelta(days=1)).date())

        show(f"{day}: {len(live):,} records looked up in Datastore")
        mirrored = query.times(clients.datastore_api, clients.project, "Record", "stored_at", live, tell)
        unmirrored = {record_id: live[record_id] for record_id in live.keys() - mirrored.keys() - aside}
        expired = {record_id for record_id, at in unmirrored.items() if at <= old}
        reconciliation.mirrored += len(mirrored)
        reconciliation.expired += len(expired)

        answered = set(query.classified_on(clients.datastore, day))
        # One that was sent twice, with two event times, was answered once.
        answered |= _when_answered(clients, live.keys() - answered, tell).keys()
        reconciliation.classified += len(answered)

        lacking = {
            "archive": _when_answered(clients, answered - filed.keys(), tell),
            "Record": {record_id: at for record_id, at in unmirrored.items() if record_id not in expired},
            "Classification": {record_id: live[record_id] for record_id in live.keys() - answered - aside},
        }
        on_their_way = {one for found in lacking.values() for one, at in found.items() if at > young}
        reconciliation.under_way += len(on_their_way)
        for place, found in lacking.items():
            if missing := found.keys() - on_their_way:
                reconciliation.missing[place][day] = set(missing)
    show("dead letters")
    _read_dead_letters(case, clients, reconciliation, refused_since)
    if query.pointer(clients.datastore, case.name, tell) is not None:
        show("the deployed model")
        asked = ask(clients)
        reconciliation.troubles, reconciliation.unasked = asked.troubles, asked.unanswered
    return reconciliation


def _when_answered(clients: Clients, record_ids: Iterable[str], tell: query.Tell) -> dict[str, datetime]:
    return query.times(clients.datastore_api, clients.project, "Classification", "classified_at", record_ids, tell)


def _days(
    clients: Clients, reconciliation: Reconciliation, tell: query.Tell
) -> Iterator[tuple[date, Iterable[tuple[storage.Blob, bytes]]]]:
    """Each day of which something is archived or was answered, with its objects."""
    bucket = archive_bucket(clients.target)
    blobs = archived_objects(
        clients.storage, bucket, "records", reconciliation.first, reconciliation.last, reconciliation.strangers.add
    )
    filed = groupby(contents(blobs, reconciliation.unreadable.add), lambda found: day_of(found[0].name))
    group = next(filed, None)
    start = reconciliation.first
    while True:
        answered = query.next_classified_day(clients.datastore, start, tell)
        if answered is not None and reconciliation.last is not None and answered > reconciliation.last:
            answered = None
        days = [day for day in (group and group[0], answered) if day is not None]
        if not days:
            return
        day = min(days)
        if group is not None and group[0] == day:
            yield day, group[1]
            group = next(filed, None)
        else:
            yield day, ()
        start = day + timedelta(days=1)


def _filed(
    reconciliation: Reconciliation,
    day: date,
    objects: Iterable[tuple[storage.Blob, bytes]],
    case: UseCase,
    show: Callable[[str], None],
) -> tuple[dict[str, datetime | None], set[str]]:
    """The archived ids of a day, each with the time it was first archived, None for one of history only; and which of
    them today's class refuses."""
    filed: dict[str, datetime | None] = {}
    aside = set[str]()
    for blob, content in objects:
        history = blob.name.rsplit("/", 1)[1].startswith(HISTORY)
        for line in lines_of(blob.name, content):
            try:
                record_id = case.read_record(line.data).record_id
                aside.discard(record_id)
            except ValueError as error:
                named = id_in(line.data)
                told = Skipped(line.where, why(error))
                if named is None:
                    reconciliation.unreadable.add(told)
                    continue
                reconciliation.set_aside.add(told)
                record_id = named
                if record_id not in filed:  # a good line of that id is expected everywhere
                    aside.add(record_id)
            reconciliation.duplicates += record_id in filed
            before = filed.setdefault(record_id, None)
            if not history:
                filed[record_id] = blob.time_created if before is None else min(before, blob.time_created)
        show(f"{day}: {len(filed):,} records in the archive")
    return filed, aside


def _read_dead_letters(case: UseCase, clients: Clients, reconciliation: Reconciliation, since: date) -> None:
    groups: dict[tuple[str, str, str], DeadLetters] = {}
    seen: set[tuple[str, str]] = set()
    lacking = {
        place: {one: day for day, ids in days.items() for one in ids} for place, days in reconciliation.missing.items()
    }
    bucket = archive_bucket(clients.target)
    blobs = archived_objects(clients.storage, bucket, "dead-letters", since, skipped=reconciliation.strangers.add)
    lines = (
        line
        for blob, content in contents(blobs, reconciliation.unreadable.add)
        for line in lines_of(blob.name, content)
    )
    for letter in documents(lines, DeadLetter.model_validate_json, reconciliation.unreadable.add):
        if (letter.unit, letter.message_id) in seen:
            continue
        seen.add((letter.unit, letter.message_id))
        group = letter.unit, letter.topic, letter.reason
        groups.setdefault(group, DeadLetters(*group)).message_ids.append(letter.message_id)
        place = REFUSED_BY.get(letter.unit)
        if place is None or letter.topic != "records" or not lacking[place]:
            continue
        payload = payload_of(clients, letter)
        record_id = _record_in(case, payload)
        if record_id in lacking[place]:  # what is no record was not archived as one
            reconciliation.missing[place][lacking[place].pop(record_id)].discard(record_id)
            reconciliation.refused[place] += 1
    reconciliation.dead = sorted(groups.values(), key=lambda one: (-len(one.message_ids), one.unit, one.reason))


def _record_in(case: UseCase, payload: bytes) -> str | None:
    try:
        return case.read_record(payload).record_id
    except ValueError:
        return None
