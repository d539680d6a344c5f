"""An address in Cloud Storage is read in one place, and refused with the form that is meant."""

import pytest

from schemas.storage_uri import StorageUri


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gs://acme-archive", StorageUri("acme-archive")),
        ("gs://acme-archive/archive/records", StorageUri("acme-archive", "archive/records")),
        ("gs://acme-archive/history/*.json", StorageUri("acme-archive", "history/*.json")),
        ("gs://acme-archive//odd/", StorageUri("acme-archive", "/odd/")),
    ],
)
def test_an_address_is_a_bucket_and_a_path_and_is_written_as_it_was_read(text: str, expected: StorageUri) -> None:
    """An object's name may begin with a slash, and end with one."""
    assert StorageUri.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize("text", ["", "gs://", "gs:///path", "gs:/bucket/path", "s3://bucket/path", "/bucket/path"])
def test_what_names_no_bucket_is_refused_with_the_form_that_is_meant(text: str) -> None:
    """Without it, ``/bucket/path`` would be an object without a bucket."""
    with pytest.raises(ValueError, match="is no address in Cloud Storage: write gs://BUCKET/PATH"):
        StorageUri.parse(text)
