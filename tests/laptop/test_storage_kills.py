"""kill -9 of Cloud Storage in mid-stream: what it has acknowledged is there, what it has not is no half object."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Bucket, Client

from tests.support import ServerProcess, eventually

KILLS = 3


@pytest.fixture
def server(serve: Callable[..., ServerProcess]) -> ServerProcess:
    return serve("storage")


@pytest.fixture
def bucket(server: ServerProcess) -> Bucket:
    client = Client(
        project="local-dev", credentials=AnonymousCredentials(), client_options={"api_endpoint": server.http}
    )
    return client.create_bucket("kept")


def scratch(server: ServerProcess) -> list[Path]:
    """What is not an object yet."""
    return list((server.state / "storage-uploads").iterdir())


def restart(server: ServerProcess) -> None:
    server.kill()
    server.start()


def test_acknowledged_objects_survive(server: ServerProcess, bucket: Bucket) -> None:
    """Of four writers, with content and metadata; and every object that is there is whole."""
    url = f"{server.http}/upload/storage/v1/b/kept/o"
    stop, confirmed = threading.Event(), dict[str, str]()
    lock = threading.Lock()

    def content(name: str) -> bytes:
        return (name * 3000).encode()

    def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            name = f"{writer}/{number % 7}/{number}"
            parameters = {"uploadType": "media", "name": name, "ifGenerationMatch": "0"}
            try:
                response = requests.post(url, params=parameters, data=content(name), timeout=5)
                with lock:
                    confirmed[name] = response.json()["generation"]
            except requests.RequestException:
                stop.wait(0.02)  # the server is away; this one may or may not have arrived
            number += 1

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(KILLS):
        seen = len(confirmed)
        eventually(lambda seen=seen: len(confirmed) > seen + 30, 30)  # type: ignore[misc]
        restart(server)
    seen = len(confirmed)
    eventually(lambda: len(confirmed) > seen + 30, 30)
    stop.set()
    for thread in threads:
        thread.join()
    found = {blob.name: blob for blob in bucket.list_blobs()}
    assert {name: str(found[name].generation) for name in confirmed} == confirmed
    for name, blob in found.items():
        assert blob.size == len(content(name))
    for name in sorted(found)[::20]:
        assert found[name].download_as_bytes() == content(name)


def test_half_an_upload_is_no_object(server: ServerProcess, bucket: Bucket) -> None:
    """Killed while a body arrives: no object, the one before stays, and nothing is left lying about."""
    bucket.blob("a").upload_from_string("before")
    arrived = threading.Event()

    def body():  # type: ignore[no-untyped-def]
        yield b"x" * 3_000_000
        arrived.set()
        eventually(lambda: any(path.stat().st_size for path in scratch(server)), what="a part has arrived")
        server.kill()
        yield b"x" * 3_000_000

    url = f"{server.http}/upload/storage/v1/b/kept/o?uploadType=media&name=a"
    with pytest.raises(requests.RequestException):
        requests.post(url, data=body(), timeout=20)
    assert arrived.is_set()
    assert scratch(server) != []
    server.start()
    assert [(blob.name, blob.size) for blob in bucket.list_blobs()] == [("a", 6)]
    assert bucket.blob("a").download_as_bytes() == b"before"
    assert scratch(server) == []


def test_a_resumable_upload_goes_on_after_a_kill(server: ServerProcess, bucket: Bucket) -> None:
    """From where the server says it is."""
    content = os.urandom(1_000_000)
    response = requests.post(
        f"{server.http}/upload/storage/v1/b/kept/o?uploadType=resumable&name=a&ifGenerationMatch=0", json={}, timeout=5
    )
    url = response.headers["Location"]
    total = len(content)
    part = {"Content-Range": f"bytes 0-524287/{total}"}
    assert requests.put(url, data=content[:524288], headers=part, timeout=5).status_code == 308
    restart(server)
    answer = requests.put(url, headers={"Content-Range": f"bytes */{total}"}, timeout=5)
    assert (answer.status_code, answer.headers["Range"]) == (308, "bytes=0-524287")
    server.fault(rpc="storage.objects.insert", when="after", action="kill")
    rest = {"Content-Range": f"bytes 524288-{total - 1}/{total}"}
    with pytest.raises(requests.RequestException):
        requests.put(url, data=content[524288:], headers=rest, timeout=5)
    restart(server)
    # The answer was lost, the object is there: asked again, the upload tells so.
    assert requests.put(url, headers={"Content-Range": f"bytes */{total}"}, timeout=5).json()["size"] == str(total)
    assert bucket.blob("a").download_as_bytes() == content


def test_a_delete_stays_deleted(server: ServerProcess, bucket: Bucket) -> None:
    """And a generation is not given twice."""
    bucket.blob("folder/a").upload_from_string("x")
    first = bucket.get_blob("folder/a")
    assert first is not None
    first.delete()
    restart(server)
    assert list(bucket.list_blobs()) == []
    bucket.blob("folder/a").upload_from_string("x")
    again = bucket.get_blob("folder/a")
    assert again is not None
    assert again.generation > first.generation
