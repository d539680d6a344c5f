"""Dataproc workflow templates through Google's client: kept, filled in, run in order, cancelled, killed."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from google.api_core import exceptions, operation
from google.auth.credentials import AnonymousCredentials
from google.cloud.dataproc_v1 import (
    ClusterControllerClient,
    JobControllerClient,
    JobStatus,
    WorkflowMetadata,
    WorkflowNode,
    WorkflowTemplateServiceClient,
    types,
)
from google.cloud.storage import Client as StorageClient

from laptop.dataproc import templates
from laptop.dataproc.server import SCHEMA, Dataproc
from laptop.errors import ServiceError
from laptop.service import Api, surfaces
from laptop.store import Store
from tests.laptop.in_thread import serving
from tests.support import ServerProcess, eventually

PROJECT = "local-dev"
PARENT = f"projects/{PROJECT}/regions/us-central1"
NAME = f"{PARENT}/workflowTemplates/chain"
LOOK = {"project_id": PROJECT, "region": "us-central1"}
Node = WorkflowNode.NodeState
CLUSTER_PROPERTIES = {"spark:spark.app.name": "named", "spark-env:WORD": "moon", "dataproc:x": "y"}
Matcher = types.ListJobsRequest.JobStateMatcher


class Google:
    """Google's three clients on an address."""

    def __init__(self, http: str) -> None:
        def client(kind: Any) -> Any:
            return kind(transport=kind.get_transport_class("rest")(host=http, credentials=AnonymousCredentials()))

        self.templates: WorkflowTemplateServiceClient = client(WorkflowTemplateServiceClient)
        self.jobs: JobControllerClient = client(JobControllerClient)
        self.clusters: ClusterControllerClient = client(ClusterControllerClient)

    def instantiate(self, parameters: Mapping[str, str] | None = None, **fields: Any) -> operation.Operation:
        """Start the template."""
        request = {"name": NAME, "parameters": parameters or {}, **fields}
        return self.templates.instantiate_workflow_template(request=request)

    def all_jobs(self, **fields: Any) -> list[types.Job]:
        """The jobs, oldest first."""
        return list(reversed(list(self.jobs.list_jobs(request={**LOOK, **fields}))))


