"""``retrain.yaml``, byte for byte as it is deployed, against real Workflows, Datastore and Storage servers.

Dataproc is an HTTP endpoint of the test: what a cluster would leave in the bucket, it leaves, and it answers what a
cluster would answer. Where weeks or outages have to pass, the source runs in the test's own process instead of in the
Workflows server, on a clock that jumps over every pause (:meth:`Loop.at`).
"""

import asyncio
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp
import grpc
from google.auth.credentials import AnonymousCredentials
from google.cloud import datastore, storage  # type: ignore[attr-defined]
from google.cloud.workflows.executions_v1 import Execution, ExecutionsClient
from google.cloud.workflows_v1 import WorkflowsClient

from laptop.workflows import interpreter
from laptop.workflows.errors import RaisedError
from laptop.workflows.program import Routine, load
from lunation import query
from rehearsal.manifest import untrained
from schemas import ModelPointer, RunState, TrainingRun, Verdict, use_case
from schemas.told_verdict import ToldVerdict
from tests.laptop.workflows_support import Notes
from tests.support import ROOT, ServerProcess, eventually

PROJECT = "local-dev"
PARENT = f"projects/{PROJECT}/locations/us-central1"
BUCKET = "local-dev-models"
ARCHIVE = "local-dev-archive"
SOURCE = ROOT / "workflows" / "retrain.yaml"
WEEK_SECONDS = 604800
WEEK = int(time.time()) // WEEK_SECONDS
NUMBERS = itertools.count(1)


@cache
def program() -> dict[str, Routine]:
    """The source, read once."""
    return load(SOURCE.read_text())


@dataclass(frozen=True)
class Answer:
    """What an HTTP endpoint of the test says."""

    status: int
    content: bytes
    content_type: str = "application/json"


