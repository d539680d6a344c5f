"""Accounts for every record: what was sent against what lies in the bucket and in Datastore."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from demo.report import Report
from lunation import ledger
from lunation.clients import Clients

UNITS = ("archive", "ingest_fast", "classify")
"""Each of them reads the topic of records, so each puts a malformed one into the dead letters."""
SHOWN = 10


@dataclass(frozen=True)
class Sent:
    """What the story has sent.

    Args:
        live: ids of the records that were published.
        filed: ids of the records in the history files.
        labelled: ids of the records whose labels were sent.
        malformed: message ids of what no one can read.
    """

    live: frozenset[str]
    filed: frozenset[str]
    labelled: frozenset[str]
    malformed: frozenset[str]


def account(clients: Clients, sent: Sent, report: Report, show: Callable[[str], None], seconds: float = 120) -> None:
    """Fill in the report's counts from what is read back. What is on its way is waited for.

    Args:
        show: told what is still missing.
        seconds: after that time, what is missing is lost.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = ledger.read(clients)
        missing = missing_from(found, sent)
        if not any(missing.values()) or time.monotonic() >= deadline:
            break
        show(", ".join(f"{len(ids):,} not yet {place}" for place, ids in missing.items() if ids))
        time.sleep(1)
    report.archived, report.labels_archived = len(found.archived), len(found.labelled)
    report.mirrored, report.classified = len(found.mirrored), len(found.classified)
    report.dead_lettered = sum(all((unit, one) in found.dead for unit in UNITS) for one in sent.malformed)
    report.lost = len({one for ids in missing.values() for one in ids})
    report.missing = {place: sorted(ids)[:SHOWN] for place, ids in missing.items() if ids}


def missing_from(found: ledger.Ledger, sent: Sent) -> dict[str, set[str]]:
    """The ids that are not where they should be, by the place that lacks them."""
    return {
        "archived": set((sent.live | sent.filed) - found.archived),
        "labels archived": set(sent.labelled - found.labelled),
        "mirrored": set(sent.live - found.mirrored),
        "classified": set(sent.live - found.classified),
        "dead-lettered": {one for one in sent.malformed if any((unit, one) not in found.dead for unit in UNITS)},
    }
