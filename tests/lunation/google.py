"""A project at Google's for the tests of single rows: the rehearsal's, with answers and judges of the test's own."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore_admin_v1.types import Index, ListIndexesResponse
from google.cloud.functions_v2.types import Function
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from laptop.errors import already_exists, not_found
from laptop.surface import Rpc
from lunation.clients import Clients
from lunation.settings import load
from rehearsal.judge import Judge
from rehearsal.project import Project, done
from rehearsal.recorder import Answer, Call
from rehearsal.stage import Stage

PROJECT = "example-production"


@dataclass
class Google:
    """What a test has of it.

    Args:
        stage: notes what is asked.
        clients: the deployer's.
    """

    stage: Stage
    clients: Clients

    @property
    def project(self) -> Project:
        """What there is."""
        return self.stage.project

    def asked(self, method: str) -> list[Any]:
        """The requests of a method so far."""
        return [call.request for call in self.stage.notes.calls if call.method.endswith(f".{method}")]


@contextmanager
def google(
    folder: Path,
    patch: pytest.MonkeyPatch,
    judges: Sequence[Judge] = (),
    instead: Mapping[str, Answer] | None = None,
    laptop: dict[str, dict[str, str]] | None = None,
) -> Iterator[Google]:
    """Google as the rehearsal has it; no request may be one that it would refuse in form.

    Args:
        instead: what answers for a service.
        laptop: addresses of the laptop's servers, for the services that they serve.
    """
    for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        patch.setenv(variable, "")  # the clients set them; they are put back afterwards
    with Stage(Project(PROJECT), laptop, judges) as stage:
        services = [name for name in _served(laptop or {}) if name not in (instead or {})]
        endpoints = stage.admit("deployer", [*services, *(instead or {})], instead)
        path = folder / "endpoints.json"
        path.write_text(json.dumps(endpoints))
        target = load().target("production").model_copy(update={"endpoints": path, "sample": False})
        yield Google(stage, Clients(target))
        assert [call.faults for call in stage.notes.invalid] == []


def _served(laptop: Mapping[str, Any]) -> list[str]:
    from rehearsal.stage import CLIENTS, LAPTOP

    return [name for name in CLIENTS if name not in LAPTOP or not laptop or name in laptop]


class Kept:
    """Answers for a service that creates, reads, updates and deletes things of one kind, at once.

    Args:
        kind: what a thing is called in the names of the methods, for example ``Function``.
        message: its message.
        key: gives the name of a thing that is asked for or made.
    """

    def __init__(self, kind: str, message: Any, key: Any) -> None:
        self._kind = kind
        self._message = message
        self._key = key
        self.things: dict[str, Any] = {}

    async def answer(self, rpc: Rpc, request: Any) -> Message:
        """Answer one call."""
        name = self._key(request)
        if rpc.name == f"List{_plural(self._kind)}":
            response = rpc.response()
            getattr(response, _plural(self._kind).lower()).extend(self.things.values())
            return response
        if rpc.name == f"Create{self._kind}":
            if name in self.things:
                raise already_exists(name)
            self.things[name] = self.made(name, getattr(request, self._kind.lower()))
            return done(self.things[name])
        if name not in self.things:
            raise not_found(name)
        if rpc.name == f"Get{self._kind}":
            return self.things[name]
        if rpc.name == f"Update{self._kind}":
            wanted, kept = getattr(request, self._kind.lower()), self.things[name]
            for path in request.update_mask.paths:
                kept.ClearField(path)
                part = type(kept)()
                part.CopyFrom(wanted)
                for field, _ in wanted.ListFields():
                    if field.name != path:
                        part.ClearField(field.name)
                kept.MergeFrom(part)
            self.things[name] = self.made(name, kept)
            return done(self.things[name])
        if rpc.name == f"Delete{self._kind}":
            return done(self.things.pop(name))
        raise AssertionError(f"{rpc.name}: this test has no answer")

    def made(self, name: str, thing: Any) -> Any:
        """A thing as it is once it was made or changed."""
        kept = self._message()
        kept.CopyFrom(thing)
        return kept


def _plural(kind: str) -> str:
    return f"{kind}es" if kind.endswith("x") else f"{kind}s"


class Rewriting(Judge):
    """Answers a method otherwise: each with a function that changes a copy of the answer."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def after(self, call: Call, answer: Message) -> Message:
        """The answer, changed."""
        change = self.changes.get(call.method.rsplit(".", 1)[1])
        if change is None or isinstance(answer, operations_pb2.Operation):
            return answer
        told = type(answer)()
        told.CopyFrom(answer)
        change(told)
        return told


class Functions(Kept):
    """Deploys at once."""

    def __init__(self) -> None:
        def key(request: Any) -> str:
            made = getattr(request, "function_id", "")
            return f"{request.parent}/functions/{made}" if made else request.function.name if hasattr(
                request, "function") else getattr(request, "name", "")  # fmt: skip

        super().__init__("Function", Function.pb(), key)

    def made(self, name: str, thing: Any) -> Any:
        """It serves."""
        kept = super().made(name, thing)
        kept.name, kept.state = name, Function.State.ACTIVE
        kept.service_config.uri = f"https://{name.rsplit('/', 1)[1]}-abc-uc.a.run.app"
        return kept


class Indexes:
    """Answers for the Admin API. An index is ``state`` when its creation is over."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.state = Index.State.READY
        self._made = 0

    async def answer(self, rpc: Rpc, request: Any) -> Message:
        """Answer one call."""
        if rpc.name == "ListIndexes":
            return ListIndexesResponse.pb()(indexes=self.kept.values())
        if rpc.name == "DeleteIndex":
            return done(self.kept.pop(request.index_id))
        assert rpc.name == "CreateIndex", rpc.name
        index = Index.pb()()
        index.CopyFrom(request.index)
        self._made += 1
        index.index_id, index.state = f"i{self._made}", self.state
        self.kept[index.index_id] = index
        return done(index)

    @property
    def states(self) -> list[str]:
        """Of all there are."""
        return [Index.State(index.state).name for index in self.kept.values()]
