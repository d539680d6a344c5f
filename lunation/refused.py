"""Finds the dead letters of a record: who refused it, when and why."""

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from google.api_core.exceptions import NotFound

from lunation.clients import Clients
from lunation.deploy.names import archive_bucket
from lunation.ledger import Tally, archived_objects, contents, documents, id_in, lines_of
from schemas import DeadLetter
from schemas.archive_objects import days_of
from schemas.storage_uri import StorageUri

LETTERS = 100_000
"""So many dead letters are looked at: a minute's work at most."""
_DAY = re.compile(re.escape(days_of("dead-letters")) + r"(\d{4}-\d{2}-\d{2})/")


@dataclass(frozen=True)
class Refusal:
    """A dead letter of the record."""

    letter: DeadLetter
    found_by: Literal["record_id", "message_id", "attribute", "text"]
    """What told that it is the record's: the id in the payload, the message's id, an attribute, or, of a payload that
    cannot be read, that the id stands somewhere in it."""


@dataclass
class Search:
    """What came of looking for a record's dead letters."""

    found: list[Refusal] = field(default_factory=list)
    """Those of the newest day that has any."""
    letters: int = 0
    """How many were looked at."""
    nameless: int = 0
    """Of these, how many have a payload that cannot be read, or none: they name no record."""
    back_to: date | None = None
    """The oldest day that was looked at, whole; None if there is no dead letter."""
    whole: bool = True
    """Whether no older dead letter is left."""
    skipped: Tally = field(default_factory=Tally)
    """Objects that are none of the archive's, lines that are no dead letters."""


def find(
    clients: Clients, record_id: str, *, since: date | None = None, show: Callable[[str], None] = lambda _: None
) -> Search:
    """Look through the archive's dead letters, the newest days first, until a day has one of the record.

    It ends with the day in which :data:`LETTERS` is reached.

    Args:
        since: no older day.
        show: told how far it is.
    """
    search = Search()
    for day in _days(clients):
        if (since is not None and day < since) or search.letters >= LETTERS:
            search.whole = since is not None and day < since
            return search
        show(f"dead letters of {day}: {search.letters:,} looked at")
        for letter in _letters(clients, day, search.skipped):
            search.letters += 1
            payload = payload_of(clients, letter, small=True)
            named = id_in(payload)
            search.nameless += named is None
            by = _why_found(letter, payload, named, record_id)
            if by is not None:
                search.found.append(Refusal(letter, by))
        search.back_to = day
        if search.found:
            search.whole = False
            return search
    return search


def _why_found(
    letter: DeadLetter, payload: bytes, named: str | None, record_id: str
) -> Literal["record_id", "message_id", "attribute", "text"] | None:
    if named == record_id:
        return "record_id"
    if letter.message_id == record_id:
        return "message_id"
    if letter.attributes.get("record_id") == record_id:
        return "attribute"
    if named is None and record_id.encode() in payload:
        return "text"
    return None


def payload_of(clients: Clients, letter: DeadLetter, *, small: bool = False) -> bytes:
    """What was refused: in the letter, or beside it in the archive. Empty if it is in neither.

    Args:
        small: leave alone what lies beside the letter.
    """
    try:
        payload = base64.b64decode(letter.payload_base64, validate=True)
    except (binascii.Error, ValueError):
        return b""
    # Whoever may publish may write a letter: it names nothing but the archive's own objects.
    bucket = archive_bucket(clients.target)
    beside = str(StorageUri(bucket, "archive/dead-letters/"))
    if payload or small or not letter.payload_uri.startswith(beside):
        return payload
    try:
        kept: bytes = clients.storage.bucket(bucket).blob(StorageUri.parse(letter.payload_uri).path).download_as_bytes()
    except NotFound:
        return b""
    return kept


def _days(clients: Clients) -> list[date]:
    """The days with dead letters, the newest first."""
    listed = clients.storage.list_blobs(archive_bucket(clients.target), prefix=days_of("dead-letters"), delimiter="/")
    for _ in listed:  # the folders are known once the listing is read
        pass
    days = set()
    for folder in listed.prefixes:
        found = _DAY.fullmatch(folder)
        try:
            days.add(date.fromisoformat(found[1] if found else ""))
        except ValueError:
            continue
    return sorted(days, reverse=True)


def _letters(clients: Clients, day: date, skipped: Tally) -> Iterator[DeadLetter]:
    blobs = archived_objects(clients.storage, archive_bucket(clients.target), "dead-letters", day, day)
    lines = (line for blob, content in contents(blobs, skipped.add) for line in lines_of(blob.name, content))
    return documents(lines, DeadLetter.model_validate_json, skipped.add)
