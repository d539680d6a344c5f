"""The matrix: a deployment is killed at every row of its table, before its call and after it, and begun anew.

It happens in a project of its own, with the laptop's servers behind recorders, in four ways through the table:

- a first deployment, which makes every row;
- a deployment over what an earlier release left, which changes, replaces and deletes;
- a deployment some of whose services are still at work on what the killed run asked for;
- taking it down.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from laptop.supervisor import Supervisor
from lunation.clients import Clients
from lunation.deploy.plan import ApplyError, apply, left_over, plan
from lunation.deploy.table import resources
from lunation.settings import Settings
from rehearsal import documented
from rehearsal.at_work import AtWork
from rehearsal.earlier import earlier
from rehearsal.judge import Judge
from rehearsal.killed import COMMAND, Cell, Killer, Moment, Run, Way
from rehearsal.project import Project
from rehearsal.recorder import Notes
from rehearsal.stage import LAPTOP, Stage
from rehearsal.strangers import Strangers

BOTH: tuple[Moment, ...] = ("before", "after")
KINDS_AT_WORK = ("function", "image", "index", "dataflow-job")
"""Kinds that Google takes minutes to make: a run that begins anew finds them unfinished."""


WEIGHTY = ("access", "database", "dataflow-job", "function", "image", "index")
"""Kinds at which a sample looks harder: what is slow, what holds data, and what is read, changed and written."""


@dataclass
class Cells:
    """How many there were, and how many were resumed as they should be."""

    tried: int = 0
    resumed: int = 0


@dataclass
class Outcome:
    """What came of it."""

    first: Cells = field(default_factory=Cells)
    """Those of a first deployment."""
    later: Cells = field(default_factory=Cells)
    """Those of the other ways."""
    strangers_changed: int = 0
    """Strangers that are not as they were."""
    requests: int = 0
    notes: Notes = field(default_factory=Notes)
    """The requests with which something is wrong."""
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
        judges: gives those that are asked about every call to the project.
        variables: of a run's environment, that make its settings those of ``settings``.
        command: how ``lunation`` is called.
    """

    def __init__(
        self,
        settings: Settings,
        target: str,
        folder: Path,
        say: Callable[[str], None] = lambda _: None,
        tell: Callable[[int, str], None] = lambda number, what: None,
        judges: Callable[[Project], Sequence[Judge]] = lambda _: (),
        variables: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._settings = settings
        self._target = target
        self._folder = folder
        self._say = say
        self._tell = tell
        self._judges = judges
        self._variables = dict(variables or {})
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
        project = documented.done_by_hand(Project(target.project))
        at_work = AtWork()
        self._killer = Killer(at_work)
        with (
            Supervisor(self._folder / "state", LAPTOP) as servers,
            Stage(project, servers.endpoints, [*self._judges(project), at_work, self._killer]) as self._stage,
        ):
            servers.wait_ready()
            self._strangers = Strangers(project, target, servers)
            self._strangers.move_in()
            self._endpoints = self._stage.write(self._folder / "endpoints.json")
            self._clients = Clients(target.model_copy(update={"endpoints": self._endpoints, "sample": False}))
            self._rows = resources(self._settings, self._clients.target)
            try:
                self._make()
                self._change()
                self._be_slow()
                self._take_down()
            except ApplyError as error:
                if not self._outcome.details:
                    raise
                self._outcome.details.append(f"not gone further: {error}")
            self._take_notes()
        return self._outcome

    # --- the four ways

    def _make(self) -> None:
        rows = self._wanted(row.address for row in self._rows)
        if self._everything:
            cells = _cells(rows, BOTH)
        else:
            first = _first_of_each(rows)
            cells = _cells(first, ("after",)) + _cells([row for row in first if _kind(row) in WEIGHTY], ("before",))
        self._way("first deployment", "deploy", cells, self._outcome.first)

    def _change(self) -> None:
        apply(earlier(self._settings, self._clients), self._clients)
        changes = [change for change in plan(self._rows, self._clients) if change.action != "unchanged"]
        rows = {action: self._wanted(change.address for change in changes if change.action == action)
                for action in ("change", "create", "replace", "delete")}  # fmt: skip
        if self._everything:
            cells = [cell for some in rows.values() for cell in _cells(_first_of_each(some), BOTH)]
        else:
            chosen = [row for some in rows.values() for row in some[:1]]
            chosen += [row for row in _first_of_each(rows["change"]) if _kind(row) in WEIGHTY]
            cells = _cells(chosen, ("after",)) + _cells(rows["replace"][:1], ("before",))
        self._way("deployment over an earlier release", "deploy", cells, self._outcome.later)

    def _be_slow(self) -> None:
        kinds = KINDS_AT_WORK if self._everything else KINDS_AT_WORK[:3]
        chosen = _first_of_each(self._wanted(row.address for row in self._rows if row.kind in kinds))
        for row in self._rows:
            if row.address in chosen:
                row.delete(self._clients)
        cells = _cells(chosen, ("at work",))
        self._way("deployment while services are at work", "deploy", cells, self._outcome.later)

    def _take_down(self) -> None:
        first = _first_of_each(self._wanted(self._standing()))
        weighty = [row for row in first if _kind(row) in WEIGHTY]
        cells = _cells(first, BOTH) if self._everything else _cells(weighty, ("after",))
        self._way("end", "destroy", cells, self._outcome.later)

    def _way(self, what: str, command: str, cells: Collection[Cell], count: Cells) -> None:
        """Go one, killed at each of ``cells``; none at all without any."""
        if not cells:
            return
        pending = self._pending if command == "deploy" else self._standing
        order = pending()
        cells = sorted(set(cells), key=lambda cell: (order.index(cell.address), cell.moment != "before"))
        self._say(f"the {what}: killed {len(cells)} times at {len({cell.address for cell in cells})} of {len(order)} "
                  "rows, and begun anew each time")  # fmt: skip
        way = Way(self._killer, lambda rows: self._start(command, rows), pending, self._told)
        count.resumed += way.go(cells)
        count.tried += len({*cells, *way.faults})
        self._outcome.details += [f"{what}: {cell}: {why}" for cell, why in way.faults.items()]
        changed = self._strangers.changed(f"{what} that was killed")
        self._outcome.strangers_changed += len(changed)
        self._outcome.details += changed

    def _wanted(self, addresses: Iterable[str]) -> list[str]:
        return [address for address in addresses if not self._kinds or _kind(address) in self._kinds]

    def _start(self, command: str, rows: Sequence[str]) -> Run:
        prefix = f"LUNATION_TARGETS__{self._target.upper()}__"
        variables = {f"{prefix}ENDPOINTS": str(self._endpoints), f"{prefix}SAMPLE": "false", **self._variables}
        # A row can become pending by itself in between, or cease to be.
        order = list(dict.fromkeys([*(row.address for row in self._rows), *rows])) if command == "deploy" else rows
        return Run((command, "--target", self._target, "--yes"), order, variables, self._folder, self._command)

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
        """Keep of the requests what is wrong with some: all those of some hundred runs would fill the memory."""
        notes, kept = self._stage.notes, self._outcome.notes
        self._outcome.requests += len(notes.calls)
        kept.malformed += notes.malformed
        kept.calls += [*(call for call in notes.calls if call.faults or call.violations), *notes.unjudged]
        notes.calls.clear()
        notes.malformed.clear()


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
