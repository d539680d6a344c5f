"""The laptop's Cloud Storage through Google's own client."""

import base64
import contextlib
import io
import json
import os
import shutil
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import google_crc32c
import pytest
import requests
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Blob, Bucket, Client

from tests.support import ServerProcess

# Each way of an upload, as google-cloud-storage does it.
UPLOADS = {"multipart": {}, "resumable": {"chunk_size": 256 * 1024}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess("storage", tmp_path_factory.mktemp("laptop") / "state")
    server.start()
    yield server
    server.stop()


def client_of(server: ServerProcess) -> Client:
    return Client(project="local-dev", credentials=AnonymousCredentials(), client_options={"api_endpoint": server.http})


@pytest.fixture
def bucket(server: ServerProcess) -> Iterator[Bucket]:
    """A bucket of the test's own."""
    client = client_of(server)
    yield client.create_bucket(f"bucket-{uuid.uuid4().hex[:12]}")
    server.admin("DELETE", "/_laptop/faults")
    client.close()


def names(bucket: Bucket, **options: Any) -> list[str]:
    return [blob.name for blob in bucket.list_blobs(**options)]


def put(bucket: Bucket, *names: str) -> None:
    for name in names:
        bucket.blob(name).upload_from_string(f"content of {name}")


# --- uploads


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 1_000_000])
@pytest.mark.parametrize("way", UPLOADS)
def test_upload(bucket: Bucket, way: str, size: int) -> None:
    """The content, its checksums and its type come back, whatever way it went."""
    content = os.urandom(size)
    blob = bucket.blob("folder/object.bin", **UPLOADS[way])
    blob.upload_from_file(io.BytesIO(content), size=None if way == "resumable" else size, content_type="x/y")
    found = bucket.get_blob("folder/object.bin")
    assert found is not None
    assert found.download_as_bytes() == content
    assert (found.size, found.content_type, found.metageneration) == (size, "x/y", 1)
    assert found.crc32c == base64.b64encode(google_crc32c.Checksum(content).digest()).decode()


def test_upload_of_media(bucket: Bucket, server: ServerProcess) -> None:
    """The simple form: the body is the object."""
    url = f"{server.http}/upload/storage/v1/b/{bucket.name}/o"
    parameters = {"uploadType": "media", "name": "a b.txt"}
    response = requests.post(url, params=parameters, data=b"hello", headers={"Content-Type": "text/plain"}, timeout=10)
    assert (response.status_code, response.json()["size"]) == (200, "5")
    assert bucket.blob("a b.txt").download_as_bytes() == b"hello"


def test_an_upload_larger_than_a_message(bucket: Bucket, server: ServerProcess) -> None:
    """Objects have no limit here: 70 MB in one request, which is how Google's client sends a file."""
    content = bytes(70 * 1024 * 1024)
    url = f"{server.http}/upload/storage/v1/b/{bucket.name}/o?uploadType=media&name=large"
    response = requests.post(url, data=content, timeout=30)
    assert response.json()["size"] == str(len(content))


def test_a_stream_of_unknown_length(bucket: Bucket) -> None:
    """Written piece by piece, with the size known at the end only."""
    with bucket.blob("stream.txt", chunk_size=256 * 1024).open("w") as file:
        for number in range(60_000):
            file.write(f"{number}\n")
    with bucket.blob("stream.txt").open("r") as file:
        assert [int(line) for line in file] == list(range(60_000))


def begin(bucket: Bucket, server: ServerProcess, name: str, **parameters: Any) -> str:
    """Start a resumable upload; answers where its chunks go."""
    url = f"{server.http}/upload/storage/v1/b/{bucket.name}/o"
    response = requests.post(
        url, params={"uploadType": "resumable", "name": name, **parameters}, json={"metadata": {"a": "1"}}, timeout=10
    )
    assert response.status_code == 200, response.text
    return response.headers["Location"]


def chunk(url: str, content: bytes, span: str) -> requests.Response:
    return requests.put(url, data=content, headers={"Content-Range": f"bytes {span}"}, timeout=10)


def test_a_resumable_upload_may_begin_where_the_discovery_document_says(bucket: Bucket, server: ServerProcess) -> None:
    """``mediaUpload.protocols.resumable.path`` of ``storage.objects.insert``: gcloud sends files above 8 MB so."""
    url = f"{server.http}/resumable/upload/storage/v1/b/{bucket.name}/o?alt=json&uploadType=resumable"
    response = requests.post(url, json={"name": "large", "bucket": bucket.name}, timeout=10)
    assert response.status_code == 200, response.text
    assert chunk(response.headers["Location"], b"01234", "0-4/5").status_code == 200
    assert bucket.blob("large").download_as_bytes() == b"01234"


def test_a_resumable_upload_step_by_step(bucket: Bucket, server: ServerProcess) -> None:
    """It tells how much it has, takes a chunk again, is no object before its end, and repeats its last answer."""
    url = begin(bucket, server, "steps")
    assert chunk(url, b"", "*/10").headers.get("Range") is None
    response = chunk(url, b"01234", "0-4/10")
    assert (response.status_code, response.headers["Range"]) == (308, "bytes=0-4")
    assert bucket.get_blob("steps") is None
    assert chunk(url, b"012", "0-2/10").headers["Range"] == "bytes=0-2"
    assert chunk(url, b"234", "2-4/10").headers["Range"] == "bytes=0-4"
    assert chunk(url, b"x", "7-7/10").status_code == 400
    assert chunk(url, b"", "*/10").headers["Range"] == "bytes=0-4"
    last = chunk(url, b"56789", "5-9/10")
    assert (last.status_code, last.json()["metadata"]) == (200, {"a": "1"})
    again = chunk(url, b"56789", "5-9/10")
    assert (again.status_code, again.json()["generation"]) == (200, last.json()["generation"])
    assert bucket.blob("steps").download_as_bytes() == b"0123456789"


