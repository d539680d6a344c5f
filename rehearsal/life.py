"""The whole life of a deployment: made, looked at, changed, cut off in the middle, taken up again, taken down."""

import ast
import inspect
import itertools
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from laptop.supervisor import Supervisor
from lunation.clients import Clients
from lunation.deploy.names import archive_bucket, models_bucket
from lunation.deploy.plan import ApplyError, Change, apply, destroy, plan
from lunation.deploy.resource import Resource
from lunation.deploy.table import resources
from lunation.settings import Settings, load
from rehearsal import documented, privileges, weeks
from rehearsal.authority import Authority, summary
from rehearsal.bad_states import unseen
from rehearsal.delays import KNOWN_SECONDS, Delays
from rehearsal.front_door import front_door
from rehearsal.judge import Judge
from rehearsal.killed import COMMAND, Cell, Killer, Run
from rehearsal.matrix import Matrix
from rehearsal.not_yet import DATABASE
from rehearsal.project import Project
from rehearsal.recorder import Notes
from rehearsal.rewrites import Rewrites
from rehearsal.stage import LAPTOP, Stage
from rehearsal.strangers import Strangers
from rehearsal.traffic import Traffic

TARGET = "production"
TEAM = "team@example.com"
VARIABLES = {"LUNATION_MONITORING__EMAIL": TEAM}
"""Of a run in a process of its own, beside those that tell where its project is."""
Say = Callable[[str], None]


@dataclass
class Report:
    """What came of it. The counts of ``MUST_BE_ZERO`` are, or the deployment is not as it should be."""

    resources: int = 0
    """Rows of the table."""
    created: int = 0
    """Made by the first deployment."""
    second_plan_changes: int = 0
    """What a plan right after a deployment would do, over all deployments, with what is read as Google gives it."""
    refused_then_made: int = 0
    """What the first deployment was refused at first, since something that it needs was too young, and made later."""
    unseen_states: int = 0
    """Bad states of what is there, such as a function that failed, that a plan does not see."""
    found_after_weeks: int = 0
    """What goes wrong by itself after days: of a running job, and of a project that was destroyed some time ago."""
    edit_plan_changes: int = 0
    """What the plan shows after two settings were edited: two."""
    drift_plan_changes: int = 0
    """What the plan shows after the functions, the workflow and the scheduler job were changed by hand."""
    killed_after: int = 0
    """Of what was deleted by hand, what a deployment of the living system had made again when it was killed."""
    after_crash_created: int = 0
    """What the next deployment then still had to make."""
    cells_tried: int = 0
    """Places of a first deployment, in a project of its own, at which it was killed: with ``--all`` rows x 2."""
    killed_and_resumed: int = 0
    """Those that the next run passed as it should: nothing twice, nothing lost. All of them."""
    later_cells_tried: int = 0
    """The same of a deployment over an earlier release, of one whose services are still at work, and of the end."""
    killed_later_and_resumed: int = 0
    """Those that the next run passed as it should. All of them."""
    strangers_changed: int = 0
    """What other people have in the project and is not as it was."""
    destroyed: int = 0
    """Taken away at the end."""
    data_deleted: int = 0
    """Buckets, databases and objects with data that are gone after that."""
    invalid_requests: int = 0
    """Requests that Google would have refused."""
    discovery_violations: int = 0
    """What is not as Google's discovery documents say, over all requests."""
    missing_permissions: int = 0
    """What a unit was seen to need and is not given."""
    superfluous_permissions: int = 0
    """What a unit is given and does not need."""
    deployer_missing_permissions: int = 0
    """What the deployment needed and the roles that docs/deploy.md names do not give."""
    deployer_superfluous_permissions: int = 0
    """The roles that docs/deploy.md names and of which the deployment needed nothing."""
    unknown_permissions: int = 0
    """Names in custom roles that Google's list of permissions does not have."""
    denied_when_used: int = 0
    """What an account, the deployer apart, was not allowed when it was needed: by the policies recorded up to then."""
    front_door_faults: int = 0
    """What of the functions does not hold behind Google's front doors (:mod:`rehearsal.front_door`)."""
    requests: int = 0
    """All that was asked of Google."""
    seconds: float = 0.0
    """How long it took."""
    details: list[str] = field(default_factory=list)
    """A line for each thing that should not be."""

    MUST_BE_ZERO = (
        "second_plan_changes",
        "unseen_states",
        "found_after_weeks",
        "data_deleted",
        "invalid_requests",
        "discovery_violations",
        "missing_permissions",
        "superfluous_permissions",
        "deployer_missing_permissions",
        "deployer_superfluous_permissions",
        "unknown_permissions",
        "denied_when_used",
        "front_door_faults",
        "strangers_changed",
    )

    @property
    def wrong(self) -> dict[str, str]:
        """What is not as it should be, by its name: what it should be."""
        expected = {
            **{name: ("0", not getattr(self, name)) for name in self.MUST_BE_ZERO},
            "created": (str(self.resources), self.created == self.resources),
            "edit_plan_changes": ("2", self.edit_plan_changes == 2),
            "refused_then_made": ("some", self.refused_then_made > 0),
            "after_crash_created": ("some", self.after_crash_created > 0),
            "killed_and_resumed": (str(self.cells_tried), self.killed_and_resumed == self.cells_tried),
            "killed_later_and_resumed": (
                str(self.later_cells_tried),
                self.killed_later_and_resumed == self.later_cells_tried,
            ),
        }
        return {name: should_be for name, (should_be, is_so) in expected.items() if not is_so}

    @property
    def as_it_should_be(self) -> bool:
        """Whether all is well."""
        return not self.wrong and not self.details

    @classmethod
    def meanings(cls) -> dict[str, str]:
        """What each count means, by its name: the text below it in this file."""
        (declared,) = ast.parse(inspect.getsource(cls)).body
        assert isinstance(declared, ast.ClassDef)
        return {
            ast.unparse(one.target): " ".join(str(ast.literal_eval(text.value)).split())
            for one, text in itertools.pairwise(declared.body)
            if isinstance(one, ast.AnnAssign) and isinstance(text, ast.Expr)
        }

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def rehearse(
    folder: Path, say: Say = lambda _: None, command: Sequence[str] = COMMAND, report: Report | None = None
) -> Report:
    """Live through it in ``folder``, which must be empty. Nothing leaves this machine.

    Args:
        command: how ``lunation`` is called.
        report: takes what comes of it, also if it ends early; None: a new one.

    Raises:
        RuntimeError: a step of the deployment failed, or a unit did not do its work; with the requests before it that
            Google would have refused.
    """
    started = time.monotonic()
    report = report or Report()
    say("meet what stands before the functions")
    faults = front_door(folder / "front-door")
    report.front_door_faults = len(faults)
    report.details += [f"front door: {fault}" for fault in faults]
    settings = _settings()
    project = documented.done_by_hand(Project(settings.target(TARGET).project))
    authority = Authority(project, refuses=False)  # one run tells all there is
    rewrites, delays, killer = Rewrites(project), Delays(project, from_first_use=True), Killer()
    judges: list[Judge] = [
        rewrites,
        authority,
        delays,
        killer,  # the last: no call is killed at that another judge refuses
    ]
    with (
        Supervisor(folder / "state", LAPTOP) as servers,
        Stage(project, servers.endpoints, judges) as stage,
    ):
        servers.wait_ready()
        strangers = Strangers(project, settings.target(TARGET), servers)
        try:
            _Life(settings, stage, authority, folder, report, say, rewrites, delays, strangers, killer, command).live()
        except (ApplyError, TimeoutError) as error:
            refused = [f"{call.caller}: {'; '.join((*call.faults, *call.violations))}" for call in stage.notes.refused]
            raise RuntimeError("\n".join([str(error), *refused])) from error
        report.requests = len(stage.notes.calls)
        _count(report, stage.notes)
        _tell(authority, stage, report)
    report.seconds = round(time.monotonic() - started, 1)
    return report


