"""History on this machine is uploaded before it is filed."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from google.cloud.storage import Blob

from lunation.backfill import BackfillError, _in_bucket
from lunation.clients import Clients
from lunation.deploy.names import build_bucket
from lunation.settings import load
from tests.support import ServerProcess


def test_files_of_one_name_from_several_folders_are_all_uploaded(
    serve: Callable[..., ServerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None takes the place of another, and a folder that the pattern names as well is no file."""
    for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(variable, "")  # the clients set them; they are put back afterwards
    server = serve("storage")
    clients = Clients(load().target("laptop").model_copy(update={"endpoints": server.state / "endpoints.json"}))
    bucket = clients.storage.create_bucket(build_bucket(clients.target))
    for day in ("monday", "tuesday"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "records.json").write_text(day)
    (tmp_path / "wednesday" / "records.json").mkdir(parents=True)
    pattern = _in_bucket(clients, str(tmp_path / "*" / "records.json"), "backfill/x")
    assert pattern == f"gs://{bucket.name}/backfill/x/*"
    uploaded = [blob.download_as_text() for blob in bucket.list_blobs(match_glob="backfill/x/*")]
    assert sorted(uploaded) == ["monday", "tuesday"]
    with pytest.raises(BackfillError, match="no such file"):
        _in_bucket(clients, str(tmp_path / "sunday" / "*"), "backfill/y")


def test_a_folder_and_a_file_that_cannot_be_read_are_told(
    serve: Callable[..., ServerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, with what to write instead; nothing is launched."""
    for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(variable, "")  # the clients set them; they are put back afterwards
    server = serve("storage")
    clients = Clients(load().target("laptop").model_copy(update={"endpoints": server.state / "endpoints.json"}))
    bucket = clients.storage.create_bucket(build_bucket(clients.target))
    with pytest.raises(BackfillError, match=r"is a folder: name the files in it, such as '.*/\*\.json'"):
        _in_bucket(clients, str(tmp_path), "backfill/x")
    (tmp_path / "re\udce9cords\n.json").touch()
    _in_bucket(clients, str(tmp_path / "re*.json"), "backfill/z")
    (blob,) = bucket.list_blobs(prefix="backfill/z/")
    assert blob.name == "backfill/z/000000-re\\udce9cords_.json", "whatever its name, it is an object's"
    (tmp_path / "records.json").touch()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Blob, "upload_from_filename", refuse)  # whoever runs the tests may be allowed everything
    with pytest.raises(BackfillError, match=r"records\.json cannot be read: Permission denied"):
        _in_bucket(clients, str(tmp_path / "records.json"), "backfill/y")
