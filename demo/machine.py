"""What is wrong with this machine, when something fails on it: in one line, with what to do."""

import errno
import json
import shutil
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from laptop.ports import is_free
from laptop.supervisor import Supervisor

FULL_BYTES = 50_000_000
"""With less free than that, a disk counts as full: whoever failed has given back what it could not write."""

FREED_SECONDS = 10.0
"""So long may servers that were killed with their supervisor still hold their ports."""


def port_in_use(state: Path, seconds: float = FREED_SECONDS) -> str | None:
    """Which of the ports that ``state`` keeps another program has; None if all are free, or none is kept yet.

    Raises:
        laptop.supervisor.SupervisorError: the servers of ``state`` run already.
    """
    with Supervisor(state, only=[]):
        known = json.loads((state / "endpoints.json").read_text())
        deadline = time.monotonic() + seconds
        for service, addresses in known.items():
            for address in addresses.values():
                port = urlsplit(address if "//" in address else f"//{address}").port or 0
                while not is_free(port):
                    if time.monotonic() > deadline:
                        return f"port {port}, which {service} had so far, is in use{_by(port)}: end that program first"
                    time.sleep(0.2)
    return None


def _by(port: int) -> str:
    try:
        found = next(one for one in psutil.net_connections("tcp") if one.laddr and one.laddr.port == port and one.pid)
        return f" by process {found.pid} ({psutil.Process(found.pid).name()})"
    except (StopIteration, psutil.Error):  # not every system tells whose a port is
        return " by another program"


def why(error: Exception, state: Path) -> str:
    """Say what ``error`` means for somebody who runs this on ``state``."""
    number = getattr(error, "errno", None)
    place = getattr(error, "filename", None) or state
    for folder in (state, Path(tempfile.gettempdir())):
        there = next(one for one in (folder, *folder.parents) if one.exists())
        free = shutil.disk_usage(there).free
        if free < FULL_BYTES:
            return (
                f"the disk of {folder} is full ({free / 1e6:.0f} MB are free): make room there and begin again. {error}"
            )
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk, or your share of it, is full at {place}: make room there and begin again"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        return (
            f"{place} cannot be written ({error.strerror}): work in a copy of the project that is yours, on a disk "  # type: ignore[attr-defined]
            "that may be written"
        )
    if number == errno.EADDRINUSE:
        return f"a port is in use by another program: end it, or begin again, which takes other ports. {error}"
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