def job(step: str, *before: str, args: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    """A step."""
    main = f"gs://build/{step}.py"
    return {
        "step_id": step,
        "prerequisite_step_ids": list(before),
        "pyspark_job": {"main_python_file_uri": main, "args": list(args)},
        **fields,
    }


def template(*jobs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A template on a managed cluster."""
    cluster = {
        "cluster_name": "moon",
        "labels": {"system": "lunation"},
        "config": {"software_config": {"properties": CLUSTER_PROPERTIES}},
    }
    return {"id": "chain", "placement": {"managed_cluster": cluster}, "jobs": list(jobs), **fields}


class Runner:
    """Stands where ``spark-submit`` stands: notes the jobs, which go on when the test says so."""

    def __init__(self) -> None:
        self.started: list[types.Job] = []
        self.properties: dict[str, str] = {}
        self.variables: dict[str, str] = {}
        self.outcomes: dict[str, tuple[int, str]] = {}
        self.held: set[str] = set()
        self.ended: list[str] = []

    async def __call__(
        self, given: Any, properties: Mapping[str, str], variables: Mapping[str, str]
    ) -> tuple[int, str]:
        step = given.reference.job_id.rsplit("-", 1)[0]
        self.started.append(types.Job(given))
        self.properties, self.variables = dict(properties), dict(variables)
        if step == "missing":
            raise ServiceError("NOT_FOUND", "gs://build/missing.py: no such object")
        try:
            while step in self.held:  # noqa: ASYNC110 - the test lets go, from a thread of its own
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.ended.append(step)
            raise
        return self.outcomes.get(step, (0, ""))

    @property
    def steps(self) -> list[str]:
        """The steps that were started, in order."""
        return [one.reference.job_id.rsplit("-", 1)[0] for one in self.started]


@pytest.fixture
def runner() -> Runner:
    """What runs the jobs."""
    return Runner()


RPCS = surfaces(WorkflowTemplateServiceClient, JobControllerClient, ClusterControllerClient)


@contextmanager
def dataproc(state: Path, runner: Runner) -> Iterator[Google]:
    """The clients of a server that hands its jobs to ``runner``."""

    def build() -> Api:
        service = Dataproc(Store(state / "state.sqlite", SCHEMA), runner)
        return Api(RPCS, [service, service.operations], start=service.start, stop=service.stop)

    with serving(build) as http:
        yield Google(http)


@pytest.fixture
def google(tmp_path: Path, runner: Runner) -> Iterator[Google]:
    """A server with nothing in it."""
    with dataproc(tmp_path, runner) as clients:
        yield clients


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    """A server that nothing gets into, for all that is refused."""
    with dataproc(tmp_path_factory.mktemp("refusing"), Runner()) as clients:
        yield clients


def ended(started: operation.Operation, seconds: float = 20.0) -> Any:
    """What an operation answers once it is done; looks more often than the client would by itself."""
    eventually(started.done, seconds)
    return started.result()


# --- templates


def test_a_template_is_kept_changed_and_deleted(google: Google) -> None:
    """An update names the version that it is based on, so that no change is lost."""
    made = google.templates.create_workflow_template(parent=PARENT, template=template(job("one"), labels={"a": "b"}))
    assert (made.name, made.version, made.labels) == (NAME, 1, {"a": "b"})
    with pytest.raises(exceptions.Conflict, match="chain"):
        google.templates.create_workflow_template(parent=PARENT, template=template(job("one")))
    assert google.templates.get_workflow_template(name=NAME) == made
    assert google.templates.get_workflow_template(name=NAME.replace("/regions/", "/locations/")) == made
    changed = {**template(job("one"), job("two", "one")), "name": NAME, "version": 1}
    updated = google.templates.update_workflow_template(template=changed)
    assert (updated.version, len(updated.jobs), updated.create_time) == (2, 2, made.create_time)
    for stale in (1, 0):
        with pytest.raises(exceptions.BadRequest, match=f"has version 2, the update is of version {stale}"):
            google.templates.update_workflow_template(template={**changed, "version": stale})
    with pytest.raises(exceptions.BadRequest, match="no older one"):
        google.templates.get_workflow_template(request={"name": NAME, "version": 1})
    google.templates.delete_workflow_template(name=NAME)
    for call in (google.templates.get_workflow_template, google.templates.delete_workflow_template):
        with pytest.raises(exceptions.NotFound, match="chain"):
            call(name=NAME)


def test_templates_are_listed_by_region_and_page(google: Google) -> None:
    """Every one of the region once."""
    for parent, name in ((PARENT, "aaa"), (PARENT, "bbb"), (PARENT, "ccc"), (f"{PARENT}2", "ddd")):
        google.templates.create_workflow_template(parent=parent, template=template(job("one"), id=name))
    pages = google.templates.list_workflow_templates(request={"parent": PARENT, "page_size": 2}).pages
    assert [[one.id for one in page.templates] for page in pages] == [["aaa", "bbb"], ["ccc"]]


PATH = "jobs['one'].pysparkJob."


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (template(job("one"), id="x"), "template.id: 'x'"),
        (template(), "needs at least one"),
        (template(job("a")), "'a' is no step id"),
        (template(job("one"), job("one")), "there twice"),
        (template(job("one", "two")), "'two' is no step"),
        (template(job("one", "two"), job("two", "one")), "go in a circle"),
        (template({"step_id": "one", "pyspark_job": {"args": ["x"]}}), "mainPythonFileUri is required"),
        (template(job("one"), placement={}), "placement: name a managedCluster"),
        (template(job("one"), placement={"managed_cluster": {"cluster_name": "Moon"}}), "'Moon' is no prefix"),
        (template(job("one"), dag_timeout={"seconds": 599}), "dag_timeout: 600 to 86400"),
        (template(job("one"), parameters=[{"name": "run", "fields": [PATH + "args[0]"]}]), "'run' is no name"),
        (template(job("one"), parameters=[{"name": "RUN"}]), "names no field"),
        *(
            (template(job("one", args=("x",)), parameters=[{"name": "RUN", "fields": [path]}]), words)
            for path, words in (
                (PATH + "args[1]", "args has 1 elements"),
                (PATH + "args", r"such as args\[0\]"),
                (PATH + "args[0][1]", "no path that a laptop"),
                (PATH + "mainPythonFileUri[0]", "such as mainPythonFileUri"),
                (PATH + "properties[0]", r"such as properties\['key'\]"),
                (PATH + "loggingConfig", "holds no text"),
                (PATH + "nothing", "has no nothing"),
                ("jobs['one'].sparkJob.args[0]", "has no sparkJob"),
                ("jobs['two'].pysparkJob.args[0]", "no step 'two'"),
                ("placement.managedCluster.clusterName", "no path that a laptop"),
            )
        ),
        (
            template(
                job("one", args=("x",)),
                parameters=[{"name": "RUN", "fields": [PATH + "args[0]"], "validation": {"regex": {"regexes": ["("]}}}],
            ),
            "no regular expression",
        ),
    ],
)
def test_a_template_that_cannot_run_is_refused(refusing: Google, wanted: dict[str, Any], words: str) -> None:
    """When it is created, with the field and the cause."""
    with pytest.raises(exceptions.BadRequest, match=words):
        refusing.templates.create_workflow_template(parent=PARENT, template=wanted)
    assert not list(refusing.templates.list_workflow_templates(parent=PARENT))


def test_what_a_laptop_does_not_run_is_refused_by_name(refusing: Google) -> None:
    """Other kinds of jobs and placements, files that no job would get, and calls of no handler."""
    pyspark = {"main_python_file_uri": "gs://b/x.py"}
    for wanted, words in (
        (template({"step_id": "one", "spark_job": {"main_class": "X"}}), "pysparkJob only, not spark_job"),
        (template({"step_id": "one", "pyspark_job": {**pyspark, "archive_uris": ["gs://b/x.zip"]}}), "archiveUris"),
        (template(job("one", scheduling={"max_failures_per_hour": 1})), "starts each job once"),
        (template(job("one"), placement={"cluster_selector": {"cluster_labels": {"a": "b"}}}), "no clusters to select"),
    ):
        with pytest.raises(exceptions.MethodNotImplemented, match=words):
            refusing.templates.create_workflow_template(parent=PARENT, template=wanted)
    with pytest.raises(exceptions.MethodNotImplemented, match="SubmitJob"):
        refusing.jobs.submit_job(request={**LOOK, "job": {"placement": {"cluster_name": "moon"}}})
    with pytest.raises(exceptions.MethodNotImplemented, match="filter"):
        refusing.jobs.list_jobs(request={**LOOK, "filter": "labels.a = b"})
    with pytest.raises(exceptions.MethodNotImplemented, match="filter"):
        refusing.clusters.list_clusters(request={**LOOK, "filter": "labels.a = b"})


# --- parameters

PARAMETERS = [
    {
        "name": "RUN",
        "fields": [PATH + "args[1]", "jobs['two'].pysparkJob.properties['spark.run']"],
        "validation": {"regex": {"regexes": ["[a-z]+-[0-9]+", "none"]}},
    },
    {
        "name": "MODE",
        "fields": ["jobs['two'].pysparkJob.mainPythonFileUri"],
        "validation": {"values": {"values": ["gs://b/x.py", "gs://b/y.py"]}},
    },
]


def test_parameters_are_put_in_their_places(google: Google, runner: Runner) -> None:
    """In arguments, properties and single fields; the template itself stays as it is."""
    chain = template(job("one", args=("--run", "?")), job("two", "one"), parameters=PARAMETERS)
    made = google.templates.create_workflow_template(parent=PARENT, template=chain)
    started = google.instantiate({"RUN": "run-7", "MODE": "gs://b/y.py"})
    ended(started)
    one, two = runner.started
    assert list(one.pyspark_job.args) == ["--run", "run-7"]
    assert two.pyspark_job.properties == {"spark.run": "run-7"}
    assert two.pyspark_job.main_python_file_uri == "gs://b/y.py"
    assert started.metadata.parameters == {"RUN": "run-7", "MODE": "gs://b/y.py"}
    assert (runner.properties, runner.variables) == ({"spark.app.name": "named"}, {"WORD": "moon"})
    assert google.templates.get_workflow_template(name=NAME) == made


def test_parameters_that_do_not_fit_start_nothing(google: Google, runner: Runner) -> None:
    """Missing, unknown, not matching: refused at once, by name."""
    chain = template(job("one", args=("--run", "?")), job("two", "one"), parameters=PARAMETERS)
    google.templates.create_workflow_template(parent=PARENT, template=chain)
    given: list[tuple[dict[str, str], str]] = [
        ({"RUN": "run-7"}, "MODE is missing"),
        ({}, "is missing"),
        ({"RUN": "run-7", "MODE": "gs://b/x.py", "EXTRA": "x"}, "has no EXTRA; it has: MODE, RUN"),
        ({"RUN": "run-7x", "MODE": "gs://b/x.py"}, r"'run-7x' does not match \[a-z\]\+-\[0-9\]\+, none"),
        ({"RUN": "none", "MODE": "gs://b/z.py"}, "'gs://b/z.py' is none of"),
    ]
    for parameters, words in given:
        with pytest.raises(exceptions.BadRequest, match=words):
            google.instantiate(parameters)
    assert not runner.started


# --- running


def test_steps_run_after_what_they_wait_for(google: Google, runner: Runner) -> None:
    """Each one once, with its labels, on the workflow's own cluster; then all is DONE and the cluster gone."""
    chain = template(job("last", "left", "right"), job("right", "first"), job("left", "first"), job("first"))
    inline = google.templates.instantiate_inline_workflow_template(parent=PARENT, template=chain)
    ended(inline)
    order = runner.steps
    assert sorted(order) == ["first", "last", "left", "right"]
    assert (order[0], order[-1]) == ("first", "last")
    assert inline.metadata.state == WorkflowMetadata.State.DONE
    assert {node.state for node in inline.metadata.graph.nodes} == {Node.COMPLETED}
    assert {one.status.state for one in google.all_jobs()} == {JobStatus.State.DONE}
    assert not list(google.clusters.list_clusters(request=LOOK))
    with pytest.raises(exceptions.NotFound):
        google.templates.get_workflow_template(name=NAME)


def test_a_workflow_can_be_watched(google: Google, runner: Runner) -> None:
    """Its nodes, its jobs by state and cluster, its cluster with the labels to find it by, while it runs."""
    runner.held = {"one"}
    chain = template(job("one", labels={"use-case": "flights"}), job("two", "one"))
    google.templates.create_workflow_template(parent=PARENT, template=chain)
    started = google.instantiate()
    eventually(lambda: runner.steps == ["one"])
    (cluster,) = google.clusters.list_clusters(request=LOOK)
    assert cluster.cluster_name.startswith("moon-")
    assert (cluster.labels, cluster.status.state.name) == ({"system": "lunation"}, "RUNNING")
    assert google.clusters.get_cluster(request={**LOOK, "cluster_name": cluster.cluster_name}) == cluster
    (found,) = google.all_jobs(job_state_matcher=Matcher.ACTIVE)
    assert (found.labels, found.placement.cluster_name) == ({"use-case": "flights"}, cluster.cluster_name)
    assert google.jobs.get_job(request={**LOOK, "job_id": found.reference.job_id}).status.state.name == "RUNNING"
    assert not started.done()
    states = {node.step_id: node.state for node in started.metadata.graph.nodes}
    assert states == {"one": Node.RUNNING, "two": Node.BLOCKED}
    assert started.metadata.cluster_name == cluster.cluster_name
    for elsewhere in ({"project_id": "other"}, {"cluster_name": "other"}, {"job_state_matcher": Matcher.NON_ACTIVE}):
        assert not google.all_jobs(**elsewhere)
    with pytest.raises(exceptions.NotFound):
        google.jobs.get_job(request={**LOOK, "project_id": "other", "job_id": found.reference.job_id})
    runner.held.clear()
    ended(started)
    with pytest.raises(exceptions.NotFound, match=cluster.cluster_name):
        google.clusters.get_cluster(request={**LOOK, "cluster_name": cluster.cluster_name})
    assert len(google.all_jobs(cluster_name=cluster.cluster_name)) == 2
    pages = google.jobs.list_jobs(request={**LOOK, "page_size": 1}).pages
    assert [[one.reference.job_id[:3] for one in page.jobs] for page in pages] == [["two"], ["one"]]


@pytest.mark.parametrize(("step", "cause"), [("bad", "exit code 3.*the traceback"), ("missing", "no such object")])
def test_a_failure_ends_the_workflow(google: Google, runner: Runner, step: str, cause: str) -> None:
    """The operation's error names the step and the cause; what waited for it is not run."""
    runner.outcomes["bad"] = (3, "the traceback")
    chain = template(job("one"), job(step, "one"), job("three", step))
    google.templates.create_workflow_template(parent=PARENT, template=chain)
    started = google.instantiate()
    with pytest.raises(exceptions.GoogleAPICallError, match=rf"(?s)\({step}\) failed: .*{cause}"):
        ended(started)
    assert runner.steps == ["one", step]
    nodes = {node.step_id: node for node in started.metadata.graph.nodes}
    assert [nodes[one].state for one in ("one", step, "three")] == [Node.COMPLETED, Node.FAILED, Node.FAILED]
    assert f"prerequisite {step} failed" in nodes["three"].error
    assert [one.status.state.name for one in google.all_jobs()] == ["DONE", "ERROR"]
    assert not list(google.clusters.list_clusters(request=LOOK))


def test_a_request_id_joins_the_run_that_goes_on(google: Google, runner: Runner) -> None:
    """Twice at the same time is one run; after its end the id starts another, as the service has it."""
    runner.held = {"one"}
    google.templates.create_workflow_template(parent=PARENT, template=template(job("one")))
    joined: list[operation.Operation] = []
    callers = [threading.Thread(target=lambda: joined.append(google.instantiate(request_id="run-1"))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(joined) == 4
    names = {started.operation.name for started in joined}
    assert len(names) == 1
    other = google.instantiate(request_id="run-2")
    assert other.operation.name not in names
    runner.held.clear()
    # The operations themselves: a run's job has ended a little before the run has, and till then the id joins.
    for started in (*joined, other):
        ended(started)
    assert len(google.all_jobs(job_state_matcher=Matcher.NON_ACTIVE)) == 2
    again = google.instantiate(request_id="run-1")
    ended(again)
    assert again.operation.name not in names
    for bad in ("x" * 41, "a b"):
        with pytest.raises(exceptions.BadRequest, match="request_id"):
            google.instantiate(request_id=bad)


def test_a_cancelled_workflow_ends_its_job(google: Google, runner: Runner) -> None:
    """The operation's error is CANCELLED; the later steps are not run."""
    runner.held = {"one"}
    google.templates.create_workflow_template(parent=PARENT, template=template(job("one"), job("two", "one")))
    started = google.instantiate()
    eventually(lambda: runner.steps == ["one"])
    google.templates.cancel_operation({"name": started.operation.name})
    with pytest.raises(exceptions.Cancelled):
        ended(started)
    assert (runner.ended, runner.steps) == (["one"], ["one"])
    assert [one.status.state.name for one in google.all_jobs()] == ["CANCELLED"]


def test_a_workflow_ends_at_its_dag_timeout(google: Google, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the job that runs; the error says what was exceeded."""
    monkeypatch.setattr(templates, "DAG_SECONDS", (1, 86400))
    runner.held = {"one"}
    chain = template(job("one"), job("two", "one"), dag_timeout={"seconds": 1})
    google.templates.create_workflow_template(parent=PARENT, template=chain)
    started = google.instantiate()
    with pytest.raises(exceptions.GoogleAPICallError, match="longer than its dagTimeout, 1 s"):
        ended(started)
    assert runner.ended == ["one"]
    assert {node.error for node in started.metadata.graph.nodes} == {"the workflow took longer than its dagTimeout"}


def test_a_server_that_is_told_to_end_does_so_while_a_job_runs(tmp_path: Path, runner: Runner) -> None:
    """The job is ended; the next start tells what became of the workflow."""
    runner.held = {"one"}
    with dataproc(tmp_path, runner) as before:
        started = before.templates.instantiate_inline_workflow_template(parent=PARENT, template=template(job("one")))
        eventually(lambda: runner.steps == ["one"])
    assert runner.ended == ["one"]
    with dataproc(tmp_path, runner) as after:
        found = after.templates.get_operation({"name": started.operation.name})
        assert (found.done, found.error.message[:48]) == (True, "the Dataproc server was ended while the workflow")
        assert [one.status.state.name for one in after.all_jobs()] == ["CANCELLED"]


# --- real processes

SCRIPT = """
import json, os, pathlib, sys, time
import helper
seen = [helper.WORD, os.environ["WORD"], os.environ["GOOGLE_CLOUD_PROJECT"]]
pathlib.Path(sys.argv[1]).write_text(json.dumps(seen))
if sys.argv[2] == "fail":
    sys.exit("on purpose")
while sys.argv[2] == "wait":
    time.sleep(0.1)
"""


def lives(process: psutil.Process) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.spark
def test_jobs_are_real_processes_that_end_with_the_server(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver from gs:// with its packages fails with its output in the error; after kill -9 of the server its Java
    and Python are gone, the operation is ABORTED, the job an ERROR, and the template is still there."""
    storage = serve("storage")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.http)
    bucket = StorageClient(project=PROJECT).create_bucket("build")
    bucket.blob("one.py").upload_from_string(SCRIPT)
    bucket.blob("helper.py").upload_from_string("WORD = 'helped'")
    server: ServerProcess = serve("dataproc")
    google = Google(server.http)
    notes = tmp_path / "notes.json"

    def one(what: str) -> dict[str, Any]:
        step = job("one", args=(str(notes), what))
        step["pyspark_job"]["python_file_uris"] = ["gs://build/helper.py"]
        return step

    failing = google.templates.instantiate_inline_workflow_template(parent=PARENT, template=template(one("fail")))
    with pytest.raises(exceptions.GoogleAPICallError, match=r"(?s)exit code 1\..*on purpose"):
        ended(failing, 90)
    assert notes.read_text().startswith('["helped", "moon", "local-dev"')
    notes.unlink()

    google.templates.create_workflow_template(parent=PARENT, template=template(one("wait"), job("two", "one")))
    running = google.instantiate()
    eventually(notes.exists, 90)
    jobs = [child for child in psutil.Process(server.pid).children(recursive=True) if lives(child)]
    assert any("SparkSubmit" in " ".join(process.cmdline()) for process in jobs)
    server.kill()
    server.start()
    with pytest.raises(exceptions.GoogleAPICallError, match="ended while the workflow ran"):
        ended(running)
    assert {node.state for node in running.metadata.graph.nodes} == {Node.FAILED}
    assert [found.status.state.name for found in google.all_jobs()] == ["ERROR", "ERROR"]
    assert not list(google.clusters.list_clusters(request=LOOK))
    assert google.templates.get_workflow_template(name=NAME).version == 1
    eventually(lambda: not any(lives(process) for process in jobs), 30, "no process is left")
