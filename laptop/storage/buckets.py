"""Buckets and their IAM policies."""

import base64
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Callable
from typing import Any

from aiohttp import web

from laptop.storage.errors import HttpError, invalid
from laptop.storage.files import Files
from laptop.storage.folders import Way, others
from laptop.storage.metadata import timestamp
from laptop.storage.preconditions import check
from laptop.storage.requests import document_of
from laptop.store import Store

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
OURS = {"kind", "id", "selfLink", "projectNumber", "metageneration", "timeCreated", "updated", "etag"}
"""Fields that a client cannot set."""


class Buckets:
    """Handlers of ``storage.buckets``.

    Args:
        files: the objects.
        store: the server's.
    """

    def __init__(self, files: Files, store: Store) -> None:
        self._files = files
        self._store = store

    async def list(self, request: web.Request) -> web.Response:
        """All buckets."""
        rows = self._store.read("SELECT document FROM bucket ORDER BY name")
        prefix = request.query.get("prefix", "")
        items = [json.loads(row["document"]) for row in rows]
        return web.json_response(
            {"kind": "storage#buckets", "items": [one for one in items if one["name"].startswith(prefix)]}
        )

    async def insert(self, request: web.Request) -> web.Response:
        """Create a bucket."""
        wanted = await document_of(request)
        name = wanted.get("name", "")
        if not isinstance(name, str) or not NAME.fullmatch(name) or ".." in name:
            raise invalid(f"Invalid bucket name: {str(name)[:100]!r}")
        now = timestamp()
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
            **{key: value for key, value in wanted.items() if key not in OURS},
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
        Way(self._files.root / name, (), make=True).close()
        return web.json_response(document)

    async def get(self, request: web.Request) -> web.Response:
        """Look at a bucket."""
        document = self._files.bucket(request.match_info["bucket"])
        check(request.query, document, reading=True)
        return web.json_response(document)

    async def patch(self, request: web.Request) -> web.Response:
        """Change a bucket; null clears a field."""
        changes = await document_of(request)

        def work(connection: sqlite3.Connection, name: str, document: dict[str, Any]) -> dict[str, Any]:
            for key, value in changes.items():
                if key in OURS or key == "name":
                    continue
                if value is None:
                    document.pop(key, None)
                elif isinstance(value, dict) and isinstance(document.get(key), dict):
                    document[key] = {k: v for k, v in {**document[key], **value}.items() if v is not None}
                else:
                    document[key] = value
            document["metageneration"] = str(int(document["metageneration"]) + 1)
            document["updated"] = timestamp()
            connection.execute("UPDATE bucket SET document = ? WHERE name = ?", (json.dumps(document), name))
            return document

        return web.json_response(await self._write(request, work))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete an empty bucket."""

        def work(connection: sqlite3.Connection, name: str, document: dict[str, Any]) -> None:
            if next(self._files.names(name, ""), None) is not None:
                raise HttpError(409, "conflict", "The bucket you tried to delete is not empty.")
            other = next(others(self._files.root / name), None)
            if other is not None:
                raise HttpError(409, "conflict", f"The bucket is not empty: {other}.")
            connection.execute("DELETE FROM bucket WHERE name = ?", (name,))
            connection.execute("DELETE FROM policy WHERE bucket = ?", (name,))
            for folder, _, helpers in os.walk(self._files.root / name, topdown=False):
                for helper in helpers:  # what Spark leaves beside a file that is gone
                    os.unlink(os.path.join(folder, helper))
                os.rmdir(folder)

        await self._write(request, work)
        return web.Response(status=204)

    async def get_policy(self, request: web.Request) -> web.Response:
        """The bucket's IAM policy."""
        name = request.match_info["bucket"]
        self._files.bucket(name)
        rows = self._store.read("SELECT document FROM policy WHERE bucket = ?", (name,))
        return web.json_response(_policy(rows))

    async def set_policy(self, request: web.Request) -> web.Response:
        """Replace the bucket's IAM policy, unless somebody else has changed it since the etag was read."""
        name = request.match_info["bucket"]
        self._files.bucket(name)
        wanted = await document_of(request)

        def work(connection: sqlite3.Connection) -> dict[str, Any]:
            read = "SELECT document FROM policy WHERE bucket = ?"
            current = _policy(connection.execute(read, (name,)).fetchall())
            if wanted.get("etag") not in (None, "", current["etag"]):
                raise HttpError(412, "conditionNotMet", f"{name}: the policy was changed since its etag was read.")
            kept = {key: value for key, value in wanted.items() if key not in ("kind", "etag", "resourceId")}
            connection.execute("INSERT OR REPLACE INTO policy VALUES (?, ?)", (name, json.dumps(kept)))
            return _policy(connection.execute(read, (name,)).fetchall())

        return web.json_response(await self._store.write(work))

    async def layout(self, request: web.Request) -> web.Response:
        """A flat namespace."""
        bucket = self._files.bucket(request.match_info["bucket"])
        return web.json_response(
            {"kind": "storage#storageLayout", "bucket": bucket["name"], "location": bucket["location"],
             "locationType": "region", "hierarchicalNamespace": {"enabled": False}}
        )  # fmt: skip

    async def _write(self, request: web.Request, work: Callable[[sqlite3.Connection, str, dict[str, Any]], Any]) -> Any:
        """Change the bucket of the path, under the request's preconditions."""
        name = request.match_info["bucket"]
        self._files.bucket(name)

        def checked(connection: sqlite3.Connection) -> Any:
            row = connection.execute("SELECT document FROM bucket WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise HttpError(404, "notFound", f"The specified bucket does not exist: {name}")
            document = json.loads(row["document"])
            check(request.query, document)
            return work(connection, name, document)

        return await self._store.write(checked)


def _policy(rows: list[sqlite3.Row]) -> dict[str, Any]:
    """The policy as it is answered; its etag is of its content."""
    document = json.loads(rows[0]["document"]) if rows else {"bindings": []}
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).digest()
    return {"kind": "storage#policy", **document, "etag": base64.b64encode(digest[:8]).decode()}
