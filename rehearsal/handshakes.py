"""Google's side of a secure channel, as slow as it is told: TLS before a plaintext server, and a token for the asking.

A handshake takes the processor of two machines and several ways across the network; an instance that has just been
given a sliver of a processor takes a second and more for it. Plaintext on one machine shows nothing of that.
"""

import asyncio
import contextlib
import datetime
import ipaddress
import json
import ssl
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from laptop.ports import HOST

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class SlowHandshakes:
    """A secure front of a plaintext gRPC server, in a thread of its own, while the ``with`` block lasts.

    Args:
        target: ``host:port`` of the server.
        folder: keeps the certificate and the credentials.
        seconds: until a connection is let go on with its handshake; may be changed.
    """

    def __init__(self, target: str, folder: Path, seconds: float) -> None:
        self.seconds = seconds
        self.accepted = 0
        """Connections so far."""
        self._target = target
        self._folder = folder
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="slow handshakes", daemon=True)
        self._door: asyncio.Server
        self._behind: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.away()
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def endpoint(self) -> str:
        """The URL."""
        return f"https://localhost:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client's process needs in order to trust it, and to have something to call itself."""
        return {
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(self._folder / "certificate.pem"),
            "GOOGLE_APPLICATION_CREDENTIALS": str(self._folder / "credentials.json"),
        }

    def away(self) -> None:
        """Break off all connections, and take no others until :meth:`back`."""
        self._do(self._hang_up())

    def back(self) -> None:
        """Listen again."""
        self._do(self._listen())

    # --- in the thread

    async def _open(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._folder.mkdir(parents=True, exist_ok=True)
        _write_certificate(key, self._folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / "certificate.pem", self._folder / "key.pem")
        context.set_alpn_protocols(["h2"])
        secure = await asyncio.start_server(self._decrypted, HOST, 0, ssl=context)
        tokens = await asyncio.start_server(_token, HOST, 0)
        self._behind = [secure, tokens]
        self._secure_port = secure.sockets[0].getsockname()[1]
        _write_credentials(key, self._folder, f"http://{HOST}:{tokens.sockets[0].getsockname()[1]}/token")
        await self._listen()

    async def _listen(self) -> None:
        self._door = await asyncio.start_server(self._slowed, HOST, self._port)
        self._port = self._door.sockets[0].getsockname()[1]

    async def _hang_up(self) -> None:
        self._door.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _close(self) -> None:
        for server in self._behind:
            server.close()

    async def _slowed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        await self._connect((reader, writer), HOST, self._secure_port, self.seconds)

    async def _decrypted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target.rpartition(":")
        await self._connect((reader, writer), host, int(port), 0.0)

    async def _connect(self, near: Streams, host: str, port: int, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await asyncio.sleep(seconds)
            await _exchange(near, await asyncio.open_connection(host, port))
        except (asyncio.CancelledError, OSError):
            near[1].transport.abort()
        finally:
            self._connections.discard(task)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


async def _exchange(near: Streams, far: Streams) -> None:
    """Hand over in both directions until one side is gone."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()

    ways = [asyncio.create_task(forward(near[0], far[1])), asyncio.create_task(forward(far[0], near[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for _, writer in (near, far):
            writer.transport.abort()


async def _token(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Google's token endpoint, which asks no questions."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        body = json.dumps({"access_token": "rehearsed", "token_type": "Bearer", "expires_in": 3600}).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        writer.write(head % len(body) + body)
        await writer.drain()
    writer.close()


def _write_certificate(key: rsa.RSAPrivateKey, folder: Path) -> None:
    """``certificate.pem`` for this machine, signed by itself, and ``key.pem``."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(_pem(key))


def _write_credentials(key: rsa.RSAPrivateKey, folder: Path, token_uri: str) -> None:
    """``credentials.json`` of a service account."""
    credentials = {
        "type": "service_account",
        "project_id": "local-dev",
        "private_key_id": "1",
        "private_key": _pem(key).decode(),
        "client_email": "rehearsed@local-dev.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }
    (folder / "credentials.json").write_text(json.dumps(credentials))


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