def test_an_upload_that_is_cancelled(bucket: Bucket, server: ServerProcess) -> None:
    """Is gone."""
    url = begin(bucket, server, "cancelled")
    chunk(url, b"01234", "0-4/10")
    assert requests.delete(url, timeout=10).status_code == 499
    assert chunk(url, b"56789", "5-9/10").status_code == 404
    assert bucket.get_blob("cancelled") is None


def test_a_resumable_upload_whose_precondition_fails(bucket: Bucket, server: ServerProcess) -> None:
    """412 at its end, and it is over."""
    url = begin(bucket, server, "late", ifGenerationMatch=0)
    put(bucket, "late")
    assert [chunk(url, b"x", "0-0/1").status_code for _ in range(2)] == [412, 404]
    assert bucket.blob("late").download_as_bytes() == b"content of late"


@pytest.mark.parametrize(("field", "value"), [("crc32c", "AAAAAA=="), ("md5Hash", "1B2M2Y8AsgTpgAmY7PhCfg==")])
def test_a_wrong_checksum(bucket: Bucket, field: str, value: str) -> None:
    """Is refused, and there is no object."""
    blob = bucket.blob("wrong")
    blob._properties[field] = value  # noqa: SLF001  # as code of others sends it
    blob._changes.add(field)  # noqa: SLF001  # as code of others sends it
    with pytest.raises(exceptions.BadRequest, match="doesn't match"):
        blob.upload_from_string("content", checksum=None)
    assert names(bucket) == []


def test_the_client_checks_what_it_sends(bucket: Bucket) -> None:
    """Its own checksum of the content is compared."""
    for checksum in ("md5", "crc32c"):
        bucket.blob("checked").upload_from_string("content", checksum=checksum)
        assert bucket.blob("checked").download_as_bytes(checksum=checksum) == b"content"


# --- reading


