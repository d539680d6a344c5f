"""A server that stands before one service for one caller: it judges every request, notes it, and passes it on."""

import gzip
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import grpc
from aiohttp import web
from google.protobuf import json_format
from google.protobuf.message import Message

from laptop.errors import ServiceError, invalid
from laptop.rest import RestRouter
from laptop.service import Api, Server
from laptop.surface import Rpc
from rehearsal import discovery
from rehearsal.validation import faults

if TYPE_CHECKING:
    from rehearsal.judge import Judge

Answer = Callable[[Rpc, Message], Awaitable[Message]]
JUDGED_AS = web.RequestKey("judged_as", str)
"""Where a request carries the method that it was held against."""
HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}


@dataclass(frozen=True)
class Call:
    """One request that was made.

    Args:
        caller: the unit, or ``deployer``.
        method: ``google.pubsub.v1.Publisher.Publish``, or ``storage.objects.insert``.
        request: the message; for Cloud Storage, the path with its query.
        faults: what is wrong with it; empty if nothing is.
        body: of a request to Cloud Storage.
        violations: what is wrong with it by Google's discovery documents.
        judged_as: the document's method that it was held against; empty where there is no document.
    """

    caller: str
    method: str
    request: Message | str
    faults: tuple[str, ...] = ()
    body: bytes = b""
    violations: tuple[str, ...] = ()
    judged_as: str = ""

    def __str__(self) -> str:
        text = self.request if isinstance(self.request, str) else json_format.MessageToJson(self.request, indent=None)
        return f"{self.caller}: {self.method} {text[:200]}"


@dataclass
class Notes:
    """All calls of a rehearsal, from every recorder.

    Args:
        calls: what was asked.
        malformed: requests over HTTP of which none could be made; their ``request`` is the path, their ``body`` the
            body.
    """

    calls: list[Call] = field(default_factory=list)
    malformed: list[Call] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, call: Call) -> None:
        """Note one."""
        with self._lock:
            self.calls.append(call)

    def refuse(self, call: Call) -> None:
        """Note a request of which no call could be made."""
        with self._lock:
            self.malformed.append(call)

    def of(self, caller: str) -> list[Call]:
        """The calls of one caller."""
        with self._lock:
            return [call for call in self.calls if call.caller == caller]

    @property
    def invalid(self) -> list[Call]:
        """Those that Google would have refused."""
        with self._lock:
            return [call for call in self.calls if call.faults]

    @property
    def refused(self) -> list[Call]:
        """Both, and requests of which no call could be made."""
        with self._lock:
            return [call for call in (*self.calls, *self.malformed) if call.faults or call.violations]

    @property
    def violating(self) -> list[Call]:
        """Those that are not as Google's discovery documents say."""
        with self._lock:
            return [call for call in (*self.calls, *self.malformed) if call.violations]

    @property
    def judged(self) -> Counter[str]:
        """How many requests were held against each method of the documents."""
        with self._lock:
            return Counter(call.judged_as for call in (*self.calls, *self.malformed) if call.judged_as)

    @property
    def unjudged(self) -> list[Call]:
        """Those that were held against no document, though nothing says why."""
        with self._lock:
            return [
                call
                for call in self.calls
                if not call.judged_as and not call.violations and call.method not in discovery.OUTSIDE
            ]


class Recorder(Server):
    """Serves the surface of one service.

    Args:
        caller: whose calls come in here.
        service: its name, which tells its discovery documents.
        rpcs: its surface.
        answer: answers what is in order.
        notes: where calls are noted.
        judges: asked about every call that is in order in form.
    """

    def __init__(
        self,
        caller: str,
        service: str,
        rpcs: list[Rpc],
        answer: Answer,
        notes: Notes,
        routes: Sequence[web.RouteDef] = (),
        stop: Callable[[], Awaitable[None]] | None = None,
        judges: Sequence["Judge"] = (),
    ) -> None:
        # The last one comes before that of the base class, which would make calls of requests that nobody has seen.
        every = [*routes, web.route("*", "/{asked:.*}", self._rest)]
        super().__init__(
            f"{service} for {caller}", Api(rpcs, [], routes=[self._seen(route) for route in every], stop=stop)
        )
        self._router = RestRouter(rpcs, self.call)
        self._caller = caller
        self._service = service
        self._answer = answer
        self._notes = notes
        self._judges = judges

    async def call(self, rpc: Rpc, request: Message) -> Message:
        """Judge it, note it, answer it."""
        wrong = tuple(faults(rpc, request))
        method = f"{rpc.service}.{rpc.name}"
        verdict = discovery.of_rpc(self._service, rpc, request)
        call = Call(self._caller, method, request, wrong, violations=verdict.faults, judged_as=verdict.method)
        self._notes.add(call)
        if wrong or verdict.faults:
            raise invalid("; ".join((*wrong, *verdict.faults)))
        for judge in self._judges:
            judge.before(call)
        await self.faults.check(method)
        answer = await self._answer(rpc, request)
        await self.faults.check(method, "after")
        for judge in reversed(self._judges):
            answer = judge.after(call, answer)
        return answer

    def _seen(self, route: web.RouteDef) -> web.RouteDef:
        """A route whose requests are judged first, as they are on the wire: in the call that is made of one, what that
        call does not know is gone, or refused in other words."""

        async def handler(request: web.Request) -> web.StreamResponse:
            path, _, query = request.raw_path.partition("?")
            body = await request.read()
            verdict = discovery.of_http(self._service, request.method, path, query, request.headers, body)
            if verdict.faults:
                method = verdict.method or f"{request.method} {request.path}"
                self._notes.refuse(
                    Call(self._caller, method, request.path_qs, (), body, verdict.faults, verdict.method)
                )
                return _refused(invalid("; ".join(verdict.faults)))
            request[JUDGED_AS] = verdict.method
            return await route.handler(request)  # type: ignore[operator, misc]

        return web.route(route.method, route.path, handler, **route.kwargs)

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        return await self._router.answer(request)


