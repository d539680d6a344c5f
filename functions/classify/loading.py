"""Loads a model in a thread. A load may be given up, so a graph that never ends its run delays nobody.

Giving up terminates the load (:class:`.model.Stop`), so that its core is free again. A load that cannot be terminated,
such as one kernel that runs for hours, continues in its thread; the model is not retried meanwhile, so there is at most
one such thread.
"""

import asyncio
from collections.abc import Callable

from schemas import NamedModel

from .model import Model, Stop

SECONDS = 60.0
"""Longest time, in seconds, that a load may take: three files of up to 20 s each (``folder.FILE_SECONDS``), which
usually take a tenth of that, and the checks. The trial before a promotion allows less."""
SLICE_SECONDS = 1.0
"""Length, in seconds, of one wait. An instance may lose its processor during a load: the time without one counts as one
slice only."""

Loader = Callable[[NamedModel, Stop], Model]
"""Loads a model in a thread, or raises the error that keeps it from serving."""


class LoadGivenUpError(Exception):
    """The model did not load in time, or was no longer needed before it had loaded."""


class Load:
    """A load that has started. Belongs to one event loop."""

    def __init__(self, load: Loader, named: NamedModel, seconds: float = SECONDS) -> None:
        self.named = named
        self._stop = Stop()
        self._left = seconds
        self._given_up = False
        self._seconds = seconds
        self._task: asyncio.Future[Model] | None = asyncio.ensure_future(asyncio.to_thread(load, named, self._stop))
        self._task.add_done_callback(_retrieve_exception)

    @property
    def running(self) -> bool:
        """Whether the thread of the load is still running."""
        return self._task is not None and not self._task.done()

    def give_up(self) -> None:
        """Terminate the load. Its model must not be used afterwards: each of its runs would be terminated, too."""
        self._given_up = True
        self._stop.set()

    async def ended(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for the load. Returns whether it has ended.

        Raises:
            LoadGivenUpError: the load took too long and has been given up.
        """
        while seconds > 0 and self.running:
            step = min(SLICE_SECONDS, seconds, self._left)
            try:
                assert self._task is not None
                await asyncio.wait({self._task}, timeout=step)
            except asyncio.CancelledError:  # the instance shuts down and would wait for the thread
                self.give_up()
                raise
            seconds -= step
            self._left -= step
            if self.running and self._left <= 0:
                self.give_up()
                raise LoadGivenUpError(
                    f"it had not loaded and reproduced its golden rows within {self._seconds:g} s, and was given up; "
                    "`lunation rollback` goes back to the model before"
                )
        return not self.running

    def result(self) -> Model:
        """Return the model after the load has ended. Call this once.

        Raises:
            LoadGivenUpError: the load was given up before.
            Exception: the error that made the load fail.
        """
        # Drop the reference to the task: an error's traceback refers to everything that was loaded and to the frame
        # that holds the load. In a reference cycle with the task it would stay, because collections are rare
        # (functions/runtime/garbage_collection.py).
        task, self._task = self._task, None
        assert task is not None
        try:
            if self._given_up:
                raise LoadGivenUpError("it was given up, because nobody asked for it any more")
            return task.result()
        finally:
            del task


def _retrieve_exception(task: "asyncio.Future[Model]") -> None:
    """Retrieve the exception, so that asyncio does not log the failure of a load that nobody awaits any more."""
    if not task.cancelled():
        task.exception()
