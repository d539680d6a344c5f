"""One load of a model, in a thread, which may be given up: a graph that never ends its run must hold up nobody.

Given up, it is ended (:class:`.model.Stop`), so that its core is free again. What even that does not end, such as one
kernel that runs for hours, goes on in its thread; the model is not tried again meanwhile, so there is one such thread.
"""

import asyncio
from collections.abc import Callable

from schemas import NamedModel

from .model import Model, Stop

SECONDS = 60.0
"""Longest that a model may take: three files of up to 20 s each (``folder.FILE_SECONDS``), of which a real one takes
one tenth, and its checks. What is promoted was tried in less."""
SLICE_SECONDS = 1.0
"""An instance may be put to sleep in the middle of a load: a slice that it slept through counts as one, not as many."""

Loader = Callable[[NamedModel, Stop], Model]
"""Loads a model in a thread; raises whatever keeps it from serving."""


class LoadGivenUpError(Exception):
    """The model did not load in time, or while somebody wanted it."""


class Load:
    """A load that has begun. To be used inside one event loop."""

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
        """Whether its thread is still at work."""
        return self._task is not None and not self._task.done()

    def give_up(self) -> None:
        """End it. Its model is of no use any more: should it load all the same, every run of it would be ended, too."""
        self._given_up = True
        self._stop.set()

    async def ended(self, seconds: float) -> bool:
        """Wait so long for it; whether it has ended.

        Raises:
            LoadGivenUpError: its time is up. It is ended then.
        """
        while seconds > 0 and self.running:
            step = min(SLICE_SECONDS, seconds, self._left)
            try:
                assert self._task is not None
                await asyncio.wait({self._task}, timeout=step)
            except asyncio.CancelledError:  # the instance ends, and would wait for the thread
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
        """The model, once it has ended; to be asked once.

        Raises:
            LoadGivenUpError: it was given up before.
            Exception: whatever kept it from loading.
        """
        # Let go of it: an error's trace holds all that was loaded, and the frame that holds this. In a circle with the
        # task it would stay, for the collector hardly ever comes (functions/runtime/garbage_collection.py).
        task, self._task = self._task, None
        assert task is not None
        try:
            if self._given_up:
                raise LoadGivenUpError("it was given up, because nobody asked for it any more")
            return task.result()
        finally:
            del task


def _retrieve_exception(task: "asyncio.Future[Model]") -> None:
    """That a load failed which nobody waits for any more is no news."""
    if not task.cancelled():
        task.exception()
