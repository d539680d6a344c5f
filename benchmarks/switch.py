"""The switch of models under load: several instances of ``classify_http``, asked without a pause, while the pointer
moves from model to model and things go wrong. Who answered what, when, is written down by the callers."""

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console
from rich.table import Table

from lunation import model_pointer
from lunation.clients import Clients
from lunation.deploy.datastore import CompositeIndex
from lunation.settings import ROOT, load
from schemas import use_case
from schemas.model_pointer import HARD_BOUND_SECONDS
from tests.functions.doubles import models
from tests.functions.doubles.function_process import FunctionProcess, stage
from tests.support import ServerProcess, eventually

CASE = use_case("flights")
BUCKET = "local-dev-models"
MODEL_MEGABYTES = 1
"""More than the flights' model has."""


@dataclass(frozen=True)
class Answer:
    """What one request got. Times are of the monotonic clock."""

    instance: int
    started: float
    seconds: float
    generation: int | None
    """None: it failed, and ``error`` says how."""
    stale: bool = False
    error: str = ""


class Load:
    """Callers that ask each instance again and again, in a process of their own (:mod:`benchmarks.callers`).

    Args:
        urls: of the instances.
        callers: for each instance.
        pause: seconds between an answer and the caller's next request.
    """

    def __init__(self, urls: Sequence[str], callers: int, pause: float) -> None:
        self.answers: list[Answer] = []
        self._command = [sys.executable, "-m", "benchmarks.callers", str(callers), str(pause), *urls]
        self._reader = threading.Thread(target=self._read, name="answers")

    def __enter__(self) -> "Load":
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(90)
        self._reader.join()

    def newest(self, instance: int) -> int:
        """The generation that an instance answered with last; 0 before the first answer."""
        return next((one.generation or 0 for one in reversed(self.answers) if one.instance == instance), 0)

    def since(self, moment: float) -> list[Answer]:
        """Answers to requests that started then or later."""
        return [one for one in list(self.answers) if one.started >= moment]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.answers.append(Answer(**json.loads(line)))


@dataclass
class Phase:
    """One move of the pointer, or one thing that goes wrong, as the callers saw it."""

    name: str
    began: float
    ended: float = 0.0
    seconds_to_follow: float | None = None
    """From the move to the last request that was started and still answered by an older generation."""
    answers: list[Answer] = field(default_factory=list)

    @property
    def p99(self) -> float:
        """Seconds."""
        return statistics.quantiles([one.seconds for one in self.answers], n=100)[98] if len(self.answers) > 1 else 0.0


@dataclass
class Story:
    """All phases, and what the processes held before and after."""

    phases: list[Phase]
    megabytes_before: list[float]
    megabytes_after: list[float]

    @property
    def answers(self) -> list[Answer]:
        """Of all phases."""
        return [one for phase in self.phases for one in phase.answers]

    @property
    def failed(self) -> list[Answer]:
        """Requests that got no classification."""
        return [one for one in self.answers if one.generation is None]


