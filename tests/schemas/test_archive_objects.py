"""Which objects are the archive's."""

import pytest

from schemas.archive_objects import why_not


@pytest.mark.parametrize(
    "name",
    [
        "archive/records/dt=2013-01-01/backfill-0-00-0123456789abcdef.json",
        "archive/labels/dt=2013-01-01/20130101T000000-0-03-0123456789abcdef.json",
        "archive/dead-letters/dt=1850-01-01/mine.json",
    ],
)
def test_what_the_archive_writes_is_its_own(name: str) -> None:
    """An object that the pipeline files, or that somebody files like it, is read."""
    assert why_not(name, 1) is None


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("archive/records/dt=2013-01-01/a:b.json", 9, "its name is not of the form"),
        ("archive/records/dt=2013-01-01/a*[x]{y}?.json", 9, "its name is not of the form"),
        ("archive/records/dt=2013-01-01/back\\slash.json", 9, "its name is not of the form"),
        ("archive/records/dt=2013-01-01/x.json.gz", 9, "its name is not of the form"),
        ("archive/records/dt=2013-01-01/_hidden.json", 9, "its name is not of the form"),
        ("archive/records/dt=2013-01-01/", 0, "its name is not of the form"),
        ("archive/records/dt=2013-01-01/in/side.json", 9, "it lies outside"),
        ("archive/records/x.json", 9, "it lies outside"),
        ("archive/records/dt=yesterday/a.json", 9, "its folder dt=yesterday is no day"),
        ("archive/records/dt=20130101/a.json", 9, "its folder dt=20130101 is no day"),
        ("archive/records/dt=2013-01-01/a.json", 0, "it is empty"),
    ],
)
def test_what_somebody_put_there_is_told_apart(name: str, size: int, reason: str) -> None:
    """An object that is none of the archive's is left alone by every reader, with a reason to show."""
    found = why_not(name, size)
    assert found is not None
    assert found.startswith(reason)
