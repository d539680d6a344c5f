"""History in files: the lines of local files or of objects, each with its place."""

import glob
import gzip
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import apache_beam as beam
from google.api_core.exceptions import NotFound
from google.cloud import storage  # type: ignore[attr-defined]

from dataflow.reading import Source

GZIP = b"\x1f\x8b"
"""How a gzip file begins, and no JSON."""


class NoSuchFile(ValueError):
    """A pattern names nothing."""


def files_of(patterns: str, project: str | None) -> list[str]:
    """The files that comma-separated patterns name.

    Args:
        patterns: paths of this machine, or ``gs://bucket/prefix*``.
        project: for Cloud Storage.

    Raises:
        NoSuchFile: a pattern names nothing; better now than an empty archive.
    """
    found: dict[str, None] = {}  # each once, whatever patterns name it
    named = [part.strip() for part in patterns.split(",") if part.strip()]
    if not named:
        raise NoSuchFile(f"{patterns!r} names no file")
    for pattern in named:
        matches = _objects_of(pattern, project) if pattern.startswith("gs://") else _paths_of(pattern)
        if not matches:
            raise NoSuchFile(f"{pattern}: there is no such file")
        found |= dict.fromkeys(matches)
    return list(found)


def _paths_of(pattern: str) -> list[str]:
    if Path(pattern).is_file():  # also one that has a * or a [ in its own name
        return [pattern]
    return sorted(path for path in glob.glob(pattern) if Path(path).is_file())


def _objects_of(pattern: str, project: str | None) -> list[str]:
    bucket, _, name = pattern.removeprefix("gs://").partition("/")
    if not bucket or not name:
        raise NoSuchFile(f"{pattern}: expected gs://BUCKET/PATTERN")
    try:
        blobs = list(storage.Client(project=project).list_blobs(bucket, match_glob=name))
    except NotFound:
        raise NoSuchFile(f"{pattern}: there is no bucket {bucket}") from None
    return [f"gs://{bucket}/{blob.name}" for blob in blobs if not blob.name.endswith("/")]


class ReadLines(beam.DoFn):
    """From a file's name to its lines; one that is packed by gzip is unpacked. An empty line is none.

    Args:
        project: for Cloud Storage.
    """

    def __init__(self, project: str | None) -> None:
        self._project = project

    def process(self, path: str) -> Iterator[Source]:
        """Read one file, line by line."""
        with self._open(path) as file:
            packed = file.peek(2)[:2] == GZIP
            lines: Iterable[bytes] = gzip.open(file) if packed else file  # noqa: SIM115  # it closes with the file
            for number, line in enumerate(lines, 1):
                document = line.strip()
                if document:
                    yield Source(document, f"{path}:{number}")

    def _open(self, path: str) -> io.BufferedReader:
        if not path.startswith("gs://"):
            return Path(path).open("rb")
        bucket, _, name = path.removeprefix("gs://").partition("/")
        # Raw: an object that was uploaded with `Content-Encoding: gzip` comes as it lies there.
        blob = storage.Client(project=self._project).bucket(bucket).blob(name)
        return io.BufferedReader(cast(io.RawIOBase, blob.open("rb", raw_download=True)))
