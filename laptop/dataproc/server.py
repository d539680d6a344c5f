"""Dataproc: workflow templates, run as real Spark processes one step after the other on this machine."""

import asyncio
import contextlib
import re
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, NoReturn

from google.cloud.dataproc_v1 import (
    ClusterControllerClient,
    JobControllerClient,
    WorkflowTemplateServiceClient,
    types,
)
from google.protobuf import empty_pb2

from laptop import operations
from laptop.dataproc import templates
from laptop.dataproc.spark_submit import SparkSubmit
from laptop.errors import ServiceError, already_exists, invalid, not_found
from laptop.operations import Operations
from laptop.service import Api, Context, surfaces
from laptop.store import Store

WorkflowTemplate: Any = types.WorkflowTemplate.pb()
WorkflowMetadata: Any = types.WorkflowMetadata.pb()
ListWorkflowTemplatesResponse: Any = types.ListWorkflowTemplatesResponse.pb()
ListJobsResponse: Any = types.ListJobsResponse.pb()
ListClustersResponse: Any = types.ListClustersResponse.pb()
Job: Any = types.Job.pb()
Cluster: Any = types.Cluster.pb()
JobState = types.JobStatus.State
NodeState = types.WorkflowNode.NodeState

SCHEMA = (
    operations.SCHEMA
    + """
CREATE TABLE IF NOT EXISTS template (name TEXT PRIMARY KEY, message BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS job (id TEXT PRIMARY KEY, message BLOB NOT NULL);
"""
)
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
MAX_PAGE = 1000
ENDED = {JobState.DONE, JobState.ERROR, JobState.CANCELLED}
Matcher = types.ListJobsRequest.JobStateMatcher
RunJob = Callable[[Any, Mapping[str, str], Mapping[str, str]], Awaitable[tuple[int, str]]]


