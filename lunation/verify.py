"""Accounts for every record: what the archive holds is in the fast path, and what was answered is in the archive."""

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any

from google.cloud import storage  # type: ignore[attr-defined]
from pydantic import ValidationError

from lunation import query
from lunation.clients import Clients
from lunation.deploy.table import archive_bucket
from lunation.ledger import archived_documents, archived_objects, contents
from lunation.settings import Settings
from schemas import use_case

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
class Account:
    """Where the records of some event dates are. Counts are of distinct ids, if nothing else is said."""

    first: date
    last: date | None
    archived: int = 0
    history: int = 0
    """Of these, filed by a backfill only: they are expected nowhere else."""
    duplicates: int = 0
    """Lines of the archive whose id another line has, too. Spark drops them."""
    unreadable: list[str] = field(default_factory=list)
    """``object:line`` of what is no record."""
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
        """Whether nothing is missing."""
        return not self.unreadable and not any(map(self.count, self.missing))


def verify(
    settings: Settings,
    clients: Clients,
    *,
    first: date,
    last: date | None = None,
    settle: float = SETTLE_SECONDS,
    now: datetime | None = None,
    show: Callable[[str], None] = lambda _: None,
) -> Account:
    """Compare archive, ``Record`` and ``Classification`` day by day.

    Reads every object of these days, looks up each record in ``Record`` without its payload, and reads the keys of
    ``Classification``. In memory are the ids of one day, and all that are missing.

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
    account = Account(first, last)
    refused_since = first
    for day, objects in _days(clients, first, last):
        filed = _filed(account, day, objects, show)
        live = {record_id: at for record_id, at in filed.items() if at is not None}
        account.archived += len(filed)
        account.history += len(filed) - len(live)
        if live:  # a unit may have refused one before the archive's window had ended
            refused_since = min(refused_since, (min(live.values()) - timedelta(days=1)).date())

        show(f"{day}: {len(live):,} records looked up in Datastore")
        mirrored = query.times(clients.datastore_api, clients.project, "Record", "stored_at", live)
        unmirrored = {record_id: live[record_id] for record_id in live.keys() - mirrored.keys()}
        expired = {record_id for record_id, at in unmirrored.items() if at <= old}
        account.mirrored += len(mirrored)
        account.expired += len(expired)

        answered = set(query.classified_on(clients.datastore, day))
        # One that was sent twice, with two event times, was answered once.
        answered |= _when_answered(clients, live.keys() - answered).keys()
        account.classified += len(answered)

        lacking = {
            "archive": _when_answered(clients, answered - filed.keys()),
            "Record": {record_id: at for record_id, at in unmirrored.items() if record_id not in expired},
            "Classification": {record_id: live[record_id] for record_id in live.keys() - answered},
        }
        on_their_way = {one for found in lacking.values() for one, at in found.items() if at > young}
        account.under_way += len(on_their_way)
        for place, found in lacking.items():
            if missing := found.keys() - on_their_way:
                account.missing[place][day] = set(missing)
    show("dead letters")
    _read_dead_letters(settings, clients, account, refused_since)
    return account


def _when_answered(clients: Clients, record_ids: Iterable[str]) -> dict[str, datetime]:
    return query.times(clients.datastore_api, clients.project, "Classification", "classified_at", record_ids)


def _days(
    clients: Clients, first: date, last: date | None
) -> Iterator[tuple[date, Iterable[tuple[storage.Blob, bytes]]]]:
    """Each day of which something is archived or was answered, with its objects."""
    blobs = archived_objects(clients.storage, archive_bucket(clients.target), "records", first, last)
    filed = groupby(contents(blobs), lambda found: day_of(found[0].name))
    group = next(filed, None)
    start = first
    while True:
        answered = query.next_classified_day(clients.datastore, start)
        if answered is not None and last is not None and answered > last:
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


def day_of(name: str) -> date:
    """The event date in ``archive/records/dt=2013-03-01/…``."""
    return date.fromisoformat(name.split("/")[2].removeprefix("dt="))


def _filed(
    account: Account, day: date, objects: Iterable[tuple[storage.Blob, bytes]], show: Callable[[str], None]
) -> dict[str, datetime | None]:
    """The archived ids of a day, each with the time it was first archived; None for one of history only."""
    filed: dict[str, datetime | None] = {}
    for blob, content in objects:
        history = blob.name.rsplit("/", 1)[1].startswith(HISTORY)
        for number, line in enumerate(content.splitlines(), 1):
            record_id = id_in(line)
            if record_id is None:
                account.unreadable.append(f"{blob.name}:{number}")
                continue
            account.duplicates += record_id in filed
            before = filed.setdefault(record_id, None)
            if not history:
                filed[record_id] = blob.time_created if before is None else min(before, blob.time_created)
        show(f"{day}: {len(filed):,} records in the archive")
    return filed


def id_in(line: bytes) -> str | None:
    """The ``record_id`` of a document; None if it is no record."""
    try:
        record_id = json.loads(line)["record_id"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return record_id if isinstance(record_id, str) else None


def _read_dead_letters(settings: Settings, clients: Clients, account: Account, since: date) -> None:
    groups: dict[tuple[str, str, str], DeadLetters] = {}
    seen: set[tuple[str, str]] = set()
    lacking = {place: {one: day for day, ids in days.items() for one in ids} for place, days in account.missing.items()}
    valid = use_case(settings.use_case).record.model_validate_json
    for letter in archived_documents(clients.storage, archive_bucket(clients.target), "dead-letters", since):
        unit, message = letter["unit"], letter["message_id"]
        if (unit, message) in seen:
            continue
        seen.add((unit, message))
        group = unit, letter["topic"], letter["reason"]
        groups.setdefault(group, DeadLetters(*group)).message_ids.append(message)
        place = REFUSED_BY.get(unit)
        if place is None or letter["topic"] != "records" or not lacking[place]:
            continue
        payload = base64.b64decode(letter["payload_base64"])
        record_id = id_in(payload)
        if record_id in lacking[place] and _is_good(valid, payload):  # what is no record was not archived as one
            account.missing[place][lacking[place].pop(record_id)].discard(record_id)
            account.refused[place] += 1
    account.dead = sorted(groups.values(), key=lambda one: (-len(one.message_ids), one.unit, one.reason))


def _is_good(valid: Callable[[bytes], Any], payload: bytes) -> bool:
    try:
        valid(payload)
    except ValidationError:
        return False
    return True
