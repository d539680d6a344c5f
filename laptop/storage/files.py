"""Objects as files: object ``o`` of bucket ``b`` is the file ``<root>/b/o``.

What a file cannot tell (generation, checksums, content type) is in SQLite. A file that Spark has written past this
server gets that made up on first sight. Whatever else lies in a bucket's folder, such as a symbolic link, is no object:
it is not listed, and who names it is told what it is.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import logging
import os
import re
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c

from laptop.storage.errors import HttpError, invalid, no_such, not_served
from laptop.storage.folders import Way, file_stat, open_file, refuse_other, sync
from laptop.storage.metadata import change, new_document
from laptop.store import Store

SCHEMA = """
CREATE TABLE IF NOT EXISTS bucket (name TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS object (
    bucket TEXT NOT NULL, name TEXT NOT NULL, generation INTEGER NOT NULL, size INTEGER NOT NULL,
    mtime INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (bucket, name));
CREATE INDEX IF NOT EXISTS object_by_generation ON object (generation);
CREATE TABLE IF NOT EXISTS upload (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS policy (bucket TEXT PRIMARY KEY, document TEXT NOT NULL);
"""
CHUNK = 1024 * 1024
MAX_NAME_BYTES = 1024
MAX_PART_BYTES = 255
CONTROL = re.compile(r"[\x00-\x1f]")
log = logging.getLogger("laptop.storage")
Check = Callable[[dict[str, Any] | None], None]
"""Raises if the object's metadata (None: there is no object) is not as a request demands."""


@dataclass
class Found:
    """An object that is there."""

    document: dict[str, Any]
    stat: tuple[int, int]
    """Size and time of the file that the document tells of; another one may be in its place by now."""


class Files:
    """The buckets' files and their metadata.

    Args:
        root: the folder with a folder for each bucket.
        scratch: the folder for what is not an object yet, on the same file system.
        store: the server's.
    """

    def __init__(self, root: Path, scratch: Path, store: Store) -> None:
        self.root = root
        self.scratch = scratch
        self._store = store
        self._last_time = 0
        self._told: set[str] = set()
        root.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)

    def bucket(self, name: str) -> dict[str, Any]:
        """A bucket's metadata.

        Raises:
            HttpError: 404.
        """
        rows = self._store.read("SELECT document FROM bucket WHERE name = ?", (name,))
        if not rows:
            raise HttpError(404, "notFound", f"The specified bucket does not exist: {name}")
        document: dict[str, Any] = json.loads(rows[0]["document"])
        return document

    def new_scratch(self) -> Path:
        """A path for a file that may become an object."""
        return self.scratch / uuid.uuid4().hex

    def names(self, bucket: str, prefix: str, after: str = "") -> Iterator[str]:
        """Names of objects in order, greater than ``after``. Spark's helper files (``.name.crc``) are not shown."""
        folder = prefix.rpartition("/")[0]
        if folder and not all(map(_is_part, folder.split("/"))):
            return  # there can be no such object, and the folder could be one outside of the bucket

        def walk(before: str) -> Iterator[str]:
            for shown in self._entries(bucket, before):
                name = before + shown
                if not name.startswith(prefix[: len(name)]):
                    continue
                if shown.endswith("/"):
                    # All in it begins with its name: so does ``after``, or all of it comes before or behind.
                    if name > after or after.startswith(name):
                        yield from walk(name)
                elif name > after and name.startswith(prefix) and not _is_helper(shown):
                    yield name

        yield from walk(folder + "/" if folder else "")

    def _entries(self, bucket: str, before: str) -> list[str]:
        """The names of files and, with a slash, of folders in a folder, in the order of the objects' names."""
        try:
            with self._way(bucket, before.removesuffix("/")) as way, os.scandir(way.end) as found:
                entries = []
                for one in found:
                    if one.is_dir(follow_symlinks=False):
                        entries.append(one.name + "/")
                    elif one.is_file(follow_symlinks=False):
                        entries.append(one.name)
                    else:
                        self._tell_of(one, f"{bucket}/{before}{one.name}")
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(entries)

    def _tell_of(self, entry: "os.DirEntry[str]", shown: str) -> None:
        if shown in self._told:
            return
        self._told.add(shown)
        try:
            refuse_other(entry.stat(follow_symlinks=False), shown)
        except HttpError as error:
            log.warning("no object: %s", error)
        except FileNotFoundError:
            pass  # it has gone since

    async def listed(self, bucket: str, names: Sequence[str]) -> list[Found]:
        """Those of ``names`` that are there, in the order given: :meth:`find` for a thousand at once."""
        possible = [name for name in names if _is_path(name)]
        rows = self._store.rows(
            "SELECT name, size, mtime, document FROM object"
            " WHERE bucket = ? AND name IN (SELECT value FROM json_each(?))",
            (bucket, json.dumps(possible)),
        )
        kept = {row["name"]: row for row in rows}
        found: list[Found] = []
        way: Way | None = None
        before = None
        try:
            for name in possible:
                folder, _, last = name.rpartition("/")
                try:
                    if folder != before or way is None:
                        if way is not None:
                            way.close()
                            way = None
                        before, way = folder, self._way(bucket, folder)
                    stat = file_stat(way.end, last, f"{bucket}/{name}")
                except (FileNotFoundError, NotADirectoryError, HttpError):
                    continue  # it was there when the names were read
                row = kept.get(name)
                if stat is None:
                    continue
                if row is not None and (row["size"], row["mtime"]) == _stat(stat):
                    found.append(Found(json.loads(row["document"]), _stat(stat)))
                elif (seen := await self.find(bucket, name)) is not None:
                    found.append(seen)
        finally:
            if way is not None:
                way.close()
        return found

    async def find(self, bucket: str, name: str) -> Found | None:
        """An object, or None if it is not there; one of a name that no file can have never is."""
        if not _is_path(name):
            return None
        known = self._known(self._store.read, bucket, name)
        if known is not None:
            return known
        return await self._store.write(lambda connection: self._look(connection, bucket, name))

    async def open(self, bucket: str, name: str) -> tuple[Found, BinaryIO] | None:
        """An object and its content, of one and the same generation whatever is written meanwhile. To be closed."""
        while (found := await self.find(bucket, name)) is not None:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                file = self._open(bucket, name)
                if _stat(os.fstat(file.fileno())) == found.stat:
                    return found, file
                file.close()
        return None

    async def create(
        self,
        bucket: str,
        name: str,
        scratch: Path,
        metadata: dict[str, Any],
        check: Check,
        then: Callable[[sqlite3.Connection, dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Put a complete file where its object belongs, in one step, and answer its metadata when it is on the disk.

        Args:
            bucket: where.
            name: of the object.
            scratch: the file. It is gone afterwards, also after an error.
            metadata: the client's, with the checksums that it expects.
            check: the preconditions.
            then: what else is to be written with it.

        Raises:
            HttpError: it cannot be, or a precondition does not hold, or the content is not what was announced.
        """
        try:
            self.bucket(bucket)
            check_name(name)
            if _is_helper(name.rpartition("/")[2]):
                raise invalid(f"{name[:100]!r} would be taken for a checksum file of Spark's (LIMITATIONS.md)")
            crc32c, md5, size = await asyncio.to_thread(_sealed, scratch, self._next_time())
            for label, actual in (("crc32c", crc32c), ("md5Hash", md5)):
                wanted = metadata.get(label)
                if wanted and wanted != actual:
                    raise invalid(f"Provided {label} {wanted!r} doesn't match calculated {actual!r}.")
            change({}, metadata)  # refuses what cannot be, before anything is written

            def work(connection: sqlite3.Connection) -> dict[str, Any]:
                before = self._look(connection, bucket, name)
                check(before.document if before else None)
                if connection.execute("SELECT 1 FROM bucket WHERE name = ?", (bucket,)).fetchone() is None:
                    raise HttpError(404, "notFound", f"The specified bucket does not exist: {bucket}")
                stat = _stat(scratch.stat())  # before another process can have written what is in its place
                self._place(scratch, bucket, name)
                previous = connection.execute("SELECT MAX(generation) AS last FROM object").fetchone()["last"] or 0
                generation = max(stat[1] // 1000, previous + 1)
                document = new_document(bucket, name, generation, size, crc32c, md5)
                change(document, metadata)
                self._keep(connection, bucket, name, Found(document, stat))
                if then is not None:
                    then(connection, document)
                return document

            return await self._store.write(work)
        finally:
            scratch.unlink(missing_ok=True)

    async def change(
        self, bucket: str, name: str, check: Check, apply: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """Change an object's metadata; answers them when they are on the disk.

        Raises:
            HttpError: 404, or a precondition does not hold.
        """

        def work(connection: sqlite3.Connection) -> dict[str, Any]:
            found = self._look(connection, bucket, name)
            check(found.document if found else None)
            if found is None:
                raise no_such(bucket, name)
            apply(found.document)
            self._keep(connection, bucket, name, found)
            return found.document

        return await self._store.write(work)

    async def delete(self, bucket: str, name: str, check: Check) -> None:
        """Delete an object, and the folders that this empties.

        Raises:
            HttpError: 404, or a precondition does not hold.
        """

        def work(connection: sqlite3.Connection) -> None:
            found = self._look(connection, bucket, name)
            check(found.document if found else None)
            if found is None:
                raise no_such(bucket, name)
            folder, _, last = name.rpartition("/")
            with self._way(bucket, folder) as way:
                os.unlink(last, dir_fd=way.end)
                connection.execute("DELETE FROM object WHERE bucket = ? AND name = ?", (bucket, name))
                way.prune()

        await self._store.write(work)

    def _next_time(self) -> int:
        """A file's time, in nanoseconds, that no other one has: the kernel's own stands still for milliseconds."""
        self._last_time = max(time.time_ns(), self._last_time + 1)
        return self._last_time

    def _known(self, read: Any, bucket: str, name: str) -> Found | None:
        """An object whose file is as it was when its metadata was written."""
        stat = self._stat(bucket, name)
        if stat is None:
            return None
        rows = list(read("SELECT * FROM object WHERE bucket = ? AND name = ?", (bucket, name)))
        if rows and (rows[0]["size"], rows[0]["mtime"]) == _stat(stat):
            return Found(json.loads(rows[0]["document"]), _stat(stat))
        return None

    def _look(self, connection: sqlite3.Connection, bucket: str, name: str) -> Found | None:
        """The object as it is; one that was written past this server gets its metadata now."""
        known = self._known(connection.execute, bucket, name)
        if known is not None:
            return known
        try:
            with self._open(bucket, name) as file:
                stat = _stat(os.fstat(file.fileno()))  # first: what is written meanwhile is then looked at again
                crc32c, md5, size = _hashes(file)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            connection.execute("DELETE FROM object WHERE bucket = ? AND name = ?", (bucket, name))
            return None
        found = Found(new_document(bucket, name, stat[1] // 1000, size, crc32c, md5), stat)
        self._keep(connection, bucket, name, found)
        return found

    def _way(self, bucket: str, folder: str, make: bool = False) -> Way:
        return Way(self.root / bucket, folder.split("/") if folder else [], make)

    def _stat(self, bucket: str, name: str) -> os.stat_result | None:
        folder, _, last = name.rpartition("/")
        try:
            with self._way(bucket, folder) as way:
                return file_stat(way.end, last, f"{bucket}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _open(self, bucket: str, name: str) -> BinaryIO:
        folder, _, last = name.rpartition("/")
        with self._way(bucket, folder) as way:
            return open_file(way.end, last, f"{bucket}/{name}")

    def _place(self, scratch: Path, bucket: str, name: str) -> None:
        """Move a file to where it belongs; every new folder on the way is on the disk with it."""
        folder, _, last = name.rpartition("/")
        try:
            with self._way(bucket, folder, make=True) as way:
                file_stat(way.end, last, f"{bucket}/{name}")
                os.replace(scratch, last, dst_dir_fd=way.end)
                way.sync()
        except (NotADirectoryError, IsADirectoryError):
            raise not_served(f"{name}: an object beside one below it, which a file system cannot hold,") from None

    def _keep(self, connection: sqlite3.Connection, bucket: str, name: str, found: Found) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?, ?, ?)",
            (bucket, name, int(found.document["generation"]), *found.stat, json.dumps(found.document)),
        )


def check_name(name: str) -> None:
    """Refuse a name that a file system would take for another place.

    Raises:
        HttpError: 400.
    """
    if not _is_path(name):
        raise invalid(f"{name[:100]!r} cannot be a file's path here (LIMITATIONS.md)")


def _is_path(name: str) -> bool:
    return len(name.encode(errors="replace")) <= MAX_NAME_BYTES and all(map(_is_part, name.split("/")))


def _is_part(part: str) -> bool:
    """Whether a part of a name can be a file's or a folder's name, and stays where it is."""
    try:
        size = len(part.encode())
    except UnicodeEncodeError:
        return False
    return part not in (".", "..") and 0 < size <= MAX_PART_BYTES and not CONTROL.search(part)


def _is_helper(name: str) -> bool:
    """Whether a file is a checksum that Spark has written beside another one."""
    return name.startswith(".") and name.endswith(".crc")


def _stat(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_size, stat.st_mtime_ns


def _sealed(path: Path, modified: int) -> tuple[str, str, int]:
    """Bring a file to the disk with a time of its own; answers CRC32C, MD5 and size."""
    os.utime(path, ns=(modified, modified))
    sync(path)
    with path.open("rb") as file:
        return _hashes(file)


def _hashes(file: BinaryIO) -> tuple[str, str, int]:
    crc, md5, size = google_crc32c.Checksum(), hashlib.md5(usedforsecurity=False), 0
    while chunk := file.read(CHUNK):
        crc.update(chunk)
        md5.update(chunk)
        size += len(chunk)
    return base64.b64encode(crc.digest()).decode(), base64.b64encode(md5.digest()).decode(), size