@pytest.mark.parametrize(
    ("header", "status", "expected"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=-30", 200, b"0123456789"),
        ("bytes=8-100", 206, b"89"),
        ("bytes=5-2", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
        ("bytes=10-", 416, None),
        ("bytes=-0", 416, None),
    ],
)
def test_ranges(bucket: Bucket, server: ServerProcess, header: str, status: int, expected: bytes | None) -> None:
    """As RFC 9110 has them: what makes no sense is not a range, what lies behind the end is an error."""
    bucket.blob("digits").upload_from_string("0123456789")
    url = f"{server.http}/download/storage/v1/b/{bucket.name}/o/digits?alt=media"
    response = requests.get(url, headers={"Range": header}, timeout=10)
    assert response.status_code == status
    if expected is None:
        assert response.headers["Content-Range"] == "bytes */10"
    else:
        assert response.content == expected


def test_ranges_through_the_client(bucket: Bucket) -> None:
    """Both ends count."""
    bucket.blob("digits").upload_from_string("0123456789")
    assert bucket.blob("digits").download_as_bytes(start=2, end=4) == b"234"
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        bucket.blob("digits").download_as_bytes(start=10)


def test_a_download_of_one_generation(bucket: Bucket) -> None:
    """What was replaced is not there any more, and a reader is not given another one in its place."""
    put(bucket, "a")
    first = bucket.get_blob("a")
    assert first is not None
    put(bucket, "a")
    with pytest.raises(exceptions.NotFound):
        first.download_as_bytes()
    with pytest.raises(exceptions.NotFound):
        bucket.blob("a", generation=first.generation).delete()


def test_reads_while_it_is_overwritten(bucket: Bucket) -> None:
    """Each reader gets one of the contents, whole."""
    contents = [bytes([number]) * (200_000 + number) for number in range(4)]
    bucket.blob("busy").upload_from_string(contents[0])
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            bucket.blob("busy").upload_from_string(contents[number % 4])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(40):
            assert bucket.blob("busy").download_as_bytes() in contents
    finally:
        stop.set()
        writer.join()


def test_encoded_content(bucket: Bucket) -> None:
    """Its encoding is told, and the client undoes it."""
    import gzip

    blob = bucket.blob("packed.json")
    blob.content_encoding = "gzip"
    blob.upload_from_string(gzip.compress(b'{"a": 1}'), content_type="application/json")
    assert bucket.blob("packed.json").download_as_bytes() == b'{"a": 1}'
    assert gzip.decompress(bucket.blob("packed.json").download_as_bytes(raw_download=True)) == b'{"a": 1}'


def test_what_is_missing(bucket: Bucket) -> None:
    """404: an object, a bucket."""
    assert bucket.get_blob("none") is None
    with pytest.raises(exceptions.NotFound):
        bucket.blob("none").download_as_bytes()
    with pytest.raises(exceptions.NotFound):
        bucket.blob("none").delete()
    other = bucket.client.bucket("no-such-bucket")
    with pytest.raises(exceptions.NotFound):
        names(other)
    with pytest.raises(exceptions.NotFound):
        other.reload()
    with pytest.raises(exceptions.NotFound):
        other.blob("a").upload_from_string("x")


# --- preconditions


def test_ten_creators(bucket: Bucket) -> None:
    """Of ten that create an object if it is not there, one wins, and it is its content that is there."""
    start = threading.Barrier(10)
    outcomes: list[str] = []

    def create(number: int) -> None:
        start.wait()
        try:
            bucket.blob("claim").upload_from_string(f"{number}", if_generation_match=0)
            outcomes.append(f"{number}")
        except exceptions.PreconditionFailed:
            outcomes.append("lost")

    threads = [threading.Thread(target=create, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 10
    (winner,) = [one for one in outcomes if one != "lost"]
    assert bucket.blob("claim").download_as_text() == winner


def test_generations(bucket: Bucket) -> None:
    """Rise with each write, also over a delete; each request can name the one it means."""
    put(bucket, "a")
    first = bucket.get_blob("a")
    put(bucket, "a")
    second = bucket.get_blob("a")
    assert first is not None
    assert second is not None
    second.delete()
    put(bucket, "a")
    third = bucket.get_blob("a")
    assert third is not None
    assert first.generation < second.generation < third.generation
    blob = bucket.blob("a")
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_string("x", if_generation_match=first.generation)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.delete(if_generation_match=second.generation)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.download_as_bytes(if_generation_match=second.generation)
    blob.upload_from_string("x", if_generation_match=third.generation)


def test_metagenerations(bucket: Bucket) -> None:
    """Rise with each change of the metadata, and guard it."""
    put(bucket, "a")
    blob = bucket.get_blob("a")
    assert blob is not None
    blob.metadata = {"color": "red"}
    blob.patch(if_metageneration_match=1)
    assert blob.metageneration == 2
    blob.metadata = {"color": "blue"}
    with pytest.raises(exceptions.PreconditionFailed):
        blob.patch(if_metageneration_match=1)
    found = bucket.get_blob("a")
    assert found is not None
    assert (found.metadata, found.generation) == ({"color": "red"}, blob.generation)


def test_not_match(bucket: Bucket, server: ServerProcess) -> None:
    """304 for a reader that has it already, 412 for a writer."""
    put(bucket, "a")
    blob = bucket.get_blob("a")
    assert blob is not None
    url = f"{server.http}/storage/v1/b/{bucket.name}/o/a"
    assert requests.get(url, params={"ifGenerationNotMatch": blob.generation}, timeout=10).status_code == 304
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("a").upload_from_string("x", if_generation_not_match=blob.generation)


# --- metadata


def test_patch_of_metadata(bucket: Bucket) -> None:
    """Changes what it names; null clears; what is the server's own stays."""
    put(bucket, "a")
    blob = bucket.get_blob("a")
    assert blob is not None
    blob.metadata = {"color": "red", "size": "1"}
    blob.cache_control = "no-store"
    blob.content_type = "text/csv"
    blob.patch()
    blob.metadata = {"color": None, "shape": "round"}
    blob.patch()
    blob._properties["size"] = "99"  # noqa: SLF001  # a field that the client has no setter for
    blob._changes.add("size")  # noqa: SLF001  # a field that the client has no setter for
    blob.patch()
    found = bucket.get_blob("a")
    assert found is not None
    assert found.metadata == {"size": "1", "shape": "round"}
    assert (found.cache_control, found.content_type, found.size) == ("no-store", "text/csv", len("content of a"))


def test_update_of_metadata(bucket: Bucket) -> None:
    """Replaces all that a client may change."""
    put(bucket, "a")
    blob = bucket.get_blob("a")
    assert blob is not None
    blob.metadata, blob.cache_control = {"color": "red"}, "no-store"
    blob.patch()
    blob.metadata = {"shape": "round"}
    blob._properties.pop("cacheControl")  # noqa: SLF001  # a field that is left out
    blob.update()
    found = bucket.get_blob("a")
    assert found is not None
    assert (found.metadata, found.cache_control) == ({"shape": "round"}, None)


def test_bad_metadata(bucket: Bucket, server: ServerProcess) -> None:
    """400: of the wrong type, or with a line break that could end a header."""
    put(bucket, "a")
    url = f"{server.http}/storage/v1/b/{bucket.name}/o/a"
    for body in ({"metadata": "x"}, {"metadata": {"a": 1}}, {"contentType": 5}, {"contentType": "a\r\nSet-Cookie: b"}):
        assert requests.patch(url, json=body, timeout=10).status_code == 400
    assert bucket.blob("a").download_as_bytes() == b"content of a"


# --- copies


def test_copy(bucket: Bucket) -> None:
    """Content and metadata; names that look encoded stay what they are."""
    blob = bucket.blob("50%25 off/a+b ä?#.txt")
    blob.metadata = {"color": "red"}
    blob.upload_from_string("sale", content_type="text/plain")
    copied = bucket.copy_blob(blob, bucket, "copy/100%2F done")
    assert copied.name == "copy/100%2F done"
    assert names(bucket) == ["50%25 off/a+b ä?#.txt", "copy/100%2F done"]
    assert copied.download_as_bytes() == b"sale"
    target = bucket.blob("rewritten")
    assert target.rewrite(blob)[0] is None
    found = bucket.get_blob("rewritten")
    assert found is not None
    assert (found.metadata, found.content_type, found.md5_hash) == ({"color": "red"}, "text/plain", blob.md5_hash)


def test_copy_under_preconditions(bucket: Bucket) -> None:
    """Of the source and of the target."""
    put(bucket, "a", "b")
    source = bucket.get_blob("a")
    assert source is not None
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.copy_blob(source, bucket, "c", if_source_generation_match=1)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.copy_blob(source, bucket, "b", if_generation_match=0)
    with pytest.raises(exceptions.NotFound):
        bucket.copy_blob(source, bucket, "c", source_generation=1)
    assert names(bucket) == ["a", "b"]
    assert bucket.blob("b").download_as_bytes() == b"content of b"


def test_compose(bucket: Bucket) -> None:
    """The contents, one after the other; also onto one of the sources."""
    for name in "abc":
        bucket.blob(name).upload_from_string(name * 3, content_type="text/plain")
    blob = bucket.blob("a")
    blob.compose([bucket.blob(name) for name in "abc"])
    assert bucket.blob("a").download_as_bytes() == b"aaabbbccc"
    with pytest.raises(exceptions.NotFound):
        bucket.blob("d").compose([bucket.blob("a"), bucket.blob("none")])
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("d").compose([bucket.blob("a")], if_source_generation_match=[1])
    with pytest.raises(exceptions.BadRequest):
        bucket.blob("d").compose([bucket.blob("a")] * 33)
    assert bucket.get_blob("d") is None


# --- listing


@pytest.fixture
def tree(bucket: Bucket) -> Bucket:
    put(bucket, "a/b", "a/c", "d", "e", "e2/f", "e2/g/h")
    return bucket


def test_list(tree: Bucket) -> None:
    """In the order of names; by prefix, from and to a name, page by page."""
    assert names(tree) == ["a/b", "a/c", "d", "e", "e2/f", "e2/g/h"]
    assert names(tree, prefix="e") == ["e", "e2/f", "e2/g/h"]
    assert names(tree, prefix="a/c") == ["a/c"]
    assert names(tree, prefix="e2/g/h/i") == []
    assert names(tree, start_offset="a/c", end_offset="e2/g") == ["a/c", "d", "e", "e2/f"]
    assert names(tree, max_results=2) == ["a/b", "a/c"]
    pages = tree.list_blobs(page_size=2).pages
    assert [[blob.name for blob in page] for page in pages] == [["a/b", "a/c"], ["d", "e"], ["e2/f", "e2/g/h"]]


@pytest.mark.parametrize("page_size", [1, 2, 100])
def test_list_like_folders(tree: Bucket, server: ServerProcess, page_size: int) -> None:
    """What lies behind the delimiter is summed up, once, also over pages."""
    parameters = {"delimiter": "/", "maxResults": page_size}
    first = requests.get(f"{server.http}/storage/v1/b/{tree.name}/o", params=parameters, timeout=10).json()
    assert first["prefixes"] == (["a/", "e2/"] if page_size == 100 else ["a/"])
    for prefix, objects, prefixes in (("", ["d", "e"], {"a/", "e2/"}), ("e2/", ["e2/f"], {"e2/g/"})):
        found = tree.list_blobs(prefix=prefix, delimiter="/", page_size=page_size)
        assert [blob.name for blob in found] == objects
        assert found.prefixes == prefixes


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("foo*bar", ["foobar"]),
        ("foo**bar", ["foo/bar", "foo/foobar", "foobar"]),
        ("**/foobar", ["foo/foobar", "foobar"]),
        ("*/ba[rz]", ["foo/bar", "foo/baz"]),
        ("*/ba[!a-y]", ["foo/baz"]),
        ("**/{foobar,baz}", ["foo/baz", "foo/foobar", "foobar"]),
        ("foo/{foo*,*baz}", ["foo/baz", "foo/foobar"]),
        ("foo/ba?", ["foo/bar", "foo/baz"]),
        ("foo?bar", []),
        ("foo[!x]bar", []),
        ("f.*", []),
        ("**", ["foo/bar", "foo/baz", "foo/foobar", "foobar"]),
    ],
)
def test_list_by_glob(bucket: Bucket, glob: str, expected: list[str]) -> None:
    """As the service's own examples have it."""
    put(bucket, "foo/bar", "foo/baz", "foo/foobar", "foobar")
    assert names(bucket, match_glob=glob) == expected


def test_pages_of_every_size_give_each_name_once(bucket: Bucket) -> None:
    """Where a page ends makes no difference, within a folder, at its end, or where names of files and folders meet."""
    expected = ["a-b", "a/b-c", "a/b/c", "a/b/d", "a/c", "a0", "b/a", "b/b"]
    put(bucket, *expected)
    for size in range(1, 10):
        assert [blob.name for page in bucket.list_blobs(page_size=size).pages for blob in page] == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("items(name,size)", {"items": [{"name": "a", "size": "12"}, {"name": "b", "size": "12"}]}),
        ("items/name,kind", {"items": [{"name": "a"}, {"name": "b"}], "kind": "storage#objects"}),
        ("items(name, metadata/x),nextPageToken", {"items": [{"name": "a"}, {"name": "b"}]}),
        ("prefixes", {}),
    ],
)
def test_a_listing_gives_the_fields_that_are_named(
    bucket: Bucket, server: ServerProcess, fields: str, expected: dict[str, Any]
) -> None:
    """A partial response: https://cloud.google.com/storage/docs/json_api#partial-response"""
    put(bucket, "a", "b")
    folder = f"{server.http}/storage/v1/b/{bucket.name}/o"
    assert requests.get(folder, params={"fields": fields}, timeout=10).json() == expected
    one = requests.get(f"{folder}/a", params={"fields": "name,size"}, timeout=10).json()
    assert one == {"name": "a", "size": "12"}
    everything = requests.get(folder, params={"fields": "*"}, timeout=10).json()
    assert everything == requests.get(folder, timeout=10).json()
    links = [{"selfLink": one["selfLink"]} for one in everything["items"]]
    assert [one["selfLink"] for one in links] == [f"{folder}/a", f"{folder}/b"]
    for named in ("items(selfLink)", "items/selfLink", "*(selfLink)", "*/selfLink"):
        assert requests.get(folder, params={"fields": named}, timeout=10).json()["items"] == links


