"""Publishes records again, as they were archived. Every consumer is idempotent by ``record_id``."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from datetime import date
from itertools import islice

from lunation.clients import Clients
from lunation.deploy.names import archive_bucket
from lunation.ledger import Skipped, Tell, archived_objects, contents, lines_of, why
from lunation.verify import Reconciliation
from schemas import UseCase
from schemas.archive_objects import day_of

UNCONFIRMED = 1000
"""So many messages wait for Pub/Sub's word at a time."""
CONFIRM_SECONDS = 60.0
ENTITIES_AT_A_TIME = 100
"""Of ``Record``, payload included: at most 1 MiB each."""

Message = tuple[str, bytes]
"""A record's id, and its document."""


class NotConfirmedError(TimeoutError):
    """Pub/Sub did not confirm a message in time; the text says what to do."""


def missing(clients: Clients, case: UseCase, reconciliation: Reconciliation, skipped: Tell) -> Iterator[Message]:
    """The records that a place lacks: from the archive, or from ``Record`` if it is the archive that lacks them. One
    that the archive has for two dates comes once.

    Args:
        skipped: told what today's class refuses: no consumer would take it.
    """
    wanted: dict[date, set[str]] = {}
    for place in ("Record", "Classification"):
        for day, ids in reconciliation.missing[place].items():
            wanted.setdefault(day, set()).update(ids)
    found = set[str]()
    for day, ids in sorted(wanted.items()):
        # What is skipped here was named by verify.
        for record_id, line in archived(clients, case, day, day, lambda _: None, strangers=False):
            if record_id in ids and record_id not in found:
                found.add(record_id)
                yield record_id, line
    unkept = [record_id for _, ids in sorted(reconciliation.missing["archive"].items()) for record_id in sorted(ids)]
    yield from _mirrored(clients, case, unkept, skipped)


def archived(
    clients: Clients, case: UseCase, first: date, last: date | None, skipped: Tell, *, strangers: bool = True
) -> Iterator[Message]:
    """Every record of these event dates in the archive, history too, each once for its date.

    Args:
        skipped: told what today's class refuses, and which objects are damaged.
        strangers: tell it the objects that are none of the archive's, too.
    """
    bucket = archive_bucket(clients.target)
    objects = archived_objects(clients.storage, bucket, "records", first, last, skipped if strangers else None)
    day, seen = None, set[str]()
    for blob, content in contents(objects, skipped):
        if day != (day := day_of(blob.name)):
            seen.clear()
        for line in lines_of(blob.name, content):
            try:
                record_id = case.read_record(line.data).record_id
            except ValueError as error:
                skipped(Skipped(line.where, why(error)))
                continue
            if record_id not in seen:
                seen.add(record_id)
                yield record_id, line.data


def _mirrored(clients: Clients, case: UseCase, record_ids: Iterable[str], skipped: Tell) -> Iterator[Message]:
    names = iter(record_ids)
    client = clients.datastore
    while batch := list(islice(names, ENTITIES_AT_A_TIME)):
        for entity in client.get_multi([client.key("Record", name) for name in batch]):
            payload = entity.get("payload")
            document = payload.encode() if isinstance(payload, str) else payload if isinstance(payload, bytes) else b""
            try:
                case.read_record(document)
            except ValueError as error:
                skipped(Skipped(f"Record {entity.key.name}, property payload", why(error)))
            else:
                yield str(entity.key.name), document


def publish(clients: Clients, messages: Iterable[Message], show: Callable[[str], None] = lambda _: None) -> int:
    """Publish to the topic ``records``, each with its id as the attribute, as ``submit`` does.

    Args:
        show: told how far it is.

    Returns:
        How many were published; Pub/Sub has confirmed them all.

    Raises:
        NotConfirmedError: Pub/Sub has not confirmed one within :data:`CONFIRM_SECONDS`.
        google.api_core.exceptions.GoogleAPIError: it refused one.
    """
    topic = f"projects/{clients.project}/topics/records"
    waiting: deque[Future[str]] = deque()
    count = 0
    for record_id, document in messages:
        waiting.append(clients.publisher.publish(topic, document, record_id=record_id))
        count += 1
        if len(waiting) >= UNCONFIRMED:
            _confirm(waiting.popleft())
            if count % UNCONFIRMED == 0:
                show(f"{count:,} published")
    while waiting:
        _confirm(waiting.popleft())
    return count


def _confirm(sent: "Future[str]") -> None:
    try:
        sent.result(timeout=CONFIRM_SECONDS)
    except TimeoutError:
        raise NotConfirmedError(
            f"Pub/Sub has not confirmed a message for {CONFIRM_SECONDS:.0f} s. Run it again: what was published does "
            "no harm a second time"
        ) from None
