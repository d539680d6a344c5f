"""Reads a model's folder from Cloud Storage by Google's client. The calls block, so they run in a thread."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from schemas import NamedModel

from .model import ModelRefusedError

REQUEST_SECONDS = 10.0
"""Timeout, in seconds, of one request to Cloud Storage."""
FILE_SECONDS = 20.0
"""Deadline, in seconds, for reading one file, retries included."""


class Folders:
    """The model folders of one bucket."""

    def __init__(self, project: str, bucket: str) -> None:
        self._project = project
        self._bucket_name = bucket

    def reader(self, named: NamedModel) -> Callable[[str], bytes]:
        """Return a function that reads a file of the model's folder by its name.

        Raises:
            ModelRefusedError: the folder lies in another bucket. The returned function raises it if a file is missing.
        """
        home = f"gs://{self._bucket_name}/"
        if not named.uri.startswith(home):
            raise ModelRefusedError(f"the pointer names {named.uri}; models are served from {home} only")
        folder = named.uri.removeprefix(home).rstrip("/")
        return lambda name: self._read(f"{folder}/{name}")

    def _read(self, path: str) -> bytes:
        # Importing Google's client takes a second, which only an instance that loads a model should spend.
        from google.api_core.exceptions import NotFound
        from google.cloud.storage.retry import DEFAULT_RETRY

        try:
            content: bytes = self._bucket.blob(path).download_as_bytes(
                timeout=REQUEST_SECONDS, retry=DEFAULT_RETRY.with_timeout(FILE_SECONDS)
            )
        except NotFound:
            raise ModelRefusedError(f"there is no gs://{self._bucket_name}/{path}") from None
        return content

    @cached_property
    def _bucket(self) -> Any:
        from google.cloud.storage import Client

        return Client(project=self._project).bucket(self._bucket_name)