@pytest.mark.parametrize(
    "query",
    [
        "matchGlob=[a",
        "matchGlob={a",
        "maxResults=x",
        "maxResults=-1",
        "fields=items(",
        "fields=a,,b",
        "fields=items)",
        "fields=a/",
        "fields=a b",
    ],
)
def test_a_bad_listing(bucket: Bucket, server: ServerProcess, query: str) -> None:
    """400, with a reason."""
    response = requests.get(f"{server.http}/storage/v1/b/{bucket.name}/o?{query}", timeout=10)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


# --- names


@pytest.mark.parametrize(
    "name", ["a b", "ä/ö", "50%", "100%25", "a+b", "q?x=1", "#", "'quoted\"", "a" * 255, "日本/語", "..."]
)
def test_odd_names(bucket: Bucket, name: str) -> None:
    """Are kept as they are: written, listed, read by the link that the server gives, deleted."""
    bucket.blob(name).upload_from_string("x")
    (found,) = bucket.list_blobs()
    assert found.name == name
    assert found.media_link
    assert found.download_as_bytes() == b"x"
    found.delete()
    assert names(bucket) == []


BAD = [
    "../../x",
    "..",
    ".",
    "a/../b",
    "a/./b",
    "/etc/passwd",
    "a//b",
    "a/",
    "a" * 256,
    "a\nb",
    "\x00",
    ".a.crc",
    "x/" * 600,
]


