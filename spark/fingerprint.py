"""Which code and which packages made a model."""

import hashlib
import platform
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable

PACKAGES = ("numpy", "onnx", "onnxruntime", "pydantic")
"""Installed by pip wherever the jobs run. A cluster has pyspark as files of its Spark, of which pip knows nothing."""


def code_sha256(*packages: str) -> str:
    """Of every source file of ``packages``, or of all that a job runs; from a folder or from the staged zip alike."""
    digest = hashlib.sha256()
    for package in packages or ("schemas", "spark"):
        for name, content in sorted(_sources(files(package), package)):
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def versions(spark: str) -> dict[str, str]:
    """Of Python, Spark and the packages that touch the numbers."""
    return {"python": platform.python_version(), "spark": spark} | {package: version(package) for package in PACKAGES}


def _sources(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _sources(entry, f"{path}/{entry.name}")
        elif entry.name.endswith((".py", ".html", ".md")):
            yield f"{path}/{entry.name}", entry.read_bytes()