class Dataproc:
    """RPC handlers.

    Args:
        store: its state.
        run_job: runs a job with the cluster's Spark properties and its variables of ``spark-env``; answers its exit
            code and the end of its output.
    """

    def __init__(self, store: Store, run_job: RunJob) -> None:
        self.operations = Operations(store)
        self.run_job = run_job
        self._store = store
        self._clusters: dict[str, Any] = {}
        self._requests: dict[str, str] = {}
        """Names of the newest operations, by request id."""
        self._instantiating = asyncio.Lock()

    async def start(self) -> None:
        """End what a killed server left behind. Its Spark processes have ended with it."""
        for operation in self.operations.unfinished():
            metadata = WorkflowMetadata()
            operation.metadata.Unpack(metadata)
            metadata.state = types.WorkflowMetadata.State.DONE
            for node in metadata.graph.nodes:
                if node.state in (NodeState.RUNNING, NodeState.RUNNABLE, NodeState.BLOCKED):
                    node.state, node.error = NodeState.FAILED, "the server was ended while it ran"
            operation.metadata.Pack(metadata)
            await self.operations.fail(
                operation,
                ServiceError("ABORTED", "the Dataproc server was ended while the workflow ran; start it again"),
            )
        for job in self._jobs():
            if job.status.state in (JobState.PENDING, JobState.RUNNING):
                await self._job_state(job, JobState.ERROR, "the server was ended while the job ran")

    async def stop(self) -> None:
        """End every workflow; the next start tells that it was ended."""
        await self.operations.stop()
        self._store.close()

    # --- templates

    async def create_workflow_template(self, request: Any) -> Any:
        """Keep a template, after checking it."""
        template = WorkflowTemplate()
        template.CopyFrom(request.template)
        if not templates.STEP.fullmatch(template.id):
            raise invalid(f"template.id: {template.id!r} is no id: 3 to 50 letters, digits, - and _")
        template.name = _template_name(request.parent, template.id)
        if self._find_template(template.name) is not None:
            raise already_exists(template.name)
        templates.check(template)
        template.version = 1
        template.create_time.GetCurrentTime()
        template.update_time.GetCurrentTime()
        await self._keep_template(template)
        return template

    async def get_workflow_template(self, request: Any) -> Any:
        """Look at a template."""
        return self._template(request.name, request.version)

    async def update_workflow_template(self, request: Any) -> Any:
        """Replace a template, if nobody else has since its version was read."""
        current = self._template(request.template.name)
        if request.template.version != current.version:
            raise ServiceError(
                "FAILED_PRECONDITION",
                f"{current.name} has version {current.version}, the update is of version {request.template.version}",
            )
        template = WorkflowTemplate()
        template.CopyFrom(request.template)
        templates.check(template)
        template.id = current.id
        template.version = current.version + 1
        template.create_time.CopyFrom(current.create_time)
        template.update_time.GetCurrentTime()
        await self._keep_template(template)
        return template

    async def list_workflow_templates(self, request: Any) -> Any:
        """The templates of a region, by name."""
        rows = self._store.read("SELECT message FROM template ORDER BY name")
        prefix = _template_name(request.parent, "")
        found = [WorkflowTemplate.FromString(row["message"]) for row in rows]
        page, token = _page([one for one in found if one.name.startswith(prefix)], request)
        return ListWorkflowTemplatesResponse(templates=page, next_page_token=token)

    async def delete_workflow_template(self, request: Any) -> empty_pb2.Empty:
        """Forget a template. What runs of it goes on."""
        template = self._template(request.name, request.version)
        await self._store.write(
            lambda connection: connection.execute("DELETE FROM template WHERE name = ?", (template.name,))
        )
        return empty_pb2.Empty()

    # --- running

    async def instantiate_workflow_template(self, request: Any) -> Any:
        """Run a template. The operation's metadata tells how far it is; its response is empty."""
        template = self._template(request.name, request.version)
        return await self._instantiate(template, dict(request.parameters), request.request_id)

    async def instantiate_inline_workflow_template(self, request: Any) -> Any:
        """Run a template that is not kept."""
        template = WorkflowTemplate()
        template.CopyFrom(request.template)
        template.name = _template_name(request.parent, template.id or "inline")
        templates.check(template)
        return await self._instantiate(template, {}, request.request_id)

    async def _instantiate(self, template: Any, parameters: dict[str, str], request_id: str) -> Any:
        if request_id and not REQUEST_ID.fullmatch(request_id):
            raise invalid(f"request_id: {request_id!r}: up to 40 letters, digits, - and _")
        async with self._instantiating:  # or the same id twice at a time would start two
            running = self._requests.get(request_id)
            if running is not None and not self.operations.read(running).done:
                return self.operations.read(running)
            operation = await self._begin(template, parameters)
            if request_id:
                self._requests[request_id] = operation.name
            return operation

    async def _begin(self, template: Any, parameters: dict[str, str]) -> Any:
        template_filled = templates.filled(template, parameters)
        project, region = template.name.split("/")[1], template.name.split("/")[3]
        name = f"projects/{project}/regions/{region}/operations/{secrets.token_hex(8)}"
        metadata = WorkflowMetadata(
            template=template.name,
            version=template.version,
            state=types.WorkflowMetadata.State.RUNNING,
            parameters=parameters,
            cluster_name=f"{template.placement.managed_cluster.cluster_name}-{secrets.token_hex(4)}",
        )
        metadata.start_time.GetCurrentTime()
        metadata.dag_start_time.GetCurrentTime()
        order = templates.order_of(template_filled)
        jobs = {job.step_id: job for job in template_filled.jobs}
        for step in order:
            before = list(jobs[step].prerequisite_step_ids)
            state = NodeState.BLOCKED if before else NodeState.RUNNABLE
            metadata.graph.nodes.add(step_id=step, prerequisite_step_ids=before, state=state)
        run = _Run(self, name, template_filled, metadata, project, region)
        return await self.operations.run(name, metadata, run.to_the_end)

    # --- jobs and clusters, to look at

    async def get_job(self, request: Any) -> Any:
        """Look at a job."""
        rows = self._store.read("SELECT message FROM job WHERE id = ?", (request.job_id,))
        job = Job.FromString(rows[0]["message"]) if rows else None
        if job is None or job.reference.project_id != request.project_id:
            raise not_found(f"job {request.job_id}")
        return job

    async def list_jobs(self, request: Any) -> Any:
        """The jobs of a project, newest first. Filters are refused."""
        _refuse_filter("ListJobs", request.filter)

        def fits(job: Any) -> bool:
            wanted = {Matcher.ACTIVE: job.status.state not in ENDED, Matcher.NON_ACTIVE: job.status.state in ENDED}
            return (
                job.reference.project_id == request.project_id
                and request.cluster_name in ("", job.placement.cluster_name)
                and wanted.get(request.job_state_matcher, True)
            )

        def began(job: Any) -> int:
            first = job.status_history[0] if job.status_history else job.status
            return int(first.state_start_time.ToNanoseconds())

        page, token = _page(sorted(filter(fits, self._jobs()), key=began, reverse=True), request)
        return ListJobsResponse(jobs=page, next_page_token=token)

    async def get_cluster(self, request: Any) -> Any:
        """Look at a cluster that runs."""
        cluster = self._clusters.get(request.cluster_name)
        if cluster is None or cluster.project_id != request.project_id:
            raise not_found(f"cluster {request.cluster_name}")
        return cluster

    async def list_clusters(self, request: Any) -> Any:
        """The clusters that run: one for each template at work. Filters are refused."""
        _refuse_filter("ListClusters", request.filter)
        clusters = [cluster for cluster in self._clusters.values() if cluster.project_id == request.project_id]
        page, token = _page(clusters, request)
        return ListClustersResponse(clusters=page, next_page_token=token)

    # --- for a run

    async def job_state(self, job: Any, state: int, details: str = "") -> None:
        """Keep a job's new state."""
        await self._job_state(job, state, details)

    async def _job_state(self, job: Any, state: int, details: str = "") -> None:
        if job.status.state:
            job.status_history.add().CopyFrom(job.status)
        job.status.Clear()
        job.status.state = state
        job.status.details = details
        job.status.state_start_time.GetCurrentTime()
        job.done = state in ENDED
        row = (job.reference.job_id, job.SerializeToString())
        await self._store.write(lambda connection: connection.execute("INSERT OR REPLACE INTO job VALUES (?, ?)", row))

    @contextlib.contextmanager
    def cluster(self, cluster: Any) -> Iterator[None]:
        """Show a cluster while a template runs."""
        self._clusters[cluster.cluster_name] = cluster
        try:
            yield
        finally:
            del self._clusters[cluster.cluster_name]

    # --- inside

    def _find_template(self, name: str) -> Any | None:
        rows = self._store.read("SELECT message FROM template WHERE name = ?", (name,))
        return WorkflowTemplate.FromString(rows[0]["message"]) if rows else None

    def _template(self, name: str, version: int = 0) -> Any:
        # The REST API also knows templates by location; they are the same.
        found = self._find_template(name.replace("/locations/", "/regions/"))
        if found is None:
            raise not_found(name)
        if version and version != found.version:
            raise ServiceError(
                "FAILED_PRECONDITION", f"{name} has version {found.version}; a laptop keeps no older one"
            )
        return found

    async def _keep_template(self, template: Any) -> None:
        row = (template.name, template.SerializeToString())

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO template VALUES (?, ?)", row)

        await self._store.write(work)

    def _jobs(self) -> list[Any]:
        return [Job.FromString(row["message"]) for row in self._store.read("SELECT message FROM job")]


