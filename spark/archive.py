"""Which objects of the archive a conversion reads, and which it leaves out and names."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.archive_objects import why_not
from spark import objects
from spark.job import Job

UNSEEN_BY_SPARK = ("_", ".")
"""Files whose names begin so, Spark takes for its own, and passes over."""
LARGE_BYTES = 4 * 1024 * 1024
"""Limit, in bytes, for an object that is read as a whole. Larger ones, up to some hundreds of MB, are read by line."""
_URI = re.compile(r"gs://[^\s'\",;]+")


@dataclass(frozen=True)
class Listing:
    """What lies below ``archive/<topic>``."""

    ours: Mapping[str, str]
    """URI of each object of the archive, with the MD5 of its content in base64."""
    odd: Mapping[str, str]
    """URI of each other object, with the reason why it is none of the archive's."""
    large: Collection[str] = frozenset()
    """Those of the archive's that are too large to be held in memory as a whole."""

    def without(self, aside: Mapping[str, str]) -> "Listing":
        """This without the objects that are set ``aside``, which are named with their reasons."""
        mine = {uri: why for uri, why in aside.items() if uri in self.ours}
        ours = {uri: md5 for uri, md5 in self.ours.items() if uri not in mine}
        return Listing(ours, {**self.odd, **mine}, self.large)


def listed(storage: Any, job: Job, topic: str) -> Listing:
    """The objects below ``archive/<topic>``."""
    ours, odd, large = {}, {}, set()
    for uri, found in objects.listed(storage, f"{job.archive}/archive/{topic}").items():
        why = why_not(uri.removeprefix(f"{job.archive}/"), found.size)
        if why is None:
            ours[uri] = found.md5
            if found.size > LARGE_BYTES:
                large.add(uri)
        else:
            odd[uri] = why
    return Listing(ours, odd, large)


def new_paths(listing: Listing, known: Collection[str]) -> list[str]:
    """What to read: the folder of a day of which nobody has read anything, which Spark lists by itself, else single
    objects. So is it in a folder with a large object, which is read otherwise, or with an odd one, which would be read
    along, or stop Spark in its listing."""
    # A placeholder is a folder to Spark, and no obstacle.
    odd = {
        uri for uri in listing.odd if not uri.endswith("/") and not uri.rpartition("/")[2].startswith(UNSEEN_BY_SPARK)
    }
    mixed = {uri[:end] for uri in (*odd, *listing.large) for end in range(len(uri)) if uri[end] == "/"}
    folders: dict[str, list[str]] = defaultdict(list)
    for uri in listing.ours:
        folders[uri.rpartition("/")[0]].append(uri)
    paths = []
    for folder, uris in sorted(folders.items()):
        new = [uri for uri in uris if uri not in known]
        paths += [folder] if len(new) == len(uris) and folder not in mixed else sorted(new)
    return paths


def below(paths: Sequence[str], listing: Listing) -> list[str]:
    """The objects that the ``paths`` to read stand for."""
    wanted = set(paths)
    return [uri for uri in listing.ours if uri in wanted or uri.rpartition("/")[0] in wanted]


def blamed(error: Exception, before: Listing, after: Listing) -> dict[str, str]:
    """The objects on which a reading has failed, with reasons: those that the ``error`` names, and those that are
    listed no longer."""
    named = {uri.rstrip(".") for uri in _URI.findall(str(error))} & before.ours.keys()
    gone = before.ours.keys() - after.ours.keys()
    return dict.fromkeys(sorted(named), "Spark could not read it") | dict.fromkeys(
        sorted(gone), "it was gone before it could be read"
    )