def _refused(error: ServiceError) -> web.Response:
    """An error as both the JSON API of Cloud Storage and the other APIs write it."""
    body = error.body()
    body["error"]["errors"] = [{"message": error.message}]
    return web.json_response(body, status=error.http_status)


def forwarding(address: str) -> tuple[Answer, Callable[[], Awaitable[None]]]:
    """An answer that asks the server at ``host:port`` over gRPC, and what closes the connection."""
    channels: list[grpc.aio.Channel] = []

    async def answer(rpc: Rpc, request: Message) -> Message:
        if not channels:  # inside the loop that it belongs to
            channels.append(grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]))
        method = channels[0].unary_unary(
            rpc.path, request_serializer=rpc.request.SerializeToString, response_deserializer=rpc.response.FromString
        )
        try:
            return await method(request, timeout=600)
        except grpc.aio.AioRpcError as error:
            raise ServiceError(error.code(), error.details() or "") from None

    async def close() -> None:
        for channel in channels:
            await channel.close()

    return answer, close


def storage_routes(caller: str, base: str, notes: Notes, judges: Sequence["Judge"] = ()) -> list[web.RouteDef]:
    """Cloud Storage's JSON API, passed on to ``base``. Its client sends no protobufs, so the path is noted."""

    async def forward(request: web.Request) -> web.StreamResponse:
        content = await request.read()
        call = Call(caller, storage_method(request), request.path_qs, body=content, judged_as=request[JUDGED_AS])
        notes.add(call)
        try:
            for judge in judges:
                judge.before(call)
        except ServiceError as error:
            return _refused(error)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in HOP_BY_HOP}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method, base + request.raw_path, headers=headers, data=content, allow_redirects=False
            ) as response,
        ):
            body = await response.read()
            here = f"{request.scheme}://{request.host}"
            if response.content_type == "application/json" and request.query.get("alt") != "media":
                body = body.replace(base.encode(), here.encode())  # a client downloads from an object's mediaLink
            for judge in reversed(judges):
                body = judge.after_storage(call, response.status, body)
            answered = {key: value for key, value in response.headers.items() if key.lower() not in HOP_BY_HOP}
            if "Location" in answered:  # a resumable upload goes on where it began
                answered["Location"] = answered["Location"].replace(base, here)
            return web.Response(status=response.status, headers=answered, body=body)

    return [
        web.route("*", prefix + "/{path:.*}", forward)
        for prefix in ("/storage/v1/b", "/upload/storage/v1/b", "/download/storage/v1/b")
    ] + [web.route("*", "/storage/v1/b", forward)]


def storage_method(request: web.Request) -> str:
    """The method's name in the JSON API."""
    parts = [part for part in request.raw_path.partition("?")[0].split("/") if part]
    upload = parts[0] == "upload"
    parts = parts[parts.index("b") + 1 :]
    if parts[1:] == ["iam"]:
        return "storage.buckets." + {"GET": "getIamPolicy", "PUT": "setIamPolicy"}[request.method]
    verbs: dict[str, str]
    if len(parts) <= 1 and not upload:
        verbs = {"GET": "get" if parts else "list", "POST": "insert", "PATCH": "patch", "PUT": "update",
                 "DELETE": "delete"}  # fmt: skip
        return f"storage.buckets.{verbs[request.method]}"
    if upload:
        return "storage.objects.insert"
    if parts[1:2] == ["storageLayout"]:
        return "storage.buckets.getStorageLayout"
    if request.method == "POST":
        return f"storage.objects.{next((one for one in ('rewrite', 'copy', 'compose') if one in parts[-1]), 'rewrite')}"
    verbs = {"GET": "get" if len(parts) > 2 else "list", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
    return f"storage.objects.{verbs[request.method]}"


def telemetry_routes(caller: str, notes: Notes, judges: Sequence["Judge"] = ()) -> list[web.RouteDef]:
    """The metrics of OpenTelemetry's protocol, as far as they can be read."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceRequest,
        ExportMetricsServiceResponse,
    )

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        message = ExportMetricsServiceRequest()
        wrong: tuple[str, ...] = ()
        try:
            message.ParseFromString(body)
        except DecodeError as error:
            wrong = (f"metrics: {error}",)
        call = Call(caller, "telemetry.metrics.write", message, wrong)
        notes.add(call)
        try:
            for judge in judges:
                judge.before(call)
        except ServiceError as error:
            refused = error.status().SerializeToString()
            return web.Response(status=error.http_status, body=refused, content_type="application/x-protobuf")
        answer = ExportMetricsServiceResponse().SerializeToString()
        return web.Response(status=400 if wrong else 200, body=answer, content_type="application/x-protobuf")

    return [web.post("/v1/metrics", take)]
