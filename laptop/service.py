"""The base of every server: classes whose methods are named like RPCs become gRPC and REST endpoints on loopback.

A handler class has one async method for each RPC that it answers, named in snake case (``create_topic``), which takes
the request message and returns the response message, both plain protobuf classes. A method that streams is an async
generator; one that is streamed to gets an async iterator. Every RPC without a method answers UNIMPLEMENTED.

A unary call goes to its end also when its caller has gone, so that what a server remembers and what is on its disk
stay the same. Those that :func:`ends_with_its_caller` marks end, over gRPC; over REST nobody tells them.
"""

import argparse
import asyncio
import contextlib
import contextvars
import fcntl
import json
import logging
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
from aiohttp import web
from google.protobuf.message import Message

from laptop import private
from laptop.connection import Connection
from laptop.doorkeeper import Doorkeeper
from laptop.errors import ServiceError, refused
from laptop.faults import FaultInjector
from laptop.lifeline import end_with_parent
from laptop.rest import RestRouter
from laptop.secret import FILE, HEADER, is_right, secret
from laptop.surface import Rpc, rpcs_of

HOST = "127.0.0.1"
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
OWN_PAGES = "/_laptop/"
STOP_SECONDS = 2.0
Method = TypeVar("Method", bound=Callable[..., Any])
log = logging.getLogger("laptop")

headers: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("headers")
"""The metadata (gRPC) or headers (REST) of the call being answered, keys in lower case."""


def ends_with_its_caller(method: Method) -> Method:
    """Mark a handler of a unary call that waits and changes nothing meanwhile: for nobody, once the caller has gone."""
    method.ends_with_its_caller = True  # type: ignore[attr-defined]
    return method


@dataclass
class Api:
    """One or more Google APIs on one pair of ports.

    Args:
        rpcs: what the clients may call, from :func:`laptop.surface.rpcs_of`.
        handlers: objects that answer; the first one with a method of the RPC's name does.
        routes: plain HTTP routes beside the API (uploads, admin pages).
        start: awaited with the running loop before the ports open.
        stop: awaited after the ports closed.
    """

    rpcs: list[Rpc]
    handlers: list[object]
    routes: list[web.RouteDef] = field(default_factory=list)
    start: Callable[[], Awaitable[None]] | None = None
    stop: Callable[[], Awaitable[None]] | None = None


def surfaces(*clients: type[Any]) -> list[Rpc]:
    """The RPCs of several generated clients; what they share (IAM, operations) once."""
    found: dict[str, Rpc] = {}
    for client in clients:
        for rpc in rpcs_of(client):
            known = found.get(rpc.path)
            if known is None or not known.http:
                found[rpc.path] = rpc
            elif rpc.http:
                found[rpc.path] = Rpc(
                    known.path,
                    known.request,
                    known.response,
                    known.request_streaming,
                    known.response_streaming,
                    tuple(dict.fromkeys((*known.http, *rpc.http))),
                )
    return list(found.values())


