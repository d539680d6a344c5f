"""Python's garbage collector, told what stays: the pauses that it would make are the longest that a request meets."""

import gc
from functools import cache

OBJECTS_BETWEEN = 50_000
"""New objects that are not freed, after which the collector looks at the young ones. Python's own 700 lets it look
ten times within one list of a thousand records, all of which are freed by their last reference when it is answered."""


@cache
def freeze_gc() -> None:
    """Leave out of every later collection what exists now: modules, clients, the model. To be called once they do.

    Without it each full collection walks over some 100,000 objects that live as long as the process. What is
    frozen is still freed when its last reference goes; only cycles among it stay, and imports leave few: it is not
    worth a collection, for which a new instance's first request would wait.
    """
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN)
