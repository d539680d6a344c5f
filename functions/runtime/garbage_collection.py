"""Configures Python's garbage collector, whose pauses would be the longest that a request encounters."""

import gc
from functools import cache

OBJECTS_BETWEEN = 50_000
"""Number of new objects, net of freed ones, after which the collector examines the young generation. Python's default
of 700 triggers ten collections within one list of a thousand records, all of which are freed by reference counting
when the list is answered."""


@cache
def freeze_gc() -> None:
    """Exclude the objects that exist now (modules, clients, the model) from later collections.

    Call this once these objects exist. Otherwise each full collection traverses some 100,000 objects that live as long
    as the process. A frozen object is still freed when its last reference goes; only reference cycles remain. Imports
    leave few cycles, which do not justify a collection that a new instance's first request would wait for.
    """
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN)
