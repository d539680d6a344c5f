"""The address of an object of Cloud Storage as Google's tools write it: ``gs://bucket/path``."""

from dataclasses import dataclass

SCHEME = "gs://"
"""What such an address begins with, and no path of a machine."""


@dataclass(frozen=True)
class StorageUri:
    """A bucket, or an object in it, or the prefix or pattern of several."""

    bucket: str
    path: str = ""
    """The object's name, without a slash before it; empty for the bucket itself."""

    @classmethod
    def parse(cls, text: str) -> "StorageUri":
        """Read ``gs://bucket`` or ``gs://bucket/path``. Whether there is such a bucket is not looked at.

        Raises:
            ValueError: the text has another form.
        """
        bucket, _, path = text.removeprefix(SCHEME).partition("/")
        if not text.startswith(SCHEME) or not bucket:
            raise ValueError(f"{text!r} is no address in Cloud Storage: write {SCHEME}BUCKET/PATH")
        return cls(bucket, path)

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.path}" if self.path else f"{SCHEME}{self.bucket}"