class Scene:
    """Servers, instances, and an operator.

    Args:
        folder: for state and logs.
        instances: how many processes.
        model_megabytes: the size of each model's table.
    """

    def __init__(self, folder: Path, instances: int, model_megabytes: int) -> None:
        self._model_megabytes = model_megabytes
        self._models = 0
        self.servers = {name: ServerProcess(name, folder / "state") for name in ("datastore", "storage")}
        for server in self.servers.values():
            server.start()
        endpoints = folder / "state" / "endpoints.json"
        self.clients = Clients(load().target("laptop").model_copy(update={"endpoints": endpoints}))
        self.clients.storage.create_bucket(BUCKET)
        CompositeIndex("ModelPromotion", "use_case", "-generation").create(self.clients)
        variables = {
            "PROJECT": "local-dev",
            "MODELS_BUCKET": BUCKET,
            "DATASTORE_ENDPOINT": f"http://{self.servers['datastore'].grpc}",
            "PUBSUB_ENDPOINT": "http://127.0.0.1:9",
            "STORAGE_EMULATOR_HOST": self.servers["storage"].http,
        }
        source = stage("classify", folder / "classify")
        self.instances = [FunctionProcess(source, "classify_http", variables) for _ in range(instances)]

    def close(self) -> None:
        """End everything."""
        for instance in self.instances:
            instance.stop()
        for server in self.servers.values():
            server.stop()

    def model(self, golden: float | None = None) -> str:
        """A new model in the bucket, of which no other has the answer; with ``golden``, one that misses it."""
        self._models += 1
        bias = self._models / 100
        rows = [{"features": models.FEATURES, "probability": bias if golden is None else golden}]
        graph = models.table_graph(CASE, bias, self._model_megabytes)
        files = models.folder(CASE, run_id=f"model-{self._models}", model=graph, golden=rows)
        version = f"2013-03-01/model-{self._models}"
        for name, content in files.items():
            blob = self.clients.storage.bucket(BUCKET).blob(f"models/{version}/{name}")
            blob.metadata = {"sha256": hashlib.sha256(content).hexdigest()}
            blob.upload_from_string(content)
        return version

    def promote(self, version: str) -> int:
        """As a person does, but untried: one of them must not load; the new generation."""
        return model_pointer.promote(self.clients, CASE.name, version, "a benchmark", trial=lambda *_: None).generation

    def megabytes(self) -> list[float]:
        """Resident memory of each instance: of the process that answers, the largest one."""
        sizes = []
        for instance in self.instances:
            process = psutil.Process(instance.pid)
            sizes.append(max(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 1e6)
        return sizes


@contextmanager
def scene(folder: Path, instances: int, model_megabytes: int) -> Iterator[Scene]:
    """A scene that is closed again."""
    made = Scene(folder, instances, model_megabytes)
    try:
        yield made
    finally:
        made.close()


def tell(
    scene_: Scene,
    *,
    callers: int,
    pause: float,
    steady: float,
    away: float,
    slow: float,
    settle: float,
    say: Callable[[str], None],
) -> Story:
    """Old, new, rollback, a model that misses its golden rows, one that is slow to load, Datastore away and back.

    Args:
        callers: for each instance.
        pause: seconds between the requests of a caller.
        steady: seconds of the first phase, in which nothing happens.
        away: seconds without Datastore.
        slow: seconds that each file of the slow model takes.
        settle: seconds that are watched after the last instance has followed.
    """
    scene_.promote(scene_.model())  # generation 1
    for instance in scene_.instances:
        instance.start()
    phases: list[Phase] = []
    with Load([instance.url for instance in scene_.instances], callers, pause) as load_:

        def followed(generation: int) -> Callable[[], bool]:
            return lambda: all(load_.newest(number) == generation for number in range(len(scene_.instances)))

        @contextmanager
        def phase(name: str) -> Iterator[Phase]:
            made = Phase(name, time.monotonic())
            yield made
            time.sleep(settle)
            made.ended = time.monotonic()
            made.answers = [one for one in load_.since(made.began) if one.started < made.ended]
            phases.append(made)
            late = made.seconds_to_follow
            say(
                f"{name}: {len(made.answers)} requests, {sum(one.generation is None for one in made.answers)} failed, "
                f"p99 {made.p99 * 1000:.1f} ms" + ("" if late is None else f", followed after {late:.1f} s")
            )

        def move(name: str, act: Callable[[], int], also: Callable[[], None] = lambda: None) -> None:
            with phase(name) as made:
                generation = act()
                moved = time.monotonic()
                also()
                eventually(followed(generation), 90, f"every instance follows to generation {generation}")
                time.sleep(settle)
                old = [one.started for one in load_.since(moved) if (one.generation or generation) < generation]
                made.seconds_to_follow = max([0.0, *(started - moved for started in old)])

        # The first model: an instance that starts has none yet, and says so; that is no part of a switch.
        eventually(followed(1), 60, "the first model serves")
        time.sleep(settle)
        with phase("steady"):
            time.sleep(steady)
        before = scene_.megabytes()
        new = scene_.model()
        move("a new model", lambda: scene_.promote(new))
        move("a rollback", lambda: model_pointer.rollback(scene_.clients, CASE.name, "a benchmark").generation)
        spoilt = scene_.model(golden=0.999)
        with phase("a model that misses its golden rows"):
            scene_.promote(spoilt)
            eventually(lambda: all("golden row 0" in str(_report(one.url)["trouble"]) for one in scene_.instances), 60)
        slow_model = scene_.model()

        def hold_up() -> None:
            """Every file of the next model, for each instance; the operator has read them already."""
            reads = 3 * len(scene_.instances)
            scene_.servers["storage"].fault(rpc="storage.objects.get", action="delay", delay_seconds=slow, times=reads)

        move("a model that is slow to load", lambda: scene_.promote(slow_model), hold_up)
        scene_.servers["storage"].admin("DELETE", "/_laptop/faults")
        last = scene_.model()
        with phase(f"Datastore away for {away:g} s"):
            scene_.servers["datastore"].kill()
            time.sleep(away)
        scene_.servers["datastore"].start()
        move("Datastore is back, and a model more", lambda: scene_.promote(last))
        after = scene_.megabytes()
    return Story(phases, before, after)


def _report(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/v1/model", timeout=30) as response:
        return json.load(response)


def main(
    instances: Annotated[int, typer.Option(min=1, help="Processes of the function.")] = 2,
    callers: Annotated[int, typer.Option(min=1, help="Callers for each of them.")] = 4,
    away: Annotated[float, typer.Option(help="Seconds without Datastore.")] = 60.0,
    report: Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON.")] = None,
) -> None:
    """The switch of models under load: failed requests, seconds until each move is followed, p99, memory."""
    with (
        tempfile.TemporaryDirectory(prefix="lunation-bench-") as folder,
        scene(Path(folder), instances, MODEL_MEGABYTES) as made,
    ):
        story = tell(made, callers=callers, pause=0.01, steady=20.0, away=away, slow=4.0, settle=1.0, say=typer.echo)
    rows = summary(story)
    table = Table(title="switch", title_justify="left")
    for column in ("name", "ours", "other", "ratio", "target", "ok"):
        table.add_column(column)
    for row in rows:
        table.add_row(*["" if value is None else str(value) for value in row.values()])
    Console().print(table)
    if report is not None:
        report.write_text(json.dumps(rows, indent=2) + "\n")
    raise typer.Exit(0 if all(row["ok"] for row in rows) else 1)


def summary(story: Story) -> list[dict[str, Any]]:
    """The rows of the report. ``other`` is the figure before the switch."""
    steady, *others = story.phases
    rows: list[dict[str, Any]] = [
        {"name": "requests that failed", "ours": len(story.failed), "other": len(story.answers), "ratio": None,
         "target": "0", "ok": not story.failed}
    ]  # fmt: skip
    for phase in others:
        if phase.seconds_to_follow is not None:
            rows.append(
                {"name": f"{phase.name}: s until the last old answer", "ours": round(phase.seconds_to_follow, 1),
                 "other": None, "ratio": None, "target": f"<= {HARD_BOUND_SECONDS:.0f}",
                 "ok": phase.seconds_to_follow <= HARD_BOUND_SECONDS}
            )  # fmt: skip
    for phase in others:
        ratio = phase.p99 / steady.p99
        rows.append(
            {"name": f"{phase.name}: p99 ms", "ours": round(phase.p99 * 1000, 1),
             "other": round(steady.p99 * 1000, 1), "ratio": round(ratio, 2), "target": "<= 2", "ok": ratio <= 2}
        )  # fmt: skip
    for number, (before, after) in enumerate(zip(story.megabytes_before, story.megabytes_after, strict=True)):
        rows.append(
            {"name": f"instance {number}: MB after five models", "ours": round(after), "other": round(before),
             "ratio": round(after / before, 2), "target": "<= 1.15", "ok": after <= before * 1.15}
        )  # fmt: skip
    return rows
