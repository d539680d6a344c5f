"""History in files: the lines of local files or of objects, each with its place."""

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import apache_beam as beam
from google.cloud import storage  # type: ignore[attr-defined]

from dataflow.reading import Source


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
    found = []
    for pattern in filter(None, (part.strip() for part in patterns.split(","))):
        if pattern.startswith("gs://"):
            bucket, _, name = pattern.removeprefix("gs://").partition("/")
            blobs = storage.Client(project=project).list_blobs(bucket, match_glob=name)
            matches = [f"gs://{bucket}/{blob.name}" for blob in blobs]
        else:
            matches = sorted(glob.glob(pattern))
        if not matches:
            raise NoSuchFile(f"{pattern}: there is no such file")
        found += matches
    return found


class ReadLines(beam.DoFn):
    """From a file's name to its lines. An empty line is none.

    Args:
        project: for Cloud Storage.
    """

    def __init__(self, project: str | None) -> None:
        self._project = project

    def process(self, path: str) -> Iterator[Source]:
        """Read one file, line by line."""
        with self._open(path) as lines:
            for number, line in enumerate(lines, 1):
                document = line.strip()
                if document:
                    yield Source(document, f"{path}:{number}")

    def _open(self, path: str) -> IO[bytes]:
        if not path.startswith("gs://"):
            return Path(path).open("rb")
        bucket, _, name = path.removeprefix("gs://").partition("/")
        return storage.Client(project=self._project).bucket(bucket).blob(name).open("rb")
