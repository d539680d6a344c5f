"""Puts recorders before every service and gives their addresses, as the file that a target's ``endpoints`` names."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web

from laptop.errors import ServiceError
from laptop.service import HOST, surfaces
from laptop.surface import HttpRoute, Rpc, rpcs_of
from rehearsal.identities import identity_routes
from rehearsal.judge import Judge
from rehearsal.project import Empty, Project
from rehearsal.recorder import (
    Answer,
    Call,
    Notes,
    Recorder,
    forwarding,
    storage_method,
    storage_routes,
    telemetry_routes,
)

CLIENTS: dict[str, tuple[str, ...]] = {
    "pubsub": ("google.pubsub_v1.PublisherClient", "google.pubsub_v1.SubscriberClient"),
    "pubsub-schemas": ("google.pubsub_v1.SchemaServiceClient",),
    "datastore": ("google.cloud.datastore_v1.DatastoreClient", "google.cloud.datastore_admin_v1.DatastoreAdminClient"),
    "storage": (),
    "workflows": ("google.cloud.workflows_v1.WorkflowsClient",),
    "dataproc": (
        "google.cloud.dataproc_v1.WorkflowTemplateServiceClient",
        "google.cloud.dataproc_v1.JobControllerClient",
    ),
    "scheduler": ("google.cloud.scheduler_v1.CloudSchedulerClient",),
    "functions": ("google.cloud.functions_v2.FunctionServiceClient", "google.cloud.run_v2.ServicesClient"),
    "dataflow": (
        "google.cloud.dataflow_v1beta3.FlexTemplatesServiceClient",
        "google.cloud.dataflow_v1beta3.JobsV1Beta3Client",
        "google.cloud.dataflow_v1beta3.MessagesV1Beta3Client",
    ),
    "resourcemanager": ("google.cloud.resourcemanager_v3.ProjectsClient",),
    "serviceusage": ("google.cloud.service_usage_v1.ServiceUsageClient",),
    "iam": ("google.cloud.iam_admin_v1.IAMClient",),
    "firestore": ("google.cloud.firestore_admin_v1.FirestoreAdminClient",),
    "artifactregistry": ("google.cloud.artifactregistry_v1.ArtifactRegistryClient",),
    "cloudbuild": ("google.cloud.devtools.cloudbuild_v1.CloudBuildClient",),
    "telemetry": (),
    "monitoring": (
        "google.cloud.monitoring_v3.AlertPolicyServiceClient",
        "google.cloud.monitoring_v3.MetricServiceClient",
        "google.cloud.monitoring_v3.NotificationChannelServiceClient",
        "google.cloud.monitoring_dashboard_v1.DashboardsServiceClient",
    ),
    # Asked by clients made of their discovery documents (rehearsal/surroundings.py).
    "cloudbilling": (),
    "compute": (),
    "logging": (),
    "orgpolicy": (),
}
"""The client packages whose surfaces a service has."""

LAPTOP = ("pubsub", "datastore", "storage", "workflows", "dataproc", "scheduler", "functions")
"""What the laptop serves of a project at Google's. Its Dataflow takes no container images."""


class Stage:
    """Recorders for any number of callers, in a thread of their own, while the ``with`` block lasts.

    Args:
        project: answers for what the laptop does not serve.
        laptop: the addresses of the laptop's servers; empty: an empty project, which can only be looked at.
        judges: asked about every call of every caller.
    """

    def __init__(
        self,
        project: Project,
        laptop: dict[str, dict[str, str]] | None = None,
        judges: Sequence[Judge] = (),
    ) -> None:
        self.project = project
        self._judges = judges
        self.notes = Notes()
        self._laptop = laptop or {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rehearsal", daemon=True)
        self._running: list[Recorder] = []
        self._rpcs: dict[str, list[Rpc]] = {}

    def __enter__(self) -> "Stage":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def admit(
        self,
        caller: str,
        services: Iterable[str] = tuple(CLIENTS),
        instead: Mapping[str, Answer] | None = None,
    ) -> dict[str, dict[str, str]]:
        """Addresses by service at which the calls of ``caller`` are noted.

        Args:
            instead: what answers for a service, by its name.
        """
        answers = instead or {}
        return {service: self._do(self._start(caller, service, answers.get(service))) for service in services}

    def write(self, path: Path, caller: str = "deployer") -> Path:
        """Write the addresses for ``caller`` into a file that a target's ``endpoints`` can name."""
        path.write_text(json.dumps(self.admit(caller), indent=1))
        return path

    async def _start(self, caller: str, service: str, instead: Answer | None) -> dict[str, str]:
        answer, routes, stop = (instead, [], None) if instead is not None else self._behind(caller, service)
        routes = [*routes, *self.project.surroundings.routes(service)]
        if service not in self._rpcs:
            self._rpcs[service] = _surface(service)
        recorder = Recorder(caller, service, self._rpcs[service], answer, self.notes, routes, stop, self._judges)
        await recorder.start()
        self._running.append(recorder)
        return {"http": f"http://{HOST}:{recorder.http_port}", "grpc": f"{HOST}:{recorder.grpc_port}"}

    def _behind(
        self, caller: str, service: str
    ) -> tuple[Answer, list[web.RouteDef], Callable[[], Awaitable[None]] | None]:
        if service in LAPTOP and not self._laptop:
            return Empty().answer, self._no_buckets(caller) if service == "storage" else [], None
        if service == "storage":
            return (
                self.project.answer,
                storage_routes(caller, self._laptop[service]["http"], self.notes, self._judges),
                None,
            )
        if service == "serviceusage":
            return self.project.answer, identity_routes(caller, self.project, self.notes, self._judges), None
        if service == "telemetry":
            return self.project.answer, telemetry_routes(caller, self.notes, self._judges), None
        if service in LAPTOP:
            answer, close = forwarding(self._laptop[service]["grpc"])
            return answer, [], close
        return self.project.answer, [], None

    def _no_buckets(self, caller: str) -> list[web.RouteDef]:
        """Cloud Storage in which there is nothing, unless a judge says otherwise of a bucket."""

        async def missing(request: web.Request) -> web.Response:
            try:
                for judge in self._judges:
                    judge.before(Call(caller, storage_method(request), request.path_qs))
            except ServiceError as refused:
                status, message = refused.http_status, refused.message
            else:
                status, message = 404, f"{request.path}: not there"
            error = {"code": status, "message": message, "errors": [{"message": message}]}
            return web.json_response({"error": error}, status=status)

        async def none(request: web.Request) -> web.Response:
            return web.json_response({"kind": "storage#buckets"})

        return [web.get("/storage/v1/b", none), web.route("*", "/storage/v1/{path:.*}", missing)]

    async def _stop(self) -> None:
        await asyncio.gather(*(recorder.stop() for recorder in self._running))

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)


def _surface(service: str) -> list[Rpc]:
    classes = []
    for path in CLIENTS[service]:
        module, _, name = path.rpartition(".")
        classes.append(getattr(import_module(module), name))
    found = surfaces(*classes)
    if service == "workflows":
        found += rpcs_of(
            import_module("google.cloud.workflows.executions_v1").ExecutionsClient,
            {
                "CreateExecution": [
                    HttpRoute("post", "/v1/{parent=projects/*/locations/*/workflows/*}/executions", "execution")
                ],
                "GetExecution": [HttpRoute("get", "/v1/{name=projects/*/locations/*/workflows/*/executions/*}")],
            },
        )
    return found
