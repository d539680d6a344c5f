"""Brings declarations to life: fetch, build, start, switch; and all of it again after the server was killed."""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import shutil
import string
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.cloud.functions_v2 import types

from laptop import private
from laptop.children import Guard
from laptop.errors import ServiceError
from laptop.faults import FaultInjector
from laptop.functions.door import Door, Revision
from laptop.functions.instance import Instance, StartFailedError
from laptop.functions.registry import Registry, Row
from laptop.functions.source import BuildError, check, unpack
from laptop.functions.uploads import Uploads
from laptop.identity import Identity
from laptop.policies import Policies
from laptop.ports import HOST
from laptop.service import Context

Function = types.Function.pb()
State = types.Function.State
INVOKER = "roles/run.invoker"
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
EMULATORS = (
    ("PUBSUB_EMULATOR_HOST", "pubsub", "grpc"),
    ("DATASTORE_EMULATOR_HOST", "datastore", "grpc"),
    ("STORAGE_EMULATOR_HOST", "storage", "http"),
)
MAX_SOCKET_BYTES = 100
"""What the path of a socket may have on every system, with a little to spare: ``sun_path`` of unix(7), 104 on macOS."""
log = logging.getLogger("laptop.functions")


class Deployments:
    """The functions that run.

    Args:
        context: of the server.
        folder: keeps sources and logs.
        registry: what is kept.
        policies: who may invoke.
        uploads: gives sources.
        identity: verifies tokens.
    """

    def __init__(
        self,
        context: Context,
        folder: Path,
        registry: Registry,
        policies: Policies,
        uploads: Uploads,
        identity: Identity,
    ) -> None:
        self._context = context
        self._folder = folder
        self._registry = registry
        self._policies = policies
        self._uploads = uploads
        self._identity = identity
        self._faults: FaultInjector = context.faults
        self._sockets = _socket_folder(folder)
        self._guard = Guard(grace=0)  # nobody waits for an answer any more when this server was killed
        self._doors: dict[str, Door] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._leaving = False

    async def restore(self) -> None:
        """Open all doors again and start what served behind them."""
        for row in self._registry.rows():
            door = await self._open(row)
            if row.serving is not None:
                door.switch(self._revision(row.name, row.serving))
                assert door.revision is not None
                door.revision.keep()

    def leave(self) -> None:
        """Leave what is being deployed as it is, for the next start to take up."""
        self._leaving = True

    async def close(self) -> None:
        """End everything."""
        await asyncio.gather(*(door.close() for door in self._doors.values()))
        for task in self._retiring:
            task.cancel()
        revisions = [door.revision for door in self._doors.values() if door.revision is not None]
        await asyncio.gather(*(revision.stop(0) for revision in revisions))
        await asyncio.gather(*self._retiring, return_exceptions=True)
        self._guard.close()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def url(self, row: Row) -> str:
        """A function's URL."""
        return f"http://{HOST}:{row.port}"

    def authorize(self, name: str) -> None:
        """Let the door know the policy as it is now."""
        if name in self._doors:
            self._doors[name].invokers = self._policies.members(name, INVOKER)

    def describe(self) -> list[dict[str, Any]]:
        """What runs, for a person or a test that wants to see the processes."""
        return [
            {
                "name": name,
                "url": door.url,
                "revision": door.revision.name if door.revision else None,
                "instances": [
                    {"pid": one.pid, "ready": one.ready, "in_flight": one.in_flight, "starts": one.starts}
                    for one in (door.revision.instances if door.revision else [])
                ],
            }
            for name, door in self._doors.items()
        ]

    async def deploy(self, name: str) -> Any:
        """Build and start what is pending for ``name``, send traffic to it, answer the function.

        Raises:
            ServiceError: it cannot be built or started; what served before still does.
        """
        row = self._registry.read(name)
        if name not in self._doors:
            await self._open(row)
        wanted = row.pending
        assert wanted is not None
        row.serial += 1
        await self._registry.save(row)
        revision_name = f"{_id(name)}-{row.serial:05d}-{_letters()}"
        wanted.service_config.revision = revision_name
        try:
            await self._build(name, wanted)
            revision = self._revision(name, wanted)
            await revision.start()
        except (BuildError, StartFailedError) as error:
            shutil.rmtree(self._source(name, revision_name), ignore_errors=True)
            await self._failed(row, str(error))
            raise ServiceError("INVALID_ARGUMENT", f"{_id(name)} could not be deployed: {error}") from error
        except BaseException as error:
            if not self._leaving:
                await asyncio.shield(self._failed(row, f"{type(error).__name__}: {error}"))
            raise
        self._fill_in(row, wanted)
        row.serving, row.shown, row.pending = wanted, wanted, None
        await self._registry.save(row)
        before = self._doors[name].switch(revision)
        self.authorize(name)
        if before is not None:
            task = asyncio.create_task(self._retire(name, before))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        return wanted

    async def relabel(self, row: Row, wanted: Any) -> Any:
        """Keep a declaration that needs no new revision."""
        self._fill_in(row, wanted)
        row.serving, row.shown, row.pending = wanted, wanted, None
        await self._registry.save(row)
        return wanted

    async def delete(self, name: str) -> None:
        """Close the door, end the processes, forget all."""
        door = self._doors.pop(name, None)
        if door is not None:
            await door.close()
            if door.revision is not None:
                await door.revision.stop(0)
        await self._registry.delete(name)
        shutil.rmtree(self._home(name), ignore_errors=True)

    # --- inside

    async def _open(self, row: Row) -> Door:
        door = Door(self.url(row), self._identity, self._faults)
        door.invokers = self._policies.members(row.name, INVOKER)
        try:
            await door.open(row.port)
        except OSError as error:
            raise RuntimeError(
                f"port {row.port} of {row.name} is taken by another program: end that program. ({error})"
            ) from error
        self._doors[row.name] = door
        return door

    async def _build(self, name: str, wanted: Any) -> None:
        folder = self._source(name, wanted.service_config.revision)
        archive = folder.with_name(folder.name + ".zip")
        try:
            resolved = await self._uploads.fetch(wanted.build_config.source.storage_source, archive)
            await asyncio.to_thread(unpack, archive, folder)
        finally:
            archive.unlink(missing_ok=True)
        await check(folder)
        wanted.build_config.source_provenance.resolved_storage_source.CopyFrom(resolved)

    def _revision(self, name: str, declared: Any) -> Revision:
        service = declared.service_config
        door = self._doors[name]

        def make() -> Instance:
            return Instance(
                service.revision,
                self._source(name, service.revision),
                declared.build_config.entry_point,
                lambda: self._environment(name, declared),
                self._sockets / uuid.uuid4().hex[:8],
                self._home(name) / "log",
                self._guard,
                door.admit,
            )

        least = max(1, service.min_instance_count)
        most = max(least, min(service.max_instance_count, os.cpu_count() or 1))
        concurrency, timeout = service.max_instance_request_concurrency, service.timeout_seconds
        return Revision(service.revision, make, least, most, concurrency, timeout)

    def _environment(self, name: str, declared: Any) -> Mapping[str, str]:
        """What the platform gives a process, and what the declaration adds."""
        environment = {key: os.environ[key] for key in INHERITED if key in os.environ}
        path = self._context.state / "endpoints.json"
        endpoints: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.exists() else {}
        for variable, service, protocol in EMULATORS:
            if service in endpoints:
                environment[variable] = endpoints[service][protocol]
        environment |= {
            "GOOGLE_CLOUD_PROJECT": name.split("/")[1],
            "NO_GCE_CHECK": "true",  # there is no metadata server to look for
            "PYTHONUNBUFFERED": "1",
            "K_SERVICE": _id(name),
            "K_CONFIGURATION": _id(name),
            "K_REVISION": declared.service_config.revision,
            "FUNCTION_TARGET": declared.build_config.entry_point,
            "FUNCTION_SIGNATURE_TYPE": "http",
            "CLOUD_RUN_TIMEOUT_SECONDS": str(declared.service_config.timeout_seconds),
        }
        return environment | dict(declared.service_config.environment_variables)

    def _fill_in(self, row: Row, function: Any) -> None:
        _, project, _, location, _, identifier = row.name.split("/")
        function.state = State.ACTIVE
        function.ClearField("state_messages")
        function.url = function.service_config.uri = self.url(row)
        function.service_config.service = f"projects/{project}/locations/{location}/services/{identifier}"
        function.build_config.build = f"projects/{project}/locations/{location}/builds/{row.serial}"
        function.create_time.CopyFrom(row.shown.create_time)
        function.update_time.GetCurrentTime()

    async def _failed(self, row: Row, why: str) -> None:
        log.error("%s: %s", row.name, why)
        shown = Function()
        if row.serving is not None:
            shown.CopyFrom(row.serving)
        else:
            shown.CopyFrom(row.pending)
            shown.create_time.CopyFrom(row.shown.create_time)
            shown.state = State.FAILED
            shown.url = shown.service_config.uri = self.url(row)
        shown.update_time.GetCurrentTime()
        shown.state_messages.add(
            severity=types.StateMessage.Severity.ERROR, type_="DeploymentFailed", message=why[-2000:]
        )
        row.shown, row.pending = shown, None
        await self._registry.save(row)

    async def _retire(self, name: str, revision: Revision) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await revision.stop(revision.timeout)
        await revision.stop(0)
        shutil.rmtree(self._source(name, revision.name), ignore_errors=True)

    def _home(self, name: str) -> Path:
        _, project, _, location, _, identifier = name.split("/")
        return self._folder / project / location / identifier

    def _source(self, name: str, revision: str) -> Path:
        return self._home(name) / revision


def _socket_folder(folder: Path) -> Path:
    """An empty folder for sockets, open to this user only: below ``folder``, unless that makes their paths too long."""
    inside = folder.with_name("sockets")
    shutil.rmtree(inside, ignore_errors=True)  # what a killed server has left there
    if len(os.fsencode(inside / "12345678:1234")) > MAX_SOCKET_BYTES:
        return Path(tempfile.mkdtemp(prefix="laptop-"))
    return private.folder(inside)


def _id(name: str) -> str:
    return name.rsplit("/", 1)[1]


def _letters() -> str:
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(3))
