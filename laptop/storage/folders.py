"""The way from a bucket's folder down to an object, step by step, so that it never leaves the bucket.

A symbolic link in a bucket's folder could mean any file of this machine. Each folder is opened in the one before, and
none that is a link; what has been opened stays what it is, whatever is put in its place meanwhile (openat(2)).
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from laptop.storage.errors import HttpError

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Without waiting, or a named pipe would hold the server until somebody writes to it."""
KINDS = {
    stat.S_IFLNK: "a symbolic link, which is not followed here",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class Way:
    """The folders from a bucket to one below it, all open; to be closed.

    Args:
        bucket: the bucket's folder.
        parts: names of the folders below it.
        make: whether those that are not there are made.

    Raises:
        FileNotFoundError: one is not there.
        NotADirectoryError: one is a file.
        HttpError: one is a link.
    """

    def __init__(self, bucket: Path, parts: Sequence[str], make: bool = False) -> None:
        self.parts = parts
        self.folders: list[int] = []
        self.old = len(parts) + 1
        """How many of the folders had been there."""
        try:
            self._step(str(bucket), None, bucket.name, make)
            for number, part in enumerate(parts):
                self._step(part, self.folders[-1], "/".join((bucket.name, *parts[: number + 1])), make)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Way":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def end(self) -> int:
        """The last folder."""
        return self.folders[-1]

    def sync(self) -> None:
        """Bring to the disk what was written in the last folder, and every folder that was made."""
        for folder in reversed(self.folders[max(self.old - 1, 0) :]):
            os.fsync(folder)

    def prune(self) -> None:
        """Remove the folders that are empty, from the last one up, and bring that to the disk."""
        left = len(self.parts)
        with contextlib.suppress(OSError):
            while left:
                os.rmdir(self.parts[left - 1], dir_fd=self.folders[left - 1])
                left -= 1
        os.fsync(self.folders[left])

    def close(self) -> None:
        """Close all of them."""
        while self.folders:
            os.close(self.folders.pop())

    def _step(self, part: str, here: int | None, shown: str, make: bool) -> None:
        try:
            self.folders.append(os.open(part, FOLDER, dir_fd=here))
        except FileNotFoundError:
            if not make:
                raise
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=here)
            self.old = min(self.old, len(self.folders))
            self._step(part, here, shown, make=False)
        except OSError:
            refuse_other(os.stat(part, dir_fd=here, follow_symlinks=False), shown)
            raise


def file_stat(folder: int, part: str, shown: str) -> os.stat_result | None:
    """What the file ``part`` of a folder is like; None if there is none, or a folder.

    Raises:
        HttpError: it is a link, or nothing that has content.
    """
    try:
        found = os.stat(part, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    refuse_other(found, shown)
    return found if stat.S_ISREG(found.st_mode) else None


def open_file(folder: int, part: str, shown: str) -> BinaryIO:
    """The file ``part`` of a folder, to read.

    Raises:
        FileNotFoundError: there is none.
        IsADirectoryError: it is a folder.
        HttpError: it is a link, or nothing that has content.
    """
    try:
        handle = os.open(part, FILE, dir_fd=folder)
    except OSError:
        refuse_other(os.stat(part, dir_fd=folder, follow_symlinks=False), shown)
        raise
    try:
        refuse_other(os.fstat(handle), shown)
        return os.fdopen(handle, "rb")  # says so itself of a folder
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(handle)
        raise


def refuse_other(found: os.stat_result, shown: str) -> None:
    """Refuse what is neither a file nor a folder.

    Raises:
        HttpError: 403, with its name and what it is.
    """
    kind = KINDS.get(stat.S_IFMT(found.st_mode))
    if kind is not None:
        raise HttpError(403, "forbidden", f"{shown} is {kind}: remove it from the bucket's folder")


def sync(path: Path) -> None:
    """Bring a file, or what lies in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def others(bucket: Path) -> Iterator[str]:
    """What lies in a bucket's folder and is neither a file nor a folder, each with what it is."""
    for folder, folders, files in os.walk(bucket):
        for name in (*folders, *files):
            path = Path(folder, name)
            kind = KINDS.get(stat.S_IFMT(path.lstat().st_mode))
            if kind is not None:
                yield f"{path.relative_to(bucket.parent)} is {kind}"
