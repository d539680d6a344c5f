"""One instance of a function: a ``functions-framework`` process, kept running.

It listens on a socket in a folder of ours, not on a port: a port is open to every program and web page on the machine,
which would pass by the door.
"""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from laptop.children import Child, Guard, tail
from laptop.functions.wire import Caller, Request, Upstream, UpstreamError

START_SECONDS = 60.0
STOP_SECONDS = 10.0
BACKOFF_SECONDS = (0.2, 10.0)
PORT = 8080
"""What the process is told, as on Cloud Run: https://cloud.google.com/run/docs/container-contract#port."""
HEALTHY_SECONDS = 30.0
"""A process that ran this long counts as healthy: its next crash starts the backoff anew."""
IDLE_SECONDS = 1.0
"""The framework closes a kept connection after 2 s; one that is about to be closed must not be used."""
log = logging.getLogger("laptop.functions")


class StartFailedError(Exception):
    """The process did not come up; the text ends with what it printed."""


class Instance:
    """A process and the connections to it.

    Args:
        name: of the revision, for the log.
        folder: the unpacked source, which is the process's working folder.
        entry_point: the function in ``main.py``.
        environment: gives the process's whole environment but for PORT; asked at each start.
        socket: where it listens, but for what sets one start apart from the next.
        log_path: what it prints goes there.
        watch: ends the process when this server is killed.
        changed: called when the instance becomes ready.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        entry_point: str,
        environment: Callable[[], Mapping[str, str]],
        socket: Path,
        log_path: Path,
        watch: Guard,
        changed: Callable[[], None],
    ) -> None:
        self.name = name
        self.ready = False
        self.in_flight = 0
        self.starts = 0
        self._folder = folder
        self._entry_point = entry_point
        self._environment = environment
        self._log_path = log_path
        self._watch = watch
        self._changed = changed
        self._socket = socket
        self._child: Child | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._idle: list[Upstream] = []
        self._connections: set[Upstream] = set()
        self._drained = asyncio.Event()
        self._idle_since = time.monotonic()

    @property
    def pid(self) -> int | None:
        """The running process."""
        return self._child.pid if self._child is not None and self._child.running else None

    async def start(self) -> None:
        """Start the process, wait until it accepts connections, and keep it running from then on.

        Raises:
            StartFailedError: it ended, or took too long.
        """
        await self._launch()
        self.keep()

    def keep(self) -> None:
        """Keep it running, from the next turn of the event loop on; failures are tried again."""
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self, drain_seconds: float) -> None:
        """Wait until what is under way is answered, at most ``drain_seconds``, then end the process."""
        if self.in_flight:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), drain_seconds)
        self.ready = False
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._drop_connections()
        if self._child is not None:
            await self._child.stop(STOP_SECONDS)
        Path(self._address).unlink(missing_ok=True)

    async def exchange(self, request: Request, caller: Caller, seconds: float) -> None:
        """Have the instance answer ``request`` to ``caller``.

        Raises:
            TimeoutError: not within ``seconds``.
            UpstreamError: the instance broke off.
            OSError: it does not accept connections.
        """
        loop = asyncio.get_running_loop()
        upstream = self._take()
        if upstream is None:
            _, upstream = await loop.create_unix_connection(Upstream, self._address)
            self._connections.add(upstream)
        answered = upstream.send(request, caller)
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            answered.cancel()

        timer = loop.call_later(seconds, expire)
        try:
            await answered
        except asyncio.CancelledError:
            if expired and upstream.begun:
                raise UpstreamError(f"the answer was not complete after {seconds:g} s", begun=True) from None
            if expired:
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()
            if answered.cancelled() or not upstream.open:
                upstream.close()
                self._connections.discard(upstream)
            else:
                upstream.idle_since = time.monotonic()
                self._idle.append(upstream)

    def release(self) -> None:
        """One request less is under way."""
        self.in_flight -= 1
        if not self.in_flight:
            self._drained.set()
            self._idle_since = time.monotonic()

    def idle_for(self) -> float:
        """Seconds since the last request was answered, or since it was made; 0 while one is under way."""
        return 0.0 if self.in_flight else time.monotonic() - self._idle_since

    def acquire(self) -> None:
        """One request more is under way."""
        self.in_flight += 1
        self._drained.clear()

    # --- inside

    def _take(self) -> Upstream | None:
        oldest = time.monotonic() - IDLE_SECONDS
        while self._idle:
            upstream = self._idle.pop()
            if upstream.open and upstream.idle_since > oldest:
                return upstream
            upstream.close()
            self._connections.discard(upstream)
        return None

    def _drop_connections(self) -> None:
        for upstream in self._connections:
            upstream.close()
        self._connections.clear()
        self._idle.clear()

    @property
    def _address(self) -> str:
        return f"{self._socket}:{self.starts}"

    async def _launch(self) -> None:
        Path(self._address).unlink(missing_ok=True)
        self.starts += 1
        command = [
            *(sys.executable, "-m", "functions_framework"),
            *("--source", "main.py", "--target", self._entry_point),
            # The framework hands gunicorn "host:port": https://docs.gunicorn.org/en/stable/settings.html#bind.
            *("--host", f"unix:{self._socket}", "--port", str(self.starts)),
        ]
        environment = {**self._environment(), "PORT": str(PORT)}
        child = await Child.start(
            command, cwd=self._folder, environment=environment, log=self._log_path, watch=self._watch
        )
        self._child = child
        try:
            await self._wait_until_open(child)
        except BaseException:
            await asyncio.shield(child.stop(0.0))
            raise
        self.ready = True
        self._changed()

    async def _wait_until_open(self, child: Child) -> None:
        """The framework listens once it has imported the source: Cloud Run's default probe looks for just that."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            if not child.running:
                raise StartFailedError(
                    f"{self.name}: the process ended with {await child.wait()} before it listened:\n"
                    + tail(self._log_path)
                )
            try:
                _, writer = await asyncio.open_unix_connection(self._address)
            except OSError:
                if time.monotonic() > deadline:
                    raise StartFailedError(
                        f"{self.name}: the process does not listen after {START_SECONDS:.0f} s:\n"
                        + tail(self._log_path)
                    ) from None
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return

    async def _keep(self) -> None:
        pause = BACKOFF_SECONDS[0]
        while True:
            started = time.monotonic()
            try:
                if self._child is None or not self._child.running:
                    await self._launch()
                assert self._child is not None
                code = await self._child.wait()
                log.warning("%s: the process ended with %s", self.name, code)
            except StartFailedError as error:
                log.error("%s", error)
            self.ready = False
            self._drop_connections()
            if time.monotonic() - started > HEALTHY_SECONDS:
                pause = BACKOFF_SECONDS[0]
            await asyncio.sleep(pause)
            pause = min(BACKOFF_SECONDS[1], pause * 2)
