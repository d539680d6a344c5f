"""Reading the pointer from Datastore, over real gRPC."""

import asyncio
import contextlib
import socket
import struct

from functions.classify.pointer import Pointers
from functions.runtime.channel import open_channel
from functions.runtime.datastore import entity, path
from schemas import use_case
from tests.functions.doubles import models

CASE = use_case("flights")
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that lets a socket be closed by a reset."""


class Middle:
    """Stands between a client and a server; its connections can be forgotten, as those of a sleeper are."""

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.removeprefix("http://").partition(":")
        self._to = host, int(port)
        self._known: set[asyncio.StreamWriter] = set()
        self.connections = 0

    async def start(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    def forget(self) -> None:
        """What comes on a connection that there is gets a reset in answer."""
        self._known.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._known.add(writer)
        from_server, to_server = await asyncio.open_connection(*self._to)
        back = asyncio.create_task(self._pump(from_server, writer))
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if writer not in self._known:
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    break
                to_server.write(data)
                await to_server.drain()
        back.cancel()
        to_server.transport.abort()
        writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()


def test_a_connection_that_was_dropped_meanwhile_does_not_make_datastore_away(google, run):
    """Nobody tells a sleeping instance that its connection is gone. The first read after it finds out, and is the one
    that a request waits for: it goes through on a new connection."""

    async def scenario() -> None:
        middle = Middle(google.endpoint)
        async with await middle.start() as server:
            stored = models.pointer(models.folder(CASE, bias=0.5), 3)
            values = stored.model_dump(exclude={"shadow", "canary"})
            kept = entity("local-dev", "ModelPointer", stored.use_case, values)
            google.entities[path(kept.key)] = kept
            port = server.sockets[0].getsockname()[1]
            pointers = Pointers(open_channel(f"http://127.0.0.1:{port}"), "local-dev", stored.use_case)
            assert await pointers.now() == stored
            middle.forget()
            assert await pointers.now() == stored
            assert middle.connections == 2

    run(scenario)
