"""History in files: the lines of local files or of objects, each with its place."""

import codecs
import glob
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import apache_beam as beam
from google.api_core.exceptions import NotFound
from google.cloud import storage  # type: ignore[attr-defined]

from dataflow.reading import Source
from schemas.envelope import MAX_MESSAGE_BYTES
from schemas.storage_uri import SCHEME, StorageUri

GZIP = b"\x1f\x8b"
"""How a gzip file begins, and no JSON."""
PACKED = {
    GZIP: "packed by gzip twice",
    b"PK\x03\x04": "a zip file",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ\x00": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
    b"PAR1": "a Parquet file",
    b"Obj\x01": "an Avro file",
}
"""How files begin that have no lines of JSON, and what they are. Looked at when gzip's packing is off."""
HEAD_BYTES = 6
"""As many as the longest of them, and enough to tell an encoding."""
MAX_LINE_BYTES = MAX_MESSAGE_BYTES
"""What is larger could not be published either."""
BEGINNING_BYTES = 100_000
"""Of what is refused for its size or its packing so much is kept with the reason, to be recognised by."""
CHUNK_BYTES = 1024 * 1024


Readable = io.BufferedReader | gzip.GzipFile


class NoSuchFileError(ValueError):
    """A pattern names nothing."""


def files_of(patterns: str, project: str | None) -> list[str]:
    """The files that comma-separated patterns name.

    Args:
        patterns: paths of this machine, or ``gs://bucket/prefix*``.
        project: for Cloud Storage.

    Raises:
        NoSuchFileError: a pattern names nothing; better now than an empty archive.
    """
    found: dict[str, None] = {}  # each once, whatever patterns name it
    named = [part.strip() for part in patterns.split(",") if part.strip()]
    if not named:
        raise NoSuchFileError(f"{patterns!r} names no file")
    for pattern in named:
        matches = _objects_of(pattern, project) if pattern.startswith(SCHEME) else _paths_of(pattern)
        if not matches and Path(pattern).is_dir():
            raise NoSuchFileError(f"{pattern} is a folder: name the files in it, such as {Path(pattern) / '*.json'}")
        if not matches:
            raise NoSuchFileError(f"{pattern}: there is no such file")
        found |= dict.fromkeys(matches)
    return list(found)


def _paths_of(pattern: str) -> list[str]:
    if Path(pattern).is_file():  # also one that has a * or a [ in its own name
        return [pattern]
    return sorted(path for path in glob.glob(pattern) if Path(path).is_file())


def _objects_of(pattern: str, project: str | None) -> list[str]:
    try:
        wanted = StorageUri.parse(pattern)
    except ValueError:
        wanted = StorageUri("")
    if not wanted.path:
        raise NoSuchFileError(f"{pattern}: expected gs://BUCKET/PATTERN")
    try:
        blobs = list(storage.Client(project=project).list_blobs(wanted.bucket, match_glob=wanted.path))
    except NotFound:
        raise NoSuchFileError(f"{pattern}: there is no bucket {wanted.bucket}") from None
    return [str(StorageUri(wanted.bucket, blob.name)) for blob in blobs if not blob.name.endswith("/")]


class ReadLines(beam.DoFn):
    """From a file's name to its lines; one that is packed by gzip is unpacked. An empty line is none.

    Whatever a file holds, it does not end the job: a line that can be no document comes out with the reason
    (:attr:`dataflow.reading.Source.refused`), and so does a file that has no lines of text at all, or breaks off. No
    more than :data:`MAX_LINE_BYTES` of a file are held at a time.

    Args:
        project: for Cloud Storage.
    """

    def __init__(self, project: str | None) -> None:
        self._project = project

    def process(self, path: str) -> Iterator[Source]:
        """Read one file, line by line."""
        with self._open(path) as file:
            # A name that is no text, as a file system may have, would be none in a letter either.
            yield from _documents(file, path.encode(errors="backslashreplace").decode())

    def _open(self, path: str) -> io.BufferedReader:
        if not path.startswith(SCHEME):
            return Path(path).open("rb")
        uri = StorageUri.parse(path)
        # Raw: an object that was uploaded with `Content-Encoding: gzip` comes as it lies there.
        blob = storage.Client(project=self._project).bucket(uri.bucket).blob(uri.path)
        return io.BufferedReader(cast(io.RawIOBase, blob.open("rb", raw_download=True)))


def _documents(file: io.BufferedReader, path: str) -> Iterator[Source]:
    packed = file.peek(len(GZIP))[: len(GZIP)] == GZIP
    # No buffer around it: where the packing breaks, one would lose the lines that it held.
    text: Readable = gzip.GzipFile(fileobj=file) if packed else file
    number = 0
    try:
        why = _no_text(text.peek(HEAD_BYTES)[:HEAD_BYTES])
        if why:
            yield Source(text.read(BEGINNING_BYTES), f"{path}:1", refused=f"{path} {why}")
            return
        for number, (line, size) in enumerate(_lines(text), 1):
            document = line.removeprefix(codecs.BOM_UTF8).strip()  # also in mid-file, where two were put together
            if document:
                yield Source(document, f"{path}:{number}", refused=_no_document(document, size))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        yield Source(
            b"",
            f"{path}:{number + 1}",
            refused=f"{path} is broken after line {number} ({error}): the lines before are filed, what follows cannot "
            "be unpacked. File it again, whole: a record that is filed twice counts once",
        )


def _lines(file: Readable) -> Iterator[tuple[bytes, int]]:
    """Each line and its size; of one above :data:`MAX_LINE_BYTES` the beginning."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        size, last = len(line), line
        if size > MAX_LINE_BYTES:
            line = line[:BEGINNING_BYTES]
        while size > MAX_LINE_BYTES and not last.endswith(b"\n") and (last := file.readline(CHUNK_BYTES)):
            size += len(last)
        yield line, size


def _no_text(head: bytes) -> str:
    """Why what begins with ``head`` has no lines of JSON; empty if it may have."""
    for magic, name in PACKED.items():
        if head.startswith(magic):
            return f"is {name}: unpack it, or pack it by gzip, once"
    encoding = json.detect_encoding(head)  # by its byte order mark, or by its zeros: RFC 4627, section 3
    if encoding.startswith("utf-8"):
        return ""
    return f"is written in {encoding.upper()}: write it in UTF-8, as JSON is (iconv -f {encoding.upper()} -t UTF-8)"


def _no_document(line: bytes, size: int) -> str:
    """Why a line can be no document, whatever the use case; empty if it may be one."""
    what = ""
    if size > MAX_LINE_BYTES:
        what = (
            f"the line has {size:,} bytes, and a document has at most {MAX_LINE_BYTES:,}: this letter holds its "
            "beginning, the file all of it"
        )
    if line.startswith(b"["):
        array = "the line is a JSON array, and a file has a document a line: jq -c '.[]' FILE writes an array so"
        what = f"{what}; {array}" if what else array
    return what
