"""The story, step by step. Each step calls what an operator would call."""

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.cloud.workflows.executions_v1 import Execution

from datasets import data_set
from demo.account import Sent, account
from demo.history import Part, malformed, write
from demo.interrupt import Interrupt
from demo.memory import MemoryWatch
from demo.narrator import Narrator, Step
from demo.parts import Parts, take
from demo.report import Cycle, Report, describe_switch
from demo.traffic import Trickle, Watch, as_messages, publish
from laptop.identity import Identity
from laptop.supervisor import Supervisor
from lunation import query, runs
from lunation.backfill import backfill
from lunation.clients import Clients
from lunation.deploy.names import CLASSIFY_HTTP, SCHEDULER_JOB, models_bucket
from lunation.deploy.plan import apply
from lunation.deploy.table import resources
from lunation.settings import Settings, load
from schemas import ModelManifest, UseCase, Verdict, use_case
from schemas.model_pointer import HARD_BOUND_SECONDS

TRAINING_SECONDS = 900.0
NEEDED_BYTES = 1_000_000_000
"""Of disk: the state, and what Spark keeps while it trains."""


class StoryError(Exception):
    """The story cannot go on; the text says why."""


@dataclass(frozen=True)
class Scale:
    """How much of the data the story takes.

    Args:
        sample: one record in so many.
        live_per_second: the pace of live records while the second model is trained.
    """

    sample: int = 1
    live_per_second: float = 10.0


def tell(
    state: Path, scale: Scale, narrator: Narrator | None = None, make_room: Callable[[], None] = lambda: None
) -> Report:
    """Run the whole story on ``state``, which is made anew, and account for it.

    Args:
        make_room: called once the history is known to be enough, before ``state`` is emptied.

    Raises:
        lunation.settings.SettingsError: the settings cannot be used.
        datasets.DataSetError: the use case has no data set; nothing was started.
        demo.history.HistoryError: the use case's history is none that can be told; nothing was started.
        StoryError: the disk has no room, or a training did not end as it should; the text says where to look.
        laptop.supervisor.SupervisorError: somebody works on ``state``, or a server does not start.
        OSError: something cannot be written; :func:`demo.machine.why` says what that means.
    """
    tale = narrator or Narrator()
    settings = load()
    settings = settings.of(settings.target("laptop"))
    case, data = use_case(settings.use_case), data_set(settings.use_case)
    report = Report(use_case=case.name)
    _check_place(state)
    with MemoryWatch() as memory, tempfile.TemporaryDirectory(prefix="lunation-demo-") as scratch:
        with tale.step(f"Cut the history of {case.name} into the parts of the story") as step:
            parts = take(case, data.history(None), scale.sample, settings.schedule.evaluation_days)
            step.outcome = f"{parts.count:,} records from {parts.first.records[0]['event_time'][:10]} on"
        make_room()
        interrupt = Interrupt(tale.say)
        with interrupt.seen_to(), Supervisor(state, anew=True) as supervisor, interrupt.named():
            with tale.step("Start the servers that stand in for Google Cloud, on loopback") as step:
                supervisor.wait_ready()
                step.outcome = f"{len(supervisor.endpoints)} services"
            target = settings.target("laptop").model_copy(update={"endpoints": state.resolve() / "endpoints.json"})
            clients = Clients(target)
            with tale.step("Deploy") as step:
                rows = resources(settings, clients.target)
                apply(rows, clients, lambda change: step.progress(change.address))
                step.outcome = f"{len(rows)} resources"
            told = _Telling(settings, case, clients, tale, report, Path(scratch), Identity(state), scale)
            told.run(parts)
    report.peak_memory_mb = round(memory.peak_bytes / 1e6)
    report.steps = tale.seconds
    report.wall_seconds = round(tale.elapsed(), 1)
    return report


def _check_place(state: Path) -> None:
    """Better now than in the middle of a training: it can be written, nobody else works on it, the disk has room."""
    with Supervisor(state, only=[]):
        pass
    for folder in (state, Path(tempfile.gettempdir())):
        free = shutil.disk_usage(folder).free
        if free < NEEDED_BYTES:
            raise StoryError(
                f"the disk of {folder} has {free / 1e9:.1f} GB free, and the demo takes {NEEDED_BYTES / 1e9:.1f}: make "
                "room there first"
            )