def kinds() -> set[str]:
    """Those of the rows that are rehearsed."""
    settings = _settings()
    return {row.kind for row in resources(settings, settings.target(TARGET))}


def _settings() -> Settings:
    """Those of the file, and somebody who is told of an alert, or no channel is ever made."""
    settings = load()
    monitoring = settings.monitoring.model_copy(update={"email": TEAM})
    return settings.model_copy(update={"monitoring": monitoring})


def _tell(authority: Authority, stage: Stage, report: Report) -> None:
    """What came of the accounts and their permissions."""
    missing, superfluous = privileges.deployer(stage.notes.calls, authority, documented.roles(documented.DEPLOYER))
    report.deployer_missing_permissions = len(missing)
    report.deployer_superfluous_permissions = len(superfluous)
    report.details += [f"no documented role gives {one}" for one in missing]
    report.details += [f"documented and not needed: {one}" for one in superfluous]
    report.unknown_permissions = len(authority.unknown)
    report.details += [f"unknown permission: {one} in {', '.join(held)}" for one, held in authority.unknown.items()]
    # What the documents do not give the deployer is told above.
    told = {one.partition(": ")[2].partition(" ")[0] for one in missing}
    deployer = authority.accounts["deployer"]
    denied = [one for one in authority.denied if one.account != deployer or one.permission not in told]
    report.denied_when_used = len(denied)
    report.details += [f"denied: {one}" for one in summary(denied)]


