"""Tells what is going on: a line for each step with its time; in between a spinner, or a line every so often."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

EVERY_SECONDS = 15.0
"""Where no spinner moves, in a pipe or a log, a step that goes on is told so often."""


class Narrator:
    """Prints steps; on a terminal the current one moves, in a log each is a line, and another each so many seconds.

    Args:
        console: where to print.
        every_seconds: how often a step that goes on is told in a log.
    """

    def __init__(self, console: Console | None = None, every_seconds: float = EVERY_SECONDS) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.seconds: dict[str, float] = {}
        self._started = time.monotonic()
        self._number = 0
        self._every_seconds = every_seconds

    @contextmanager
    def step(self, title: str) -> Iterator["Step"]:
        """One step of the story."""
        self._number += 1
        step, started = Step(title), time.monotonic()
        over = threading.Event()
        teller = threading.Thread(target=self._keep_telling, args=(step, started, over), name="narrator", daemon=True)
        with self.console.status(f"[bold]{self._number}[/]  {escape(title)}", refresh_per_second=4) as status:
            if self.console.is_terminal:
                step.show = lambda text: status.update(f"[bold]{self._number}[/]  {escape(title)}: {escape(text)}")
            else:
                self.console.print(f"{self._number:2}  {escape(title)} …")
                teller.start()
            try:
                yield step
            finally:
                over.set()
                if teller.is_alive():
                    teller.join()
        seconds = time.monotonic() - started
        self.seconds[title] = round(seconds, 1)
        outcome = f": {step.outcome}" if step.outcome else ""
        self.console.print(f"[green]{self._number:2}[/]  {escape(f'{title}{outcome}')}  [dim]{seconds:.1f} s[/]")

    def say(self, text: str) -> None:
        """Print a line between the steps."""
        self.console.print(f"    {escape(text)}")

    def elapsed(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self._started

    def _keep_telling(self, step: "Step", started: float, over: threading.Event) -> None:
        while not over.wait(self._every_seconds):
            how_far = f": {step.latest}" if step.latest else ""
            self.console.print(f"    … {time.monotonic() - started:.0f} s{escape(how_far)}")


class Step:
    """A step that is going on."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.outcome = ""
        self.latest = ""
        self.show = lambda text: None

    def progress(self, text: str) -> None:
        """Show how far it is."""
        self.latest = text
        self.show(text)