@pytest.mark.parametrize("name", BAD)
def test_bad_names(bucket: Bucket, server: ServerProcess, name: str) -> None:
    """400 on each way to write, and nothing is written anywhere; reading finds nothing, as ``gcloud storage ls`` of a
    folder expects."""
    before = everything(server)
    put(bucket, "good")
    good = bucket.blob("good")
    upload = f"{server.http}/upload/storage/v1/b/{bucket.name}/o"
    with pytest.raises(exceptions.BadRequest):
        bucket.blob(name).upload_from_string("x")
    media = requests.post(upload, params={"uploadType": "media", "name": name}, data=b"x", timeout=10)
    assert media.status_code == 400
    if name not in (".", ".."):  # requests resolves these
        assert not bucket.blob(name).exists()
        with pytest.raises(exceptions.NotFound):
            bucket.blob(name).download_as_bytes()
    refused = exceptions.GoogleAPICallError if name in (".", "..") else exceptions.BadRequest  # requests resolves these
    with pytest.raises(refused):
        bucket.copy_blob(good, bucket, name)
    with pytest.raises(refused):
        bucket.blob(name).compose([good])
    good.delete()
    assert everything(server) - before <= {f"storage/{bucket.name}"}


def everything(server: ServerProcess) -> set[str]:
    """Every file and folder in and beside the server's state, but for its database."""
    top = server.state.parent
    found = {str(path.relative_to(server.state)) for path in server.state.rglob("*")}
    found |= {f"beside {path.name}" for path in top.iterdir()}
    return {one for one in found if not one.startswith("storage.sqlite")}


@pytest.mark.parametrize(
    "path",
    ["../../storage.sqlite", "..%2F..%2Fstorage.sqlite", "%2e%2e/%2e%2e/storage.sqlite", "..%252F..%252Fstorage.sqlite",
     "%2Fetc%2Fpasswd", "//etc/passwd", "a/../../../storage.sqlite", "..\\..\\storage.sqlite"],
)  # fmt: skip
@pytest.mark.parametrize(
    "route",
    ["storage/v1/b/{bucket}/o/{path}?alt=media", "download/storage/v1/b/{bucket}/o/{path}", "storage/v1/b/{path}/o",
     "storage/v1/b/{bucket}/../{path}/o"],
)  # fmt: skip
def test_no_path_leads_out(bucket: Bucket, server: ServerProcess, route: str, path: str) -> None:
    """However a path is spelled on the wire: an error, none of the machine's files."""
    address = urlsplit(server.http)
    target = "/" + route.format(bucket=bucket.name, path=path)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    status = int(answer.split(b" ", 2)[1])
    assert status in (400, 404, 501), answer[:200]
    assert b"SQLite" not in answer
    assert b"root:" not in answer


@pytest.mark.parametrize("prefix", ["/etc/", "../", "../../", "a/../../", "/", "//", "\x00", "./"])
@pytest.mark.parametrize("delimiter", [None, "/"])
def test_no_listing_leads_out(bucket: Bucket, prefix: str, delimiter: str | None) -> None:
    """A prefix that means another folder to a file system finds nothing."""
    put(bucket, "a/b")
    found = bucket.list_blobs(prefix=prefix, delimiter=delimiter)
    assert list(found) == []
    assert found.prefixes == set()


def test_an_object_beside_one_below_it(bucket: Bucket) -> None:
    """A file system cannot hold both: refused by name, and what is there stays."""
    put(bucket, "a", "b/c")
    for name in ("a/x", "b"):
        with pytest.raises(exceptions.ServerError, match="file system"):
            bucket.blob(name).upload_from_string("x", retry=None)
    assert names(bucket) == ["a", "b/c"]
    bucket.blob("b/c").delete()
    put(bucket, "b")
    assert names(bucket) == ["a", "b"]


# --- links


SECRET = "not for you"


@pytest.fixture
def outside(server: ServerProcess, tmp_path: Path) -> Path:
    """A folder of the machine that is none of the buckets' business."""
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "sub").mkdir()
    return tmp_path


@pytest.fixture
def linked(bucket: Bucket, server: ServerProcess, outside: Path) -> Path:
    """The bucket's folder, with a link to a folder, one to a file, and one to an object, beside an object."""
    put(bucket, "a", "z/b")
    folder = server.state / "storage" / bucket.name
    (folder / "folder").symlink_to(outside)
    (folder / "file").symlink_to(outside / "secret.txt")
    (folder / "z" / "object").symlink_to(folder / "a")
    return folder


