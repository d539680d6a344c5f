"""Uploads: in one request (media, multipart), or resumable in several."""

import json
import re
import time
import uuid
from pathlib import Path
from typing import Any

from aiohttp import web

from laptop.storage.errors import HttpError, invalid
from laptop.storage.files import CHUNK, Files, check_name
from laptop.storage.metadata import change, shown
from laptop.storage.preconditions import check
from laptop.storage.requests import document_of, parsed
from laptop.store import Store

KEPT_SECONDS = 7 * 24 * 3600
"""A resumable upload is remembered for a week: https://cloud.google.com/storage/docs/resumable-uploads."""
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class Uploads:
    """Handlers of ``storage.objects.insert``.

    Args:
        files: the objects.
        store: the server's.
    """

    def __init__(self, files: Files, store: Store) -> None:
        self._files = files
        self._store = store

    async def start(self) -> None:
        """Forget resumable uploads of long ago, and remove what killed requests have left behind."""
        known = {}
        for row in self._store.read("SELECT id, document FROM upload"):
            known[row["id"]] = json.loads(row["document"])
        old = [upload for upload, one in known.items() if one.get("began", 0) < time.time() - KEPT_SECONDS]
        await self._store.write(
            lambda connection: connection.executemany("DELETE FROM upload WHERE id = ?", [(one,) for one in old])
        )
        for scratch in self._files.scratch.iterdir():
            if scratch.name not in known or scratch.name in old:
                scratch.unlink()

    async def insert(self, request: web.Request) -> web.Response:
        """Media, multipart, or the start of a resumable upload."""
        bucket = request.match_info["bucket"]
        self._files.bucket(bucket)
        kind = request.query.get("uploadType")
        if kind == "resumable":
            return await self._begin(request, bucket)
        scratch = self._files.new_scratch()
        try:
            if kind == "multipart":
                metadata, content = _multipart(request.headers.get("Content-Type", ""), await request.read())
                scratch.write_bytes(content)
            elif kind == "media":
                metadata = {"contentType": request.headers.get("Content-Type", "")}
                await _receive(request, scratch, 0)
            else:
                raise invalid(f"uploadType {kind!r} is none of media, multipart, resumable")
            created = await self._files.create(
                bucket, _name(request, metadata), scratch, metadata, lambda before: check(request.query, before)
            )
        finally:
            scratch.unlink(missing_ok=True)
        return web.json_response(shown(created, request.host))

    async def resume(self, request: web.Request) -> web.Response:
        """A chunk of a resumable upload, or the question how much has arrived."""
        upload = request.query.get("upload_id", "")
        document = self._upload(upload)
        if "created" in document:  # the answer to the last chunk was lost
            return web.json_response(shown(document["created"], request.host))
        scratch = self._files.scratch / upload
        if not scratch.exists():
            raise HttpError(404, "notFound", f"The upload is over: {upload}")
        header = request.headers.get("Content-Range")
        first: str | None = "0"
        whole = None  # without the header, the body is all of it
        if header is not None:
            asked = CONTENT_RANGE.fullmatch(header)
            if asked is None:
                raise invalid(f"Content-Range: cannot read {header!r}")
            first, _, whole = asked.groups()
        have = scratch.stat().st_size
        if first is not None and request.body_exists:
            if int(first) > have:
                raise invalid(f"the upload has {have} bytes; a chunk cannot start at {first}")
            await _receive(request, scratch, int(first))
            have = scratch.stat().st_size
        if whole == "*" or (whole and have < int(whole)):
            return web.Response(status=308, headers={"Range": f"bytes=0-{have - 1}"} if have else {})
        if whole and have > int(whole):
            raise invalid(f"the upload has {have} bytes, more than the {whole} that it was to have")
        created = await self._finish(upload, document, scratch)
        return web.json_response(shown(created, request.host))

    async def cancel(self, request: web.Request) -> web.Response:
        """Forget a resumable upload."""
        upload = request.query.get("upload_id", "")
        self._upload(upload)
        await self._store.write(lambda connection: connection.execute("DELETE FROM upload WHERE id = ?", (upload,)))
        (self._files.scratch / upload).unlink(missing_ok=True)
        return web.Response(status=499)

    async def _begin(self, request: web.Request, bucket: str) -> web.Response:
        metadata = await document_of(request)
        metadata.setdefault("contentType", request.headers.get("X-Upload-Content-Type", ""))
        name = _name(request, metadata)
        check_name(name)
        change({}, metadata)
        conditions = {key: value for key, value in request.query.items() if key.startswith("if")}
        document = {
            "bucket": bucket, "name": name, "metadata": metadata, "conditions": conditions, "began": time.time()
        }  # fmt: skip
        upload = uuid.uuid4().hex
        (self._files.scratch / upload).touch()
        await self._store.write(
            lambda connection: connection.execute("INSERT INTO upload VALUES (?, ?)", (upload, json.dumps(document)))
        )
        url = (
            f"{request.scheme}://{request.host}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={upload}"
        )
        return web.Response(headers={"Location": url, "X-GUploader-UploadID": upload})

    async def _finish(self, upload: str, document: dict[str, Any], scratch: Path) -> dict[str, Any]:
        def remember(connection: Any, created: dict[str, Any]) -> None:
            done = json.dumps({**document, "created": created})
            connection.execute("UPDATE upload SET document = ? WHERE id = ?", (done, upload))

        return await self._files.create(
            document["bucket"],
            document["name"],
            scratch,
            document["metadata"],
            lambda before: check(document["conditions"], before),
            remember,
        )

    def _upload(self, upload: str) -> dict[str, Any]:
        rows = self._store.read("SELECT document FROM upload WHERE id = ?", (upload,))
        if not rows:
            raise HttpError(404, "notFound", f"No such upload: {upload[:100]}")
        document: dict[str, Any] = json.loads(rows[0]["document"])
        return document


