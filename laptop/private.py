"""Folders and files that are this user's alone."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

UMASK = 0o077
"""What a server's process, and all that it starts, makes is for its owner only."""


def folder(path: Path) -> Path:
    """``path``, made if it is not there, and closed to everybody else also if it is.

    Raises:
        PermissionError: it belongs to another user.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.stat().st_mode & UMASK:
        path.chmod(0o700)
    return path


def opener(path: str, flags: int) -> int:
    """For ``open``: a file that it makes is for its owner only, whatever the process's umask says."""
    return os.open(path, flags, 0o600)


def once(path: Path, make: Callable[[], bytes]) -> bytes:
    """What ``path`` holds; what ``make`` answers, if there was nothing.

    Any number of processes may ask at the same time: a hard link makes the file appear whole, and only for the first
    of them.
    """
    if not path.exists():
        folder(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent)  # readable by its owner only
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(make())
                file.flush()
                os.fsync(file.fileno())
            os.link(name, path)
        except FileExistsError:
            pass  # another process was first; what it made counts
        finally:
            os.unlink(name)
    return path.read_bytes()
