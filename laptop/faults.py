"""Faults that a test asks a server to show, and the count of how often each one did."""

import asyncio
import fnmatch
import os
import signal
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

import grpc
from aiohttp import web

from laptop.documents import ContentTypeError, DocumentError, received
from laptop.errors import ServiceError


@dataclass
class Fault:
    """One fault, in force until it has fired ``times`` times.

    ``rpc`` is a shell pattern over names such as ``google.datastore.v1.Datastore.Commit`` or
    ``storage.objects.insert``. With ``when`` = ``before`` the call is not executed; with ``after`` it is, and its
    answer is lost: the ambiguous case. ``action``: ``error`` answers with ``code``; ``delay`` only waits
    ``delay_seconds``; ``kill`` ends the server as ``kill -9`` would.
    """

    rpc: str
    action: Literal["error", "delay", "kill"] = "error"
    code: str = "UNAVAILABLE"
    message: str = "fault injected"
    delay_seconds: float = 0.0
    times: int = 1
    when: Literal["before", "after"] = "before"
    fired: int = 0
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])


class FaultInjector:
    """The faults of one server, set over ``/_laptop/faults``."""

    def __init__(self) -> None:
        self.faults: dict[str, Fault] = {}

    async def check(self, rpc: str, when: Literal["before", "after"] = "before") -> None:
        """Show the faults that are set for ``rpc``.

        Raises:
            ServiceError: the fault's error.
        """
        if not self.faults:
            return
        for fault in list(self.faults.values()):
            if fault.when != when or fault.fired >= fault.times or not fnmatch.fnmatchcase(rpc, fault.rpc):
                continue
            fault.fired += 1
            if fault.delay_seconds:
                await asyncio.sleep(fault.delay_seconds)
            if fault.action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault.action == "error":
                raise ServiceError(grpc.StatusCode[fault.code], fault.message)

    def routes(self) -> list[web.RouteDef]:
        """The admin endpoint: POST sets a fault, GET lists them with their counts, DELETE clears them."""
        return [
            web.post("/_laptop/faults", self._set),
            web.get("/_laptop/faults", self._list),
            web.delete("/_laptop/faults", self._clear),
        ]

    async def _set(self, request: web.Request) -> web.Response:
        try:
            fault = _fault(await received(request))
        except ContentTypeError as error:
            return web.json_response({"error": str(error)}, status=415)
        except (DocumentError, FaultError) as error:
            return web.json_response({"error": f"not a fault: {error}"}, status=400)
        self.faults[fault.id] = fault
        return web.json_response(asdict(fault))

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response([asdict(fault) for fault in self.faults.values()])

    async def _clear(self, _: web.Request) -> web.Response:
        self.faults.clear()
        return web.json_response([])


class FaultError(ValueError):
    """What is no fault; the text tells why."""


def _fault(document: Any) -> Fault:
    """Make sure that a typo in a fault does not make a test pass for want of a fault.

    Raises:
        FaultError: it has another form than :class:`Fault`.
    """
    if not isinstance(document, dict):
        raise FaultError("a JSON object is wanted")
    known = get_type_hints(Fault)
    given = {name: value for name, value in document.items() if name != "fired"}
    for name, value in given.items():
        if name not in known:
            raise FaultError(f"{name} is none of {', '.join(known)}")
        kind = known[name]
        if get_origin(kind) is Literal:
            fits = value in get_args(kind)
        else:
            fits = isinstance(value, int | float if kind is float else kind) and not isinstance(value, bool)
        if not fits:
            raise FaultError(f"{name} cannot be {value!r}")
    if "rpc" not in given:
        raise FaultError("rpc is missing")
    fault = Fault(**given)
    if fault.code not in grpc.StatusCode.__members__:
        raise FaultError(f"code: {fault.code!r} is none of {', '.join(grpc.StatusCode.__members__)}")
    return fault
