"""Where a source zip comes from: uploaded to a URL that this server gave out, or an object in Cloud Storage."""

import os
import re
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from google.cloud.functions_v2 import types

from laptop.errors import ServiceError
from laptop.functions.source import BuildError
from laptop.service import Context
from laptop.store import Store

StorageSource = types.StorageSource.pb()

SCHEMA = "CREATE TABLE IF NOT EXISTS upload (token TEXT PRIMARY KEY, object TEXT NOT NULL, used INTEGER NOT NULL);"
MAX_ZIP_BYTES = 100 * 1024 * 1024
UPLOADS = "/gcf-v2-uploads/"
"""Below it are URLs that are as good as signed: who has one may upload, without a header of any kind."""
BUCKET = re.compile(r"gcf-v2-uploads-.+\.cloudfunctions\.appspot\.com")


class Uploads:
    """Uploaded sources.

    Args:
        context: tells where this server and Cloud Storage listen.
        folder: keeps the zips.
        store: a store whose schema includes :data:`SCHEMA`.
    """

    def __init__(self, context: Context, folder: Path, store: Store) -> None:
        self._context = context
        self._folder = folder
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        """The plain HTTP route behind the URLs."""
        return [web.put(UPLOADS + "{token}", self._put)]

    async def new(self, project: str, location: str) -> tuple[str, Any]:
        """A URL that takes one zip, and the storage source that means this zip afterwards."""
        token, name = uuid.uuid4().hex, f"{uuid.uuid4()}.zip"
        await self._store.write(
            lambda connection: connection.execute("INSERT INTO upload VALUES (?, ?, 0)", (token, name))
        )
        source = StorageSource(bucket=f"gcf-v2-uploads-{project}.{location}.cloudfunctions.appspot.com", object_=name)
        return f"{self._context.endpoint('functions')}{UPLOADS}{token}", source

    async def fetch(self, source: Any, target: Path) -> Any:
        """Copy the zip to ``target``; answers the source with its generation.

        Raises:
            BuildError: it is not there.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        if BUCKET.fullmatch(source.bucket):
            uploaded = self._folder / Path(source.object_).name
            if not uploaded.is_file():
                raise BuildError(f"nothing was uploaded to the URL that belongs to {source.object_}: PUT the zip first")
            target.write_bytes(uploaded.read_bytes())
            return StorageSource(bucket=source.bucket, object_=source.object_, generation=1)
        return await self._download(source, target)

    async def _download(self, source: Any, target: Path) -> Any:
        where = f"gs://{source.bucket}/{source.object_}"
        try:
            storage = self._context.endpoint("storage")
        except ServiceError as error:
            raise BuildError(f"{where}: {error.message}") from error
        url = f"{storage}/storage/v1/b/{quote(source.bucket, safe='')}/o/{quote(source.object_, safe='')}"
        parameters = {"alt": "media"}
        if source.generation:
            parameters["generation"] = str(source.generation)
        try:
            async with aiohttp.ClientSession() as session, session.get(url, params=parameters) as response:
                if response.status != 200:
                    raise BuildError(f"{where} cannot be read: HTTP {response.status}")
                with target.open("wb") as file:
                    async for chunk in response.content.iter_chunked(1 << 20):
                        file.write(chunk)
                generation = int(response.headers.get("x-goog-generation", source.generation))
        except aiohttp.ClientError as error:
            raise BuildError(f"{where} cannot be read: {error}") from error
        return StorageSource(bucket=source.bucket, object_=source.object_, generation=generation)

    async def _put(self, request: web.Request) -> web.Response:
        rows = self._store.read("SELECT object, used FROM upload WHERE token = ?", (request.match_info["token"],))
        if not rows or rows[0]["used"]:
            return web.Response(status=403, text="this URL takes one upload, and has had it or was never given out")
        if request.headers.get("Content-Type") != "application/zip":
            return web.Response(status=403, text="the URL is signed for Content-Type: application/zip")
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = self._folder / f"{uuid.uuid4().hex}.part"
        try:
            with fresh.open("wb") as file:
                size = 0
                async for chunk in request.content.iter_chunked(1 << 20):
                    size += len(chunk)
                    if size > MAX_ZIP_BYTES:
                        return web.Response(status=400, text=f"a source has at most {MAX_ZIP_BYTES >> 20} MB")
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._folder / rows[0]["object"])
        finally:
            fresh.unlink(missing_ok=True)
        await self._store.write(
            lambda connection: connection.execute(
                "UPDATE upload SET used = 1 WHERE token = ?", (request.match_info["token"],)
            )
        )
        return web.Response()
