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
    stuck = Cell(SECOND, "after")
    assert way.go([Cell(FIRST, "after"), stuck, Cell(THIRD, "before"), Cell(THIRD, "after")]) == 1
    assert "exit code 1" in way.faults[stuck]
    assert "it is there already" in way.faults[stuck]
    assert {way.faults[Cell(THIRD, moment)] for moment in ("before", "after")} == {"not tried, since no run gets there"}


PLAN = """\
+ topic/records  labelled system=lunation
~ function/classify  size
    service_config.available_memory: "512Mi" → "1Gi"

Who may do what
+ topic/records: submit pubsub.publisher

2 to create, 1 to change, 0 to replace, 0 to delete, 4 unchanged.
"""
ORDER = [
    "schema/lunation-record", "topic/records", "access/topic/records", "function/classify", "access/function/classify",
]  # fmt: skip


@pytest.mark.parametrize(
    ("printed", "row"),
    [
        ("", ""),
        (PLAN.partition("\n2 to create")[0], ""),
        (PLAN, "topic/records"),
        (PLAN + "topic/records waits until it is known\n", "topic/records"),
        (PLAN + "+ topic/records\n", "access/topic/records"),
        (PLAN + "+ topic/records\n+ access/topic/records\n", "function/classify"),
        (PLAN + "+ topic/records\n+ access/topic/records\n~ function/classify\n", ""),
    ],
)
def test_the_row_that_a_run_is_at_is_the_first_that_it_planned_and_has_not_done(
    tmp_path: Path, printed: str, row: str
) -> None:
    """By its own words, so a row that became as it should be before it planned is none that it is at."""
    run = Run(("deploy",), ORDER, {}, tmp_path, (sys.executable, "-c", f"print({printed!r}, end='')"))
    assert run.wait() == 0
    assert run.at() == row
    assert run.has_planned() == ("to create" in printed)


def test_destroy_does_not_say_what_it_plans(tmp_path: Path) -> None:
    """What there is to take down is done in order, and each row is told with what it was."""
    printed = "- dashboard/Lunation\n- dataflow-job/lunation-archive  drained\n"
    order = ["dashboard/Lunation", "dataflow-job/lunation-archive", "function/classify"]
    run = Run(("destroy",), order, {}, tmp_path, (sys.executable, "-c", f"print({printed!r}, end='')"))
    assert run.wait() == 0
    assert run.at() == "function/classify"
