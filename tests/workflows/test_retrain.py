"""``retrain.yaml``, byte for byte as it is deployed, against real Workflows, Datastore and Storage servers.

Dataproc is an HTTP endpoint of the test: what a cluster would leave in the bucket, it leaves, and it answers what a
cluster would answer.
"""

import hashlib
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import datastore, storage  # type: ignore[attr-defined]
from google.cloud.datastore_admin_v1 import DatastoreAdminClient
from google.cloud.workflows.executions_v1 import Execution, ExecutionsClient
from google.cloud.workflows_v1 import WorkflowsClient

from lunation import query
from lunation.deploy.datastore import CompositeIndex
from schemas import ModelPointer, RunState, TrainingRun
from tests.support import ROOT, ServerProcess, eventually

PROJECT = "local-dev"
PARENT = f"projects/{PROJECT}/locations/us-central1"
BUCKET = "local-dev-models"
WEEK = int(time.time()) // 604800
NUMBERS = itertools.count(1)


class Dataproc:
    """Answers ``:instantiate`` and the operation, and does what the jobs of a run would do in between."""

    def __init__(self, bucket: storage.Bucket) -> None:
        self.verdict = "PROMOTE"
        self.error: str | None = None
        self.refusals = 0
        """How many more times it answers 503 before it accepts a run."""
        self.also: Callable[[], Any] = lambda: None
        """What else happens while the jobs run."""
        self.writes_manifest = True
        self.parameters: list[dict[str, str]] = []
        self.tokens: set[str] = set()
        self._bucket = bucket
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

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
                error = {"code": 9, "message": fake.error}
                self._answer(200, {"done": True, **({"error": error} if fake.error else {"response": {}})})

            def _answer(self, status: int, document: Any) -> None:
                content = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Be quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def run(self, parameters: dict[str, str]) -> None:
        """The jobs of one run."""
        self.parameters.append(parameters)
        version = f"{parameters['TRAINING_DATE']}/{parameters['RUN_ID']}"
        if self.writes_manifest:
            manifest = {"model_version": version, "verdict": self.verdict, "reasons": ["a good one", "another"]}
            content = json.dumps(manifest).encode()
            blob = self._bucket.blob(f"models/{version}/manifest.json")
            blob.metadata = {"sha256": hashlib.sha256(content).hexdigest()}
            blob.upload_from_string(content, content_type="application/json")
        self.also()


class Loop:
    """One deployed workflow with a use case, hence a pointer, of its own."""

    def __init__(self, servers: dict[str, ServerProcess], dataproc: Dataproc, clients: "Clients") -> None:
        self.servers = servers
        self.dataproc = dataproc
        self.clients = clients
        self.use_case = f"case{next(NUMBERS)}"
        self.first_cycle_week = WEEK
        self.name = ""

    def deploy(self) -> None:
        """Deploy the source as it lies in the repository."""
        variables = {
            "DATASTORE_ENDPOINT": self.servers["datastore"].http,
            "STORAGE_ENDPOINT": self.servers["storage"].http,
            "EXECUTIONS_ENDPOINT": self.servers["workflows"].http,
            "DATAPROC_ENDPOINT": self.dataproc.url,
            "REGION": "us-central1",
            "TEMPLATE": "train",
            "MODELS_BUCKET": BUCKET,
            "USE_CASE": self.use_case,
            "FIRST_CYCLE_WEEK": str(self.first_cycle_week),
        }
        source = (ROOT / "workflows" / "retrain.yaml").read_text()
        self.clients.workflows.create_workflow(
            parent=PARENT, workflow_id=self.use_case, workflow={"source_contents": source, "user_env_vars": variables}
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

    @property
    def pointer(self) -> ModelPointer | None:
        """Where the pointer stands, read as the functions read it."""
        return query.pointer(self.clients.datastore, self.use_case)

    def claims(self) -> list[TrainingRun]:
        """The claimed cycles, newest first."""
        return query.training_runs(self.clients.datastore, self.use_case)

    def claim(self, execution: str, state: RunState = RunState.RUNNING) -> None:
        """Put the row of this week's cycle there, as another execution would have left it."""
        entity = datastore.Entity(self.clients.datastore.key("TrainingRun", f"{self.use_case}:{WEEK}"))
        entity.update(
            {"cycle": f"{self.use_case}:{WEEK}", "run_id": "older", "use_case": self.use_case, "state": state.value,
             "execution": execution, "claimed_at": datetime.now(UTC)}
        )  # fmt: skip
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


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ServerProcess]]:
    """The three that the workflow calls, for the whole module."""
    state = tmp_path_factory.mktemp("retrain")
    started = {name: ServerProcess(name, Path(state)) for name in ("datastore", "storage", "workflows")}
    for server in started.values():
        server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATASTORE_EMULATOR_HOST", started["datastore"].grpc)
        patch.setenv("STORAGE_EMULATOR_HOST", started["storage"].http)
        storage.Client(project=PROJECT).create_bucket(BUCKET)
        transport = DatastoreAdminClient.get_transport_class("rest")(
            host=started["datastore"].http, credentials=AnonymousCredentials()
        )
        admin: Any = SimpleNamespace(project=PROJECT, datastore_admin=DatastoreAdminClient(transport=transport))
        CompositeIndex("ModelPromotion", "use_case", "-generation").create(admin)
        CompositeIndex("TrainingRun", "use_case", "-claimed_at").create(admin)
        yield started
    for server in started.values():
        server.stop()