@pytest.mark.usefixtures("linked")
def test_a_link_is_not_listed(bucket: Bucket) -> None:
    """Neither itself nor what is behind it, whatever is asked for."""
    assert names(bucket) == ["a", "z/b"]
    found = bucket.list_blobs(delimiter="/")
    assert ([blob.name for blob in found], found.prefixes) == (["a"], {"z/"})
    assert names(bucket, match_glob="**") == ["a", "z/b"]
    assert names(bucket, prefix="fo") == names(bucket, prefix="file") == []
    with pytest.raises(exceptions.Forbidden, match=f"{bucket.name}/folder is a symbolic link"):
        names(bucket, prefix="folder/")


@pytest.mark.usefixtures("linked")
@pytest.mark.parametrize("name", ["folder/secret.txt", "file", "z/object", "folder", "folder/sub/new"])
def test_nothing_behind_a_link_is_read_or_written(bucket: Bucket, outside: Path, name: str) -> None:
    """Each way to an object refuses it as what it is, and the machine's files stay as they are."""
    blob = bucket.blob(name)
    other = bucket.blob("other")
    for way in (
        blob.download_as_bytes,
        blob.reload,
        lambda: blob.upload_from_string("x", retry=None),
        lambda: bucket.blob(name, chunk_size=256 * 1024).upload_from_string("x" * 300_000, retry=None),
        blob.delete,
        lambda: setattr(blob, "content_type", "a/b") or blob.patch(),
        lambda: other.rewrite(blob),
        lambda: bucket.copy_blob(blob, bucket, "copied"),
        lambda: bucket.copy_blob(bucket.blob("a"), bucket, name),
        lambda: other.compose([bucket.blob("a"), blob]),
    ):
        with pytest.raises(exceptions.Forbidden, match="is a symbolic link, which is not followed here: remove it"):
            way()
    assert (outside / "secret.txt").read_text() == SECRET
    assert sorted(path.name for path in outside.rglob("*")) == ["secret.txt", "sub"]
    assert names(bucket) == ["a", "z/b"]


def test_a_bucket_with_a_link_is_not_deleted(bucket: Bucket, linked: Path, outside: Path) -> None:
    """Who put it there takes it away; what is behind it stays."""
    for name in ("a", "z/b"):
        bucket.blob(name).delete()
    with pytest.raises(exceptions.Conflict, match="is a symbolic link"):
        bucket.delete()
    for link in (linked / "folder", linked / "file", linked / "z" / "object"):
        link.unlink()
    bucket.delete()
    assert (outside / "secret.txt").read_text() == SECRET


