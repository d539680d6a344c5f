"""Datastore and Pub/Sub over real gRPC, in memory, with every request kept and failures on demand.

It is smaller and more obedient than the laptop servers: a test can hold a commit back, or apply half of it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from functions.runtime.datastore import (
    CommitRequest,
    CommitResponse,
    LookupRequest,
    LookupResponse,
    path,
    values,
)
from functions.runtime.publisher import PublishRequest, PublishResponse

Code = grpc.StatusCode


@dataclass
class Failure:
    """What the next calls of a method answer."""

    code: grpc.StatusCode
    times: int = 1
    applied: int = 0
    """So many of the mutations are applied nevertheless."""
    when: Callable[[Any], bool] = lambda _request: True


@dataclass
class GoogleServer:
    """``endpoint`` speaks Datastore (Commit, Lookup) and Pub/Sub (Publish)."""

    entities: dict[bytes, Any] = field(default_factory=dict)
    commits: list[Any] = field(default_factory=list)
    lookups: list[Any] = field(default_factory=list)
    published: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)
    publish_requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    failures: dict[str, list[Failure]] = field(default_factory=dict)
    commits_open: asyncio.Event = field(default_factory=asyncio.Event)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    in_flight: int = 0
    most_in_flight: int = 0
    endpoint: str = ""
    _server: Any = None

    async def start(self, port: int = 0) -> None:
        """Listen on a free port of the loopback interface (or on ``port`` again)."""
        self.commits_open.set()
        self._server = grpc.aio.server(
            # A request to Pub/Sub has up to 10 MB; gRPC's own limit would be 4 MiB.
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 10_000_000)]
        )
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "google.datastore.v1.Datastore",
                    {
                        "Commit": _unary(self._commit, CommitRequest, CommitResponse),
                        "Lookup": _unary(self._lookup, LookupRequest, LookupResponse),
                    },
                ),
                grpc.method_handlers_generic_handler(
                    "google.pubsub.v1.Publisher",
                    {"Publish": _unary(self._publish, PublishRequest, PublishResponse)},
                ),
            )
        )
        bound = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.endpoint = f"http://127.0.0.1:{bound}"
        await self._server.start()

    async def stop(self) -> None:
        """Hang up at once."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def restart(self) -> None:
        """Listen again on the same port."""
        await self.start(int(self.endpoint.rsplit(":", 1)[1]))

    def fail(self, method: str, code: grpc.StatusCode, **how: Any) -> None:
        """Let the next calls of ``method`` fail."""
        self.failures.setdefault(method, []).append(Failure(code, **how))

    async def commits_seen(self, number: int) -> None:
        """Wait until so many commits have come in."""
        while len(self.commits) < number:
            self._arrived.clear()
            await self._arrived.wait()

    def stored(self, kind: str) -> dict[str, dict[str, Any]]:
        """The entities of a kind by name, as plain values."""
        return {
            entity.key.path[-1].name: values(entity)
            for entity in self.entities.values()
            if entity.key.path[-1].kind == kind
        }

    def messages(self, topic: str) -> list[tuple[bytes, dict[str, str]]]:
        """What was published to the topic with this short name."""
        return [(data, attributes) for name, data, attributes in self.published if name.endswith(f"/{topic}")]

    async def _commit(self, request: Any, context: Any) -> Any:
        self.commits.append(request)
        self._arrived.set()
        self.metadata.append(dict(context.invocation_metadata()))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.commits_open.wait()
        finally:
            self.in_flight -= 1
        failure = self._due("Commit", request)
        if failure is not None:
            for mutation in request.mutations[: failure.applied]:
                self._apply(mutation)
            await context.abort(failure.code, "as the test wants it")
        keys = [path(getattr(item, item.WhichOneof("operation")).key) for item in request.mutations]
        if len(set(keys)) < len(keys):
            await context.abort(Code.INVALID_ARGUMENT, "cannot have multiple mutations for the same entity")
        for mutation in request.mutations:
            if "poison" in getattr(mutation, mutation.WhichOneof("operation")).properties:
                await context.abort(Code.INVALID_ARGUMENT, "the property poison is not allowed")
        for mutation in request.mutations:
            if mutation.HasField("insert") and path(mutation.insert.key) in self.entities:
                await context.abort(Code.ALREADY_EXISTS, "entity already exists")
        for mutation in request.mutations:
            self._apply(mutation)
        return CommitResponse()

    def _apply(self, mutation: Any) -> None:
        entity = getattr(mutation, mutation.WhichOneof("operation"))
        self.entities[path(entity.key)] = entity

    async def _lookup(self, request: Any, context: Any) -> Any:
        self.lookups.append(request)
        failure = self._due("Lookup", request)
        if failure is not None:
            await context.abort(failure.code, "as the test wants it")
        response = LookupResponse()
        for number, key in enumerate(request.keys):
            if number >= 100:
                response.deferred.add().CopyFrom(key)
            elif path(key) in self.entities:
                response.found.add().entity.CopyFrom(self.entities[path(key)])
            else:
                response.missing.add().entity.key.CopyFrom(key)
        return response

    async def _publish(self, request: Any, context: Any) -> Any:
        self.publish_requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        failure = self._due("Publish", request)
        if failure is not None:
            await context.abort(failure.code, "as the test wants it")
        if any("poison" in message.attributes for message in request.messages):
            await context.abort(Code.INVALID_ARGUMENT, "the attribute poison is not allowed")
        ids = []
        for message in request.messages:
            self.published.append((request.topic, message.data, dict(message.attributes)))
            ids.append(str(len(self.published)))
        return PublishResponse(message_ids=ids)

    def _due(self, method: str, request: Any) -> Failure | None:
        for failure in self.failures.get(method, []):
            if failure.times > 0 and failure.when(request):
                failure.times -= 1
                return failure
        return None


def _unary(method: Any, request_type: Any, response_type: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        method,
        request_deserializer=request_type.FromString,
        response_serializer=response_type.SerializeToString,
    )
