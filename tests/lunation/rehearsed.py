"""A project that is none, for tests of a few rows: its clients, and judges that refuse as Google does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from laptop.errors import ServiceError
from lunation.clients import Clients
from lunation.settings import load
from rehearsal.clock import Clock
from rehearsal.judge import Judge
from rehearsal.project import Project
from rehearsal.recorder import Call
from rehearsal.stage import Stage

PROJECT = "example-production"


class Refuses(Judge):
    """Refuses the calls of one method.

    Args:
        method: its last part, such as ``CreateRole``.
        error: in the service's words.
        while_: whether it is refused now.
    """

    def __init__(self, method: str, error: ServiceError, while_: Callable[[Call], bool] = lambda _: True) -> None:
        self._method = method
        self._error = error
        self._while = while_
        self.refused = 0

    def before(self, call: Call) -> None:
        """Refuse it."""
        if call.method.endswith(f".{self._method}") and self._while(call):
            self.refused += 1
            raise self._error


def until(clock: Clock, seconds: float) -> Callable[[Call], bool]:
    """As long as ``clock`` has not come that far."""
    return lambda _: clock.now < seconds


@contextmanager
def rehearsed(folder: Path, *judges: Judge) -> Iterator[tuple[Stage, Clients]]:
    """An empty project, and the deployer's clients."""
    with Stage(Project(PROJECT), judges=judges) as stage:
        path = stage.write(folder / "endpoints.json")
        yield stage, Clients(load().target("production").model_copy(update={"endpoints": path, "sample": False}))
