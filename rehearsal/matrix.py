"""The matrix: a deployment is killed at every row of its table, before its call and after it, and begun anew.

It happens in a project of its own, with the laptop's servers behind recorders, in four ways through the table:

- a first deployment, which makes every row;
- a deployment over what an earlier release left, which changes, replaces and deletes;
- a deployment some of whose services are still at work on what the killed run asked for;
- taking it down.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from laptop.supervisor import Supervisor
from lunation.clients import Clients
from lunation.deploy.plan import apply, left_over, plan
from lunation.deploy.table import resources
from lunation.settings import Settings
from rehearsal.at_work import AtWork
from rehearsal.earlier import earlier
from rehearsal.judge import Judge
from rehearsal.killed import COMMAND, Cell, Killer, Moment, Run, Way
from rehearsal.project import Project
from rehearsal.recorder import Call
from rehearsal.stage import LAPTOP, Stage
from rehearsal.strangers import Strangers

ACTIONS = ("change", "create", "replace", "delete")
KINDS_AT_WORK = ("function", "image", "index", "dataflow-job")
"""Kinds that Google takes minutes to make: a run that begins anew finds them unfinished."""


WEIGHTY = ("access", "database", "dataflow-job", "function", "image", "index")
"""Kinds at which a sample looks harder: what is slow, what holds data, and what is read, changed and written."""


@dataclass
class Outcome:
    """What came of it."""

    tried: int = 0
    """Cells."""
    made: int = 0
    """Cells of a first deployment that were resumed as they should be."""
    later: int = 0
    """The same of the other ways."""
    strangers_changed: int = 0
    """Strangers that are not as they were."""
    requests: int = 0
    invalid: list[Call] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    """A line for each thing that should not be."""


class Matrix:
    """A project of its own, and all four ways.

    Args:
        settings: what is deployed.
        target: to which target.
        folder: for what is kept meanwhile; it must not be there.
        say: told of each way.
        tell: told of each run: how many were begun, and what this one is for.
        judges: asked about every call.
        command: how ``lunation`` is called.
    """

    def __init__(
        self,
        settings: Settings,
        target: str,
        folder: Path,
        say: Callable[[str], None] = lambda _: None,
        tell: Callable[[int, str], None] = lambda number, what: None,
        judges: Sequence[Judge] = (),
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._settings = settings
        self._target = target
        self._folder = folder
        self._say = say
        self._tell = tell
        self._judges = judges
        self._command = command
        self._outcome = Outcome()
        self._runs = 0

    def go(self, everything: bool = False, kinds: Collection[str] = ()) -> Outcome:
        """Go all four ways.

        A sample is killed *after* its call at the first row of each kind, and before it, too, if the kind is weighty;
        on the later ways at the first row of each action, and at the first of each weighty kind.

        Args:
            everything: no sample: at each row of a first deployment before and after its call, and on the later ways
                so at the first row of each kind and action.
            kinds: only at rows of these kinds; empty: of all.

        Raises:
            lunation.deploy.plan.ApplyError: a deployment that nobody kills fails.
        """
        self._everything, self._kinds = everything, kinds
        self._folder.mkdir(parents=True)
        target = self._settings.target(self._target)
        project = Project(target.project)
        at_work = AtWork()
        self._killer = Killer(at_work)
        with (
            Supervisor(self._folder / "state", LAPTOP) as servers,
            Stage(project, servers.endpoints, [*self._judges, at_work, self._killer]) as self._stage,
        ):
            servers.wait_ready()
            self._strangers = Strangers(project, target, servers)
            self._strangers.move_in()
            self._endpoints = self._stage.write(self._folder / "endpoints.json")
            self._clients = Clients(target.model_copy(update={"endpoints": self._endpoints, "sample": False}))
            self._rows = resources(self._settings, self._clients.target)
            self._make()
            self._change()
            self._be_slow()
            self._take_down()
            self._take_notes()
        return self._outcome

    # --- the four ways

    def _make(self) -> None:
        cells = _cells([row.address for row in self._rows], ("before", "after"))
        if not self._everything:
            first = _first_of_each(row.address for row in self._rows)
            cells = _cells([row for row in first if _kind(row) in WEIGHTY], ("before",)) + _cells(first, ("after",))
        self._outcome.made = self._way("first deployment", "deploy", cells)

    def _change(self) -> None:
        apply(earlier(self._settings, self._clients), self._clients)
        changes = [change for change in plan(self._rows, self._clients) if change.action != "unchanged"]
        rows = {action: [change.address for change in changes if change.action == action] for action in ACTIONS}
        if self._everything:
            cells = [cell for some in rows.values() for cell in _cells(_first_of_each(some), ("before", "after"))]
        else:
            chosen = [some[0] for some in rows.values() if some]
            chosen += [row for row in _first_of_each(rows["change"]) if _kind(row) in WEIGHTY]
            cells = _cells(chosen, ("after",)) + _cells(rows["replace"][:1], ("before",))
        self._outcome.later += self._way("deployment over an earlier release", "deploy", cells)

    def _be_slow(self) -> None:
        first = _first_of_each(row.address for row in self._rows if row.kind in KINDS_AT_WORK)
        chosen = [row for row in first if self._everything or _kind(row) in KINDS_AT_WORK[:2]]
        for row in self._rows:
            if row.address in chosen:
                row.delete(self._clients)
        cells = _cells(chosen, ("at work",))
        self._outcome.later += self._way("deployment while services are at work", "deploy", cells)

    def _take_down(self) -> None:
        first = _first_of_each(self._standing())
        weighty = [row for row in first if _kind(row) in WEIGHTY]
        cells = _cells(first, ("before", "after")) if self._everything else _cells(weighty, ("after",))
        self._outcome.later += self._way("end", "destroy", cells)

    def _way(self, what: str, command: str, cells: Iterable[Cell]) -> int:
        """Go one, killed at each of ``cells``; how many were resumed as they should be."""
        pending = self._pending if command == "deploy" else self._standing
        order = pending()
        wanted = {cell for cell in cells if not self._kinds or _kind(cell.address) in self._kinds}
        cells = sorted(wanted, key=lambda cell: (order.index(cell.address), cell.moment != "before"))
        if not cells:
            return 0
        self._say(f"the {what}: killed {len(cells)} times at {len({cell.address for cell in cells})} of {len(order)} "
                  "rows, and begun anew each time")  # fmt: skip
        way = Way(self._killer, lambda rows: self._start(command, rows), pending, self._told)
        resumed = way.go(cells)
        self._outcome.tried += len(cells)
        self._outcome.details += [f"{what}: {cell}: {why}" for cell, why in way.faults.items()]
        changed = self._strangers.changed(f"{what} that was killed")
        self._outcome.strangers_changed += len(changed)
        self._outcome.details += changed
        return resumed

    def _start(self, command: str, rows: Sequence[str]) -> Run:
        prefix = f"LUNATION_TARGETS__{self._target.upper()}__"
        variables = {f"{prefix}ENDPOINTS": str(self._endpoints), f"{prefix}SAMPLE": "false"}
        return Run((command, "--target", self._target, "--yes"), rows, variables, self._folder, self._command)

    # --- what there is to be done

    def _pending(self) -> list[str]:
        return [change.address for change in plan(self._rows, self._clients) if change.action != "unchanged"]

    def _standing(self) -> list[str]:
        """What taking it down would delete, in that order."""
        rows = [*left_over(self._rows, self._clients), *reversed(self._rows)]
        return [row.address for row in rows
                if not row.keeps_data and not row.stays and row.read(self._clients) is not None]  # fmt: skip

    def _told(self, what: str) -> None:
        self._runs += 1
        self._tell(self._runs, what)
        self._take_notes()

    def _take_notes(self) -> None:
        self._outcome.requests += len(self._stage.notes.calls)
        self._outcome.invalid += self._stage.notes.invalid
        self._stage.notes.calls.clear()  # of some hundred runs they would fill the memory


def _kind(address: str) -> str:
    return address.partition("/")[0]


def _first_of_each(addresses: Iterable[str]) -> list[str]:
    """The first address of each kind."""
    found: dict[str, str] = {}
    for address in addresses:
        found.setdefault(_kind(address), address)
    return list(found.values())


def _cells(rows: Iterable[str], moments: Iterable[Moment]) -> list[Cell]:
    return [Cell(row, moment) for row in rows for moment in moments]
