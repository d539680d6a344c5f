"""Cloud Storage's JSON API: objects are plain files, so that Spark on the same machine reads and writes them too.

An object ``o`` of bucket ``b`` is the file ``<state>/storage/b/o``; what a file cannot tell (generation, checksums,
content type) is in ``<state>/storage.sqlite``. A file that Spark has written gets that made up on first sight.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import google_crc32c
from aiohttp import web

from laptop.errors import ServiceError
from laptop.faults import FaultInjector
from laptop.service import Api, Context, main
from laptop.store import Store

SCHEMA = """
CREATE TABLE IF NOT EXISTS bucket (name TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS object (
    bucket TEXT NOT NULL, name TEXT NOT NULL, generation INTEGER NOT NULL, size INTEGER NOT NULL,
    mtime INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (bucket, name));
CREATE TABLE IF NOT EXISTS upload (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS policy (bucket TEXT PRIMARY KEY, document TEXT NOT NULL);
"""
BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
CHUNK = 1024 * 1024
KIND = "storage#object"
LISTED = 1000
WRITABLE = {
    "contentType", "metadata", "cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "customTime",
    "storageClass", "eventBasedHold", "temporaryHold",
}  # fmt: skip


@dataclass
class Found:
    """An object that is there."""

    path: Path
    document: dict[str, Any]

    @property
    def generation(self) -> int:
        """Its generation."""
        return int(self.document["generation"])


class HttpError(Exception):
    """What the JSON API answers for an error: https://cloud.google.com/storage/docs/json_api/v1/status-codes."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {
                "code": status,
                "message": message,
                "errors": [{"message": message, "domain": "global", "reason": reason}],
            }
        }


def no_such(name: str) -> HttpError:
    """404."""
    return HttpError(404, "notFound", f"No such object: {name}")


