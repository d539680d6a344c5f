"""A process that must not outlive the one that started it."""

import os
import signal
import threading
import time

LOOK_EVERY_SECONDS = 0.3
STOP_SECONDS = 60.0
"""Longer than any server takes to end in order."""


def end_with_parent() -> None:
    """Send this process SIGTERM once its parent has gone, however that ended; SIGKILL if that does not end it.

    Works wherever processes have parents.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