class _Run:
    """One template at work."""

    def __init__(self, dataproc: Dataproc, name: str, template: Any, metadata: Any, project: str, region: str) -> None:
        self._dataproc = dataproc
        self._name = name
        self._template = template
        self._metadata = metadata
        self._project = project
        self._region = region
        self._nodes = {node.step_id: node for node in metadata.graph.nodes}

    async def to_the_end(self) -> empty_pb2.Empty:
        """Run every step once its prerequisites are done. The first failure ends the workflow."""
        managed = self._template.placement.managed_cluster
        cluster = Cluster(
            project_id=self._project,
            cluster_name=self._metadata.cluster_name,
            labels=managed.labels,
            config=managed.config,
        )
        cluster.status.state = types.ClusterStatus.State.RUNNING
        cluster.status.state_start_time.GetCurrentTime()
        seconds = self._template.dag_timeout.seconds or None
        try:
            with self._dataproc.cluster(cluster):
                await asyncio.wait_for(self._steps(), seconds)
        except TimeoutError:
            self._block("the workflow took longer than its dagTimeout")
            raise ServiceError(
                "DEADLINE_EXCEEDED", f"the workflow took longer than its dagTimeout, {seconds} s"
            ) from None
        except asyncio.CancelledError:
            self._block("the workflow was cancelled")
            raise
        finally:
            self._metadata.state = types.WorkflowMetadata.State.DONE
            self._metadata.end_time.GetCurrentTime()
            self._metadata.dag_end_time.GetCurrentTime()
            await self._save()
        return empty_pb2.Empty()

    async def _steps(self) -> None:
        jobs = {job.step_id: job for job in self._template.jobs}
        for step in templates.order_of(self._template):
            await self._step(jobs[step])

    async def _step(self, ordered: Any) -> None:
        node = self._nodes[ordered.step_id]
        job = Job(labels=ordered.labels)
        job.reference.project_id = self._project
        job.reference.job_id = f"{ordered.step_id}-{secrets.token_hex(6)}"
        job.placement.cluster_name = self._metadata.cluster_name
        job.pyspark_job.CopyFrom(ordered.pyspark_job)
        node.state, node.job_id = NodeState.RUNNING, job.reference.job_id
        await self._dataproc.job_state(job, JobState.PENDING)
        await self._save()
        await self._dataproc.job_state(job, JobState.RUNNING)
        try:
            code, output = await self._dataproc.run_job(job, self._properties("spark:"), self._properties("spark-env:"))
        except asyncio.CancelledError:
            await self._dataproc.job_state(job, JobState.CANCELLED)
            raise
        except ServiceError as error:
            await self._fail(node, job, error.message)
        if code:
            await self._fail(node, job, f"exit code {code}. The end of its output:\n{output}")
        await self._dataproc.job_state(job, JobState.DONE)
        node.state = NodeState.COMPLETED
        await self._save()

    async def _fail(self, node: Any, job: Any, cause: str) -> NoReturn:
        await self._dataproc.job_state(job, JobState.ERROR, cause)
        node.state, node.error = NodeState.FAILED, cause
        self._block(f"its prerequisite {node.step_id} failed")
        raise ServiceError("INTERNAL", f"Job {job.reference.job_id} ({node.step_id}) failed: {cause}")

    def _block(self, cause: str) -> None:
        for node in self._nodes.values():
            if node.state in (NodeState.BLOCKED, NodeState.RUNNABLE, NodeState.RUNNING):
                node.state, node.error = NodeState.FAILED, cause

    def _properties(self, prefix: str) -> dict[str, str]:
        """The cluster's properties for one of its files, which their prefix names."""
        properties = self._template.placement.managed_cluster.config.software_config.properties
        return {key.removeprefix(prefix): value for key, value in properties.items() if key.startswith(prefix)}

    async def _save(self) -> None:
        operation = self._dataproc.operations.read(self._name)
        operation.metadata.Pack(self._metadata)
        await self._dataproc.operations.save(operation)


