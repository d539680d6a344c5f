"""What an earlier run left in the state folder: kept aside, or deleted if a person says so. Records may be theirs."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from laptop.supervisor import Supervisor

NO_STATE = {"logs", "locks"}
"""Folders that hold nothing of anybody's; each of the others is a server's."""


def make_room(state: Path, may_delete: Callable[[str], bool], say: Callable[[str], None]) -> None:
    """Leave ``state`` empty, or with what may be deleted.

    Args:
        may_delete: answers whether the folder that its argument describes may be deleted; else it is kept aside.
        say: is told, in a line, where it is kept.

    Raises:
        laptop.supervisor.SupervisorError: somebody uses it.
        OSError: it cannot be written.
    """
    with Supervisor(state, only=[]):  # so nobody else works on it
        kept = [path for path in state.iterdir() if path.is_dir() and path.name not in NO_STATE]
        if not kept:
            return
        newest = datetime.fromtimestamp(max(path.stat().st_mtime for path in kept)).astimezone()
        if may_delete(f"{state} holds what an earlier run left, last changed {newest:%Y-%m-%d %H:%M}"):
            return
        aside = state.with_name(f"{state.name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
        state.rename(aside)
    say(
        f"what was in {state} is kept in {aside}. To serve it again, move it back: mv {state.name} {state.name}-new && "
        f"mv {aside.name} {state.name}; to delete it: rm -r {aside.name}"
    )
