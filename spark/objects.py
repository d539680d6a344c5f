"""Single objects in a bucket, each written once. Data of many files is written by Spark itself."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from google.api_core.exceptions import Forbidden, NotFound, PreconditionFailed

from schemas.storage_uri import StorageUri
from spark.job import JobFailedError


def read(storage: Any, uri: str) -> bytes | None:
    """The content of ``gs://bucket/path``; None if there is no such object."""
    try:
        return _blob(storage, uri).download_as_bytes()
    except NotFound:
        return None


@dataclass(frozen=True)
class Found:
    """What a listing tells of an object: nothing of its content is read."""

    md5: str
    """Of its content, in base64."""
    size: int
    """In bytes."""


def listed(storage: Any, folder: str) -> dict[str, Found]:
    """Every object below ``gs://bucket/path`` by its URI."""
    uri = StorageUri.parse(folder)
    found = storage.list_blobs(uri.bucket, prefix=f"{uri.path}/", fields="items(name,md5Hash,size),nextPageToken")
    return {str(StorageUri(uri.bucket, blob.name)): Found(blob.md5_hash, blob.size or 0) for blob in found}


def md5s(storage: Any, folder: str) -> dict[str, str]:
    """The URI of every object below ``gs://bucket/path``, with the MD5 of its content in base64."""
    return {uri: found.md5 for uri, found in listed(storage, folder).items()}


def write_once(storage: Any, uri: str, content: bytes, content_type: str = "application/json") -> None:
    """Create ``gs://bucket/path``. The same content already there is a success: a run was started again.

    There already, is 412; or 403, for to replace an object takes a permission that no job of ours has, and which of the
    two Cloud Storage looks at first is not documented (https://cloud.google.com/storage/docs/json_api/v1/objects/insert).

    Raises:
        JobFailedError: another content is there; nothing is overwritten.
        google.api_core.exceptions.Forbidden: there is nothing, and it may not be created.
    """
    blob = _blob(storage, uri)
    # Whoever doubts the content later finds here what was written.
    blob.metadata = {"sha256": hashlib.sha256(content).hexdigest()}
    try:
        blob.upload_from_string(content, content_type=content_type, if_generation_match=0)
    except (PreconditionFailed, Forbidden) as error:
        there = read(storage, uri)
        if there is None and isinstance(error, Forbidden):
            raise
        if there != content:
            raise JobFailedError(
                f"{uri} exists with another content, and nothing here is ever overwritten; "
                "start the run again with a new run id"
            ) from None


def overwrite(storage: Any, uri: str, content: bytes, content_type: str = "application/json") -> None:
    """Write ``gs://bucket/path``, whatever is there: for what tells of the moment, and is no result."""
    _blob(storage, uri).upload_from_string(content, content_type=content_type)


def remove(storage: Any, uri: str) -> None:
    """Delete ``gs://bucket/path`` if it is there."""
    with suppress(NotFound):
        _blob(storage, uri).delete()


def _blob(storage: Any, uri: str) -> Any:
    parsed = StorageUri.parse(uri)
    return storage.bucket(parsed.bucket).blob(parsed.path)