def _name(request: web.Request, metadata: dict[str, Any]) -> str:
    name = request.query.get("name") or metadata.get("name", "")
    if not isinstance(name, str) or not name:
        raise invalid("an object needs a name")
    return name


async def _receive(request: web.Request, scratch: Path, start: int) -> None:
    """Write the body into a file from ``start`` on; what was there behind it goes."""
    with scratch.open("r+b" if scratch.exists() else "wb") as file:
        file.seek(start)
        file.truncate()
        async for chunk in request.content.iter_chunked(CHUNK):
            file.write(chunk)


def _multipart(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """The metadata and the content of a body of two parts.

    https://cloud.google.com/storage/docs/uploading-objects#rest-upload-objects: the type is ``multipart/related``. A
    page of any site can have a browser send ``multipart/form-data``, but not this.
    """
    if not content_type.lower().startswith("multipart/related"):
        kind = content_type.partition(";")[0]
        raise invalid(f"Content-Type: {kind[:100]!r}: a multipart upload is multipart/related; boundary=…")
    for boundary in _boundaries(content_type):
        found = _parts(body, b"--" + boundary.encode())
        if found is not None:
            return found
    raise invalid("multipart upload: expected metadata, content and an end, each behind a line with the boundary")


def _parts(body: bytes, mark: bytes) -> tuple[dict[str, Any], bytes] | None:
    """The metadata and the content; None if lines with ``mark`` do not make two parts."""
    begin = re.search(rb"(?:^|\n)" + re.escape(mark) + rb"[ \t]*(\r?\n)", body)
    if begin is None:
        return None
    # gcloud ends lines as Unix does, so what ends the first one does all of them; the content may end with the other.
    line = begin[1]
    middle = re.compile(re.escape(line + mark) + rb"[ \t]*" + line).search(body, begin.end())
    end = body.rfind(line + mark + b"--")
    if middle is None or end < middle.end() - len(line):
        return None
    # With the end of the line before, also where a part has no headers: then its content begins with an empty line.
    metadata = parsed(body[begin.end() - len(line) : middle.start()].partition(line * 2)[2])
    head, _, content = body[middle.end() - len(line) : end].partition(line * 2)
    kind = re.search(rb"(?i)content-type:\s*([^\r\n]+)", head)
    if kind is not None:
        metadata.setdefault("contentType", kind.group(1).decode(errors="replace"))
    return metadata, content


def _boundaries(content_type: str) -> list[str]:
    """What may be meant by the boundary of a content type, the likelier first.

    gcloud writes it in single quotes, which are no quotes in HTTP and may be part of a boundary (RFC 2046):
    https://github.com/google/apitools/blob/master/apitools/base/py/transfer.py, ``boundary=%r``.
    """
    found = re.search(r'boundary="([^"]+)"|boundary=([^;\s]+)', content_type, re.IGNORECASE)
    if found is None:
        raise invalid("multipart upload without a boundary")
    boundary = found[1] or found[2]
    bare = boundary.strip("'")
    return [boundary, bare] if bare and bare != boundary else [boundary]