class _Telling:
    """What the steps share."""

    def __init__(
        self,
        settings: Settings,
        case: UseCase,
        clients: Clients,
        tale: Narrator,
        report: Report,
        scratch: Path,
        identity: Identity,
        scale: Scale,
    ) -> None:
        self._settings = settings
        self._case = case
        self._clients = clients
        self._tale = tale
        self._report = report
        self._scratch = scratch
        self._identity = identity
        self._scale = scale

    def run(self, parts: Parts) -> None:
        self._file("File eight weeks of history in the archive", parts.first)
        with self._tale.step("Cycle 1: the scheduler's job fires, Spark trains, the pointer moves") as step:
            clock = time.time()
            self._clients.scheduler.run_job(name=f"{self._clients.location}/jobs/{SCHEDULER_JOB}")
            self._finish_cycle(step, lambda: self._newest_execution(clock))
        first = self._report.cycles[-1]
        if first.verdict != Verdict.PROMOTE:
            reasons = "; ".join(first.reasons)
            raise StoryError(f"the first model is not promoted, so none can serve: {first.verdict}: {reasons}")
        live = self._go_live(parts.live)
        self._file("File four more weeks of history, outcomes included", parts.second)
        with self._tale.step("Cycle 2 under live traffic: train, move the pointer, watch the switch") as step:
            under_way = self._switch(step, parts)
        with self._tale.step("Account for every record: bucket, Datastore and dead letters read back") as step:
            self._account(step, parts, live, under_way)

    # --- steps

    def _file(self, title: str, part: Part) -> None:
        with self._tale.step(title) as step:
            records = write(part.records, self._scratch / "records.ndjson")
            labels = write(part.labels, self._scratch / "labels.ndjson")
            backfill(self._settings, self._clients, records=[str(records)], labels=[str(labels)])
            self._report.backfilled += len(part.records)
            self._report.labels += len(part.labels)
            step.outcome = f"{len(part.records):,} records, {len(part.labels):,} labels"

    def _go_live(self, part: Part) -> list[str]:
        """Send three days live, malformed ones among them; answers the malformed messages' ids."""
        with self._tale.step("Three days go live: archived, mirrored, classified") as step:
            good, bad = as_messages(part.records), list(malformed(self._case, part.records[0]))
            publish(self._clients.publisher, self._topic("records"), good)
            spoilt = publish(self._clients.publisher, self._topic("records"), bad)
            publish(self._clients.publisher, self._topic("labels"), as_messages(part.labels))
            self._report.published += len(good) + len(bad)
            self._report.labels += len(part.labels)
            wanted = len({record["record_id"] for record in part.records})

            def arrived() -> bool:
                mirrored = self._count("Record")
                classified = self._count("Classification")
                step.progress(f"{mirrored:,} mirrored, {classified:,} classified of {wanted:,}")
                return mirrored >= wanted and classified >= wanted

            _until(arrived, 120)
            if not self._count("Classification"):
                raise StoryError(
                    "no record was classified within 120 s: an instance says why it loads no model in functions.log, "
                    "and `lunation models` what the pointer names"
                )
            step.outcome = f"{wanted:,} records, {len(bad)} malformed messages"
        return spoilt

    def _switch(self, step: Step, parts: Parts) -> list[dict[str, Any]]:
        """Train again while records are published and callers ask; answers the published records."""
        before = query.pointer(self._clients.datastore, self._settings.use_case)
        if before is None:
            raise StoryError("the first cycle moved no pointer: `lunation runs` tells why")
        function = self._clients.functions.get_function(name=f"{self._clients.location}/functions/{CLASSIFY_HTTP}")
        url = function.service_config.uri
        caller = f"lunation-caller@{self._clients.project}.iam.gserviceaccount.com"
        topic, pace = self._topic("records"), self._scale.live_per_second
        with (
            Watch(f"{url}/v1/classify", lambda: self._identity.token(caller, url), parts.live.records) as watch,
            Trickle(self._clients.publisher, topic, parts.under_way.records, pace) as trickle,
        ):
            started = runs.start(self._clients, force=True)
            self._finish_cycle(step, lambda: started)
            # Until well after the switch, so that a late answer of the old model would be seen.
            time.sleep(8)
            answers = watch.stop()
        after = query.pointer(self._clients.datastore, self._settings.use_case)
        assert after is not None
        moved_at = after.moved_at.timestamp() if after.generation > before.generation else None
        self._report.switch = describe_switch(answers, before.generation, moved_at, HARD_BOUND_SECONDS)
        self._report.published += len(trickle.published)
        return trickle.published

    def _account(self, step: Step, parts: Parts, spoilt: list[str], under_way: list[dict[str, Any]]) -> None:
        def ids(*documents: list[dict[str, Any]]) -> frozenset[str]:
            return frozenset(document["record_id"] for some in documents for document in some)

        sent = Sent(
            live=ids(parts.live.records, under_way),
            filed=ids(parts.first.records, parts.second.records),
            labelled=ids(parts.first.labels, parts.live.labels, parts.second.labels),
            malformed=frozenset(spoilt),
        )
        account(self._clients, sent, self._report, step.progress)
        step.outcome = f"{self._report.lost} lost"

    # --- a cycle

    def _newest_execution(self, since: float) -> Execution:
        found: list[Execution] = []

        def started() -> bool:
            found[:] = [one for one in runs.executions(self._clients, 5) if one.start_time.timestamp() >= since - 1]
            return bool(found)

        _until(started, 30)
        if not found:
            raise StoryError("the scheduler's job fired, but no workflow execution started within 30 s")
        return found[0]

    def _finish_cycle(self, step: Step, begin: Callable[[], Execution]) -> None:
        started = begin()
        deadline = time.monotonic() + TRAINING_SECONDS
        while (execution := self._clients.executions.get_execution(name=started.name)).state == Execution.State.ACTIVE:
            if time.monotonic() > deadline:
                raise StoryError(f"{started.name} is still active after {TRAINING_SECONDS:.0f} s")
            step.progress(self._jobs_so_far(started))
            time.sleep(1)
        short = started.name.rsplit("/", 1)[-1]
        run = next(
            (
                run
                for run in query.training_runs(self._clients.datastore, self._settings.use_case)
                if run.execution.endswith(short)
            ),
            None,
        )
        if execution.state != Execution.State.SUCCEEDED:
            cause = (run and run.cause) or execution.error.payload
            raise StoryError(f"{started.name} {execution.state.name}: {cause}")
        if run is None or run.model_version is None:
            raise StoryError(f"{started.name} ended without a model: {execution.result}")
        blob = self._clients.storage.bucket(models_bucket(self._clients.target)).blob(
            f"models/{run.model_version}/manifest.json"
        )
        manifest = ModelManifest.model_validate_json(blob.download_as_bytes())
        challenger, champion = manifest.metrics["challenger"], manifest.metrics.get("champion")
        seconds = (execution.end_time - execution.start_time).total_seconds()
        self._report.cycles.append(
            Cycle(
                run_id=manifest.run_id,
                model_version=manifest.model_version,
                verdict=manifest.verdict.value,
                reasons=manifest.reasons,
                rows=manifest.rows["train"] + manifest.rows["evaluate"],
                auc=challenger["auc"],
                log_loss=challenger["log_loss"],
                champion_auc=champion and champion["auc"],
                parity_max_abs_diff=manifest.parity_max_abs_diff,
                seconds=round(seconds, 1),
            )
        )
        step.outcome = f"{manifest.verdict.value}, AUC {challenger['auc']:.3f} on {manifest.rows['evaluate']:,} records"

    def _jobs_so_far(self, execution: Execution) -> str:
        request = {"project_id": self._clients.project, "region": self._clients.target.region}
        begun = execution.start_time.timestamp()
        shown = []
        for job in self._clients.dataproc_jobs.list_jobs(request=request):
            history = [*job.status_history, job.status]
            if history and history[0].state_start_time.timestamp() >= begun - 1:
                shown.append(f"{job.reference.job_id.rsplit('-', 1)[0]} {job.status.state.name.lower()}")
        return ", ".join(shown) or "claiming the cycle"

    # --- small things

    def _topic(self, name: str) -> str:
        return f"projects/{self._clients.project}/topics/{name}"

    def _count(self, kind: str) -> int:
        client = self._clients.datastore
        counted = client.aggregation_query(client.query(kind=kind)).count(alias="all").fetch()
        return int(next(iter(counted))[0].value)


def _until(look: Callable[[], bool], seconds: float) -> None:
    """Look again until it is so or the time is over; what is missing then shows in the account."""
    deadline = time.monotonic() + seconds
    while not look() and time.monotonic() < deadline:
        time.sleep(0.25)