def rehearse_kills(
    folder: Path,
    report: Report,
    say: Say = lambda _: None,
    tell: Callable[[int, str], None] = lambda number, what: None,
    everything: bool = False,
    kinds: Collection[str] = (),
    command: Sequence[str] = COMMAND,
) -> None:
    """Kill it everywhere, too (:mod:`rehearsal.matrix`), and add to ``report`` what came of it.

    Args:
        folder: must be empty, and another one.
        say: told of each step.
        tell: told of each run: its number, and where it is killed.
        everything: no sample.
        kinds: only at rows of these kinds; empty: of all.
        command: how ``lunation`` is called.

    Raises:
        lunation.deploy.plan.ApplyError: a deployment that nobody kills fails.
    """
    started = time.monotonic()
    matrix = Matrix(
        _settings(),
        TARGET,
        folder,
        say,
        tell,
        judges=lambda project: [Rewrites(project), Authority(project)],
        variables=VARIABLES,
        command=command,
    )
    outcome = matrix.go(everything, kinds)
    report.cells_tried, report.killed_and_resumed = outcome.first.tried, outcome.first.resumed
    report.later_cells_tried, report.killed_later_and_resumed = outcome.later.tried, outcome.later.resumed
    report.strangers_changed += outcome.strangers_changed
    report.requests += outcome.requests
    report.details += outcome.details
    _count(report, outcome.notes)
    report.seconds = round(report.seconds + time.monotonic() - started, 1)


def _count(report: Report, notes: Notes) -> None:
    """Add what is wrong with requests."""
    violations = [f"{call.caller}: {one}" for call in notes.violating for one in call.violations]
    violations += [f"{call.caller}: {call.method} is in no document" for call in notes.unjudged]
    report.invalid_requests += len(notes.invalid)
    report.discovery_violations += len(violations)
    report.details += [f"discovery: {one}" for one in violations]
    report.details += [f"invalid: {call.method}: {'; '.join(call.faults)}" for call in notes.invalid]