@pytest.fixture(scope="module")
def clients(servers: dict[str, ServerProcess]) -> Clients:
    """Google's clients on them."""
    return Clients(servers)


@pytest.fixture
def loop(servers: dict[str, ServerProcess], clients: Clients) -> Iterator[Loop]:
    """A workflow that is due this week."""
    dataproc = Dataproc(clients.storage.bucket(BUCKET))
    thread = threading.Thread(target=dataproc.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Loop(servers, dataproc, clients)
    dataproc.server.shutdown()
    dataproc.server.server_close()
    thread.join()
    for server in servers.values():
        server.admin("DELETE", "/_laptop/faults")


def test_a_promoted_model_moves_the_pointer_and_closes_the_run(loop: Loop) -> None:
    """The first model makes generation 1, the next one 2 with its history; each run's row tells all of it."""
    first = loop.answer()
    assert first["outcome"] == "PROMOTE"
    assert loop.pointer is not None
    assert loop.pointer.generation == 1
    assert loop.pointer.model_version == first["model_version"]
    assert loop.pointer.uri == f"gs://{BUCKET}/models/{first['model_version']}"
    second = loop.answer({"force": True})
    assert loop.dataproc.parameters[0]["CHAMPION"] == "none"
    assert loop.dataproc.parameters[1]["CHAMPION"] == f"models/{first['model_version']}"
    assert loop.dataproc.tokens == {"Bearer"}
    pointer = loop.pointer
    assert pointer is not None
    assert (pointer.generation, pointer.model_version) == (2, second["model_version"])
    manifest = loop.clients.storage.bucket(BUCKET).blob(f"models/{pointer.model_version}/manifest.json")
    assert pointer.manifest_sha256 == hashlib.sha256(manifest.download_as_bytes()).hexdigest()
    moves = query.promotions(loop.clients.datastore, loop.use_case)
    assert [(move.generation, move.previous_version, move.reason) for move in moves] == [
        (2, first["model_version"], "a good one"),
        (1, None, "a good one"),
    ]
    newest, oldest = loop.claims()
    assert [run.state for run in (newest, oldest)] == [RunState.SUCCEEDED, RunState.SUCCEEDED]
    assert (oldest.cycle, oldest.generation, oldest.verdict) == (f"{loop.use_case}:{WEEK}", 1, "PROMOTE")
    assert newest.reasons == ["a good one", "another"]
    assert newest.finished_at is not None


@pytest.mark.parametrize("verdict", ["HOLD", "REJECT"])
def test_a_model_that_is_not_trusted_leaves_the_pointer(loop: Loop, verdict: str) -> None:
    """The run succeeds with its verdict and reasons; what serves stays."""
    loop.answer()
    before = loop.pointer
    loop.dataproc.verdict = verdict
    assert loop.answer({"force": True})["outcome"] == verdict
    assert loop.pointer == before
    newest = loop.claims()[0]
    assert (newest.state, newest.verdict, newest.generation) == (RunState.SUCCEEDED, verdict, None)
    assert newest.reasons == ["a good one", "another"]


def test_a_week_between_two_cycles_does_nothing(loop: Loop) -> None:
    """No claim, no cluster: the scheduler fires weekly, a cycle has four weeks."""
    loop.first_cycle_week = WEEK - 2
    assert loop.answer()["outcome"] == "NOT_DUE"
    assert loop.claims() == []
    assert loop.dataproc.parameters == []


def test_a_cycle_runs_once_however_often_it_is_started(loop: Loop) -> None:
    """Of five executions at the same time one trains; the others see its claim; so does one that comes later."""
    loop.deploy()
    gate = threading.Event()
    loop.dataproc.also = lambda: gate.wait(20)
    with ThreadPoolExecutor(5) as pool:
        running = [pool.submit(loop.answer) for _ in range(5)]
        eventually(lambda: sum(one.done() for one in running) == 4, 30, "four of five see the claim")
        gate.set()
        outcomes = sorted(one.result()["outcome"] for one in running)
    assert outcomes == ["PROMOTE", "RUNNING", "RUNNING", "RUNNING", "RUNNING"]
    assert loop.answer()["outcome"] == "DONE"
    assert len(loop.dataproc.parameters) == 1
    assert loop.pointer is not None
    assert loop.pointer.generation == 1


def test_an_early_cycle_runs_once_in_a_week(loop: Loop) -> None:
    """Whoever looks at live quality, and however often: one training a week; the regular cycle is another one."""
    loop.first_cycle_week = WEEK - 2
    assert loop.answer({"early": True})["cycle"] == f"{loop.use_case}:early:{WEEK}"
    assert loop.answer({"early": True})["outcome"] == "DONE"
    assert loop.answer({"early": False})["outcome"] == "NOT_DUE"
    assert len(loop.dataproc.parameters) == 1


def test_a_run_is_repeated_by_its_model_version(loop: Loop) -> None:
    """The jobs get its folder; every other run gets none."""
    first = loop.answer()
    loop.dataproc.verdict = "HOLD"
    assert loop.answer({"like": first["model_version"]})["outcome"] == "HOLD"
    assert [one["LIKE"] for one in loop.dataproc.parameters] == ["none", f"models/{first['model_version']}"]


@pytest.mark.parametrize("left", ["gone", "failed"])
def test_a_claim_whose_holder_is_no_more_is_taken_over(loop: Loop, left: str) -> None:
    """An execution that vanished, or failed, does not block its cycle for four weeks."""
    if left == "gone":
        loop.deploy()
        loop.claim(f"{loop.name}/executions/00000000-0000-0000-0000-000000000000")
    else:
        loop.dataproc.error = "a job failed"
        assert loop.run().state == Execution.State.FAILED
        loop.dataproc.error = None
    assert loop.answer()["outcome"] == "PROMOTE"
    (run,) = loop.claims()
    assert (run.state, run.generation, run.cause) == (RunState.SUCCEEDED, 1, None)


def test_a_failed_training_is_recorded_with_its_cause(loop: Loop) -> None:
    """The operation is done and has an error: the run FAILED with it, the old model stays, the execution fails."""
    loop.answer()
    before = loop.pointer
    loop.dataproc.error = "Job train-x failed: no labels between 2013-01-01 and 2013-01-28"
    done = loop.run({"force": True})
    assert done.state == Execution.State.FAILED
    assert "no labels" in done.error.payload
    newest = loop.claims()[0]
    assert (newest.state, newest.cause) == (RunState.FAILED, loop.dataproc.error)
    assert newest.finished_at is not None
    assert loop.pointer == before


def test_a_run_without_a_manifest_fails_and_says_so(loop: Loop) -> None:
    """A folder without a manifest is no model, whatever the cluster says."""
    loop.dataproc.writes_manifest = False
    assert loop.run().state == Execution.State.FAILED
    (run,) = loop.claims()
    assert run.state == RunState.FAILED
    assert "404" in (run.cause or "")
    assert loop.pointer is None


def test_a_pointer_that_was_moved_meanwhile_is_left_alone(loop: Loop) -> None:
    """A person rolled back while the training ran: the new model was compared with another one, so theirs stays."""
    loop.answer()

    def roll_back() -> None:
        entity = loop.clients.datastore.get(loop.clients.datastore.key("ModelPointer", loop.use_case))
        entity.update({"generation": 7, "model_version": "2013-01-01/by-hand"})
        loop.clients.datastore.put(entity)

    loop.dataproc.also = roll_back
    assert loop.run({"force": True}).state == Execution.State.FAILED
    assert loop.pointer is not None
    assert (loop.pointer.generation, loop.pointer.model_version) == (7, "2013-01-01/by-hand")
    assert [move.generation for move in query.promotions(loop.clients.datastore, loop.use_case)] == [1]
    assert loop.claims()[0].state == RunState.FAILED
    assert "the pointer has moved to 2013-01-01/by-hand since" in (loop.claims()[0].cause or "")


def test_candidates_that_were_set_meanwhile_do_not_stop_a_promotion(loop: Loop) -> None:
    """The shadow goes on beside the new model, the canary ends, the generation follows the person's; the history row
    holds the pointer as it stands."""
    first = loop.answer()
    candidate = {"model_version": "2013-01-01/candidate", "uri": "gs://b/models/c", "manifest_sha256": "0" * 64}

    def set_candidates() -> None:
        entity = loop.clients.datastore.get(loop.clients.datastore.key("ModelPointer", loop.use_case))
        entity.update({"generation": 3, "shadow": candidate, "canary": {**candidate, "share": 0.5}})
        loop.clients.datastore.put(entity)

    loop.dataproc.also = set_candidates
    second = loop.answer({"force": True})
    assert (second["outcome"], second["generation"]) == ("PROMOTE", 4)
    pointer = loop.pointer
    assert pointer is not None
    assert (pointer.generation, pointer.model_version) == (4, second["model_version"])
    assert pointer.shadow is not None
    assert pointer.shadow.model_dump() == candidate
    assert pointer.canary is None
    row = query.promotions(loop.clients.datastore, loop.use_case)[0]
    assert (row.generation, row.previous_version) == (4, first["model_version"])
    assert (row.shadow, row.canary) == (pointer.shadow, None)


def test_an_answer_that_is_lost_does_not_move_the_pointer_twice(loop: Loop) -> None:
    """The commit was done and its answer lost: the workflow looks, sees its own move, and goes on."""
    rpc = "google.datastore.v1.Datastore.Commit"
    loop.deploy()
    loop.dataproc.also = lambda: loop.servers["datastore"].fault(rpc=rpc, when="after")
    assert loop.answer()["outcome"] == "PROMOTE"
    assert [fault["fired"] for fault in loop.servers["datastore"].faults()] == [1]
    assert loop.pointer is not None
    assert loop.pointer.generation == 1
    assert len(query.promotions(loop.clients.datastore, loop.use_case)) == 1


def test_a_claim_whose_answer_is_lost_is_known_as_ours(loop: Loop) -> None:
    """The insert was done and its answer lost: the run goes on, instead of waiting for itself."""
    loop.deploy()
    loop.servers["datastore"].fault(rpc="google.datastore.v1.Datastore.Commit", when="after")
    assert loop.answer()["outcome"] == "PROMOTE"
    assert [fault["fired"] for fault in loop.servers["datastore"].faults()] == [1]
    assert len(loop.claims()) == 1


def test_a_cluster_that_cannot_be_had_at_once_is_asked_for_again(loop: Loop) -> None:
    """503 is retried; one run is started."""
    loop.dataproc.refusals = 1
    assert loop.answer()["outcome"] == "PROMOTE"
    assert loop.dataproc.refusals == 0
    assert len(loop.dataproc.parameters) == 1


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("force", "the argument is a string"),
        ([True], "the argument is a list"),
        (12, "the argument is a integer"),
        ({"froce": True}, "froce"),
        ({"force": "yes"}, "force as a string"),
        ({"force": 1}, "force as a integer"),
        ({"early": "no"}, "early as a string"),
        ({"like": 7}, "like as a integer"),
        ({"like": "../../x"}, "like ../../x"),
    ],
)
def test_an_argument_that_cannot_be_meant_is_refused(loop: Loop, argument: Any, words: str) -> None:
    """Clearly, before anything is claimed."""
    done = loop.run(argument)
    assert done.state == Execution.State.FAILED
    assert words in done.error.payload
    assert re.search("ValueError", done.error.payload)
    assert loop.claims() == []
