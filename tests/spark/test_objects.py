"""Promises of single objects: created once, the same again is fine, another content never overwrites."""

from collections.abc import Callable

import pytest
from google.api_core.exceptions import Forbidden
from google.cloud import storage

from spark import objects
from spark.job import JobFailedError
from tests.support import ServerProcess


def test_an_object_is_written_once(folders):
    """The second, equal write succeeds without writing; a different one fails and names the way out."""
    storage = folders
    assert objects.read(storage, "gs://bucket/a/b.json") is None
    objects.write_once(storage, "gs://bucket/a/b.json", b"one")
    objects.write_once(storage, "gs://bucket/a/b.json", b"one")
    with pytest.raises(JobFailedError, match=r"gs://bucket/a/b.json exists with another content.*new run id"):
        objects.write_once(storage, "gs://bucket/a/b.json", b"two")
    assert objects.read(storage, "gs://bucket/a/b.json") == b"one"
    assert storage.written == ["bucket/a/b.json"]


def test_a_refusal_is_told_from_an_object_that_is_there(
    serve: Callable[..., ServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """403 to a second write is looked into: the same content is a success, another one fails as with 412; where nothing
    is, it is a refusal, in the service's words."""
    server = serve("storage")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.http)
    client = storage.Client(project="local-dev")
    client.create_bucket("models")
    uri = "gs://models/a/b.json"

    def refuse(permission: str) -> None:
        words = f"lunation-train does not have {permission} access to the Google Cloud Storage object."
        server.fault(rpc="storage.objects.insert", code="PERMISSION_DENIED", message=words)

    refuse("storage.objects.create")
    with pytest.raises(Forbidden, match=r"storage\.objects\.create access"):
        objects.write_once(client, uri, b"one")
    objects.write_once(client, uri, b"one")
    refuse("storage.objects.delete")
    objects.write_once(client, uri, b"one")
    refuse("storage.objects.delete")
    with pytest.raises(JobFailedError, match="exists with another content"):
        objects.write_once(client, uri, b"two")
    assert objects.read(client, uri) == b"one"
    assert [one["fired"] for one in server.faults()] == [1, 1, 1]
