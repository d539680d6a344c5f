"""Work for every unit, with its own recorder before every service that it calls.

The deployed things are pointed there as somebody would do it by hand, through the APIs, which the next plan has to
show.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from google.cloud import datastore, storage  # type: ignore[attr-defined]
from google.cloud.dataproc_v1 import types as dataproc
from google.longrunning import operations_pb2
from google.protobuf.message import Message
from google.rpc.code_pb2 import INTERNAL

from laptop.errors import not_found
from laptop.identity import Identity
from laptop.surface import Rpc
from lunation import model_pointer, query
from lunation.clients import Clients
from lunation.deploy.accounts import account
from lunation.deploy.artefacts import stage_dataflow
from lunation.deploy.names import CLASSIFY_HTTP, SCHEDULER_JOB, WORKFLOW, archive_bucket, models_bucket
from lunation.settings import ROOT, Settings
from rehearsal import small_model
from rehearsal.recorder import Call
from rehearsal.stage import Stage
from schemas import use_case
from spark.instruments import instrumented
from spark.job import Job
from spark.objects import write_once

PATIENCE_SECONDS = 90.0


class Traffic:
    """One run of everything.

    Args:
        settings: what is deployed.
        clients: the operator's.
        stage: where recorders are put up.
        state: the laptop's folder, whose key signs tokens.
        scratch: a folder to unpack into.
    """

    def __init__(self, settings: Settings, clients: Clients, stage: Stage, state: Path, scratch: Path) -> None:
        self._settings = settings
        self._clients = clients
        self._stage = stage
        self._state = state
        self._scratch = scratch
        self._case = use_case(settings.use_case)
        self._record: dict[str, Any] = {
            "record_id": "rehearsal",
            "event_time": "2013-01-01T10:15:00Z",
            "features": dict(self._case.example_features),
        }
        self._published: list[str] = []
        self._failure: str | None = None
        """What the next training fails with."""

    def redirect(self) -> None:
        """Point every deployed thing at its own recorders."""
        for unit in ("ingest-fast", "classify", CLASSIFY_HTTP, "submit"):
            addresses = self._stage.admit(unit, ("datastore", "pubsub", "storage", "telemetry"))
            self._change_environment(
                unit,
                DATASTORE_ENDPOINT=f"http://{addresses['datastore']['grpc']}",
                PUBSUB_ENDPOINT=f"http://{addresses['pubsub']['grpc']}",
                STORAGE_EMULATOR_HOST=addresses["storage"]["http"],
                OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{addresses['telemetry']['http']}/v1/metrics",
                OTEL_METRIC_EXPORT_INTERVAL="100",
            )
        addresses = self._stage.admit(
            "retrain", ("datastore", "dataproc", "storage", "workflows"), {"dataproc": _Dataproc(self._train).answer}
        )
        name = f"{self._clients.location}/workflows/{WORKFLOW}"
        workflow = self._clients.workflows.get_workflow(name=name)
        for variable, service in (
            ("DATASTORE_ENDPOINT", "datastore"),
            ("DATAPROC_ENDPOINT", "dataproc"),
            ("STORAGE_ENDPOINT", "storage"),
            ("EXECUTIONS_ENDPOINT", "workflows"),
        ):
            workflow.user_env_vars[variable] = addresses[service]["http"]
        request = {"workflow": workflow, "update_mask": {"paths": ["user_env_vars"]}}
        self._clients.workflows.update_workflow(request=request).result(timeout=60)
        starts = self._stage.admit("scheduler", ("workflows",))["workflows"]["http"]
        job = self._clients.scheduler.get_job(name=f"{self._clients.location}/jobs/{SCHEDULER_JOB}")
        job.http_target.uri = f"{starts}/v1/{name}/executions"
        self._clients.scheduler.update_job(request={"job": job, "update_mask": {"paths": ["http_target"]}})

    def run(self) -> None:
        """Fail to train, train, take over a claim, classify, mirror, refuse, archive.

        Raises:
            TimeoutError: something did not happen.
        """
        self._fail_by_schedule()
        first = self._train_by_schedule()
        self._publish(3)
        self._abandon(first)
        self._train_by_schedule()
        model_pointer.shadow(self._clients, self._case.name, first, "rehearsal")
        self._until(self._compared, "a comparison")
        self._clients.publisher.publish(self._topic("records"), b"no record").result(timeout=30)
        self._ask()
        self._until(self._mirrored, "the records in Datastore")
        self._until(self._refused, "dead letters of both functions")
        self._until(self._counted, "the metrics of every function")
        self._archive()

    # --- training

    def _train_by_schedule(self) -> str:
        """Let the scheduler start the workflow; the version of the model that serves afterwards."""
        before = self._generation()
        self._clients.scheduler.run_job(name=f"{self._clients.location}/jobs/{SCHEDULER_JOB}")
        self._until(lambda: self._generation() > before, "the workflow to move the pointer")
        self._until(lambda: self._run_state() == "SUCCEEDED", "the training run to be closed")
        pointer = query.pointer(self._clients.datastore, self._case.name)
        assert pointer is not None
        return pointer.model_version

    def _fail_by_schedule(self) -> None:
        """A training that leaves why it failed, which has to arrive in the run's row."""
        self._failure = "rehearsed: too few rows"
        self._clients.scheduler.run_job(name=f"{self._clients.location}/jobs/{SCHEDULER_JOB}")
        self._until(lambda: self._runs() and self._run_state() == "FAILED", "the training run to fail")
        (run,) = self._runs()
        if run["cause"] != self._failure:
            raise TimeoutError(f"the run's row says {run['cause']!r} of a job that left {self._failure!r}")
        self._failure = None

    def _generation(self) -> int:
        pointer = query.pointer(self._clients.datastore, self._case.name)
        return 0 if pointer is None else pointer.generation

    def _runs(self) -> list[datastore.Entity]:
        return list(self._clients.datastore.query(kind="TrainingRun").fetch())

    def _run_state(self) -> str:
        return max(self._runs(), key=lambda run: run["claimed_at"])["state"]

    def _abandon(self, model_version: str) -> None:
        """Make the cycle look as if its execution had ended without closing its claim, so that it is taken over."""
        (run,) = self._runs()
        run["state"] = "RUNNING"
        self._clients.datastore.put(run)

    def _train(self, request: Any) -> str | None:
        """What the Spark jobs write and measure, by their own code; the error that they end with."""
        os.environ.setdefault("GOOGLE_CLOUD_PROJECT", self._clients.project)
        client = storage.Client(
            project=self._clients.project, client_options={"api_endpoint": self._trainer["storage"]["http"]},
            credentials=_nobody(),
        )  # fmt: skip
        date, run_id = request.parameters["TRAINING_DATE"], request.parameters["RUN_ID"]
        target = self._clients.target
        job = Job(self._case, f"gs://{archive_bucket(target)}", f"gs://{models_bucket(target)}", run_id, date, None)

        if self._failure is not None:
            write_once(client, f"{job.work}/failure.json", json.dumps({"cause": self._failure}).encode())
            return "Job train-rehearsed failed"

        def write() -> None:
            files = small_model.files(self._case, self._record["features"], models_bucket(target), date, run_id)
            for name, content in files.items():
                write_once(client, f"{job.model}/{name}", content)

        metrics = f"{self._trainer['telemetry']['http']}/v1/metrics"
        instrumented("evaluate", job, write, {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": metrics})()
        return None

    @property
    def _trainer(self) -> dict[str, dict[str, str]]:
        if not hasattr(self, "_trainer_addresses"):
            self._trainer_addresses = self._stage.admit("train", ("storage", "telemetry"))
        return self._trainer_addresses

    # --- records

    def _publish(self, number: int) -> None:
        for _ in range(number):
            document = {**self._record, "record_id": f"rehearsal-{uuid.uuid4().hex[:12]}"}
            self._published.append(document["record_id"])
            data = json.dumps(document).encode()
            self._clients.publisher.publish(self._topic("records"), data).result(timeout=30)

    def _ask(self) -> None:
        """A classification, and a record submitted and waited for, as the caller."""
        self._call(CLASSIFY_HTTP, "/v1/classify", self._record)
        document = {**self._record, "record_id": f"submitted-{uuid.uuid4().hex[:12]}"}
        self._call("submit", "/v1/records?wait=20", document)
        self._published.append(document["record_id"])

    def _call(self, function: str, path: str, document: Any) -> None:
        found = self._clients.functions.get_function(name=f"{self._clients.location}/functions/{function}")
        url = found.service_config.uri
        token = Identity(self._state).token(account(self._clients.project, "caller"), url)
        answer = requests.post(url + path, json=document, headers={"Authorization": f"Bearer {token}"}, timeout=60)
        answer.raise_for_status()
        self._stage.notes.add(Call("caller", "functions.invoke", function))

    def _compared(self) -> bool:
        """Whether the shadow, which is loaded in the background, has scored a record."""
        self._publish(1)
        return self._stage_has("classify", "comparisons")

    def _mirrored(self) -> bool:
        return all(
            query.record(self._clients.datastore, one) and query.classification(self._clients.datastore, one)
            for one in self._published
        )

    def _counted(self) -> bool:
        """Whether each function has exported its metrics; another request makes it look at the clock."""
        missing = [
            unit
            for unit in ("ingest-fast", "classify", CLASSIFY_HTTP, "submit")
            if not any(call.method == "telemetry.metrics.write" for call in self._stage.notes.of(unit))
        ]
        if CLASSIFY_HTTP in missing:
            self._call(CLASSIFY_HTTP, "/v1/classify", self._record)
        if "submit" in missing:
            self._call("submit", "/v1/records", {**self._record, "record_id": "counted"})
        if {"ingest-fast", "classify"} & set(missing):
            self._publish(1)
        return not missing

    def _refused(self) -> bool:
        if not all(self._stage_has(unit, "dead-letters") for unit in ("ingest-fast", "classify")):
            return False
        for function in ("ingest-fast", "classify"):
            self._stage.notes.add(Call("push", "functions.invoke", function))
        return True

    def _stage_has(self, unit: str, topic: str) -> bool:
        """Whether the unit has published to the topic."""
        return any(
            call.method.endswith("Publisher.Publish") and call.request.topic.endswith(f"/{topic}")  # type: ignore[union-attr]
            for call in self._stage.notes.of(unit)
        )

    # --- the archive

    def _archive(self) -> None:
        """Run the pipeline from its staged zip until it has filed something of each topic, and end it in order."""
        addresses = self._stage.admit("archive", ("pubsub", "storage"))
        self._clients.publisher.publish(self._topic("labels"), b"no label").result(timeout=30)
        folder = self._scratch / "archive"
        with zipfile.ZipFile(stage_dataflow().path) as staged:
            staged.extractall(folder)
        project = self._clients.project
        sources = [f"--{one.replace('-', '_')}_subscription=projects/{project}/subscriptions/{one}-archive"
                   for one in ("records", "labels", "dead-letters", "comparisons")]  # fmt: skip
        process = subprocess.Popen(
            [
                *(sys.executable, str(folder / "dataflow" / "launch.py"), *sources),
                *(f"--archive_bucket={archive_bucket(self._clients.target)}", f"--project={project}"),
                *(f"--dead_letters_topic=projects/{project}/topics/dead-letters", f"--use_case={self._case.name}"),
                *("--runner=laptop.micro_batch.MicroBatchRunner", "--window_seconds=1"),
            ],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
                "GOOGLE_CLOUD_PROJECT": project,
                "PUBSUB_EMULATOR_HOST": addresses["pubsub"]["grpc"],
                "STORAGE_EMULATOR_HOST": addresses["storage"]["http"],
            },
            stdout=(self._scratch / "archive.log").open("w"),
            stderr=subprocess.STDOUT,
        )
        try:
            self._until(self._filed, f"the archive's objects (see {self._scratch / 'archive.log'})")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)

    def _filed(self) -> bool:
        names = {
            blob.name.split("/")[1] for blob in self._clients.storage.list_blobs(archive_bucket(self._clients.target))
        }
        return {"records", "dead-letters", "comparisons"} <= names and self._stage_has("archive", "dead-letters")

    # --- helpers

    def _change_environment(self, name: str, **variables: str) -> None:
        function = self._clients.functions.get_function(name=f"{self._clients.location}/functions/{name}")
        function.service_config.environment_variables.update(variables)
        request = {"function": function, "update_mask": {"paths": ["service_config"]}}
        self._clients.functions.update_function(request=request).result(timeout=120)

    def _topic(self, name: str) -> str:
        return f"projects/{self._clients.project}/topics/{name}"

    def _until(self, look: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = 0.05
        while not look():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {PATIENCE_SECONDS:.0f} s in vain for {what}")
            time.sleep(pause)
            pause = min(1.0, pause * 1.5)


class _Dataproc:
    """Answers for Dataproc without a cluster: a training is done at once, by ``train``, which tells its error."""

    def __init__(self, train: Callable[[Any], str | None]) -> None:
        self._train = train
        self._done: dict[str, operations_pb2.Operation] = {}

    async def answer(self, rpc: Rpc, request: Message) -> Message:
        """Start a training, or look at one."""
        if rpc.name == "InstantiateWorkflowTemplate":
            error = await asyncio.to_thread(self._train, request)
            region = "/".join(request.name.split("/")[:4])  # type: ignore[attr-defined]
            operation = operations_pb2.Operation(name=f"{region}/operations/{uuid.uuid4()}", done=True)
            operation.metadata.Pack(dataproc.WorkflowMetadata.pb()(state=dataproc.WorkflowMetadata.State.DONE))
            if error is not None:
                operation.error.code, operation.error.message = INTERNAL, error
            self._done[operation.name] = operation
            return operation
        if rpc.name == "GetOperation" and request.name in self._done:  # type: ignore[attr-defined]
            return self._done[request.name]  # type: ignore[attr-defined]
        raise not_found(str(request))


def _nobody() -> Any:
    from google.auth.credentials import AnonymousCredentials

    return AnonymousCredentials()
