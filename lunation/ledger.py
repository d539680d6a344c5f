"""Accounting: what is in the archive, in the fast path and in the dead letters, read back from where it lies."""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Any

from google.cloud import storage  # type: ignore[attr-defined]

from lunation import query
from lunation.clients import Clients
from lunation.deploy.table import archive_bucket

OBJECTS_IN_FLIGHT = 8
"""So many objects of the archive are downloaded, or wait to be looked at, at a time: memory holds no more of it."""


@dataclass(frozen=True)
class Ledger:
    """Distinct ids, by where they were found."""

    archived: frozenset[str]
    """``record_id`` of every record in the archive."""
    labelled: frozenset[str]
    """``record_id`` of every label in the archive."""
    mirrored: frozenset[str]
    """``record_id`` of every entity ``Record``."""
    classified: frozenset[str]
    """``record_id`` of every entity ``Classification``."""
    dead: frozenset[tuple[str, str]]
    """``(unit, message id)`` of every dead letter in the archive."""


def read(clients: Clients) -> Ledger:
    """Read everything back. Takes seconds for each hundred thousand records."""
    bucket = archive_bucket(clients.target)
    dead = archived_documents(clients.storage, bucket, "dead-letters")
    return Ledger(
        archived=frozenset(
            document["record_id"] for document in archived_documents(clients.storage, bucket, "records")
        ),
        labelled=frozenset(document["record_id"] for document in archived_documents(clients.storage, bucket, "labels")),
        mirrored=frozenset(query.keys(clients.datastore, "Record")),
        classified=frozenset(query.keys(clients.datastore, "Classification")),
        dead=frozenset((document["unit"], document["message_id"]) for document in dead),
    )


def archived_documents(
    client: storage.Client, bucket: str, topic: str, first: date | None = None, last: date | None = None
) -> Iterator[dict[str, Any]]:
    """Every document that the archive holds of a topic; one that was delivered twice may come twice.

    Args:
        first: only what is filed under this day or a later one.
        last: only what is filed under this day or an earlier one.
    """
    for _, content in contents(archived_objects(client, bucket, topic, first, last)):
        for line in content.splitlines():
            yield json.loads(line)


def archived_objects(
    client: storage.Client, bucket: str, topic: str, first: date | None = None, last: date | None = None
) -> Iterator[storage.Blob]:
    """The objects of :func:`archived_documents` as they are listed: by day, oldest first."""
    prefix = f"archive/{topic}/dt="
    days = {"start_offset": f"{prefix}{first}"} if first else {}
    days |= {"end_offset": f"{prefix}{last}0"} if last else {}  # 0 comes after /, and there may be no day after
    found = client.list_blobs(bucket, prefix=f"archive/{topic}/", **days)
    return (blob for blob in found if blob.name.endswith(".json"))


def contents(blobs: Iterable[storage.Blob]) -> Iterator[tuple[storage.Blob, bytes]]:
    """Each object with what is in it, in order, :data:`OBJECTS_IN_FLIGHT` of them at a time."""
    wanted = iter(blobs)
    coming: deque[tuple[storage.Blob, Future[bytes]]] = deque()
    with ThreadPoolExecutor(OBJECTS_IN_FLIGHT) as pool:
        try:
            while True:
                for blob in islice(wanted, OBJECTS_IN_FLIGHT - len(coming)):
                    coming.append((blob, pool.submit(blob.download_as_bytes)))
                if not coming:
                    return
                blob, content = coming.popleft()
                yield blob, content.result()
        finally:  # who looks may have seen enough
            pool.shutdown(cancel_futures=True)
