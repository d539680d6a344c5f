"""How the objects of the archive bucket are named, and which of them hold its documents. All that write the archive
name them by this; all that read it (conversion, verify, replay, quality) look at these and name the others, whoever put
them there."""

import re
from datetime import date

SUFFIX = ".json"
"""How the name of each object of documents ends."""
PAYLOADS = "archive/dead-letters/payloads/"
"""Below it lies what is too large for a dead letter: no documents, and no day."""
_NAME = re.compile(r"archive/(?P<topic>[a-z-]+)/dt=(?P<day>[^/]*)/(?P<file>[^/]*)")
_FORM = "[A-Za-z0-9][A-Za-z0-9._-]*"
_FILE = re.compile(_FORM + re.escape(SUFFIX))
"""What Spark, Hadoop and every file system read as it stands: no glob, no colon, no backslash, no hidden file."""


def days_of(topic: str) -> str:
    """How the folders of a topic's days begin; a day follows, ``YYYY-MM-DD``."""
    return f"archive/{topic}/dt="


def object_name(topic: str, day: date | str, stem: str) -> str:
    """``archive/<topic>/dt=<event date>/<stem>.json``.

    Args:
        day: in UTC; a text has the form ``YYYY-MM-DD``.
        stem: what tells the objects of a day apart.
    """
    return f"{days_of(topic)}{day}/{stem}{SUFFIX}"


def day_of(name: str) -> date:
    """The event date in the name of one of the archive's objects, ``archive/records/dt=2013-03-01/…``."""
    return date.fromisoformat(name.split("/")[2].removeprefix("dt="))


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
        return f"its name is not of the form {_FORM}{SUFFIX}"
    if size == 0:
        return "it is empty"
    return None
