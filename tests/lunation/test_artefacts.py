"""What is shipped is reproducible, complete, and holds nothing else."""

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lunation.deploy import artefacts
from lunation.deploy.releases import staged


@pytest.fixture(autouse=True)
def _own_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefacts, "BUILD", tmp_path / "build")


@pytest.mark.parametrize("unit", ["ingest_fast", "classify", "submit"])
def test_staging_twice_gives_the_same_bytes(unit: str) -> None:
    """Equal sources, equal hash: a deployment without changes changes nothing."""
    first = artefacts.stage_function(unit)
    content = first.path.read_bytes()
    second = artefacts.stage_function(unit)
    assert (second.sha256, second.object_name) == (first.sha256, first.object_name)
    assert second.path.read_bytes() == content


def test_a_staged_function_holds_its_files_and_what_it_imports() -> None:
    """main.py and requirements.txt at the root, the shared packages beside them, no caches."""
    names = set(zipfile.ZipFile(artefacts.stage_function("classify").path).namelist())
    assert {"main.py", "requirements.txt", "handler.py", "schemas/record.py", "functions/runtime/push.py"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests/", "laptop/"))]


def test_a_zip_depends_on_nothing_but_its_files(tmp_path: Path) -> None:
    """Not on times, modes, the order of a folder or the machine's way to compress."""
    (tmp_path / "b").mkdir()
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b" / "c.py").write_text("2" * 1000)
    (tmp_path / "a.py").chmod(0o600)
    os.utime(tmp_path / "a.py", (1, 1))
    made = tmp_path.parent / f"{tmp_path.name}.zip"
    artefacts._write_zip(tmp_path, made)
    expected = "be3d05ed8c379d8551b953b331a858cf5c13d473beca6e67d2126837d3365312"
    assert hashlib.sha256(made.read_bytes()).hexdigest() == expected


def test_a_release_is_the_hash_of_all_it_ships(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Equal sources, equal id; and every artefact's hash is that of the bytes and of the list of its files."""
    first, second = staged(), staged()
    assert first.id == second.id
    for artefact in first.artefacts.all():
        assert hashlib.sha256(artefact.path.read_bytes()).hexdigest() == artefact.sha256
        assert artefact.label in artefact.object_name or artefact.object_name.startswith("spark/")
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for _, digest, _ in artefacts.contents(artefact))


def test_the_staged_spark_code_imports_with_nothing_else_on_the_path() -> None:
    """The drivers find all they import in the zip."""
    files = {artefact.path.name: artefact for artefact in artefacts.stage_spark()}
    assert set(files) == {"convert.py", "train.py", "evaluate.py", "lunation_spark.zip"}
    program = "import sys; sys.path.insert(0, sys.argv[1]); import spark.features, spark.export, schemas; print('ok')"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(files["lunation_spark.zip"].path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd="/",
    )
    assert done.stdout.strip() == "ok", done.stderr