class Server:
    """Serves an :class:`Api`.

    Args:
        name: for the log and the first line on standard output.
        api: what to serve.
        faults: the server's fault injector, so that handlers with plain routes can consult it too.
        secret: what a request to its own pages, below ``/_laptop/``, has to carry; one that nobody knows, if none is
            given.
    """

    def __init__(self, name: str, api: Api, faults: FaultInjector | None = None, secret: str | None = None) -> None:
        self.name = name
        self.api = api
        self.faults = faults or FaultInjector()
        self._secret = secret or secrets.token_urlsafe()
        self.http_port = 0
        self.grpc_port = 0
        self._calls: set[asyncio.Task[Message]] = set()

    async def start(self, http_port: int = 0, grpc_port: int = 0) -> None:
        """Open both ports (0: any free one) on loopback."""
        if self.api.start is not None:
            await self.api.start()
        await self._start_grpc(grpc_port)
        await self._start_http(http_port)

    async def stop(self) -> None:
        """Refuse new calls, give those in flight two seconds, and two more those without a caller; then stop."""
        self._listener.close()
        await self._runner.cleanup()
        await self._grpc.stop(grace=STOP_SECONDS)
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=STOP_SECONDS)
            for call in late:
                call.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self.api.stop is not None:
            await self.api.stop()

    async def call(self, rpc: Rpc, request: Message) -> Message:
        """Answer one unary call.

        Raises:
            ServiceError: what the caller is to be told.
        """
        method = self._method(rpc)
        answer = self._respond(f"{rpc.service}.{rpc.name}", method, request)
        if hasattr(method, ends_with_its_caller.__name__):
            return await answer
        call = asyncio.create_task(answer)
        self._calls.add(call)
        call.add_done_callback(self._over)
        return await asyncio.shield(call)

    def _over(self, call: asyncio.Task[Message]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # if its caller has gone, there is nobody else to take it

    async def _respond(self, full_name: str, method: Callable[..., Any], request: Message) -> Any:
        try:
            await self.faults.check(full_name)
            response = await method(request)
            await self.faults.check(full_name, "after")
        except ServiceError:
            raise
        except Exception as error:
            log.exception("%s failed", full_name)
            raise ServiceError("INTERNAL", f"{full_name}: {type(error).__name__}: {error}") from error
        return response

    def _method(self, rpc: Rpc) -> Callable[..., Any]:
        for handler in self.api.handlers:
            method = getattr(handler, rpc.handler, None)
            if method is not None:
                return method
        raise ServiceError(
            "UNIMPLEMENTED",
            f"{rpc.service}.{rpc.name} is not implemented by this server. LIMITATIONS.md lists what it answers",
        )

    # --- gRPC

    async def _start_grpc(self, port: int) -> None:
        self._grpc = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
            ]
        )
        self._grpc.add_generic_rpc_handlers((_Dispatch({rpc.path: self._grpc_handler(rpc) for rpc in self.api.rpcs}),))
        self.grpc_port = self._grpc.add_insecure_port(f"{HOST}:{port}")
        await self._grpc.start()

    def _grpc_handler(self, rpc: Rpc) -> grpc.RpcMethodHandler:
        if not rpc.request_streaming and not rpc.response_streaming:

            async def unary(request: Message, context: grpc.aio.ServicerContext) -> Message:
                headers.set(_metadata(context))
                try:
                    return await self.call(rpc, request)
                except ServiceError as error:
                    return await _abort(context, error)

            return grpc.unary_unary_rpc_method_handler(
                unary,
                request_deserializer=rpc.request.FromString,
                response_serializer=rpc.response.SerializeToString,
            )

        async def stream(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Message]:
            headers.set(_metadata(context))
            try:
                await self.faults.check(f"{rpc.service}.{rpc.name}")
                async for response in self._method(rpc)(request):
                    yield response
            except ServiceError as error:
                await _abort(context, error)

        make = grpc.stream_stream_rpc_method_handler if rpc.request_streaming else grpc.unary_stream_rpc_method_handler
        return make(
            stream,
            request_deserializer=rpc.request.FromString,
            response_serializer=rpc.response.SerializeToString,
        )

    # --- REST

    async def _start_http(self, port: int) -> None:
        app = web.Application(client_max_size=MAX_MESSAGE_BYTES, middlewares=[self._let_in])
        router = RestRouter(self.api.rpcs, self.call)

        async def answer(request: web.Request) -> web.StreamResponse:
            headers.set({key.lower(): value for key, value in request.headers.items()})
            return await router.answer(request)

        async def health(_: web.Request) -> web.Response:
            return web.json_response({"service": self.name})

        app.add_routes([web.get("/_laptop/health", health), *self.faults.routes(), *self.api.routes])
        app.router.add_route("*", "/{path:.*}", answer)
        self._runner = web.AppRunner(app, handler_cancellation=False, shutdown_timeout=STOP_SECONDS)
        await self._runner.setup()
        server, loop = self._runner.server, asyncio.get_running_loop()
        assert server is not None
        self._listener = await loop.create_server(
            lambda: Connection(server, loop=loop, access_log=None), HOST, port, start_serving=False
        )
        self.http_port = self._listener.sockets[0].getsockname()[1]
        self._doorkeeper = Doorkeeper(self.http_port)
        await self._listener.start_serving()

    @web.middleware
    async def _let_in(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer no page of another site, and show our own pages to those only who may read the state folder."""
        why = self._doorkeeper.refusal((name.lower(), value) for name, value in request.raw_headers)
        if (
            why is None
            and request.path.startswith(OWN_PAGES)
            and not is_right(request.headers.get(HEADER, ""), self._secret)
        ):
            why = (
                403,
                f"{HEADER}: {request.path} wants what the file `{FILE}` in the state folder of these servers holds",
            )
        if why is not None:
            status, text = why
            return web.json_response(refused(status, text), status=status)
        return await handler(request)


class _Dispatch(grpc.GenericRpcHandler):
    """All methods of a server; one that no client package knows is refused by name."""

    def __init__(self, methods: dict[str, grpc.RpcMethodHandler]) -> None:
        self._methods = methods

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """The handler for a path."""
        path = handler_call_details.method
        known = self._methods.get(path)
        if known is not None:
            return known

        async def refuse(_: bytes, context: grpc.aio.ServicerContext) -> bytes:
            return await _abort(context, ServiceError("UNIMPLEMENTED", f"{path}: this server has no such method"))

        return grpc.unary_unary_rpc_method_handler(refuse)


async def _abort(context: grpc.aio.ServicerContext, error: ServiceError) -> Any:
    trailers = (("grpc-status-details-bin", error.status().SerializeToString()),) if error.details else ()
    await context.abort(error.code, error.message, trailers)


def _metadata(context: grpc.aio.ServicerContext) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


# --- running


@dataclass(frozen=True)
class Context:
    """What a server is started with.

    Args:
        state: the folder of the whole laptop; a server keeps its own in ``state / name``.
        faults: consulted before and after each call.
    """

    state: Path
    faults: FaultInjector

    def folder(self, name: str) -> Path:
        """The folder of the server called ``name``, made if it is not there."""
        path = self.state / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def endpoint(self, service: str, protocol: str = "http") -> str:
        """Where another server listens, as the supervisor wrote it down.

        Raises:
            ServiceError: the other server is not up.
        """
        path = self.state / "endpoints.json"
        try:
            return json.loads(path.read_text())[service][protocol]
        except (FileNotFoundError, KeyError) as error:
            raise ServiceError(
                "UNAVAILABLE", f"{service} is not running here: start all servers with `python -m laptop up`"
            ) from error


def main(name: str, build: Callable[[Context], Api], argv: Iterable[str] | None = None) -> None:
    """Run one server until SIGTERM or SIGINT. The first line on standard output tells its ports as JSON."""
    parser = argparse.ArgumentParser(prog=f"python -m laptop.{name}", description=build.__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder that keeps the state of all servers")
    parser.add_argument("--http-port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--grpc-port", type=int, default=0, help="0 takes any free port")
    options = parser.parse_args(None if argv is None else list(argv))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=f"%(asctime)s {name} %(levelname)s %(message)s")
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    end_with_parent()
    os.umask(private.UMASK)
    private.folder(options.state)
    with _only_one(name, options.state.resolve()):
        asyncio.run(_serve(name, build, options))


@contextlib.contextmanager
def _only_one(name: str, state: Path) -> Iterator[None]:
    """Wait until no other process serves ``name`` on ``state``: one that was just told to end may still do so."""
    (state / "locks").mkdir(parents=True, exist_ok=True)
    with (state / "locks" / name).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            log.warning("another process serves %s on %s; waiting until it has ended", name, state)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


async def _serve(name: str, build: Callable[[Context], Api], options: argparse.Namespace) -> None:
    context = Context(options.state.resolve(), FaultInjector())
    server = Server(name, build(context), context.faults, secret(context.state))
    await server.start(options.http_port, options.grpc_port)
    print(
        json.dumps(
            {
                "service": name,
                "http": f"http://{HOST}:{server.http_port}",
                "grpc": f"{HOST}:{server.grpc_port}",
            }
        ),
        flush=True,
    )
    finished = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, finished.set)
    await finished.wait()
    await server.stop()
