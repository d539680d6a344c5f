"""Promises of single objects: created once, the same again is fine, another content never overwrites."""

import pytest

from spark import objects
from spark.job import JobFailed


def test_an_object_is_written_once(folders):
    """The second, equal write succeeds without writing; a different one fails and names the way out."""
    storage = folders
    assert objects.read(storage, "gs://bucket/a/b.json") is None
    objects.write_once(storage, "gs://bucket/a/b.json", b"one")
    objects.write_once(storage, "gs://bucket/a/b.json", b"one")
    with pytest.raises(JobFailed, match=r"gs://bucket/a/b.json exists with another content.*new run id"):
        objects.write_once(storage, "gs://bucket/a/b.json", b"two")
    assert objects.read(storage, "gs://bucket/a/b.json") == b"one"
    assert storage.written == ["bucket/a/b.json"]
