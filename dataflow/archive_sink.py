"""Writes closed windows as objects: complete or not there, never overwritten, the same when written again.

Beam's own file sinks lose late data (apache/beam#19636, #29515, #32113), so this one names an object by its window,
pane, shard and content.
"""

import hashlib
import logging
import uuid
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import IntervalWindow
from google.api_core.exceptions import Forbidden, PreconditionFailed
from google.cloud import storage  # type: ignore[attr-defined]
from google.cloud.storage.retry import DEFAULT_RETRY

from dataflow.reading import Key
from schemas import archive_objects

log = logging.getLogger(__name__)
RETRY_SECONDS = 120.0
REPLACING = "storage.objects.delete"
"""The permission that Cloud Storage asks for when an object is there already, and names when it is missing
(google-github-actions/upload-cloud-storage#388): "… does not have storage.objects.delete access to the …"."""


def object_name(topic: str, day: str, window: str, pane: int, shard: int, content: bytes) -> str:
    """``archive/<topic>/dt=<event date>/<window>-<pane>-<shard>-<digest>.json``."""
    digest = hashlib.sha256(content).hexdigest()[:16]
    return archive_objects.object_name(topic, day, f"{window}-{pane}-{shard:02d}-{digest}")


def create_once(bucket: storage.Bucket, name: str, content: bytes, content_type: str) -> str:
    """Create an object whose name holds its content's digest; one that is there already counts as written.

    There already: so says 412. But who may create and not delete may be told 403 instead, for to replace an object
    takes :data:`REPLACING` (https://cloud.google.com/storage/docs/json_api/v1/objects/insert), and which of the two is
    looked at first is nowhere said. We may not read, so a refusal is judged by what it names, and if it does not name
    that permission by a second object beside the first: if that one is refused, too, the right to create is missing.

    Returns:
        The name that the content has: another one if it lies in a second object.

    Raises:
        google.api_core.exceptions.Forbidden: nothing can be created.
        google.api_core.exceptions.GoogleAPIError: Cloud Storage did not take it within :data:`RETRY_SECONDS`.
    """
    try:
        _create(bucket, name, content, content_type)
    except PreconditionFailed:
        log.debug("%s is there already", name)
    except Forbidden as error:
        if REPLACING in str(error):
            log.debug("%s is there already, and not ours to replace", name)
            return name
        beside = _beside(name)
        _create(bucket, beside, content, content_type)
        log.warning("%s was refused, %s was not: the first one is taken to be there. %s", name, beside, error)
        return beside
    return name


def _create(bucket: storage.Bucket, name: str, content: bytes, content_type: str) -> None:
    # The default policy retries what is transient; a creation with a generation is safe to retry.
    retry = DEFAULT_RETRY.with_timeout(RETRY_SECONDS)
    bucket.blob(name).upload_from_string(
        content, content_type=content_type, if_generation_match=0, checksum="crc32c", retry=retry
    )


def _beside(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}-{uuid.uuid4().hex[:16]}{path.suffix}"))


def content_of(batches: Iterable[list[bytes]]) -> bytes:
    """The lines in an order that depends on nothing but themselves; a line that came twice stays once."""
    return b"".join(line + b"\n" for line in sorted({line for batch in batches for line in batch}))


class WriteObjects(beam.DoFn):
    """Creates one object for each key, window and pane.

    Args:
        bucket: the archive's bucket.
        project: the project that pays.
    """

    def __init__(self, bucket: str, project: str | None) -> None:
        self._bucket_name = bucket
        self._project = project

    def setup(self) -> None:
        """Open the client where it runs."""
        self._bucket = storage.Client(project=self._project).bucket(self._bucket_name)

    def process(
        self,
        element: tuple[Key, Iterable[list[bytes]]],
        window: Any = beam.DoFn.WindowParam,
        pane: Any = beam.DoFn.PaneInfoParam,
    ) -> Iterator[str]:
        """Write it; answers the object's name."""
        (topic, day, shard), batches = element
        content = content_of(batches)
        if content:  # a window may end after all it had was written early
            name = object_name(topic, day, _window_name(window), max(pane.index, 0), shard, content)
            yield create_once(self._bucket, name, content, "application/json")


def _window_name(window: Any) -> str:
    if isinstance(window, IntervalWindow):
        return f"{window.start.to_utc_datetime():%Y%m%dT%H%M%S}"
    return "backfill"
