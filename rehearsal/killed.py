"""Kills a deployment at a row of its table, in a process of its own, and begins it anew: every row is a cell or two.

A run is the real command, ``python -m lunation deploy`` (or ``destroy``), and its end is a real SIGKILL, in the moment
in which the call that makes the row stands at the recorder: *before* it, the request is dropped and nothing is done;
*after* it, all is done and the answer is never sent. Which row a call belongs to, the command itself says: it prints
its plan, and then each row when it is made, so the one being made is the first that it planned and has not printed yet.

The next run begins anew, has to make the row or to find it made, passes on, and is killed at the next cell. So one way
through the table is enough for all of it, and each run but the first resumes another one.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from google.protobuf import json_format
from google.protobuf.message import Message

from laptop.errors import ServiceError
from lunation.settings import ROOT
from rehearsal.at_work import AtWork
from rehearsal.judge import Judge
from rehearsal.recorder import Call

COMMAND = (sys.executable, "-m", "lunation")
DEPLOYER = "deployer"
PATIENCE_SECONDS = 240.0
"""A run that takes longer than that hangs."""
Moment = Literal["before", "after", "at work"]

_READS = re.compile(r"get|list|test|query|search|lookup|wait", re.IGNORECASE)
_CHANGES = re.compile(r'"(etag|name)": "[^"]*",? ?')
_ROW = re.compile(r"\S \S")
_PLANNED = re.compile(r"\d+ to create, .* unchanged\.")
"""What ``deploy`` prints between the plan and what it does."""


@dataclass(frozen=True)
class Cell:
    """A place to be killed at.

    Args:
        address: of the row.
        moment: ``before`` its first call that changes something is carried out; ``after`` that, unanswered; ``at
            work``: after it, and the service has not finished what was asked of it when the next run begins.
    """

    address: str
    moment: Moment

    def __str__(self) -> str:
        return f"{self.address}, killed {_WHEN[self.moment]}"


_WHEN = {
    "before": "before its call",
    "after": "after its call",
    "at work": "after its call, with the service still at work on it",
}
TO_THE_END = Cell("all rows", "before")
"""Stands for a run that was to be killed nowhere."""


REPEATABLE = ("serviceusage.services.generateServiceIdentity",)
"""What may be asked for again, for it answers the same for what is there: "Generates service identity for service", and
a service has one (https://cloud.google.com/service-usage/docs/reference/rest/v1beta1/services/generateServiceIdentity).
"""


def changes_something(call: Call) -> bool:
    """Whether a call is more than a look."""
    return _READS.match(call.method.rsplit(".", 1)[1]) is None


def asked(call: Call) -> str:
    """What a call asks for: equal for two calls of one row that ask for the same, whatever names it was given since."""
    if isinstance(call.request, str):
        return f"{call.method} {call.request}"
    # Sorted: a map's entries come in another order in another process.
    request = json_format.MessageToJson(call.request, indent=None, preserving_proto_field_name=True, sort_keys=True)
    return f"{call.method} {_CHANGES.sub('', request)}"


def _addresses(lines: Sequence[str]) -> set[str]:
    """The rows of lines such as ``+ topic/records  labelled …``."""
    return {line[2:].partition("  ")[0] for line in lines if _ROW.match(line)}


def _accesses(lines: Sequence[str]) -> set[str]:
    """The rows of kind ``access``, which a plan shows by lines such as ``+ topic/records: submit pubsub.publisher``."""
    return {f"access/{line[2:].partition(': ')[0]}" for line in lines if _ROW.match(line) and ": " in line}


class Run:
    """One run of the command, in a process of its own.

    Args:
        arguments: of the command, for example ``("deploy", "--target", "production", "--yes")``.
        order: addresses of all rows at which it can have something to do, in the order in which it does.
        variables: of its environment, beside those of this process.
        folder: where its output goes.
        command: how ``lunation`` is called.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        order: Sequence[str],
        variables: dict[str, str],
        folder: Path,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.order = list(order)
        self._plans = arguments[0] == "deploy"
        self._out, self._err = folder / "run.out", folder / "run.err"
        # Into files: what was printed before a call was sent can be read when the call arrives.
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                [*command, *arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONUTF8": "1", **variables},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def at(self) -> str:
        """The row that it is at, by what it has printed; empty before the first one and behind the last one."""
        planned, done = self._printed()
        if self._plans and planned is None:
            return ""
        rows = [address for address in self.order if planned is None or address in planned]
        last = max((index for index, address in enumerate(rows) if address in done), default=-1)
        return rows[last + 1] if last + 1 < len(rows) else ""

    def has_planned(self) -> bool:
        """Whether it has looked at all there is, and begins to do something."""
        return not self._plans or self._printed()[0] is not None

    def _printed(self) -> tuple[set[str] | None, set[str]]:
        """What it plans to do something at, None while it has not said so; and what is done."""
        lines = self._out.read_text().splitlines()
        if not self._plans:
            return None, _addresses(lines)
        end = next((index for index, line in enumerate(lines) if _PLANNED.match(line)), None)
        if end is None:
            return None, set()
        return _addresses(lines[:end]) | _accesses(lines[:end]), _addresses(lines[end:])

    def kill(self) -> None:
        """End it at once, and be sure that it has ended."""
        self._process.kill()
        self._process.wait()

    def wait(self) -> int:
        """Its exit code, once it has ended.

        Raises:
            TimeoutError: it hangs, and was killed.
        """
        try:
            return self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"it did not end in {PATIENCE_SECONDS:.0f} s; it printed: {self.told()}") from None

    def told(self) -> str:
        """The end of what it printed."""
        return (self._err.read_text().strip() or self._out.read_text().strip())[-1000:]


@dataclass
class Watch:
    """What is seen of a run.

    Args:
        run: the run.
        cell: where it is to be killed; None: it is to go to its end.
    """

    run: Run
    cell: Cell | None
    killed: bool = False
    passed: bool = False
    """Whether it went on to another row without a call for that of the cell."""
    made: list[tuple[str, str]] = field(default_factory=list)
    """The row, and what was asked for, of each call that changed something and was carried out."""


class Killer(Judge):
    """Ends a run at its cell. The last of a stage's judges: it kills at no call that another one refuses.

    Args:
        at_work: a judge before it, told what the run has begun that is killed ``at work``.
    """

    def __init__(self, at_work: AtWork | None = None) -> None:
        self._at_work = at_work or AtWork()
        self._watch: Watch | None = None

    def watch(self, run: Run, cell: Cell | None) -> Watch:
        """Wait until ``run`` has ended: killed at ``cell``, or by itself.

        Raises:
            TimeoutError: it hangs.
        """
        self._watch = watch = Watch(run, cell)
        try:
            run.wait()
        except BaseException:
            run.kill()  # nobody watches it any more
            raise
        finally:
            self._watch = None
            self._at_work.counts = False
            self._at_work.turn()
        return watch

    def before(self, call: Call) -> None:
        """Kill before the call is carried out.

        Raises:
            ServiceError: killed; nobody is there to be told.
        """
        if self._at_work.busy:
            self._at_work.counts = self._watch is not None and self._watch.run.has_planned()
        watch = self._watching(call)
        if watch is None or watch.cell is None:
            return
        at, wanted = watch.run.at(), watch.cell.address
        watch.passed = at == "" or watch.run.order.index(at) > watch.run.order.index(wanted)
        if watch.passed or (at == wanted and watch.cell.moment == "before"):
            self._kill(watch)
            raise ServiceError("UNAVAILABLE", "the deployment was killed")

    def after(self, call: Call, answer: Message) -> Message:
        """Kill after the call was carried out."""
        self._carried_out(call)
        return answer

    def after_storage(self, call: Call, status: int, body: bytes) -> bytes:
        """The same for Cloud Storage."""
        if status < 400:
            self._carried_out(call)
        return body

    def _watching(self, call: Call) -> Watch | None:
        return self._watch if call.caller == DEPLOYER and changes_something(call) else None

    def _carried_out(self, call: Call) -> None:
        watch = self._watching(call)
        if watch is None:
            return
        at = watch.run.at()
        watch.made.append((at, asked(call)))
        if watch.cell is not None and at == watch.cell.address:
            if watch.cell.moment == "at work":
                self._at_work.begin(call)
            self._kill(watch)

    def _kill(self, watch: Watch) -> None:
        watch.killed = True
        watch.run.kill()


class Way:
    """A way through a table, with kills.

    Args:
        killer: a judge of the stage.
        start: starts a run, at whose end every row is as it should be, given the addresses that ``pending`` gave.
        pending: gives the addresses of the rows at which a run would have something to do now, in order.
        tell: called before each run, with the cell.
    """

    def __init__(
        self,
        killer: Killer,
        start: Callable[[Sequence[str]], Run],
        pending: Callable[[], list[str]],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._killer = killer
        self._start = start
        self._pending = pending
        self._tell = tell
        self.faults: dict[Cell, str] = {}
        """What is not as it should be after a cell."""

    def go(self, cells: Sequence[Cell]) -> int:
        """Go it, to the end of the table; how many of the cells were resumed as they should be."""
        last: Watch | None = None
        pending = self._pending()
        for number, cell in enumerate([*cells, None]):
            if cell is not None and cell.address not in pending:
                self.faults.setdefault(cell, "a run has nothing to do at this row")
                continue
            self._tell(str(cell or "to the end"))
            for another in (True, False):
                watch, wrong = self._run(cell, pending)
                begun, pending = pending, self._pending()
                if watch is not None:
                    wrong = self._judge(last, watch, begun, pending)
                if wrong:
                    self.faults.setdefault((last.cell if last else None) or cell or TO_THE_END, wrong)
                if watch is not None:
                    last = watch
                    break
                if not another:  # however often it is begun anew, it does not get there
                    for one in cells[number:]:
                        self.faults.setdefault(one, "not tried, since no run gets there")
                    return self._resumed(cells)
        return self._resumed(cells)

    def _resumed(self, cells: Sequence[Cell]) -> int:
        return len([cell for cell in cells if cell not in self.faults])

    def _run(self, cell: Cell | None, pending: Sequence[str]) -> tuple[Watch | None, str]:
        """A run that gets to ``cell``, or why it does not."""
        run = self._start(pending)
        try:
            watch = self._killer.watch(run, cell)
        except TimeoutError as error:
            return None, str(error)
        if watch.killed or (cell is None and run.wait() == 0):
            return watch, ""
        return None, f"the next run ended with exit code {run.wait()}: {run.told()}"

    def _judge(self, last: Watch | None, watch: Watch, begun: Sequence[str], pending: Sequence[str]) -> str:
        """What is wrong with how a run has resumed another one.

        Args:
            last: the one that was killed before.
            watch: the one that resumed it.
            begun: the rows at which that had something to do.
            pending: those at which there is something to do now.
        """
        cell = watch.cell
        if cell is not None and watch.passed:
            self.faults.setdefault(cell, "the run went on to the next row without a call that changes something")
        if last is not None and last.cell is not None:
            row = last.cell.address
            twice = {what for at, what in last.made if at == row} & {what for at, what in watch.made if at == row}
            twice = {what for what in twice if not what.startswith(REPEATABLE)}
            if twice:
                return f"the next run did it again: {'; '.join(sorted(twice))[:300]}"
        left = [address for address in (begun if cell is None else begun[: begun.index(cell.address)])
                if address in pending]  # fmt: skip
        return f"not as it should be after the next run: {', '.join(left)}" if left else ""
