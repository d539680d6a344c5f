"""Channels by endpoint URL."""

import asyncio
import json
from pathlib import Path

import google.auth.exceptions
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from functions.runtime.channel import open_channel
from functions.runtime.datastore import Lookup
from functions.runtime.rpc import RpcError


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default credentials of a service account that nobody knows."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path / "credentials.json"
    file.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "local-dev",
                "private_key_id": "1",
                "private_key": key.decode(),
                "client_email": "nobody@local-dev.iam.gserviceaccount.com",
                "token_uri": "http://127.0.0.1:9/token",
            }
        )
    )
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))


@pytest.mark.usefixtures("credentials")
def test_https_is_tls(google):
    """A server without TLS is not spoken to: no token ever travels in the clear."""

    async def scenario() -> None:
        await google.start()
        endpoint = google.endpoint.replace("http://", "https://")
        with pytest.raises(RpcError, match="UNAVAILABLE"):
            await Lookup(open_channel(endpoint), "local-dev", attempts=1).one("Thing", "a")
        await google.stop()
        assert google.lookups == []

    asyncio.run(scenario())


def test_https_without_credentials_is_told(monkeypatch):
    """The error is Google's own, which says how to set them up."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json")

    async def scenario() -> None:
        with pytest.raises(google.auth.exceptions.DefaultCredentialsError, match=r"/nowhere\.json"):
            open_channel("https://datastore.googleapis.com")

    asyncio.run(scenario())


def test_http_ignores_the_proxy_of_the_environment(google, run, monkeypatch):
    """A plaintext endpoint is spoken to directly, whatever http_proxy says."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")

    async def scenario() -> None:
        assert await Lookup(open_channel(google.endpoint), "local-dev").one("Thing", "a") is None

    run(scenario)
