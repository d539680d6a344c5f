"""Publishes records again, as they were archived. Every consumer is idempotent by ``record_id``."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from datetime import date
from itertools import islice

from lunation.clients import Clients
from lunation.deploy.table import archive_bucket
from lunation.ledger import archived_objects, contents
from lunation.verify import Account, day_of, id_in

UNCONFIRMED = 1000
"""So many messages wait for Pub/Sub's word at a time."""
CONFIRM_SECONDS = 60.0
ENTITIES_AT_A_TIME = 100
"""Of ``Record``, payload included: at most 1 MiB each."""

Message = tuple[str, bytes]
"""A record's id, and its document."""


class NotConfirmed(TimeoutError):
    """Pub/Sub did not confirm a message in time; the text says what to do."""


def missing(clients: Clients, account: Account) -> Iterator[Message]:
    """The records that a place lacks: from the archive, or from ``Record`` if it is the archive that lacks them. One
    that the archive has for two dates comes once."""
    wanted: dict[date, set[str]] = {}
    for place in ("Record", "Classification"):
        for day, ids in account.missing[place].items():
            wanted.setdefault(day, set()).update(ids)
    found = set[str]()
    for day, ids in sorted(wanted.items()):
        for record_id, line in archived(clients, day, day):
            if record_id in ids and record_id not in found:
                found.add(record_id)
                yield record_id, line
    unkept = [record_id for _, ids in sorted(account.missing["archive"].items()) for record_id in sorted(ids)]
    yield from _mirrored(clients, unkept)


def archived(clients: Clients, first: date, last: date | None) -> Iterator[Message]:
    """Every record of these event dates in the archive, history too, each once for its date."""
    objects = archived_objects(clients.storage, archive_bucket(clients.target), "records", first, last)
    day, seen = None, set[str]()
    for blob, content in contents(objects):
        if day != (day := day_of(blob.name)):
            seen.clear()
        for line in content.splitlines():
            record_id = id_in(line)
            if record_id is not None and record_id not in seen:
                seen.add(record_id)
                yield record_id, line


def _mirrored(clients: Clients, record_ids: Iterable[str]) -> Iterator[Message]:
    names = iter(record_ids)
    client = clients.datastore
    while batch := list(islice(names, ENTITIES_AT_A_TIME)):
        for entity in client.get_multi([client.key("Record", name) for name in batch]):
            yield str(entity.key.name), str(entity["payload"]).encode()


def publish(clients: Clients, messages: Iterable[Message], show: Callable[[str], None] = lambda _: None) -> int:
    """Publish to the topic ``records``, each with its id as the attribute, as ``submit`` does.

    Args:
        show: told how far it is.

    Returns:
        How many were published; Pub/Sub has confirmed them all.

    Raises:
        NotConfirmed: Pub/Sub has not confirmed one within :data:`CONFIRM_SECONDS`.
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
        raise NotConfirmed(
            f"Pub/Sub has not confirmed a message for {CONFIRM_SECONDS:.0f} s. Run it again: what was published does "
            "no harm a second time"
        ) from None
