"""Tells on the terminal what is going on: a line for each step with its time, a spinner while it lasts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Narrator:
    """Prints steps; on a terminal the current one moves, in a log each is a line.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.seconds: dict[str, float] = {}
        self._started = time.monotonic()
        self._number = 0

    @contextmanager
    def step(self, title: str) -> Iterator["Step"]:
        """One step of the story."""
        self._number += 1
        started = time.monotonic()
        with self.console.status(f"[bold]{self._number}[/]  {title}", refresh_per_second=4) as status:
            step = Step(title, lambda text: status.update(f"[bold]{self._number}[/]  {title}: {text}"))
            if not self.console.is_terminal:
                self.console.print(f"{self._number:2}  {title} …")
            yield step
        seconds = time.monotonic() - started
        self.seconds[title] = round(seconds, 1)
        outcome = f": {step.outcome}" if step.outcome else ""
        self.console.print(f"[green]{self._number:2}[/]  {title}{outcome}  [dim]{seconds:.1f} s[/]")

    def elapsed(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self._started


class Step:
    """A step that is going on."""

    def __init__(self, title: str, show: object) -> None:
        self.title = title
        self.outcome = ""
        self._show = show

    def progress(self, text: str) -> None:
        """Show how far it is."""
        self._show(text)  # type: ignore[operator]
