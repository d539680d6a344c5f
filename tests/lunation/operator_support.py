"""A person with the command, on running servers with an archive: what accounts and what looks things up is tried so."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from apache_beam.transforms.window import GlobalWindow, IntervalWindow
from click.testing import Result
from google.cloud import datastore
from pydantic import BaseModel
from typer.testing import CliRunner

from dataflow.archive_sink import _window_name, object_name
from laptop.supervisor import Supervisor
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

    def put(self, name: str, content: bytes, **properties: str) -> None:
        """An object of the archive's bucket, whoever put it there."""
        blob = self.clients.storage.bucket(ARCHIVE).blob(name)
        for key, value in properties.items():
            setattr(blob, key, value)
        blob.upload_from_string(content)

    def refuse(
        self, unit: str, message_id: str, payload: bytes, reason: str, at: datetime | None = None, **attributes: str
    ) -> None:
        """An archived dead letter."""
        at = at or datetime.now(UTC)
        letter = DeadLetter(
            unit=unit, topic="records", message_id=message_id, reason=reason, refused_at=at,
            payload_base64=base64.b64encode(payload).decode(), attributes=attributes,
        )  # fmt: skip
        self.file("dead-letters", f"{at:%Y-%m-%d}", letter.model_dump_json().encode())

    def published(self) -> list[tuple[str, bytes]]:
        """What came to the topic since the last time, by id."""
        found = []
        pull = {"subscription": READER, "max_messages": 1000, "return_immediately": True}
        while messages := self.clients.subscriber.pull(request=pull).received_messages:
            self.clients.subscriber.acknowledge(subscription=READER, ack_ids=[one.ack_id for one in messages])
            found += [(one.message.attributes["record_id"], one.message.data) for one in messages]
        return sorted(found)

    def entity(self, record: BaseModel, name: str, **broken: Any) -> None:
        """An entity of a record's kind, some of whose properties may be anything."""
        kind = type(record)
        self._put(kind.__name__, name, unindexed(kind), {**record.model_dump(), **broken})

    def _put(self, kind: str, name: str, left_out: tuple[str, ...], values: dict[str, Any]) -> None:
        entity = datastore.Entity(self.clients.datastore.key(kind, name), exclude_from_indexes=left_out)
        entity.update(values)
        self.clients.datastore.put(entity)


def operating(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    """Servers with an empty archive and the topic."""
    for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(variable, "")  # the clients set them; they are put back afterwards
    with Supervisor(folder / "state", ["datastore", "storage", "pubsub"]) as running:
        running.wait_ready()
        endpoints = folder / "state" / "endpoints.json"
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
