"""What each part makes of a document: the values that it is left with, or None where it refuses the document.

Every part is the one that is deployed. Only what lies behind it (Pub/Sub, Datastore's commit) is a list to look into.
"""

import asyncio
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from apache_beam.utils.timestamp import Timestamp
from google.cloud.datastore.helpers import entity_from_protobuf
from starlette.requests import Request
from starlette.responses import Response

from dataflow import reading
from functions.classify.handler import ClassifyHttp, ClassifyPush
from functions.classify.model import Model, Stop, open_session
from functions.classify.reasons import Reasons
from functions.classify.serving import Served
from functions.ingest_fast.handler import IngestFast
from functions.submit.handler import Submit
from schemas import ModelManifest, UseCase
from schemas.shapes import model_inputs
from tests.functions.doubles import envelopes, models

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LINES = [(b"content-type", b"application/x-ndjson")]


@dataclass(frozen=True)
class Values:
    """A document, as a part has it: numbers as the bits of a double, text as it is."""

    record_id: str
    micros: int
    """Since 1970."""
    values: tuple[Any, ...]

    @classmethod
    def of(cls, record_id: str, when: datetime, values: Sequence[Any]) -> "Values":
        """From typed values."""
        return cls(record_id, (when - EPOCH) // timedelta(microseconds=1), tuple(map(bits, values)))


def bits(value: Any) -> Any:
    """A number to its last bit; a missing one and text as they are."""
    return struct.pack(">d", value) if isinstance(value, int | float) else value


class Parts:
    """The parts of a use case."""

    def __init__(self, case: UseCase, categories: Mapping[str, list[str]]) -> None:
        self.case = case
        self.categories = categories
        self.inputs = model_inputs(case)
        self.names = [item.name for item in self.inputs]
        self._published: list[bytes] = []
        self._entities: list[Any] = []
        self._letters: list[str] = []
        self._archive: dict[str, Any] = {}
        files = models.folder(case, bias=0.5, categories=dict(categories), golden=[])
        self.model = Model(
            ModelManifest.model_validate_json(files["manifest.json"]), open_session(files["model.onnx"]), Stop().run
        )
        serving: Any = _Serving(
            Served(self.model, self.model.manifest.model_version, 1, 0.5, "gs://b/m", "", datetime.now(UTC))
        )
        self._submit = Submit(case, _Topic(self._published), None, None)  # type: ignore[arg-type]
        self._http = ClassifyHttp(case, serving, Reasons(lambda _: files.__getitem__))
        commits: Any = _Commits(self._entities)
        letters: Any = _Letters(self._letters)
        self._mirror = IngestFast(case.read_record, "local-dev", timedelta(days=1), commits, letters)
        self._push = ClassifyPush(
            case=case, project="local-dev", serving=serving, commits=commits,
            classifications=_Topic([]), shadows=None, dead_letters=letters,  # type: ignore[arg-type]
        )  # fmt: skip
        self._loop = asyncio.Runner()

    def close(self) -> None:
        """Let go of the event loop."""
        self._loop.close()

    def judged(self, document: bytes) -> Values | None:
        """By the use case's class."""
        try:
            record = self.case.read_record(document)
        except ValueError:
            return None
        return Values.of(record.record_id, record.event_time, [getattr(record.features, name) for name in self.names])

    def judged_label(self, document: bytes) -> Values | None:
        """The same for a label."""
        try:
            label = self.case.read_label(document)
        except ValueError:
            return None
        return Values.of(label.record_id, label.event_time, [label.label])

    def submitted(self, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> list[Values | None]:
        """What ``submit`` publishes, read again; None for a request of which nothing is published."""
        self._published.clear()
        answer = self._ask(self._submit.handle, "/v1/records", body, headers)
        assert (answer.status_code in (202, 207)) == bool(self._published), answer.body
        assert answer.status_code < 500
        return [self.judged(data) for data in self._published] or [None]

    def published(self) -> list[bytes]:
        """What ``submit`` published last, as it did."""
        return list(self._published)

    def asked(self, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> bytes | None:
        """The model's input, bit by bit, that ``classify`` over HTTP makes of a record; None if it refuses it."""
        self.model._input[:] = np.pi
        answer = self._ask(self._http.handle, "/v1/classify", body, headers)
        assert answer.status_code < 500, answer.body
        return self.model._input.tobytes() if answer.status_code == 200 else None

    def answers(self, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> int:
        """The status of ``classify`` over HTTP for records together."""
        return self._ask(self._http.handle, "/v1/classify", body, headers).status_code

    def mirrored(self, document: bytes) -> tuple[bytes, int] | None:
        """The payload and the time of the entity that ``ingest_fast`` commits, as Google's client reads it."""
        stored = self._pushed(self._mirror.push, document)
        if stored is None:
            return None
        return stored["payload"].encode(), (stored["event_time"] - EPOCH) // timedelta(microseconds=1)

    def classified(self, document: bytes) -> tuple[str, int] | None:
        """The id and the time of the entity that ``classify`` commits for a message."""
        stored = self._pushed(self._push.push, document)
        if stored is None:
            return None
        return stored["record_id"], (stored["event_time"] - EPOCH) // timedelta(microseconds=1)

    def filed(self, topic: str, document: bytes) -> tuple[str, bytes] | None:
        """The date and the line under which the archive files a document."""
        step = self._archive.get(topic)
        if step is None:
            step = self._archive[topic] = reading.ReadDocuments(topic, self.case.name, 60, 1)
            step.setup()
        step.start_bundle()
        dead = list(step.process(reading.Source(document, "m"), Timestamp(0)))
        out = list(step.finish_bundle())
        assert len(dead) + len(out) == 1
        if dead:
            return None
        ((_, day, _), (line,)) = out[0].value
        return day, line

    def row(self, document: bytes) -> list[float]:
        """The model's input of a record that is one, from the serving function's code."""
        values = self.case.read_record(document).features.__dict__
        return [float("nan") if value is None else float(value) for value in self.model.row(values)]

    def _pushed(self, push: Callable[[Request], Any], document: bytes) -> Any:
        self._entities.clear()
        self._letters.clear()
        answer = self._loop.run(push(envelopes.request("POST", {}, envelopes.push(document))))
        assert answer.status_code == 204, answer.body
        assert len(self._entities) + len(self._letters) == 1
        return entity_from_protobuf(self._entities[0]) if self._entities else None

    def _ask(self, handle: Any, path: str, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Response:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": list(headers)}
        answer: Response = self._loop.run(handle(Request(scope, receive)))
        return answer


@dataclass
class _Serving:
    served: Served

    def current_if_fresh(self) -> Served:
        return self.served


@dataclass
class _Topic:
    messages: list[bytes]

    async def publish(self, data: bytes, attributes: Mapping[str, str]) -> str:
        self.messages.append(data)
        return "1"


@dataclass
class _Commits:
    entities: list[Any]

    async def upsert(self, entity: Any) -> None:
        self.entities.append(entity)

    async def insert(self, entity: Any) -> None:
        self.entities.append(entity)


@dataclass
class _Letters:
    reasons: list[str]

    async def send(self, envelope: Any, reason: str) -> None:
        self.reasons.append(reason)
