"""Which objects of the archive bucket hold its documents. All that read the archive (conversion, verify, replay,
quality) look at these and name the others, whoever put them there."""

import re
from datetime import date

_NAME = re.compile(r"archive/(?P<topic>[a-z-]+)/dt=(?P<day>[^/]*)/(?P<file>[^/]*)")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.json")
"""What Spark, Hadoop and every file system read as it stands: no glob, no colon, no backslash, no hidden file."""


def why_not(name: str, size: int) -> str | None:
    """Why the object ``name`` below ``archive/`` is none of the archive's; None if it is one.

    Args:
        name: without the bucket.
        size: in bytes.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return "it lies outside of the folders archive/<topic>/dt=<day>/"
    try:
        day = date.fromisoformat(found["day"])
    except ValueError:
        return f"its folder dt={found['day']} is no day"
    if day.isoformat() != found["day"]:
        return f"its folder dt={found['day']} is no day of the form YYYY-MM-DD"
    if not _FILE.fullmatch(found["file"]):
        return "its name is not of the form [A-Za-z0-9][A-Za-z0-9._-]*.json"
    if size == 0:
        return "it is empty"
    return None
