"""Objects: listing, reading, changing, copying."""

import re
import shutil
from typing import Any, BinaryIO

from aiohttp import web

from laptop.storage.errors import HttpError, invalid, no_such, not_served
from laptop.storage.files import CHUNK, Files, Found
from laptop.storage.globs import glob, literal_prefix
from laptop.storage.metadata import WRITABLE, change, shown, timestamp
from laptop.storage.partial import Mask, mask, pick
from laptop.storage.preconditions import check, is_wanted
from laptop.storage.requests import document_of, names_of, number_of, object_in

LISTED = 1000
MAX_SOURCES = 32
RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))")
ENTITY_HEADERS = {
    "cacheControl": "Cache-Control",
    "contentDisposition": "Content-Disposition",
    "contentEncoding": "Content-Encoding",
    "contentLanguage": "Content-Language",
    "contentType": "Content-Type",
}


class Objects:
    """Handlers of ``storage.objects``, but for uploads.

    Args:
        files: the objects.
    """

    def __init__(self, files: Files) -> None:
        self._files = files

    async def list(self, request: web.Request) -> web.Response:
        """Objects by prefix, delimiter, glob, range and page; of each, what ``fields`` names."""
        bucket = request.match_info["bucket"]
        self._files.bucket(bucket)
        query = request.query
        if query.get("softDeleted", "").lower() == "true":
            raise not_served("softDeleted=true")
        delimiter, pattern = query.get("delimiter", ""), query.get("matchGlob", "")
        matches = glob(pattern) if pattern else None
        prefix = query.get("prefix", "") or literal_prefix(pattern)
        start, end, after = query.get("startOffset", ""), query.get("endOffset", ""), query.get("pageToken", "")
        wanted = mask(query.get("fields", ""))
        limit = number_of(query, "maxResults") or LISTED
        if limit < 0:
            raise invalid("maxResults cannot be negative")
        names: list[str] = []
        prefixes: list[str] = []
        token = ""
        for name in self._files.names(bucket, prefix, after):
            if (matches and not matches.fullmatch(name)) or name < start or (end and name >= end):
                continue
            place, entry = names, name
            if delimiter and delimiter in name[len(prefix) :]:
                place, entry = prefixes, prefix + name[len(prefix) :].partition(delimiter)[0] + delimiter
            if entry <= after or entry in place[-1:]:
                continue
            if len(names) + len(prefixes) == min(limit, LISTED):
                token = max([*names[-1:], *prefixes[-1:]])
                break
            place.append(entry)
        found = await self._files.listed(bucket, names)
        linked = _has_links(wanted)
        answer: dict[str, Any] = {
            "kind": "storage#objects",
            "items": [shown(one.document, request.host) if linked else one.document for one in found],
        }
        if prefixes:
            answer["prefixes"] = prefixes
        if token:
            answer["nextPageToken"] = token
        return web.json_response(pick(answer, wanted))

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Metadata, or what ``fields`` names of it; with ``alt=media`` the content."""
        if request.query.get("alt") == "media":
            return await self.download(request)
        bucket, name = names_of(request)
        self._files.bucket(bucket)
        wanted = mask(request.query.get("fields", ""))
        found = _required(request, await self._files.find(bucket, name))
        return web.json_response(pick(shown(found.document, request.host), wanted))

    async def download(self, request: web.Request) -> web.StreamResponse:
        """The content, whole or a range."""
        found, file = await self._opened(request, *names_of(request))
        with file:
            document = found.document
            hashes = [f"{label}={document[key]}" for label, key in (("crc32c", "crc32c"), ("md5", "md5Hash"))
                      if key in document]  # fmt: skip
            headers = {header: document[field] for field, header in ENTITY_HEADERS.items() if field in document}
            headers |= {
                "x-goog-generation": document["generation"],
                "x-goog-metageneration": document["metageneration"],
                "x-goog-hash": ",".join(hashes),
                "x-goog-storage-class": document["storageClass"],
                "ETag": document["etag"],
                "Accept-Ranges": "bytes",
            }
            size = int(document["size"])
            start, end = _range(request.headers.get("Range", ""), size)
            part = (start, end) != (0, size)
            if part:
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            response = web.StreamResponse(status=206 if part else 200, headers=headers)
            response.content_length = end - start
            await response.prepare(request)
            file.seek(start)
            while start < end and (chunk := file.read(min(CHUNK, end - start))):
                await response.write(chunk)
                start += len(chunk)
            await response.write_eof()
        return response

    async def patch(self, request: web.Request) -> web.Response:
        """Change what a client may change of the metadata: PATCH some of it, PUT all of it."""
        bucket, name = names_of(request)
        self._files.bucket(bucket)
        changes = await document_of(request)

        def apply(document: dict[str, Any]) -> None:
            change(document, changes, replace=request.method == "PUT")
            document["metageneration"] = str(int(document["metageneration"]) + 1)
            document["updated"] = timestamp()

        document = await self._files.change(bucket, name, _checking(request, bucket, name), apply)
        return web.json_response(shown(document, request.host))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete an object."""
        bucket, name = names_of(request)
        self._files.bucket(bucket)
        await self._files.delete(bucket, name, _checking(request, bucket, name))
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

    async def compose(self, request: web.Request) -> web.Response:
        """Put objects together into one."""
        bucket, name = names_of(request)
        self._files.bucket(bucket)
        wanted = await document_of(request)
        sources = wanted.get("sourceObjects") or []
        if not isinstance(sources, list) or not 1 <= len(sources) <= MAX_SOURCES:
            raise invalid(f"compose: 1 to {MAX_SOURCES} sourceObjects")
        scratch = self._files.new_scratch()
        try:
            with scratch.open("wb") as target:
                for source in sources:
                    if not isinstance(source, dict) or not isinstance(source.get("name"), str):
                        raise invalid("compose: each of sourceObjects needs a name")
                    opened = await self._files.open(bucket, source["name"])
                    if opened is None:
                        raise no_such(bucket, source["name"])
                    with opened[1] as file:
                        document = opened[0].document
                        if not is_wanted(source, document):
                            raise no_such(bucket, source["name"])
                        check(object_in(source, "objectPreconditions"), document)
                        shutil.copyfileobj(file, target, CHUNK)
            metadata = {key: value for key, value in object_in(wanted, "destination").items() if key in WRITABLE}
            created = await self._files.create(
                bucket, name, scratch, metadata, lambda before: check(request.query, before)
            )
        finally:
            scratch.unlink(missing_ok=True)
        return web.json_response(shown(created, request.host))

    async def _copy(self, request: web.Request) -> dict[str, Any]:
        bucket, name = names_of(request)
        to, target = request.match_info["to"], request.match_info["target"]
        changes = {key: value for key, value in (await document_of(request)).items() if key in WRITABLE}
        self._files.bucket(bucket)
        opened = await self._files.open(bucket, name)
        if opened is None or not is_wanted(request.query, opened[0].document, "sourceGeneration"):
            if opened is not None:
                opened[1].close()
            raise no_such(bucket, name)
        found, file = opened
        scratch = self._files.new_scratch()
        with file:
            check(request.query, found.document, prefix="ifSource")
            with scratch.open("wb") as copied:
                shutil.copyfileobj(file, copied, CHUNK)
        attributes = {key: found.document[key] for key in WRITABLE if key in found.document}
        created = await self._files.create(
            to, target, scratch, {**attributes, **changes}, lambda before: check(request.query, before)
        )
        return shown(created, request.host)

    async def _opened(self, request: web.Request, bucket: str, name: str) -> tuple[Found, BinaryIO]:
        self._files.bucket(bucket)
        opened = await self._files.open(bucket, name)
        try:
            return _required(request, opened[0] if opened else None), opened[1]  # type: ignore[index]
        except HttpError:
            if opened is not None:
                opened[1].close()
            raise


