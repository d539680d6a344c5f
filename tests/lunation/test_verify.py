"""``verify`` and ``replay``, through the command, on running servers."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apache_beam.transforms.window import GlobalWindow, IntervalWindow
from click.testing import Result
from google.cloud import datastore
from typer.testing import CliRunner

from dataflow.archive_sink import _window_name, object_name
from laptop.supervisor import Supervisor
from lunation import verify
from lunation.cli import app
from lunation.clients import Clients
from lunation.settings import load
from schemas import Classification, DeadLetter
from schemas.shapes import unindexed
from tests.functions.doubles import models
from tests.support import eventually

ARCHIVE = "local-dev-archive"
TOPIC, READER = "projects/local-dev/topics/records", "projects/local-dev/subscriptions/reader"
FIRST, SECOND = "2013-03-01", "2013-03-02"
LONG_AGO = datetime(2013, 3, 3, tzinfo=UTC)
AT_ONCE = ("--settle", "0")


class Operator:
    """A person with the command, and what the servers hold."""

    def __init__(self, clients: Clients, variables: dict[str, str]) -> None:
        self.clients = clients
        self._variables = variables

    def run(self, *arguments: str, code: int = 0, answer: str | None = None) -> Result:
        """The command; nothing of a window is waited for."""
        result = CliRunner().invoke(app, arguments, env=self._variables, input=answer, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    def found(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """What ``verify`` says as JSON."""
        return json.loads(self.run("verify", "--from", FIRST, "--json", *arguments, code=code).stdout)

    def settled(self) -> dict[str, Any]:
        """The same with something missing, once what was filed is older than a window."""
        arguments = ["verify", "--from", FIRST, "--json", *AT_ONCE]

        def look() -> dict[str, Any] | None:
            found = json.loads(CliRunner().invoke(app, arguments, env=self._variables).stdout)
            return None if found["under_way"] else found

        found = eventually(look, 10)
        assert found == self.found(*AT_ONCE, code=2)
        return found

    def file(self, topic: str, day: str, *lines: bytes, history: bool = False) -> str:
        """An object of the archive, named as the pipeline names it."""
        window = GlobalWindow() if history else IntervalWindow(0, 60)
        content = b"".join(line + b"\n" for line in lines)
        name = object_name(topic, day, _window_name(window), 0, 0, content)
        self.clients.storage.bucket(ARCHIVE).blob(name).upload_from_string(content)
        return name

    def mirror(self, record_id: str, line: bytes) -> None:
        """The fast copy."""
        now = datetime.now(UTC)
        self._put("Record", record_id, ("payload", "stored_at"), {"payload": line.decode(), "stored_at": now})

    def answer(self, record_id: str, day: str, at: datetime = LONG_AGO) -> None:
        """A stored answer."""
        answer = Classification(
            record_id=record_id, label="late", probability=0.75, model_version="v", generation=1,
            event_time=datetime.fromisoformat(f"{day}T12:00:00+00:00"), classified_at=at,
        )  # fmt: skip
        self._put("Classification", record_id, unindexed(Classification), answer.model_dump())

    def refuse(self, unit: str, message_id: str, payload: bytes, reason: str) -> None:
        """An archived dead letter."""
        now = datetime.now(UTC)
        letter = DeadLetter(
            unit=unit, topic="records", message_id=message_id, reason=reason, refused_at=now,
            payload_base64=base64.b64encode(payload).decode(),
        )  # fmt: skip
        self.file("dead-letters", f"{now:%Y-%m-%d}", letter.model_dump_json().encode())

    def published(self) -> list[tuple[str, bytes]]:
        """What came to the topic since the last time, by id."""
        found = []
        pull = {"subscription": READER, "max_messages": 1000, "return_immediately": True}
        while messages := self.clients.subscriber.pull(request=pull).received_messages:
            self.clients.subscriber.acknowledge(subscription=READER, ack_ids=[one.ack_id for one in messages])
            found += [(one.message.attributes["record_id"], one.message.data) for one in messages]
        return sorted(found)

    def _put(self, kind: str, name: str, left_out: tuple[str, ...], values: dict[str, Any]) -> None:
        entity = datastore.Entity(self.clients.datastore.key(kind, name), exclude_from_indexes=left_out)
        entity.update(values)
        self.clients.datastore.put(entity)


@pytest.fixture
def operator(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    """Servers with an empty archive and the topic."""
    for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(variable, "")  # the clients set them; they are put back afterwards
    with Supervisor(tmp_path / "state", ["datastore", "storage", "pubsub"]) as running:
        running.wait_ready()
        endpoints = tmp_path / "state" / "endpoints.json"
        clients = Clients(load().target("laptop").model_copy(update={"endpoints": endpoints}))
        clients.storage.create_bucket(ARCHIVE)
        clients.publisher.create_topic(name=TOPIC)
        clients.subscriber.create_subscription(name=READER, topic=TOPIC)
        variables = {
            "LUNATION_TARGETS__LAPTOP__ENDPOINTS": str(endpoints),
            "LUNATION_ARCHIVE__WINDOW_SECONDS": "1",
            "COLUMNS": "200",
            "TERM": "dumb",
        }
        yield Operator(clients, variables)
        clients.subscriber.close()


def line(record_id: str, day: str = FIRST, **fields: Any) -> bytes:
    """A record as its publisher wrote it: with a field that nobody knows, and in a spelling of its own."""
    document = {**models.record(record_id), "event_time": f"{day}T12:00:00Z", "unknown": 1, **fields}
    return json.dumps(document, separators=(", ", " : ")).encode()


def test_what_is_missing_is_named_and_published_again(operator: Operator) -> None:
    """From the archive, byte for byte, or from the fast copy what the archive has lost; each once, with its id."""
    names = [f"r{number}" for number in range(6)]
    lines = {name: line(name) for name in names}
    operator.file("records", FIRST, *(lines[name] for name in names[:5]), lines["r0"])
    operator.file("records", SECOND, line("s0", SECOND))
    for name in names:
        if name != "r1":
            operator.mirror(name, lines[name])
        if name not in ("r1", "r2"):
            operator.answer(name, FIRST)
    operator.answer("s1", SECOND)
    operator.answer("s0", SECOND)
    operator.mirror("s0", line("s0", SECOND))

    found = operator.settled()
    assert (found["archived"], found["duplicates"], found["mirrored"], found["classified"]) == (6, 1, 5, 6)
    assert found["missing"] == {
        "archive": {"count": 2, "record_ids": ["r5", "s1"]},
        "Record": {"count": 1, "record_ids": ["r1"]},
        "Classification": {"count": 2, "record_ids": ["r1", "r2"]},
    }
    assert operator.found("--to", FIRST, "--limit", "1", *AT_ONCE, code=2)["missing"]["Classification"] == {
        "count": 2,
        "record_ids": ["r1"],
    }
    printed = operator.run("verify", "--date", FIRST, *AT_ONCE, code=2).stdout
    assert "3 records are missing somewhere" in printed
    assert "1 lines more than once" in printed
    assert "s1" not in printed

    operator.run("replay", "--from", FIRST, *AT_ONCE, code=1, answer="n\n")
    assert operator.published() == []
    told = operator.run("replay", "--from", FIRST, *AT_ONCE, "--yes", code=2).stdout
    assert "2 not in archive, 1 not in Record, 2 not in Classification" in told
    assert "Published 3 records" in told
    assert "1 are in Classification only" in told
    assert operator.published() == [(name, lines[name]) for name in ("r1", "r2", "r5")]

    operator.run("replay", "--from", FIRST, "--all", "--yes")
    assert [name for name, _ in operator.published()] == ["r0", "r1", "r2", "r3", "r4", "s0"]


def test_what_is_not_there_for_a_reason_is_not_missing(operator: Operator) -> None:
    """History is mirrored by nobody; an old copy has expired; what a unit refused has its dead letter; what is young
    is on its way. A line that cannot be read is a loss."""
    operator.file("records", FIRST, line("history"), history=True)
    operator.file("records", FIRST, line("expired"), line("refused"))
    operator.mirror("refused", b"{}")
    operator.answer("expired", FIRST)
    operator.refuse("classify", "m1", line("refused"), "too large")
    operator.refuse("classify", "m1", line("refused"), "too large")
    operator.refuse("archive", "m2", b"no json", "document: Invalid JSON")
    found = operator.settled()
    assert found["missing"]["Record"] == {"count": 1, "record_ids": ["expired"]}
    assert found["missing"]["Classification"]["count"] == 0
    assert found["refused"] == {"archive": 0, "Record": 0, "Classification": 1}
    assert [(one["unit"], one["messages"], one["reason"]) for one in found["dead_letters"]] == [
        ("archive", 1, "document: Invalid JSON"),
        ("classify", 1, "too large"),
    ]
    assert found["history"] == 1
    young = operator.found("--settle", "3600")
    assert (young["accounted"], young["under_way"]) == (True, 2)
    assert operator.found("--settle", "3600", "--to", "9999-12-31") == young | {"to": "9999-12-31"}
    later = verify.verify(
        load(), operator.clients, first=LONG_AGO.date() - timedelta(days=2), now=datetime.now(UTC) + timedelta(days=91)
    )
    assert (later.whole, later.expired) == (True, 1)
    # It was mirrored some time before it was archived.
    just = verify.verify(
        load(),
        operator.clients,
        first=LONG_AGO.date() - timedelta(days=2),
        now=datetime.now(UTC) + timedelta(days=90, minutes=-2),
    )
    assert (just.whole, just.expired) == (True, 1)

    name = operator.file("records", SECOND, line("s0", SECOND), b"{", b"[1]", b'{"record_id": 7}', history=True)
    unreadable = operator.found("--from", SECOND, code=2)["unreadable"]
    assert unreadable == {"count": 3, "lines": [f"{name}:{number}" for number in (2, 3, 4)]}
    assert "unreadable" in operator.run("verify", "--date", SECOND, code=2).stdout


def test_a_bad_record_does_not_excuse_a_good_one(operator: Operator) -> None:
    """Both have one id: the bad one was refused for good, the good one was archived and is missing. What was refused
    may be anything, such as brackets that no parser follows."""
    operator.file("records", FIRST, line("r0"))
    operator.mirror("r0", line("r0"))
    operator.refuse("classify", "m1", line("r0", features={}), "features.carrier: Field required")
    operator.refuse("classify", "m2", b"[" * 100_000, "document: Invalid JSON")
    assert operator.settled()["missing"]["Classification"]["record_ids"] == ["r0"]


def test_a_record_of_two_days_is_one_record(operator: Operator) -> None:
    """It was sent twice, with two event times, and is missing: it is published once, and does not make up for another
    one that is nowhere to be had."""
    operator.file("records", FIRST, line("r0"))
    operator.file("records", SECOND, line("r0", SECOND))
    operator.answer("lost", FIRST)
    operator.settled()
    told = operator.run("replay", "--from", FIRST, *AT_ONCE, "--yes", code=2).stdout
    assert "Published 1 records" in told
    assert operator.published() == [("r0", line("r0"))]


def test_more_records_than_one_lookup_takes(operator: Operator) -> None:
    """Every one is looked up."""
    names = [f"r{number}" for number in range(1, 1003)]
    operator.file("records", FIRST, *(line(name) for name in names))
    for name in names[:3] + names[-3:]:
        operator.mirror(name, line(name))
    found = operator.settled()
    assert (found["mirrored"], found["missing"]["Record"]["count"]) == (6, 996)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--date", FIRST, "--to", SECOND], "--date is one day"),
        (["--from", SECOND, "--to", FIRST], "no day from 2013-03-02 to 2013-03-01"),
        (["--to", FIRST], "give --from"),
    ],
)
def test_a_span_without_days_is_refused(arguments: list[str], words: str) -> None:
    """Before anything is read."""
    for command in ("verify", "replay"):
        result = CliRunner().invoke(app, [command, *arguments])
        assert result.exit_code == 1
        assert words in result.output