class Dataproc:
    """Answers ``:instantiate`` and the operation, and does what the jobs of a run would do in between."""

    def __init__(self, bucket: storage.Bucket) -> None:
        self.verdict = "PROMOTE"
        self.error: str | None = None
        self.left: bytes | None = None
        """What a job that fails leaves in the run's folder, as ``failure.json``."""
        self.refusals = 0
        """How many more times it answers 503 before it accepts a run."""
        self.instead: Callable[[], Answer | None] = lambda: None
        """What it says in place of the operation."""
        self.also: Callable[[], Any] = lambda: None
        """What else happens while the jobs run."""
        self.writes_verdict = True
        self.long_words = 1
        """How many categories of 200 characters the model knows."""
        self.parameters: list[dict[str, str]] = []
        self.selections: list[str] = []
        """What was asked for of the operation."""
        self.tokens: set[str] = set()
        self.use_case = ""
        self._bucket = bucket
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.tokens.add(self.headers.get("Authorization", "").split(" ")[0])
                if fake.refusals:
                    fake.refusals -= 1
                    return self._answer(503, {"error": {"code": 503, "message": "not now"}})
                assert self.path == "/v1/projects/local-dev/regions/us-central1/workflowTemplates/train:instantiate"
                fake.run(body["parameters"])
                return self._answer(200, {"name": "projects/local-dev/regions/us-central1/operations/one"})

            def do_GET(self) -> None:
                path, _, asked = self.path.partition("?")
                assert path == "/v1/projects/local-dev/regions/us-central1/operations/one"
                fake.selections.append(asked)
                if (said := fake.instead()) is not None:
                    return self._send(said)
                error = {"code": 9, "message": fake.error}
                return self._answer(200, {"done": True, **({"error": error} if fake.error else {"response": {}})})

            def _answer(self, status: int, document: Any) -> None:
                self._send(Answer(status, json.dumps(document).encode()))

            def _send(self, said: Answer) -> None:
                self.send_response(said.status)
                self.send_header("Content-Type", said.content_type)
                self.send_header("Content-Length", str(len(said.content)))
                self.end_headers()
                self.wfile.write(said.content)

            def log_message(self, *_: Any) -> None:
                """Be quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def run(self, parameters: dict[str, str]) -> None:
        """The jobs of one run."""
        self.parameters.append(parameters)
        version = f"{parameters['TRAINING_DATE']}/{parameters['RUN_ID']}"
        if self.writes_verdict:
            categories = {"word": [f"{number:0200}" for number in range(self.long_words)]}
            manifest = untrained(use_case("flights"), version, {}, categories, reason="").model_copy(
                update={"verdict": Verdict(self.verdict), "reasons": ["a good one", "another"]}
            )
            content = manifest.model_dump_json().encode()
            uri = f"gs://{BUCKET}/models/{version}"
            told = ToldVerdict.of(manifest, uri, hashlib.sha256(content).hexdigest())
            for name, written in (("manifest.json", content), (told.NAME, told.model_dump_json().encode())):
                blob = self._bucket.blob(f"models/{version}/{name}")
                blob.upload_from_string(written, content_type="application/json")
        if self.left is not None:
            archive = self._bucket.client.bucket(ARCHIVE)
            blob = archive.blob(f"parquet/{self.use_case}/run={parameters['RUN_ID']}/failure.json")
            blob.upload_from_string(self.left, content_type="application/json")
        self.also()


class Hop(interpreter.Run):
    """A run on a clock that jumps over every pause.

    Args:
        began: what its clock says at first, in seconds since 1970.
        on_pause: is told of each pause, once it is over, with the seconds that all of them have taken.
    """

    def __init__(
        self, *arguments: Any, began: float, on_pause: Callable[[float], Any] = lambda _: None, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._began = began
        self._on_pause = on_pause
        self.paused = 0.0
        self.lines: list[dict[str, Any]] = []
        """The arguments of each ``sys.log``."""
        self.logs = True
        """False: ``sys.log`` fails."""

    async def sleep(self, seconds: float) -> None:
        """Jump."""
        self.paused += seconds
        await asyncio.to_thread(self._on_pause, self.paused)

    async def builtin(self, name: str, positional: list[Any], named: Mapping[str, Any]) -> Any:
        """The clock and the log are its own."""
        if name == "sys.now":
            return self._began + self.paused
        if name == "sys.log":
            if not self.logs:
                raise RaisedError({"message": "the caller lacks logging.logEntries.create", "tags": ["HttpError"]})
            self.lines.append(dict(named))
        return await super().builtin(name, positional, named)


@dataclass
class Lived:
    """What came of a run in this process."""

    result: dict[str, Any] = field(default_factory=dict)
    failure: Any = None
    """What it raised; None if it came to its end."""
    paused: float = 0.0
    """Seconds of its clock."""
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def overdue(self) -> list[tuple[str, str]]:
        """The cycles that it called overdue, with what became of each."""
        assert all(line["severity"] == "WARNING" for line in self.lines)
        return [(line["json"]["cycle"], line["json"]["became"]) for line in self.lines]


class Loop:
    """One deployed workflow with a use case, hence a pointer, of its own."""

    def __init__(self, servers: dict[str, ServerProcess], dataproc: Dataproc, clients: "Clients") -> None:
        self.servers = servers
        self.dataproc = dataproc
        self.clients = clients
        self.use_case = self.dataproc.use_case = f"case{next(NUMBERS)}"
        self.first_cycle_week = WEEK
        self.cycle_weeks = 4
        self.name = ""
        self._hops = itertools.count(1)

    @property
    def variables(self) -> dict[str, str]:
        """The workflow's environment, as deploy sets it."""
        return {
            "DATASTORE_ENDPOINT": self.servers["datastore"].http,
            "STORAGE_ENDPOINT": self.servers["storage"].http,
            "EXECUTIONS_ENDPOINT": self.servers["workflows"].http,
            "DATAPROC_ENDPOINT": self.dataproc.url,
            "REGION": "us-central1",
            "TEMPLATE": "train",
            "ARCHIVE_BUCKET": ARCHIVE,
            "MODELS_BUCKET": BUCKET,
            "USE_CASE": self.use_case,
            "FIRST_CYCLE_WEEK": str(self.first_cycle_week),
            "CYCLE_WEEKS": str(self.cycle_weeks),
        }

    def deploy(self) -> None:
        """Deploy the source as it lies in the repository."""
        self.clients.workflows.create_workflow(
            parent=PARENT,
            workflow_id=self.use_case,
            workflow={"source_contents": SOURCE.read_text(), "user_env_vars": self.variables},
        ).result(timeout=20)
        self.name = f"{PARENT}/workflows/{self.use_case}"

    def run(self, argument: Any = None) -> Execution:
        """Run it to its end."""
        if not self.name:
            self.deploy()
        execution = Execution(argument=json.dumps(argument)) if argument is not None else Execution()
        started = self.clients.executions.create_execution(parent=self.name, execution=execution)

        def ended() -> Execution | None:
            found = self.clients.executions.get_execution(name=started.name)
            return found if found.state != Execution.State.ACTIVE else None

        return eventually(ended, 30, "the execution ends")

    def answer(self, argument: Any = None) -> dict[str, Any]:
        """What it returns; fails if it does not succeed."""
        done = self.run(argument)
        assert done.state == Execution.State.SUCCEEDED, done.error.payload
        return json.loads(done.result)

    def at(
        self,
        week: int = WEEK,
        argument: Any = None,
        *,
        on_pause: Callable[[float], Any] = lambda _: None,
        logs: bool = True,
    ) -> Lived:
        """Run it to its end in this process, on a Monday morning of that week, on a clock that jumps over pauses."""
        number = next(self._hops)
        environment = {
            **self.variables,
            "GOOGLE_CLOUD_PROJECT_ID": PROJECT,
            "GOOGLE_CLOUD_LOCATION": "us-central1",
            "GOOGLE_CLOUD_WORKFLOW_ID": self.use_case,
            "GOOGLE_CLOUD_WORKFLOW_EXECUTION_ID": f"{number:08d}-0000-0000-0000-000000000000",
        }
        # Weeks since the epoch begin on Thursdays.
        monday = week * WEEK_SECONDS + 4 * 24 * 3600 + 3 * 3600

        async def live() -> Lived:
            async with aiohttp.ClientSession() as session:
                hop = Hop(
                    program(),
                    Notes(),
                    environment,
                    session,
                    lambda *_: "Bearer a-token",
                    began=float(monday),
                    on_pause=on_pause,
                )
                hop.logs = logs
                try:
                    return Lived(await hop.main(argument), None, hop.paused, hop.lines)
                except RaisedError as failure:
                    return Lived({}, failure.value, hop.paused, hop.lines)

        return asyncio.run(live())

    @property
    def pointer(self) -> ModelPointer | None:
        """Where the pointer stands, read as the functions read it."""
        return query.pointer(self.clients.datastore, self.use_case)

    def claims(self) -> list[TrainingRun]:
        """The claimed cycles, newest first."""
        return query.training_runs(self.clients.datastore, self.use_case)

    def claim(self, execution: str, state: RunState = RunState.RUNNING, week: int = WEEK) -> None:
        """Put the row of that week's cycle there, as another execution would have left it."""
        entity = datastore.Entity(self.clients.datastore.key("TrainingRun", f"{self.use_case}:{week}"))
        entity.update(
            {"cycle": f"{self.use_case}:{week}", "run_id": "older", "use_case": self.use_case, "state": state.value,
             "execution": execution, "claimed_at": datetime.now(UTC)}
        )  # fmt: skip
        self.clients.datastore.put(entity)

    def change_pointer(self, **values: Any) -> None:
        """Do to the pointer what a person would."""
        entity = self.clients.datastore.get(self.clients.datastore.key("ModelPointer", self.use_case))
        entity.update(values)
        self.clients.datastore.put(entity)


class Clients:
    """Google's clients on the servers."""

    def __init__(self, servers: dict[str, ServerProcess]) -> None:
        transport = WorkflowsClient.get_transport_class("rest")(
            host=servers["workflows"].http, credentials=AnonymousCredentials()
        )
        self.workflows = WorkflowsClient(transport=transport)
        channel = grpc.insecure_channel(servers["workflows"].grpc)
        self.executions = ExecutionsClient(transport=ExecutionsClient.get_transport_class("grpc")(channel=channel))
        self.datastore = datastore.Client(project=PROJECT)
        self.storage = storage.Client(project=PROJECT)
