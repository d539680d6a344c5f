"""Builds what is shipped: ``build/<unit>/`` holds exactly that, and equal sources give equal bytes.

A zip holds its files in order of their names, with one date, one mode and no compression: compressed, its bytes would
depend on the machine's zlib. So its SHA-256 tells its content, wherever it was made.
"""

import hashlib
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lunation.settings import ROOT

BUILD = ROOT / "build"
FUNCTIONS = ("ingest_fast", "classify", "submit")
"""The folders below ``functions/`` that are deployed."""
SHARED = ("schemas", "telemetry")
"""What every unit may import, and is shipped with."""
SERVED = ("model.py", "trial.py")
"""Of ``functions/classify``, what the jobs import, too."""
_TIMESTAMP = (2000, 1, 1, 0, 0, 0)
_LEFT_OUT = {"__pycache__", ".mypy_cache", ".ruff_cache", "requirements.in"}


@dataclass(frozen=True)
class Artefact:
    """One staged file.

    Args:
        path: where it is on this machine.
        object_name: where it goes in the build bucket; the content's hash is part of it, so it never changes.
        sha256: of the bytes.
    """

    path: Path
    object_name: str
    sha256: str

    @property
    def label(self) -> str:
        """A short hash that fits a label's value."""
        return self.sha256[:12]


@dataclass(frozen=True)
class Artefacts:
    """All that one release ships.

    Args:
        functions: source zips, by the unit's folder.
        dataflow: the content of the archive pipeline's template.
        spark: the drivers, and the zip of packages that they import.
        template: the Dataproc workflow template, with placeholders.
        workflow: the retraining workflow.
    """

    functions: dict[str, Artefact]
    dataflow: Artefact
    spark: list[Artefact]
    template: Artefact
    workflow: Artefact

    def all(self) -> list[Artefact]:
        """Every one of them."""
        return [*self.functions.values(), self.dataflow, *self.spark, self.template, self.workflow]


def stage() -> Artefacts:
    """Build everything from the sources."""
    spark = stage_spark()
    return Artefacts(
        functions={unit: stage_function(unit) for unit in FUNCTIONS},
        dataflow=stage_dataflow(),
        spark=spark,
        template=_as_it_is(ROOT / "spark" / "template.yaml"),
        workflow=_as_it_is(ROOT / "workflows" / "retrain.yaml"),
    )


def stage_function(unit: str) -> Artefact:
    """The source zip of ``functions/<unit>``: its files at the root, and the packages it imports."""
    folder = _fresh(unit)
    _copy(ROOT / "functions" / unit, folder)
    _copy(ROOT / "functions" / "runtime", folder / "functions" / "runtime")
    for shared in SHARED:
        _copy(ROOT / shared, folder / shared)
    return _zipped(unit, folder)


def stage_dataflow() -> Artefact:
    """The template's content: what ``dataflow/Dockerfile`` copies, with the Dockerfile itself."""
    folder = _fresh("dataflow")
    _copy(ROOT / "dataflow", folder / "dataflow")
    for shared in SHARED:
        _copy(ROOT / shared, folder / shared)
    shutil.copyfile(ROOT / "dataflow" / "Dockerfile", folder / "Dockerfile")
    return _zipped("dataflow", folder)


def stage_spark() -> list[Artefact]:
    """The drivers and the zip of packages that they import, under one prefix that names their common hash."""
    folder = _fresh("spark")
    _copy(ROOT / "spark", folder / "spark")
    for shared in SHARED:
        _copy(ROOT / shared, folder / shared)
    # What a model is tried by before it is promoted: the function's own code. A zip has no folder that is a package
    # without a file that says so.
    served = folder / "functions" / "classify"
    served.mkdir(parents=True)
    for part in (served.parent, served):
        (part / "__init__.py").touch()
    for name in SERVED:
        shutil.copyfile(ROOT / "functions" / "classify" / name, served / name)
    package = BUILD / "lunation_spark.zip"
    _write_zip(folder, package)
    drivers = [ROOT / "spark" / f"{name}.py" for name in ("convert", "train", "evaluate")]
    files = [*drivers, package]
    together = hashlib.sha256("".join(_sha256(path) for path in files).encode()).hexdigest()[:12]
    return [Artefact(path, f"spark/{together}/{path.name}", _sha256(path)) for path in files]


def contents(artefact: Artefact) -> list[tuple[str, str, int]]:
    """``(name, SHA-256, bytes)`` of every file in a zip; of the file itself, if it is none."""
    if not zipfile.is_zipfile(artefact.path):
        return [(artefact.path.name, artefact.sha256, artefact.path.stat().st_size)]
    with zipfile.ZipFile(artefact.path) as archive:
        return [
            (entry.filename, hashlib.sha256(archive.read(entry)).hexdigest(), entry.file_size)
            for entry in archive.infolist()
        ]


def read_entry(artefact: Artefact, name: str) -> bytes:
    """One file out of a zip.

    Raises:
        KeyError: it is not in it.
    """
    with zipfile.ZipFile(artefact.path) as archive:
        return archive.read(name)


def _as_it_is(path: Path) -> Artefact:
    digest = _sha256(path)
    return Artefact(path, f"{path.parent.name}/{digest[:12]}/{path.name}", digest)


def _fresh(unit: str) -> Path:
    folder = BUILD / unit
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(
        source, target, dirs_exist_ok=True, ignore=lambda _, names: [name for name in names if name in _LEFT_OUT]
    )


def _zipped(unit: str, folder: Path) -> Artefact:
    path = BUILD / f"{unit}.zip"
    _write_zip(folder, path)
    digest = _sha256(path)
    return Artefact(path, f"{unit}/{digest[:12]}.zip", digest)


def _write_zip(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in _files(folder):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _TIMESTAMP)
            entry.create_system = 3  # Unix, wherever it is made
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes())


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
