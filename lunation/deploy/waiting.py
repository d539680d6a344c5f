"""Waiting for what a service does by itself, such as building an index."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PAUSES = (0.2, 5.0)
"""Seconds between two looks: the first, and the longest; each is half as long again as the one before."""


def until(look: Callable[[], T | None], seconds: float, what: str) -> T:
    """What ``look`` returns, once it returns something.

    Args:
        seconds: how long to wait at most, counted by the pauses.
        what: it is that is waited for, in a sentence, for the error.

    Raises:
        TimeoutError: it did not within ``seconds``. What was begun goes on, so the next run finds it further on.
    """
    waited, (pause, longest) = 0.0, PAUSES
    while True:
        found = look()
        if found is not None:
            return found
        if waited >= seconds:
            raise TimeoutError(f"not after {seconds:.0f} s: {what}. It goes on by itself; try again later")
        time.sleep(pause)
        waited += pause
        pause = min(longest, 1.5 * pause)
