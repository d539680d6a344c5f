"""The account is read back from the bucket and from Datastore: what is taken away there is missed here."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from google.cloud import datastore

from demo.account import UNITS, Sent, account
from demo.report import Report
from lunation.clients import Clients
from lunation.deploy.names import archive_bucket
from lunation.settings import load
from schemas import DeadLetter
from tests.support import ServerProcess

SENT = Sent(
    live=frozenset({"live1", "live2"}),
    filed=frozenset({"filed1", "filed2", "filed3"}),
    labelled=frozenset({"filed1", "live1"}),
    malformed=frozenset({"m1", "m2"}),
)


@pytest.fixture
def clients(serve: Callable[..., ServerProcess], monkeypatch: pytest.MonkeyPatch) -> Clients:
    """Storage and Datastore as a story that went well leaves them."""
    for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(variable, "")  # the clients set them; they are put back afterwards
    state = serve("storage").state
    serve("datastore")
    clients = Clients(load().target("laptop").model_copy(update={"endpoints": state / "endpoints.json"}))
    bucket = clients.storage.create_bucket(archive_bucket(clients.target))

    def put(name: str, *documents: dict) -> None:
        bucket.blob(f"archive/{name}.json").upload_from_string("".join(json.dumps(one) + "\n" for one in documents))

    put("records/dt=2013-01-01/first", {"record_id": "filed1"}, {"record_id": "filed2"})
    put("records/dt=2013-01-02/second", {"record_id": "filed3"}, {"record_id": "filed2"})  # delivered twice
    put("records/dt=2013-01-03/live", {"record_id": "live1"}, {"record_id": "live2"})
    put("labels/dt=2013-01-01/labels", {"record_id": "filed1"}, {"record_id": "live1"})
    for unit in UNITS:
        letters = [
            DeadLetter(
                unit=unit,
                topic="records",
                message_id=one,
                reason="bad",
                payload_base64="",
                refused_at=datetime(2013, 1, 1, tzinfo=UTC),
            )
            for one in sorted(SENT.malformed)
        ]
        put(f"dead-letters/dt=2013-01-01/{unit}", *(json.loads(letter.model_dump_json()) for letter in letters))
    for kind in ("Record", "Classification"):
        clients.datastore.put_multi([datastore.Entity(clients.datastore.key(kind, one)) for one in sorted(SENT.live)])
    return clients


def accounted(clients: Clients) -> Report:
    """The account, without waiting for what may come."""
    report = Report(use_case="flights")
    account(clients, SENT, report, lambda _: None, seconds=0)
    return report


def test_what_is_taken_away_is_lost(clients: Clients) -> None:
    """Object by object and entity by entity, each named with the place that lacks it: the count is no echo of what
    was sent."""
    report = accounted(clients)
    assert (report.lost, report.missing) == (0, {})
    assert (report.archived, report.labels_archived, report.dead_lettered) == (5, 2, 2)
    assert (report.mirrored, report.classified) == (2, 2)

    bucket = clients.storage.bucket(archive_bucket(clients.target))
    bucket.blob("archive/records/dt=2013-01-01/first.json").delete()
    report = accounted(clients)
    assert (report.lost, report.missing) == (1, {"archived": ["filed1"]}), "filed2 lies in another object as well"
    assert report.archived == 4

    bucket.blob("archive/labels/dt=2013-01-01/labels.json").delete()
    clients.datastore.delete(clients.datastore.key("Record", "live1"))
    clients.datastore.delete(clients.datastore.key("Classification", "live2"))
    bucket.blob("archive/dead-letters/dt=2013-01-01/classify.json").delete()
    report = accounted(clients)
    assert report.missing == {
        "archived": ["filed1"],
        "labels archived": ["filed1", "live1"],
        "mirrored": ["live1"],
        "classified": ["live2"],
        "dead-lettered": ["m1", "m2"],
    }
    assert report.lost == len({"filed1", "live1", "live2", "m1", "m2"})
    assert (report.mirrored, report.classified, report.dead_lettered) == (1, 1, 0)
