"""A small process that ends what another process started, once that one is gone, however it ended.

Run as ``python guard.py GRACE`` by :class:`laptop.children.Guard`. Standard input carries one line for each process
group that is to be watched (``+123``) and for each that has ended (``-123``). The end of that stream means that the
writer is gone: every group left gets SIGTERM and, GRACE seconds later, SIGKILL. The kernel closes the stream even
after ``kill -9``, on every system. Only the standard library is imported, so that it starts at once and stays small.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable


def main() -> None:
    """Watch until the writer is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    end(groups, float(sys.argv[1]))


def end(groups: Iterable[int], grace: float) -> None:
    """End whole process groups: SIGTERM, and after ``grace`` seconds SIGKILL; 0 kills at once."""
    left = [group for group in groups if _signal(group, signal.SIGTERM if grace else signal.SIGKILL)]
    deadline = time.monotonic() + grace
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [group for group in left if _signal(group, 0)]
    for group in left:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS answers so for a group of which only a zombie is left
        return False
    return True


if __name__ == "__main__":
    main()
