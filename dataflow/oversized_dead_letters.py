"""Archives the payload of a dead letter that is too large to be published.

Pub/Sub accepts messages of up to 10 MB, and base64 makes a payload a third larger. A message whose dead letter could
never be published would be redelivered forever, and delay everything that is read with it.
"""

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from google.cloud import storage  # type: ignore[attr-defined]

from dataflow.archive_sink import create_once
from schemas import DeadLetter
from schemas.archive_objects import PAYLOADS
from schemas.dead_letter import named_id
from schemas.storage_uri import StorageUri

MAX_LETTER_BYTES = 9_000_000
"""Limit, in bytes, for a dead letter that keeps its payload."""


class ArchiveOversizedPayloads(beam.DoFn):
    """Passes dead letters on. The payload of an oversized letter becomes an object, which the letter names.

    Args:
        bucket: the archive's bucket.
        project: the project that pays.
    """

    def __init__(self, bucket: str, project: str | None) -> None:
        self._bucket_name = bucket
        self._project = project

    def setup(self) -> None:
        """Open the storage client on the worker."""
        self._bucket = storage.Client(project=self._project).bucket(self._bucket_name)

    def process(self, letter: bytes) -> Iterator[bytes]:
        """Yield one dead letter, without its payload if it is oversized."""
        yield letter if len(letter) <= MAX_LETTER_BYTES else self._without_payload(letter)

    def _without_payload(self, letter: bytes) -> bytes:
        read = DeadLetter.model_validate_json(letter)
        payload = base64.b64decode(read.payload_base64)
        name = f"{PAYLOADS}{hashlib.sha256(payload).hexdigest()}"
        name = create_once(self._bucket, name, payload, "application/octet-stream")
        beside: dict[str, Any] = {"payload_base64": "", "payload_uri": str(StorageUri(self._bucket_name, name))}
        if record_id := named_id(payload):
            beside["attributes"] = {"record_id": record_id, **read.attributes}
        return read.model_copy(update=beside).model_dump_json().encode()
