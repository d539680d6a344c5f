"""The front door of one function: its URL. Checks who calls, finds an instance with room, passes the request on."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

import httptools

from laptop.doorkeeper import Doorkeeper
from laptop.errors import ServiceError
from laptop.faults import FaultInjector
from laptop.functions.instance import Instance
from laptop.functions.wire import Caller, Request, RequestRefusedError, UpstreamError
from laptop.identity import Identity, InvalidTokenError
from laptop.ports import HOST

QUEUE_SECONDS = 10.0
"""How long a request waits for room at an instance, as on Cloud Run."""
MAX_WAITING = 2000
RETRY_AFTER_SECONDS = 1
IDLE_SECONDS = 60.0
"""How long an instance beyond the minimum is kept without a request."""
log = logging.getLogger("laptop.functions")


class Revision:
    """What serves: instances of one source with one configuration, as many as the requests ask for.

    Args:
        name: of the revision.
        make: makes one instance more, all equal.
        least: instances that always run.
        most: instances that run at most.
        concurrency: requests that one instance takes at a time.
        timeout: seconds a request may take.
    """

    def __init__(
        self, name: str, make: Callable[[], Instance], least: int, most: int, concurrency: int, timeout: float
    ) -> None:
        self.name = name
        self.instances = [make() for _ in range(least)]
        self.concurrency = concurrency
        self.timeout = timeout
        self._make = make
        self._least = least
        self._most = most
        self._shrinking: asyncio.Task[None] | None = None

    def pick(self) -> Instance | None:
        """The instance with the most room; None if there is none."""
        best: Instance | None = None
        for instance in self.instances:
            if (
                instance.ready
                and instance.in_flight < self.concurrency
                and (best is None or instance.in_flight < best.in_flight)
            ):
                best = instance
        return best

    def grow(self, waiting: int) -> None:
        """Start one instance more, if one may run and those that start already have no room for all that wait."""
        starting = sum(not instance.ready for instance in self.instances)
        if len(self.instances) >= self._most or starting * self.concurrency >= waiting:
            return
        instance = self._make()
        self.instances.append(instance)
        instance.keep()
        if self._shrinking is None or self._shrinking.done():
            self._shrinking = asyncio.create_task(self._shrink())

    async def _shrink(self) -> None:
        """End instances beyond the least once they have been idle for long."""
        while len(self.instances) > self._least:
            await asyncio.sleep(IDLE_SECONDS / 4)
            for instance in self.instances[self._least :]:
                if instance.ready and instance.idle_for() > IDLE_SECONDS:
                    self.instances.remove(instance)
                    await instance.stop(0)

    async def start(self) -> None:
        """Start all instances; all or none.

        Raises:
            StartFailedError: one did not come up.
        """
        try:
            await asyncio.gather(*(instance.start() for instance in self.instances))
        except BaseException:
            await self.stop(self.timeout)
            raise

    def keep(self) -> None:
        """Start all instances as soon as possible, and keep trying."""
        for instance in self.instances:
            instance.keep()

    async def stop(self, drain_seconds: float) -> None:
        """End all instances once they have answered what is under way, at the latest after ``drain_seconds``."""
        self._most = 0
        if self._shrinking is not None:
            self._shrinking.cancel()
            await asyncio.gather(self._shrinking, return_exceptions=True)
        await asyncio.gather(*(instance.stop(drain_seconds) for instance in self.instances))


def _no_room() -> RequestRefusedError:
    """At the maximum of instances. What Cloud Run says, and when to come again, which it leaves to the caller."""
    text = "The request was aborted because there was no available instance."
    return RequestRefusedError(429, text, (b"retry-after", b"%d" % RETRY_AFTER_SECONDS))


def _look_at_path(target: bytes) -> None:
    """Keep from the instances what Cloud Run keeps: https://cloud.google.com/run/docs/known-issues#ah.

    "Some paths" that end in z, it says there, and that all of them are best avoided: here all of them are kept.
    """
    try:
        # Cloud Run decodes, too, so an escaped z is one.
        path = unquote_to_bytes(httptools.parse_url(target).path or b"/")
    except httptools.HttpParserInvalidURLError:
        return
    if path == b"/eventlog" or path.startswith(b"/_ah/") or path.endswith(b"z"):
        raise RequestRefusedError(404, "The requested URL was not found on this server.")


class Door:
    """A listening port.

    Args:
        url: of the function, which tokens must name as their audience.
        identity: verifies tokens.
        faults: consulted before each request, as ``laptop.functions.Invoke``.
    """

    def __init__(self, url: str, identity: Identity, faults: FaultInjector) -> None:
        self.url = url
        self.revision: Revision | None = None
        self.invokers: set[str] = set()
        self._identity = identity
        self._faults = faults
        self._waiting: deque[asyncio.Future[Instance]] = deque()
        self._connections: set[Caller] = set()
        self._server: asyncio.Server | None = None

    async def open(self, port: int) -> None:
        """Listen on ``port``.

        Raises:
            OSError: another program has taken the port.
        """
        loop = asyncio.get_running_loop()
        self._doorkeeper = Doorkeeper(port)
        self._server = await loop.create_server(
            lambda: Caller(self._answer, self._look, self._connections), HOST, port, backlog=1024
        )

    async def close(self) -> None:
        """Stop listening and end all connections."""
        if self._server is not None:
            self._server.close()
        for caller in list(self._connections):
            caller.abort()
        if self._server is not None:
            await self._server.wait_closed()

    def switch(self, revision: Revision) -> Revision | None:
        """Send what comes from now on to ``revision``; answers the one that served."""
        before, self.revision = self.revision, revision
        self.admit()
        return before

    def admit(self) -> None:
        """Hand free room to those that wait."""
        while self._waiting and self.revision is not None:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            instance = self.revision.pick()
            if instance is None:
                return
            instance.acquire()
            self._waiting.popleft().set_result(instance)

    # --- one request

    def _look(self, request: Request) -> RequestRefusedError | None:
        """Why a request is refused, by its head alone: nobody has 32 MB kept here to learn that he may not call."""
        why = self._doorkeeper.refusal(request.headers)
        if why is not None:
            return RequestRefusedError(*why)
        try:
            _look_at_path(request.target)
            self._authorize(request)
        except RequestRefusedError as refused:
            return refused
        return None

    async def _answer(self, request: Request, caller: Caller) -> None:
        try:
            await self._faults.check("laptop.functions.Invoke")
            revision = self.revision
            instance = await self._room()
        except RequestRefusedError as refused:
            caller.respond(request, refused.status, refused.text, *refused.headers)
            return
        except ServiceError as error:
            caller.respond(request, error.http_status, error.message)
            return
        timeout = revision.timeout if revision is not None else QUEUE_SECONDS
        try:
            await instance.exchange(request, caller, timeout)
        except TimeoutError:
            caller.respond(request, 504, f"The function did not answer within {timeout:g} seconds.")
            request.keep_alive = False
        except (UpstreamError, OSError) as error:
            log.warning("%s: %s", instance.name, error)
            if isinstance(error, UpstreamError) and error.begun:
                caller.abort()
            else:
                caller.respond(request, 503, "The connection to the instance had an error.")
        finally:
            instance.release()
            self.admit()

    def _authorize(self, request: Request) -> None:
        """As Cloud Run: https://cloud.google.com/run/docs/troubleshooting#unauthorized-client."""
        headers = [value for name, value in request.headers if name == b"authorization"]
        if len(headers) > 1:
            raise RequestRefusedError(400, "Authorization: this header came more than once: send it once.")
        if "allUsers" in self.invokers:
            return
        if not headers:
            raise RequestRefusedError(
                403, "Your client does not have permission to get this URL: it sent no identity token."
            )
        scheme, _, token = headers[0].decode("latin-1").partition(" ")
        try:
            if scheme.lower() != "bearer":
                raise InvalidTokenError("the Authorization header is not a Bearer token")
            claims = self._identity.verify(token.strip(), self.url)
        except InvalidTokenError as error:
            reason = "".join(character if character.isprintable() else " " for character in str(error))
            challenge = f'Bearer error="invalid_token" error_description="{reason}"'.encode("ascii", "replace")
            raise RequestRefusedError(
                401, "Your client does not have permission to the requested URL.", (b"www-authenticate", challenge)
            ) from error
        email = claims["email"]
        allowed = {f"serviceAccount:{email}", f"user:{email}", "allAuthenticatedUsers"}
        if not allowed & self.invokers:
            raise RequestRefusedError(403, "Your client does not have permission to get this URL: it is no invoker.")

    async def _room(self) -> Instance:
        revision = self.revision
        if revision is not None and not self._waiting:
            instance = revision.pick()
            if instance is not None:
                instance.acquire()
                return instance
        if len(self._waiting) >= MAX_WAITING:
            raise _no_room()
        place: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        if revision is not None:
            revision.grow(len(self._waiting))
        limit = min(QUEUE_SECONDS, revision.timeout) if revision is not None else QUEUE_SECONDS
        try:
            return await asyncio.wait_for(place, limit)
        except TimeoutError:
            if self.revision is not None and any(instance.ready for instance in self.revision.instances):
                raise _no_room() from None
            raise RequestRefusedError(503, "No instance of the function is running.") from None
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                place.result().release()
                self.admit()
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(place)
