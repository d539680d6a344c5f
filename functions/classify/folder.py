"""Reads a model's folder from Cloud Storage, with Google's client. Blocking: to be called in a thread."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from schemas import NamedModel

from .model import ModelRefusedError

REQUEST_SECONDS = 10.0
FILE_SECONDS = 20.0
"""With its retries."""


class Folders:
    """The folders of one bucket."""

    def __init__(self, project: str, bucket: str) -> None:
        self._project = project
        self._bucket_name = bucket

    def reader(self, named: NamedModel) -> Callable[[str], bytes]:
        """A function that gives a file of the model's folder by its name.

        Raises:
            ModelRefusedError: it lies in another bucket; so does the returned function for a file that is missing.
        """
        home = f"gs://{self._bucket_name}/"
        if not named.uri.startswith(home):
            raise ModelRefusedError(f"the pointer names {named.uri}; models are served from {home} only")
        folder = named.uri.removeprefix(home).rstrip("/")
        return lambda name: self._read(f"{folder}/{name}")

    def _read(self, path: str) -> bytes:
        # Google's client is a second of imports, which only an instance that loads a model has to spend.
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
