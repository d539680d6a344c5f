"""Keeps the payload of a dead letter that is too large to be published.

Pub/Sub takes messages of up to 10 MB, and in base64 a payload grows by a third. One such message that could never be
refused would come again for ever, and hold up all that is read with it.
"""

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from google.cloud import storage  # type: ignore[attr-defined]

from dataflow.archive_sink import create_once
from schemas import DeadLetter
from schemas.dead_letter import named_id

MAX_LETTER_BYTES = 9_000_000


class ArchiveOversizedPayloads(beam.DoFn):
    """Lets dead letters through; the payload of one that is too large becomes an object, which the letter names.

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

    def process(self, letter: bytes) -> Iterator[bytes]:
        """Look at one dead letter."""
        yield letter if len(letter) <= MAX_LETTER_BYTES else self._without_payload(letter)

    def _without_payload(self, letter: bytes) -> bytes:
        read = DeadLetter.model_validate_json(letter)
        payload = base64.b64decode(read.payload_base64)
        name = f"archive/dead-letters/payloads/{hashlib.sha256(payload).hexdigest()}"
        name = create_once(self._bucket, name, payload, "application/octet-stream")
        beside: dict[str, Any] = {"payload_base64": "", "payload_uri": f"gs://{self._bucket_name}/{name}"}
        if record_id := named_id(payload):
            beside["attributes"] = {"record_id": record_id, **read.attributes}
        return read.model_copy(update=beside).model_dump_json().encode()
