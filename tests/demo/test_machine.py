"""What is wrong with the machine is told in one line, with what to do."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from google.api_core.exceptions import InternalServerError

from demo.machine import port_in_use, why
from laptop.ports import HOST, free_port
from laptop.supervisor import Supervisor, SupervisorError


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the error itself, or by what is left when a server could not write and only said that it failed."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/records.json")
    assert why(full, tmp_path) == (
        "the disk, or your share of it, is full at /data/records.json: make room there and begin again"
    )
    failed = InternalServerError("storage")
    assert why(failed, tmp_path).startswith("InternalServerError: 500 storage")
    left = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: left)
    assert why(failed, tmp_path / "none").startswith(f"the disk of {tmp_path / 'none'} is full (1 MB are free): make")


def test_a_place_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    """A folder of somebody else's, a disk mounted to be read, a file where a folder is to be."""
    (tmp_path / "file").touch()
    try:
        Supervisor(tmp_path / "file" / "state").__enter__()
    except OSError as error:
        told = why(error, tmp_path)
    assert told.startswith(f"{tmp_path}/file/state cannot be written (Not a directory): work in a copy")
    for number in (errno.EROFS, errno.EACCES):
        assert "/x cannot be written" in why(OSError(number, os.strerror(number), "/x"), tmp_path)


def test_a_port_that_another_program_has_is_named_with_it(tmp_path: Path) -> None:
    """Before the servers start, one of which would else start again and again until a minute is over."""
    import socket

    with Supervisor(tmp_path, only=[]):
        pass
    assert port_in_use(tmp_path) is None
    port = free_port()
    (tmp_path / "endpoints.json").write_text(
        f'{{"pubsub": {{"http": "http://{HOST}:{free_port()}", "grpc": "{HOST}:{port}"}}}}'
    )
    assert port_in_use(tmp_path) is None
    with socket.create_server((HOST, port)):
        told = port_in_use(tmp_path, 0.1)
    assert told is not None
    assert told.startswith(f"port {port}, which pubsub had so far, is in use by process {os.getpid()} (")
    with Supervisor(tmp_path, only=[]), pytest.raises(SupervisorError, match="run already"):
        port_in_use(tmp_path)