class _Life:
    def __init__(
        self,
        settings: Settings,
        stage: Stage,
        authority: Authority,
        folder: Path,
        report: Report,
        say: Say,
        rewrites: Rewrites,
        delays: Delays,
        strangers: Strangers,
        killer: Killer,
        command: Sequence[str],
    ) -> None:
        self._settings = settings
        self._stage = stage
        self._authority = authority
        self._wait = stage.project.clock.sleep
        self._rewrites = rewrites
        self._delays = delays
        self._folder = folder
        self._report = report
        self._say = say
        self._strangers = strangers
        self._killer = killer
        self._command = command
        self._endpoints = stage.write(folder / "endpoints.json")
        target = settings.target(TARGET)
        self._target = target.model_copy(update={"endpoints": self._endpoints, "sample": False})
        self._clients = self._clients_at(self._endpoints)
        # The engineer whose project it is uses what was deployed, and looks at what is left.
        self._owner = self._clients_at(stage.write(folder / "owner.json", "owner"))

    def _clients_at(self, endpoints: Path) -> Clients:
        made = Clients(self._target.model_copy(update={"endpoints": endpoints}))
        # These find their service by a variable, which the next caller's clients set to another address.
        _ = made.storage, made.datastore, made.publisher, made.subscriber
        return made

    def live(self) -> None:
        """All of it, in order."""
        rows = self._rows(self._settings)
        self._report.resources = len(rows)
        self._strangers.move_in()
        self._say(f"deploy {len(rows)} resources to an empty project")
        done = apply(rows, self._clients, wait=self._wait)
        self._report.created = sum(change.action == "create" for change in done)
        self._report.refused_then_made = self._delays.refused_then_made
        self._wait(KNOWN_SECONDS)
        self._nothing_to_do(rows, "deployment")
        self._states(rows)
        self._look()
        self._edit()
        self._work(rows)
        self._crash(rows)
        found = weeks.of_a_running_job(rows, self._clients, self._stage.notes.of("deployer"))
        self._end(rows)
        self._away(rows, found)

    def _rows(self, settings: Settings) -> list[Resource]:
        return resources(settings, self._target)

    def _pending(self, rows: Sequence[Resource]) -> list[Change]:
        return [change for change in plan(rows, self._clients) if change.action != "unchanged"]

    def _nothing_to_do(self, rows: Sequence[Resource], after: str) -> None:
        pending = self._pending(rows)
        self._report.second_plan_changes += len(pending)
        self._report.details += [
            f"after the {after} still to {one.action}: {one.address} {one.fields}" for one in pending
        ]
        self._strangers_are_as_they_were(after)

    def _strangers_are_as_they_were(self, after: str) -> None:
        changed = self._strangers.changed(after)
        self._report.strangers_changed += len(changed)
        self._report.details += changed

    def _states(self, rows: Sequence[Resource]) -> None:
        """Let one thing after the other go wrong by itself."""
        found = unseen(rows, self._clients, self._rewrites, self._stage.project)
        self._report.unseen_states = len(found)
        self._report.details += [f"not seen: {one}" for one in found]

    def _look(self) -> None:
        """Plan as CI does on a pull request: by an account that may only look."""
        plan(self._rows(self._settings), self._clients_at(self._stage.write(self._folder / "planner.json", "planner")))

    def _edit(self) -> None:
        self._say("edit two settings, deploy again")
        records = self._settings.records.model_copy(update={"ttl_days": self._settings.records.ttl_days + 1})
        schedule = self._settings.schedule.model_copy(update={"cron": "30 4 * * 2"})
        rows = self._rows(self._settings.model_copy(update={"records": records, "schedule": schedule}))
        self._report.edit_plan_changes = len(self._pending(rows))
        apply(rows, self._clients, wait=self._wait)
        self._nothing_to_do(rows, "edit")

    def _work(self, rows: Sequence[Resource]) -> None:
        self._say("let every unit work, and hold what it asks for against what it may do")
        with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
            traffic = Traffic(self._settings, self._owner, self._stage, self._folder / "state", Path(scratch))
            traffic.redirect()
            self._report.drift_plan_changes = len(self._pending(rows))
            traffic.run()
        missing, superfluous = privileges.units(self._stage.notes.calls, self._authority)
        self._report.missing_permissions = len(missing)
        self._report.superfluous_permissions = len(superfluous)
        self._report.details += [f"missing: {one}" for one in missing]
        self._report.details += [f"superfluous: {one}" for one in superfluous]

    def _crash(self, rows: Sequence[Resource]) -> None:
        self._say("delete a part by hand, too; deploy, kill that in the middle, deploy again")
        gone = [row for row in rows if row.kind in ("subscription", "alert", "dashboard", "schema", "scheduler-job")]
        gone += [row for row in rows if row.address == "function/ingest-fast"]
        for row in reversed(gone):
            row.delete(self._clients)
        pending = self._pending(rows)
        to_make = [change.address for change in pending if change.action == "create"]
        prefix = f"LUNATION_TARGETS__{TARGET.upper()}__"
        run = Run(
            ("deploy", "--target", TARGET, "--yes"),
            [row.address for row in rows],
            {f"{prefix}ENDPOINTS": str(self._endpoints), f"{prefix}SAMPLE": "false", **VARIABLES},
            self._folder,
            self._command,
        )
        if not self._killer.watch(run, Cell(to_make[len(to_make) // 2], "before")).killed:
            raise RuntimeError(f"the deployment to be killed ended before: {run.told()}")
        done = apply(rows, self._clients, wait=self._wait)
        self._report.after_crash_created = sum(change.action == "create" for change in done)
        self._report.killed_after = len(to_make) - self._report.after_crash_created
        self._nothing_to_do(rows, "crash")

    def _end(self, rows: Sequence[Resource]) -> None:
        self._say("destroy all but the data")
        before = self._data(rows)
        done = destroy(rows, self._clients)
        self._report.destroyed = sum(change.action == "delete" for change in done)
        self._strangers_are_as_they_were("end")
        lost = before - self._data(rows)
        self._report.data_deleted = len(lost)
        self._report.details += [f"data deleted: {one}" for one in sorted(lost)]

    def _away(self, rows: Sequence[Resource], found: list[str]) -> None:
        """Find a project again after weeks: another one, of which nothing but what it keeps itself is looked at."""
        self._say("let weeks pass over a job, and over a project that was destroyed")
        project = Project(self._target.project)
        with Stage(project, judges=[Rewrites(project), Delays(project, [DATABASE])]) as stage:
            endpoints = stage.write(self._folder / "weeks.json")
            clients = Clients(self._target.model_copy(update={"endpoints": endpoints}))
            found = [*found, *weeks.of_a_destroyed_project(rows, clients, project)]
        self._report.found_after_weeks = len(found)
        self._report.details += [f"after weeks: {one}" for one in found]

    def _data(self, rows: Sequence[Resource]) -> set[str]:
        """Everything that holds data, by name: the rows, the objects, the entities."""
        found = {row.address for row in rows if row.keeps_data and row.read(self._owner) is not None}
        for bucket in (archive_bucket(self._target), models_bucket(self._target)):
            if self._owner.storage.lookup_bucket(bucket) is not None:
                found |= {f"gs://{bucket}/{blob.name}" for blob in self._owner.storage.list_blobs(bucket)}
        for kind in ("Record", "Classification", "ModelPointer", "ModelPromotion", "TrainingRun"):
            query = self._owner.datastore.query(kind=kind)
            query.keys_only()
            found |= {f"{kind}/{entity.key.name}" for entity in query.fetch()}
        return found
