"""A run of a command is killed at a row of its table, before its call or after it; what the next run does is judged."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lunation.clients import Clients
from lunation.deploy.plan import plan
from lunation.settings import load
from rehearsal.killed import Cell, Killer, Run, Way
from rehearsal.project import Project
from rehearsal.stage import Stage
from tests.rehearsal.small_table import rows

COMMAND = (sys.executable, "-m", "tests.rehearsal.small_table")
FIRST, SECOND, THIRD = "service-account/lunation-first", "alert/second", "role/lunationThird"


class Small:
    """The small table, in an empty project, and ways through it."""

    def __init__(self, stage: Stage, killer: Killer, folder: Path) -> None:
        self._killer = killer
        self._folder = folder
        self.stage = stage
        self.endpoints = stage.write(folder / "endpoints.json")
        self.clients = Clients(load().target("production").model_copy(update={"endpoints": self.endpoints}))
        self.word = "deploy"
        self.seen: list[list[str]] = []
        """What there was at the beginning of each run, by display name or title."""

    def way(self, word: str) -> Way:
        """A way through it, with another second row."""
        self.word = word
        return Way(self._killer, self.start, self.pending)

    def start(self, pending: Sequence[str]) -> Run:
        """A run."""
        self.seen.append(self.there())
        variables = {
            "LUNATION_TARGETS__PRODUCTION__ENDPOINTS": str(self.endpoints),
            "LUNATION_TARGETS__PRODUCTION__SAMPLE": "false",
        }
        return Run(("deploy", self.word), pending, variables, self._folder, COMMAND)

    def pending(self) -> list[str]:
        """What there is to do."""
        return [change.address for change in plan(rows(self.word), self.clients) if change.action != "unchanged"]

    def there(self) -> list[str]:
        """What there is."""
        things: Any = self.stage.project.things.values()
        return sorted(getattr(one, "display_name", "") or one.title for one in things)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    """Nothing is there yet."""
    killer = Killer()
    with Stage(Project(load().target("production").project), judges=[killer]) as stage:
        yield Small(stage, killer, tmp_path)


def test_killed_before_its_call_a_row_is_not_there_and_after_it_it_is(small: Small) -> None:
    """The request is dropped, or carried out without an answer; each run begins where the one before was killed, and
    the last one ends with everything there once."""
    way = small.way("deploy")
    cells = [Cell(SECOND, "before"), Cell(SECOND, "after"), Cell(THIRD, "after")]
    assert way.go(cells) == 3
    assert way.faults == {}
    first, second, third = "lunation-first", "Lunation: second", "Lunation: comes third"
    assert small.seen == [[], [first], [second, first], [third, second, first]]
    assert small.there() == [third, "Lunation: fourth", second, first]


def test_a_row_that_is_made_twice_and_never_found_is_told(small: Small) -> None:
    """At its own cell, and at each further one: the run that resumed that one has left it as something to do."""
    way = small.way("forgotten")
    cells = [Cell(SECOND, "after"), Cell(THIRD, "after")]
    assert way.go(cells) == 0
    assert "the next run did it again: google.monitoring.v3.AlertPolicyService.Create" in way.faults[cells[0]]
    assert way.faults[cells[1]] == "not as it should be after the next run: alert/second"
    assert small.there().count("Lunation: second") == 3


def test_a_row_that_is_made_by_no_call_is_told(small: Small) -> None:
    """It cannot be killed there, and that is no success."""
    way = small.way("idle")
    cell = Cell("role/lunationSecond", "after")
    assert way.go([cell]) == 0
    assert "without a call that changes something" in way.faults[cell]


def test_cells_that_no_run_gets_to_are_no_successes(small: Small) -> None:
    """A table that is stuck at one row says so for that one, and that the others were not tried."""
    way = small.way("stubborn")
    stuck = Cell("service-account/lunation-second", "after")
    assert way.go([Cell(FIRST, "after"), stuck, Cell(THIRD, "before"), Cell(THIRD, "after")]) == 1
    assert "exit code 1" in way.faults[stuck]
    assert "409" in way.faults[stuck] or "AlreadyExists" in way.faults[stuck]
    assert {way.faults[Cell(THIRD, moment)] for moment in ("before", "after")} == {"not tried, since no run gets there"}