def test_a_bucket_is_no_link(server: ServerProcess, outside: Path) -> None:
    """Nor is the folder of a bucket another one."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    bucket = client_of(server).create_bucket(name)
    folder = server.state / "storage" / name
    folder.rmdir()
    folder.symlink_to(outside)
    with pytest.raises(exceptions.Forbidden, match=f"{name} is a symbolic link"):
        names(bucket)
    with pytest.raises(exceptions.Forbidden, match=f"{name} is a symbolic link"):
        bucket.blob("secret.txt").download_as_bytes()
    with pytest.raises(exceptions.Forbidden, match=f"{name} is a symbolic link"):
        bucket.blob("new").upload_from_string("x", retry=None)
    assert sorted(path.name for path in outside.rglob("*")) == ["secret.txt", "sub"]


def test_a_pipe_does_not_hold_the_server(bucket: Bucket, server: ServerProcess) -> None:
    """Nobody writes to it, so nobody must wait for what it holds."""
    os.mkfifo(server.state / "storage" / bucket.name / "pipe")
    with pytest.raises(exceptions.Forbidden, match="pipe is a named pipe"):
        bucket.blob("pipe").download_as_bytes(timeout=5)
    assert names(bucket) == []


def test_a_link_put_in_a_folders_place_leads_nowhere(bucket: Bucket, server: ServerProcess, outside: Path) -> None:
    """However fast it comes and goes while objects are read and written below it."""
    put(bucket, "read/secret.txt")
    folder = server.state / "storage" / bucket.name
    stopped = threading.Event()

    def swap() -> None:
        while not stopped.is_set():
            (folder / "read").rename(folder / "kept")
            (folder / "read").symlink_to(outside)
            (folder / "read").unlink()
            (folder / "kept").rename(folder / "read")
            with contextlib.suppress(FileExistsError):  # made by an upload
                (folder / "written").symlink_to(outside)
                (folder / "written").unlink()
            shutil.rmtree(folder / "written", ignore_errors=True)

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen: set[bytes] = set()
    try:
        for number in range(150):
            with contextlib.suppress(exceptions.GoogleAPICallError):
                seen.add(bucket.blob("read/secret.txt").download_as_bytes(retry=None))
            with contextlib.suppress(exceptions.GoogleAPICallError):
                bucket.blob(f"written/{number}").upload_from_string("x", retry=None)
    finally:
        stopped.set()
        swapping.join()
    assert seen == {b"content of read/secret.txt"}
    assert sorted(path.name for path in outside.rglob("*")) == ["secret.txt", "sub"]


# --- files beside the server


def test_a_file_that_was_written_past_the_server(bucket: Bucket, server: ServerProcess) -> None:
    """As Spark does it: it is an object, and a new generation when it is written again."""
    folder = Path(server.state) / "storage" / bucket.name / "out"
    folder.mkdir()
    (folder / "part-0.json").write_text("one")
    (folder / ".part-0.json.crc").write_text("checksum")
    (found,) = bucket.list_blobs()
    assert (found.name, found.download_as_bytes()) == ("out/part-0.json", b"one")
    (folder / "part-0.json").write_text("other")
    again = bucket.get_blob("out/part-0.json")
    assert again is not None
    assert again.generation > found.generation
    assert again.download_as_bytes() == b"other"
    (folder / "part-0.json").unlink()
    assert bucket.get_blob("out/part-0.json") is None


# --- buckets


def test_buckets(server: ServerProcess, bucket: Bucket) -> None:
    """Made once, changed, deleted when they are empty, and made again without what was set before."""
    client = bucket.client
    with pytest.raises(exceptions.Conflict):
        client.create_bucket(bucket.name)
    bucket.labels = {"team": "a"}
    bucket.patch()
    assert bucket.name in {one.name for one in client.list_buckets(prefix=bucket.name[:4])}
    policy = bucket.get_iam_policy()
    policy.bindings.append({"role": "roles/storage.objectViewer", "members": {"user:a@b.c"}})
    bucket.set_iam_policy(policy)
    put(bucket, "x/y")
    with pytest.raises(exceptions.Conflict, match="not empty"):
        bucket.delete()
    bucket.blob("x/y").delete()
    bucket.delete()
    again = client.create_bucket(bucket.name)
    assert (again.labels, again.get_iam_policy().bindings, names(again)) == ({}, [], [])
    put(again, "x/y", "z")
    again.delete(force=True)


def test_a_policy_that_was_changed_meanwhile_is_not_overwritten(bucket: Bucket) -> None:
    """Of two that were read at the same time, the one that is written first stays; who asks anew may go on."""
    ours, theirs = bucket.get_iam_policy(), bucket.get_iam_policy()
    theirs.bindings.append({"role": "roles/storage.objectViewer", "members": {"user:them@b.c"}})
    bucket.set_iam_policy(theirs)
    ours.bindings.append({"role": "roles/storage.objectViewer", "members": {"user:us@b.c"}})
    with pytest.raises(exceptions.PreconditionFailed, match="changed since its etag was read"):
        bucket.set_iam_policy(ours)
    again = bucket.get_iam_policy()
    assert again.bindings[0]["members"] == {"user:them@b.c"}
    again.bindings = []
    assert bucket.set_iam_policy(again).bindings == []


@pytest.mark.parametrize("name", ["", "a", "../x", "UPPER", "a..b", "-a", "a/b", "a" * 223, None, 5, ["a"]])
def test_bad_bucket_names(server: ServerProcess, name: Any) -> None:
    """400."""
    response = requests.post(f"{server.http}/storage/v1/b", json={"name": name}, timeout=10)
    assert response.status_code == 400


def test_bucket_under_preconditions(bucket: Bucket) -> None:
    """Its metageneration guards it."""
    bucket.labels = {"a": "1"}
    bucket.patch(if_metageneration_match=1)
    bucket.labels = {"a": "2"}
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.patch(if_metageneration_match=1)


# --- what makes no sense, what is not served, faults


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("POST", "upload/storage/v1/b/{bucket}/o", {"params": {"uploadType": "multipart"}}),
        ("POST", "upload/storage/v1/b/{bucket}/o", {"params": {"uploadType": "none"}}),
        ("POST", "upload/storage/v1/b/{bucket}/o", {"params": {"uploadType": "media"}, "data": b"no name"}),
        ("POST", "upload/storage/v1/b/{bucket}/o", {"params": {"uploadType": "resumable"}, "data": b"[]"}),
        ("POST", "upload/storage/v1/b/{bucket}/o", {"params": {"uploadType": "resumable"}, "data": b"{"}),
        ("GET", "storage/v1/b/{bucket}/o/a", {"params": {"ifGenerationMatch": "x"}}),
        ("POST", "storage/v1/b/{bucket}/o/a/compose", {"json": {"sourceObjects": ["x"]}}),
        ("POST", "storage/v1/b/{bucket}/o/a/compose", {"json": {}}),
        ("PATCH", "storage/v1/b/{bucket}", {"data": b"\xff"}),
    ],
)
def test_requests_that_make_no_sense(
    bucket: Bucket, server: ServerProcess, method: str, path: str, options: dict[str, Any]
) -> None:
    """400, with a reason."""
    headers = {"Content-Type": "application/json"}
    url = f"{server.http}/{path.format(bucket=bucket.name)}"
    response = requests.request(method, url, timeout=10, headers=headers, **options)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["message"]


def test_a_multipart_upload_without_an_end(bucket: Bucket, server: ServerProcess) -> None:
    """Is refused: its content is not all there."""
    url = f"{server.http}/upload/storage/v1/b/{bucket.name}/o?uploadType=multipart"
    body = b"--x\r\n\r\n" + json.dumps({"name": "a"}).encode() + b"\r\n--x\r\nContent-Type: a/b\r\n\r\nhalf of it"
    response = requests.post(url, data=body, headers={"Content-Type": "multipart/related; boundary=x"}, timeout=10)
    assert response.status_code == 400
    assert names(bucket) == []


# As gcloud sends it: https://github.com/google/apitools/blob/master/apitools/base/py/transfer.py. Unix line ends, and
# the boundary in quotes that are none.
OF_GCLOUD = (
    b"--{mark}\nContent-Type: application/json\nMIME-Version: 1.0\n\n"
    b'{"bucket": "b", "contentType": "text/plain", "name": "folder/a.txt"}'
    b"\n--{mark}\nContent-Type: text/plain\nMIME-Version: 1.0\nContent-Transfer-Encoding: binary\n\n"
)


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"\r", b"\r\n", b"\n\n", b"--x", b"\r\n--==1==", b"a\n\nb\r\n\r\nc"]
)
@pytest.mark.parametrize(
    ("header", "mark", "line"),
    [("boundary='===============8341839116644826681=='", "===============8341839116644826681==", b"\n"),
     ("boundary='quoted'", "'quoted'", b"\r\n"), ('boundary="a b"', "a b", b"\r\n"),
     ("boundary=a; charset=x", "a", b"\n"), ("BOUNDARY=a", "a", b"\r\n")],
)  # fmt: skip
def test_multipart_as_clients_write_it(
    bucket: Bucket, server: ServerProcess, header: str, mark: str, line: bytes, content: bytes
) -> None:
    """Quoted or not, with line ends of either kind; the content arrives to the byte, also if it looks like an end."""
    body = OF_GCLOUD.replace(b"{mark}", mark.encode()).replace(b"\n", line) + content
    body += line + b"--" + mark.encode() + b"--" + line
    url = f"{server.http}/upload/storage/v1/b/{bucket.name}/o?alt=json&uploadType=multipart"
    response = requests.post(url, data=body, headers={"content-type": f"multipart/related; {header}"}, timeout=10)
    assert response.status_code == 200, response.text
    found = bucket.get_blob("folder/a.txt")
    assert found is not None
    assert (found.download_as_bytes(), found.content_type) == (content, "text/plain")


VALUES = [5, None, [], {}, "text", True, [None], {"a": {"a": 5}}, -1, [[]], 1e300]


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("POST", "storage/v1/b", ["name", "location", "labels", "lifecycle"]),
        ("PATCH", "storage/v1/b/{bucket}", ["labels", "location", "lifecycle", "metageneration"]),
        ("PUT", "storage/v1/b/{bucket}/iam", ["bindings", "etag", "kind"]),
        ("PATCH", "storage/v1/b/{bucket}/o/a", ["contentType", "metadata", "temporaryHold", "name", "storageClass"]),
        ("POST", "storage/v1/b/{bucket}/o/b/compose", ["sourceObjects", "destination"]),
        ("POST", "storage/v1/b/{bucket}/o/a/rewriteTo/b/{bucket}/o/c", ["contentType", "metadata", "name"]),
        ("POST", "upload/storage/v1/b/{bucket}/o?uploadType=resumable", ["name", "contentType", "metadata", "md5Hash"]),
    ],
)
def test_a_field_of_another_type_is_no_error_of_the_server(
    bucket: Bucket, server: ServerProcess, method: str, path: str, fields: list[str]
) -> None:
    """Taken or refused, never 500, and what is kept can be read again."""
    put(bucket, "a")
    url = f"{server.http}/{path.format(bucket=bucket.name)}"
    for field in fields:
        for value in VALUES:
            documents = [{field: value}, {"sourceObjects": [{"name": "a"}], field: value}]
            documents.append({"sourceObjects": [{"name": "a", "objectPreconditions": value, "generation": value}]})
            for document in documents:
                response = requests.request(method, url, json=document, timeout=10)
                assert response.status_code < 500, (document, response.text)
    for path in ("storage/v1/b", f"storage/v1/b/{bucket.name}/o", f"storage/v1/b/{bucket.name}/o/a?alt=media"):
        assert requests.get(f"{server.http}/{path}", timeout=10).status_code == 200


@pytest.mark.parametrize("fields", ["a(" * 2000, "a/" * 2000 + "a", "(" * 4000, "a(" * 2000 + "a" + ")" * 2000])
def test_fields_may_be_deep(bucket: Bucket, server: ServerProcess, fields: str) -> None:
    """Too deep to be read is 400; so is half of a list."""
    url = f"{server.http}/storage/v1/b/{bucket.name}/o"
    assert requests.get(url, params={"fields": fields}, timeout=10).status_code in (200, 400)


def test_unserved_calls(bucket: Bucket, server: ServerProcess) -> None:
    """501, with the name."""
    with pytest.raises(exceptions.MethodNotImplemented, match="softDeleted=true"):
        names(bucket, soft_deleted=True)
    response = requests.get(f"{server.http}/storage/v1/projects/p/hmacKeys", timeout=10)
    assert (response.status_code, "hmacKeys" in response.text) == (501, True)


def test_faults_fire_and_are_counted(bucket: Bucket, server: ServerProcess) -> None:
    """As often as asked for; the client tries again by itself; a fault after the call leaves it done."""
    server.fault(rpc="storage.objects.insert", code="UNAVAILABLE", times=1)
    bucket.blob("a").upload_from_string("x", if_generation_match=0)
    server.fault(rpc="storage.objects.insert", code="UNAVAILABLE", when="after")
    with pytest.raises(exceptions.PreconditionFailed):  # the client's second try meets its own first one
        bucket.blob("b").upload_from_string("x", if_generation_match=0)
    assert [fault["fired"] for fault in server.faults()] == [1, 1]
    assert names(bucket) == ["a", "b"]


def test_links(bucket: Bucket, server: ServerProcess) -> None:
    """Lead to the server that was asked, by whatever name."""
    put(bucket, "a b")
    link = f"http://localhost:{urlsplit(server.http).port}"
    document = requests.get(f"{link}/storage/v1/b/{bucket.name}/o/{quote('a b')}", timeout=10).json()
    assert document["mediaLink"].startswith(link)
    assert requests.get(document["mediaLink"], timeout=10).content == b"content of a b"
    assert requests.get(document["selfLink"], timeout=10).json() == document


def test_a_blob_is_what_the_client_takes_for_one(bucket: Bucket) -> None:
    """exists, reload and the times."""
    blob: Blob = bucket.blob("a")
    assert not blob.exists()
    blob.upload_from_string("x")
    assert blob.exists()
    blob.reload()
    assert blob.time_created is not None
    assert blob.time_created == blob.updated
