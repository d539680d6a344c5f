"""What the Workflows tests share: a run of a source in this process, without a server."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp

from laptop.workflows import interpreter, journal
from laptop.workflows.program import Step, load


class Notes:
    """A journal in memory, which goes through the same encoding as the one on disk.

    Args:
        outcomes: of a run that was interrupted.
    """

    def __init__(self, outcomes: dict[int, str] | None = None) -> None:
        self.outcomes = outcomes if outcomes is not None else {}
        self.steps: list[str] = []
        self.logged: list[str] = []

    def find(self, number: int) -> dict[str, Any] | None:
        """An outcome."""
        return journal.decode(self.outcomes[number]) if number in self.outcomes else None

    async def keep(self, number: int, outcome: dict[str, Any]) -> None:
        """Write an outcome down."""
        self.outcomes[number] = journal.encode(outcome)

    async def step_begins(self, number: int, routine: str, step: Step) -> None:
        """Note a step."""
        self.steps.append(f"{routine}.{step.name}")

    async def step_ends(self, number: int, failure: Any) -> None:
        """Nothing to note."""

    def log(self, text: str) -> None:
        """Note what was logged."""
        self.logged.append(text)


def run(
    source: str,
    argument: Any = None,
    notes: Notes | None = None,
    environment: dict[str, str] | None = None,
    authorize: Callable[[str, str | None, str], str] = lambda kind, audience, url: f"{kind} {audience} {url}",
) -> Any:
    """The result of ``source``."""

    async def work() -> Any:
        async with aiohttp.ClientSession() as session:
            started = interpreter.Run(load(source), notes or Notes(), environment or {}, session, authorize)
            return await started.main(argument)

    return asyncio.run(work())


def steps(*lines: str, argument: Any = None, **more: Any) -> Any:
    """The result of a main workflow whose steps are ``lines``, each one a step in YAML's flow style."""
    listed = "\n".join(f"    - {line}" for line in lines)
    return run(f"main:\n  params: [argument]\n  steps:\n{listed}\n", argument, **more)


def quoted(text: str) -> str:
    """An expression as a YAML scalar."""
    return json.dumps("${" + text + "}")