class Storage:
    """All of the JSON API that we answer.

    Args:
        root: the folder with a folder for each bucket.
        store: metadata.
        faults: consulted as ``storage.objects.insert`` and the like.
    """

    def __init__(self, root: Path, store: Store, faults: FaultInjector) -> None:
        self._root = root
        self._store = store
        self._faults = faults
        self._scratch = root.parent / "storage-uploads"
        self._scratch.mkdir(parents=True, exist_ok=True)

    def routes(self) -> list[web.RouteDef]:
        """Every path of the API."""
        api = "/storage/v1/b"
        table = [
            ("GET", api, "storage.buckets.list", self.list_buckets),
            ("POST", api, "storage.buckets.insert", self.insert_bucket),
            ("GET", api + "/{bucket}", "storage.buckets.get", self.get_bucket),
            ("PATCH", api + "/{bucket}", "storage.buckets.patch", self.patch_bucket),
            ("PUT", api + "/{bucket}", "storage.buckets.update", self.patch_bucket),
            ("DELETE", api + "/{bucket}", "storage.buckets.delete", self.delete_bucket),
            ("GET", api + "/{bucket}/iam", "storage.buckets.getIamPolicy", self.get_policy),
            ("PUT", api + "/{bucket}/iam", "storage.buckets.setIamPolicy", self.set_policy),
            ("GET", api + "/{bucket}/storageLayout", "storage.buckets.getStorageLayout", self.storage_layout),
            ("GET", api + "/{bucket}/o", "storage.objects.list", self.list_objects),
            ("GET", api + "/{bucket}/o/{name:.+}", "storage.objects.get", self.get_object),
            ("PATCH", api + "/{bucket}/o/{name:.+}", "storage.objects.patch", self.patch_object),
            ("PUT", api + "/{bucket}/o/{name:.+}", "storage.objects.update", self.patch_object),
            ("DELETE", api + "/{bucket}/o/{name:.+}", "storage.objects.delete", self.delete_object),
            ("POST", api + "/{bucket}/o/{name:.+}/rewriteTo/b/{to}/o/{target:.+}", "storage.objects.rewrite",
             self.rewrite),
            ("POST", api + "/{bucket}/o/{name:.+}/copyTo/b/{to}/o/{target:.+}", "storage.objects.copy", self.copy),
            ("POST", api + "/{bucket}/o/{name:.+}/compose", "storage.objects.compose", self.compose),
            ("GET", "/download" + api + "/{bucket}/o/{name:.+}", "storage.objects.get", self.download),
            ("POST", "/upload" + api + "/{bucket}/o", "storage.objects.insert", self.upload),
            ("PUT", "/upload" + api + "/{bucket}/o", "storage.objects.insert", self.resume),
            ("DELETE", "/upload" + api + "/{bucket}/o", "storage.objects.insert", self.cancel_upload),
        ]  # fmt: skip
        return [web.route(method, path, self._guarded(rpc, handler)) for method, path, rpc, handler in table]

    def _guarded(self, rpc: str, handler: Any) -> Any:
        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                await self._faults.check(rpc)
                response = await handler(request)
                await self._faults.check(rpc, "after")
                return response
            except HttpError as error:
                return web.json_response(error.body, status=error.status)
            except ServiceError as error:
                return web.json_response(error.body(), status=error.http_status)

        return answer

    # --- buckets

    async def list_buckets(self, request: web.Request) -> web.Response:
        """All buckets."""
        rows = self._store.read("SELECT document FROM bucket ORDER BY name")
        prefix = request.query.get("prefix", "")
        items = [json.loads(row["document"]) for row in rows]
        return web.json_response(
            {"kind": "storage#buckets", "items": [one for one in items if one["name"].startswith(prefix)]}
        )

    async def insert_bucket(self, request: web.Request) -> web.Response:
        """Create a bucket."""
        wanted = await _json(request)
        name = wanted.get("name", "")
        if not BUCKET.fullmatch(name) or ".." in name:
            raise HttpError(400, "invalid", f"Invalid bucket name: {name!r}")
        now = _now()
        document = {
            "kind": "storage#bucket",
            "id": name,
            "selfLink": f"{request.scheme}://{request.host}/storage/v1/b/{name}",
            "projectNumber": "0",
            "metageneration": "1",
            "location": "US",
            "locationType": "region",
            "storageClass": "STANDARD",
            "timeCreated": now,
            "updated": now,
            "etag": "CAE=",
            **wanted,
        }
        document["location"] = str(document["location"]).upper()
        try:
            await self._store.write(
                lambda connection: connection.execute("INSERT INTO bucket VALUES (?, ?)", (name, json.dumps(document)))
            )
        except sqlite3.IntegrityError:
            raise HttpError(
                409, "conflict", "Your previous request to create the named bucket succeeded and you already own it."
            ) from None
        (self._root / name).mkdir(parents=True, exist_ok=True)
        return web.json_response(document)

    async def get_bucket(self, request: web.Request) -> web.Response:
        """Look at a bucket."""
        return web.json_response(self._bucket(request.match_info["bucket"]))

    async def patch_bucket(self, request: web.Request) -> web.Response:
        """Change a bucket; null clears a field."""
        name = request.match_info["bucket"]
        document = self._bucket(name)
        for key, value in (await _json(request)).items():
            if value is None:
                document.pop(key, None)
            elif isinstance(value, dict) and isinstance(document.get(key), dict):
                document[key] = {k: v for k, v in {**document[key], **value}.items() if v is not None}
            else:
                document[key] = value
        document["metageneration"] = str(int(document["metageneration"]) + 1)
        document["updated"] = _now()
        await self._store.write(
            lambda connection: connection.execute(
                "UPDATE bucket SET document = ? WHERE name = ?", (json.dumps(document), name)
            )
        )
        return web.json_response(document)

    async def delete_bucket(self, request: web.Request) -> web.Response:
        """Delete an empty bucket."""
        name = request.match_info["bucket"]
        self._bucket(name)
        if next(self._names(name, ""), None) is not None:
            raise HttpError(409, "conflict", "The bucket you tried to delete is not empty.")
        await self._store.write(lambda connection: connection.execute("DELETE FROM bucket WHERE name = ?", (name,)))
        for folder, _, _ in sorted(os.walk(self._root / name), reverse=True):
            os.rmdir(folder)
        return web.Response(status=204)

    async def get_policy(self, request: web.Request) -> web.Response:
        """The bucket's IAM policy."""
        name = request.match_info["bucket"]
        self._bucket(name)
        rows = self._store.read("SELECT document FROM policy WHERE bucket = ?", (name,))
        document = json.loads(rows[0]["document"]) if rows else {"bindings": []}
        return web.json_response({"kind": "storage#policy", "etag": "CAE=", **document})

    async def set_policy(self, request: web.Request) -> web.Response:
        """Replace the bucket's IAM policy."""
        name = request.match_info["bucket"]
        self._bucket(name)
        document = await _json(request)
        await self._store.write(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO policy VALUES (?, ?)", (name, json.dumps(document))
            )
        )
        return web.json_response(document)

    async def storage_layout(self, request: web.Request) -> web.Response:
        """A flat namespace."""
        bucket = self._bucket(request.match_info["bucket"])
        return web.json_response(
            {"kind": "storage#storageLayout", "bucket": bucket["name"], "location": bucket["location"],
             "locationType": "region", "hierarchicalNamespace": {"enabled": False}}
        )  # fmt: skip

    # --- objects

    async def list_objects(self, request: web.Request) -> web.Response:
        """Objects by prefix, delimiter, range and page."""
        bucket = request.match_info["bucket"]
        self._bucket(bucket)
        query = request.query
        if query.get("versions") == "true":
            raise HttpError(501, "notImplemented", "versions=true is not served on a laptop (LIMITATIONS.md)")
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        glob = query.get("matchGlob", "")
        pattern = _glob(glob) if glob else None
        prefix = prefix or re.split(r"[*?\[{]", glob)[0]
        after = query.get("pageToken", "")
        limit = int(query.get("maxResults", LISTED))
        names: list[str] = []
        prefixes: list[str] = []
        token = ""
        for name in self._names(bucket, prefix):
            if pattern is not None and not pattern.fullmatch(name):
                continue
            if (query.get("startOffset") and name < query["startOffset"]) or (
                query.get("endOffset") and name >= query["endOffset"]
            ):
                continue
            shown = name
            if delimiter and delimiter in name[len(prefix) :]:
                shown = prefix + name[len(prefix) :].partition(delimiter)[0] + delimiter
                if shown <= after or (prefixes and prefixes[-1] == shown):
                    continue
                target = prefixes
            else:
                if name <= after:
                    continue
                target = names
            if len(names) + len(prefixes) == limit:
                token = max([*names[-1:], *prefixes[-1:]])
                break
            target.append(shown)
        found = await self._look_all(bucket, names)
        answer: dict[str, Any] = {"kind": "storage#objects", "items": [one.document for one in found]}
        if prefixes:
            answer["prefixes"] = prefixes
        if token:
            answer["nextPageToken"] = token
        return web.json_response(answer)

    async def get_object(self, request: web.Request) -> web.StreamResponse:
        """Metadata, or with ``alt=media`` the content."""
        if request.query.get("alt") == "media":
            return await self.download(request)
        found = await self._required(request)
        return web.json_response(found.document)

    async def download(self, request: web.Request) -> web.StreamResponse:
        """The content, whole or a range."""
        found = await self._required(request)
        document = found.document
        headers = {
            "x-goog-generation": document["generation"],
            "x-goog-metageneration": document["metageneration"],
            "x-goog-hash": f"crc32c={document['crc32c']},md5={document['md5Hash']}",
            "x-goog-storage-class": "STANDARD",
            "etag": document["etag"],
            "Accept-Ranges": "bytes",
        }
        size = int(document["size"])
        start, end, status = 0, size - 1, 200
        if asked := re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", "")):
            first, last = asked.groups()
            if first:
                start, end = int(first), min(int(last or size - 1), size - 1)
            else:
                start = max(0, size - int(last or 0))
            if start >= size:
                raise HttpError(416, "requestedRangeNotSatisfiable", f"bytes {start}- of {size}")
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        response = web.StreamResponse(status=status, headers=headers)
        response.content_type = document.get("contentType", "application/octet-stream")
        response.content_length = max(0, end - start + 1)
        await response.prepare(request)
        with found.path.open("rb") as file:
            file.seek(start)
            left = end - start + 1
            while left > 0 and (chunk := file.read(min(CHUNK, left))):
                await response.write(chunk)
                left -= len(chunk)
        await response.write_eof()
        return response

    async def patch_object(self, request: web.Request) -> web.Response:
        """Change what a client may change of the metadata."""
        bucket, name = _names_of(request)
        changes = await _json(request)

        def work(connection: sqlite3.Connection) -> dict[str, Any]:
            found = self._look(connection, bucket, name)
            _check(request, found)
            if found is None:
                raise no_such(f"{bucket}/{name}")
            for key, value in changes.items():
                if key not in WRITABLE:
                    continue
                if value is None:
                    found.document.pop(key, None)
                elif key == "metadata" and isinstance(found.document.get(key), dict):
                    found.document[key] = {k: v for k, v in {**found.document[key], **value}.items() if v is not None}
                else:
                    found.document[key] = value
            found.document["metageneration"] = str(int(found.document["metageneration"]) + 1)
            found.document["updated"] = _now()
            _keep(connection, bucket, name, found)
            return found.document

        return web.json_response(await self._store.write(work))

    async def delete_object(self, request: web.Request) -> web.Response:
        """Delete an object."""
        bucket, name = _names_of(request)
        self._bucket(bucket)

        def work(connection: sqlite3.Connection) -> None:
            found = self._look(connection, bucket, name)
            _check(request, found)
            if found is None:
                raise no_such(f"{bucket}/{name}")
            found.path.unlink()
            connection.execute("DELETE FROM object WHERE bucket = ? AND name = ?", (bucket, name))

        await self._store.write(work)
        self._prune(bucket, name)
        return web.Response(status=204)

    async def copy(self, request: web.Request) -> web.Response:
        """Copy an object."""
        return web.json_response(await self._copy(request))

    async def rewrite(self, request: web.Request) -> web.Response:
        """Copy an object, in one go."""
        document = await self._copy(request)
        return web.json_response(
            {"kind": "storage#rewriteResponse", "done": True, "resource": document,
             "objectSize": document["size"], "totalBytesRewritten": document["size"]}
        )  # fmt: skip

    async def _copy(self, request: web.Request) -> dict[str, Any]:
        found = await self._look_one(*_names_of(request))
        if found is None:
            raise no_such("/".join(_names_of(request)))
        changes = await _json(request)
        attributes = {key: found.document[key] for key in WRITABLE if key in found.document}
        scratch = self._scratch / uuid.uuid4().hex
        scratch.write_bytes(found.path.read_bytes())
        to, target = unquote(request.match_info["to"]), unquote(request.match_info["target"])
        return await self._create(request, to, target, scratch, {**attributes, **changes})

    async def compose(self, request: web.Request) -> web.Response:
        """Put objects together into one."""
        bucket, name = _names_of(request)
        wanted = await _json(request)
        scratch = self._scratch / uuid.uuid4().hex
        with scratch.open("wb") as file:
            for source in wanted.get("sourceObjects", []):
                found = await self._look_one(bucket, source["name"])
                if found is None:
                    raise no_such(f"{bucket}/{source['name']}")
                file.write(found.path.read_bytes())
        document = await self._create(request, bucket, name, scratch, wanted.get("destination", {}))
        return web.json_response(document)

    # --- uploads

    async def upload(self, request: web.Request) -> web.Response:
        """Media, multipart, or the start of a resumable upload."""
        bucket = request.match_info["bucket"]
        self._bucket(bucket)
        kind = request.query.get("uploadType")
        if kind == "resumable":
            return await self._start_upload(request, bucket)
        if kind == "multipart":
            metadata, content, content_type = _multipart(request.headers["Content-Type"], await request.read())
            metadata.setdefault("contentType", content_type)
        elif kind == "media":
            metadata, content = {"contentType": request.headers.get("Content-Type", "")}, await request.read()
        else:
            raise HttpError(400, "invalid", f"uploadType {kind!r} is none of media, multipart, resumable")
        name = request.query.get("name") or metadata.get("name", "")
        scratch = self._scratch / uuid.uuid4().hex
        scratch.write_bytes(content)
        return web.json_response(await self._create(request, bucket, name, scratch, metadata))

    async def _start_upload(self, request: web.Request, bucket: str) -> web.Response:
        metadata = await _json(request)
        metadata.setdefault("contentType", request.headers.get("X-Upload-Content-Type", "application/octet-stream"))
        name = request.query.get("name") or metadata.get("name", "")
        upload = uuid.uuid4().hex
        conditions = {key: value for key, value in request.query.items() if key.startswith("if")}
        document = {"bucket": bucket, "name": name, "metadata": metadata, "conditions": conditions}
        await self._store.write(
            lambda connection: connection.execute("INSERT INTO upload VALUES (?, ?)", (upload, json.dumps(document)))
        )
        (self._scratch / upload).touch()
        url = (
            f"{request.scheme}://{request.host}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={upload}"
        )
        return web.Response(headers={"Location": url, "X-GUploader-UploadID": upload})

    async def resume(self, request: web.Request) -> web.Response:
        """A chunk of a resumable upload, or the question how much has arrived."""
        upload = request.query.get("upload_id", "")
        rows = self._store.read("SELECT document FROM upload WHERE id = ?", (upload,))
        if not rows:
            raise HttpError(404, "notFound", f"No such upload: {upload}")
        document = json.loads(rows[0]["document"])
        scratch = self._scratch / upload
        content = await request.read()
        have = scratch.stat().st_size
        asked = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", request.headers.get("Content-Range", ""))
        total: int | None
        if asked is None:
            start, total = 0, len(content)
        else:
            start = int(asked.group(1)) if asked.group(1) else have
            total = int(asked.group(3)) if asked.group(3) != "*" else None
        if content:
            if start > have:
                raise HttpError(400, "invalid", f"the upload has {have} bytes; a chunk cannot start at {start}")
            with scratch.open("r+b") as file:
                file.seek(start)
                file.write(content)
                file.truncate()
            have = start + len(content)
        if total is None or have < total:
            headers = {"Range": f"bytes=0-{have - 1}"} if have else {}
            return web.Response(status=308, headers=headers)
        created = await self._create(
            request, document["bucket"], document["name"], scratch, document["metadata"], document["conditions"]
        )
        await self._store.write(lambda connection: connection.execute("DELETE FROM upload WHERE id = ?", (upload,)))
        return web.json_response(created)

    async def cancel_upload(self, request: web.Request) -> web.Response:
        """Forget a resumable upload."""
        upload = request.query.get("upload_id", "")
        await self._store.write(lambda connection: connection.execute("DELETE FROM upload WHERE id = ?", (upload,)))
        if re.fullmatch(r"[0-9a-f]{32}", upload):
            (self._scratch / upload).unlink(missing_ok=True)
        return web.Response(status=499)

    async def _create(
        self,
        request: web.Request,
        bucket: str,
        name: str,
        scratch: Path,
        metadata: dict[str, Any],
        conditions: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Put a complete file where its object belongs, under the preconditions, in one step."""
        self._bucket(bucket)
        try:
            path = self._path(bucket, name)
            crc32c, md5, size = _hashes(scratch)
            for label, wanted, actual in (
                ("crc32c", metadata.get("crc32c"), crc32c),
                ("md5", metadata.get("md5Hash"), md5),
            ):
                if wanted and wanted != actual:
                    raise HttpError(400, "invalid", f"Provided {label} {wanted} doesn't match calculated {actual}.")
            _sync(scratch)

            def work(connection: sqlite3.Connection) -> dict[str, Any]:
                before = self._look(connection, bucket, name)
                _check(request, before, conditions)
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    if path.is_dir():
                        raise IsADirectoryError(path)
                except (FileExistsError, NotADirectoryError, IsADirectoryError):
                    raise HttpError(
                        501, "notImplemented", f"{name}: a file system cannot hold both this object and one below it"
                    ) from None
                os.replace(scratch, path)
                _sync(path.parent)
                stat = path.stat()
                previous = connection.execute("SELECT MAX(generation) AS last FROM object").fetchone()["last"] or 0
                generation = max(stat.st_mtime_ns // 1000, previous + 1)
                document = _document(request.host, bucket, name, generation, size, crc32c, md5)
                document.update({key: value for key, value in metadata.items() if key in WRITABLE and value})
                _keep(connection, bucket, name, Found(path, document))
                return document

            return await self._store.write(work)
        finally:
            scratch.unlink(missing_ok=True)

    # --- inside

    def _bucket(self, name: str) -> dict[str, Any]:
        rows = self._store.read("SELECT document FROM bucket WHERE name = ?", (name,))
        if not rows:
            raise HttpError(404, "notFound", f"The specified bucket does not exist: {name}")
        document: dict[str, Any] = json.loads(rows[0]["document"])
        return document

    def _path(self, bucket: str, name: str) -> Path:
        """The file of an object. A name that a file system would take for another place is refused."""
        parts = name.split("/")
        if (
            not name
            or len(name.encode()) > 1024
            or any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)
            or any(ord(character) < 32 for character in name)
        ):
            raise HttpError(400, "invalid", f"{name[:100]!r} cannot be a file's path here (LIMITATIONS.md)")
        return self._root / bucket / name

    def _names(self, bucket: str, prefix: str) -> Iterator[str]:
        """Names of objects in order. Spark's helper files (``.name.crc``) are not shown."""
        root = self._root / bucket
        folder, _, _ = prefix.rpartition("/")
        if any(part in (".", "..") for part in folder.split("/")):
            return

        def walk(path: Path, before: str) -> Iterator[str]:
            try:
                entries = [(one.name + "/" * one.is_dir(), one) for one in os.scandir(path)]
            except (FileNotFoundError, NotADirectoryError):
                return
            for shown, entry in sorted(entries, key=lambda pair: pair[0]):
                name = before + shown
                if not name.startswith(prefix[: len(name)]):
                    continue
                if entry.is_dir():
                    yield from walk(Path(entry.path), name)
                elif name.startswith(prefix) and not (shown.startswith(".") and shown.endswith(".crc")):
                    yield name

        yield from walk(root / folder if folder else root, folder + "/" if folder else "")

    async def _required(self, request: web.Request) -> Found:
        bucket, name = _names_of(request)
        self._bucket(bucket)
        found = await self._look_one(bucket, name)
        _check(request, found)
        if found is None or request.query.get("generation", str(found.generation)) != str(found.generation):
            raise no_such(f"{bucket}/{name}")
        return found

    async def _look_one(self, bucket: str, name: str) -> Found | None:
        known = self._known(self._store.read, bucket, name)
        if known is not None:
            return known
        return await self._store.write(lambda connection: self._look(connection, bucket, name))

    async def _look_all(self, bucket: str, names: list[str]) -> list[Found]:
        found = []
        for name in names:
            one = await self._look_one(bucket, name)
            if one is not None:
                found.append(one)
        return found

    def _known(self, read: Any, bucket: str, name: str) -> Found | None:
        """An object whose file is as it was when its metadata was written."""
        path = self._path(bucket, name)
        try:
            stat = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        rows = list(read("SELECT * FROM object WHERE bucket = ? AND name = ?", (bucket, name)))
        if rows and rows[0]["size"] == stat.st_size and rows[0]["mtime"] == stat.st_mtime_ns:
            return Found(path, json.loads(rows[0]["document"]))
        return None

    def _look(self, connection: sqlite3.Connection, bucket: str, name: str) -> Found | None:
        """The object as it is; one that was written past this server gets its metadata now."""
        known = self._known(connection.execute, bucket, name)
        if known is not None:
            return known
        path = self._path(bucket, name)
        if not path.is_file():
            connection.execute("DELETE FROM object WHERE bucket = ? AND name = ?", (bucket, name))
            return None
        crc32c, md5, size = _hashes(path)
        generation = path.stat().st_mtime_ns // 1000
        found = Found(path, _document("127.0.0.1", bucket, name, generation, size, crc32c, md5))
        _keep(connection, bucket, name, found)
        return found

    def _prune(self, bucket: str, name: str) -> None:
        """Remove the folders that deleting an object has emptied."""
        folder = (self._root / bucket / name).parent
        with contextlib.suppress(OSError):
            while folder != self._root / bucket:
                folder.rmdir()
                folder = folder.parent


def _names_of(request: web.Request) -> tuple[str, str]:
    return request.match_info["bucket"], request.match_info["name"]


async def _json(request: web.Request) -> dict[str, Any]:
    body = await request.read()
    if not body:
        return {}
    try:
        document = json.loads(body)
    except ValueError as error:
        raise HttpError(400, "parseError", f"Parse Error: {error}") from error
    if not isinstance(document, dict):
        raise HttpError(400, "invalid", "the body must be a JSON object")
    return document


def _check(request: web.Request, found: Found | None, conditions: dict[str, str] | None = None) -> None:
    """https://cloud.google.com/storage/docs/request-preconditions: 0 stands for an object that is not there."""
    given = conditions if conditions is not None else request.query
    generation = found.generation if found else 0
    metageneration = int(found.document["metageneration"]) if found else 0
    for name, actual, equal in (
        ("ifGenerationMatch", generation, True),
        ("ifGenerationNotMatch", generation, False),
        ("ifMetagenerationMatch", metageneration, True),
        ("ifMetagenerationNotMatch", metageneration, False),
    ):
        if name in given and (int(given[name]) == actual) != equal:
            if request.method == "GET" and not equal:
                raise HttpError(304, "notModified", "Not Modified")
            raise HttpError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")


def _document(host: str, bucket: str, name: str, generation: int, size: int, crc32c: str, md5: str) -> dict[str, Any]:
    now = _now()
    link = f"http://{host}/storage/v1/b/{bucket}/o/{name.replace('/', '%2F')}"
    return {
        "kind": KIND,
        "id": f"{bucket}/{name}/{generation}",
        "selfLink": link,
        "mediaLink": f"http://{host}/download/storage/v1/b/{bucket}/o/{name.replace('/', '%2F')}?alt=media",
        "name": name,
        "bucket": bucket,
        "generation": str(generation),
        "metageneration": "1",
        "contentType": "application/octet-stream",
        "storageClass": "STANDARD",
        "size": str(size),
        "md5Hash": md5,
        "crc32c": crc32c,
        "etag": base64.b64encode(str(generation).encode()).decode(),
        "timeCreated": now,
        "updated": now,
        "timeStorageClassUpdated": now,
    }


def _keep(connection: sqlite3.Connection, bucket: str, name: str, found: Found) -> None:
    stat = found.path.stat()
    connection.execute(
        "INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?, ?, ?)",
        (bucket, name, found.generation, stat.st_size, stat.st_mtime_ns, json.dumps(found.document)),
    )


def _hashes(path: Path) -> tuple[str, str, int]:
    crc, md5, size = google_crc32c.Checksum(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            crc.update(chunk)
            md5.update(chunk)
            size += len(chunk)
    return base64.b64encode(crc.digest()).decode(), base64.b64encode(md5.digest()).decode(), size


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _multipart(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes, str]:
    boundary = re.search(r'boundary="?([^";]+)"?', content_type)
    if boundary is None:
        raise HttpError(400, "invalid", "multipart upload without a boundary")
    mark = b"--" + boundary.group(1).encode()
    pieces = body.split(mark, 2)
    if len(pieces) != 3:
        raise HttpError(400, "invalid", "multipart upload: expected metadata and content")
    metadata = pieces[1].partition(b"\r\n\r\n")[2]
    head, _, rest = pieces[2].partition(b"\r\n\r\n")
    content = rest.rpartition(b"\r\n" + mark + b"--")[0]
    kind = re.search(rb"(?i)content-type:\s*([^\r\n]+)", head)
    try:
        document = json.loads(metadata)
    except ValueError as error:
        raise HttpError(400, "parseError", f"Parse Error: {error}") from error
    return document, content, kind.group(1).decode() if kind else "application/octet-stream"


def _glob(glob: str) -> re.Pattern[str]:
    """https://cloud.google.com/storage/docs/json_api/v1/objects/list#list-objects-and-prefixes-using-glob"""
    parts = []
    for token in re.findall(r"\*\*|\*|\?|[^*?]+", glob):
        parts.append({"**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token) or re.escape(token))
    return re.compile("".join(parts))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def build(context: Context) -> Api:
    """Cloud Storage on loopback."""
    root = context.state / "storage"
    root.mkdir(parents=True, exist_ok=True)
    store = Store(context.state / "storage.sqlite", SCHEMA)
    storage = Storage(root, store, context.faults)

    async def stop() -> None:
        store.close()

    return Api(rpcs=[], handlers=[], routes=storage.routes(), stop=stop)


if __name__ == "__main__":
    main("storage", build)