def _template_name(parent: str, identifier: str) -> str:
    return f"{parent.replace('/locations/', '/regions/')}/workflowTemplates/{identifier}"


def _page(found: list[Any], request: Any) -> tuple[list[Any], str]:
    """A page of what was found, and the token of the next one."""
    try:
        start = int(request.page_token or 0)
    except ValueError:
        raise invalid(f"page_token {request.page_token!r} is none that this server gave out") from None
    end = start + min(request.page_size or MAX_PAGE, MAX_PAGE)
    return found[start:end], str(end) if len(found) > end else ""


def _refuse_filter(call: str, given: str) -> None:
    if given:
        raise ServiceError("UNIMPLEMENTED", f"{call}: filter is not served on a laptop (LIMITATIONS.md)")


def build(context: Context) -> Api:
    """Dataproc on loopback."""
    folder = context.folder("dataproc")
    store = Store(folder / "state.sqlite", SCHEMA)
    submit = SparkSubmit(context, folder)
    service = Dataproc(store, submit.run)

    async def stop() -> None:
        await service.stop()
        submit.close()

    return Api(
        rpcs=surfaces(WorkflowTemplateServiceClient, JobControllerClient, ClusterControllerClient),
        handlers=[service, service.operations],
        start=service.start,
        stop=stop,
    )