def _has_links(wanted: Mask) -> bool:
    """Whether a listing's answer has the objects' links: quoting their names is a fifth of its time."""
    items = wanted["*"] if "*" in wanted else wanted.get("items", {})
    return not items or bool(items.keys() & {"*", "selfLink", "mediaLink"})


def _required(request: web.Request, found: Found | None) -> Found:
    """The object if it is there, is the one that is meant and is as demanded."""
    check(request.query, found.document if found else None, reading=True)
    if found is None or not is_wanted(request.query, found.document):
        raise no_such(*names_of(request))
    return found


def _checking(request: web.Request, bucket: str, name: str) -> Any:
    """What a change demands of the object before."""

    def checked(document: dict[str, Any] | None) -> None:
        check(request.query, document)
        if document is not None and not is_wanted(request.query, document):
            raise no_such(bucket, name)

    return checked


def _range(header: str, size: int) -> tuple[int, int]:
    """The start and the end of what was asked for; all of it if the header asks for nothing that makes sense."""
    asked = RANGE.fullmatch(header)
    if asked is None:
        return 0, size
    first, last, suffix = asked.groups()
    if suffix is not None:
        start, end = max(0, size - int(suffix)), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return 0, size
    if start >= size:
        raise HttpError(
            416, "requestedRangeNotSatisfiable", f"{header} of {size} bytes", {"Content-Range": f"bytes */{size}"}
        )
    return start, end
