"""Google's clients for a target. The only place that knows how to reach a service."""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import google.auth.transport.requests
import grpc
import requests
from google.auth.credentials import AnonymousCredentials, Credentials
from google.cloud import datastore, pubsub_v1, storage  # type: ignore[attr-defined]
from google.cloud.dataflow_v1beta3 import FlexTemplatesServiceClient, JobsV1Beta3Client
from google.cloud.dataproc_v1 import JobControllerClient, WorkflowTemplateServiceClient
from google.cloud.datastore_admin_v1 import DatastoreAdminClient
from google.cloud.datastore_v1 import DatastoreClient
from google.cloud.functions_v2 import FunctionServiceClient
from google.cloud.scheduler_v1 import CloudSchedulerClient
from google.cloud.workflows.executions_v1 import ExecutionsClient
from google.cloud.workflows_v1 import WorkflowsClient

from lunation.settings import Target

# Google's public endpoints, for what is configured with an address of its own (functions, workflow, scheduler).
PUBLIC = {
    "datastore": "https://datastore.googleapis.com",
    "pubsub": "https://pubsub.googleapis.com",
    "storage": "https://storage.googleapis.com",
    "workflows": "https://workflowexecutions.googleapis.com",
}


@dataclass(frozen=True)
class Clients:
    """The clients of one target, each made when it is first used.

    Args:
        target: where to go.
    """

    target: Target

    def __post_init__(self) -> None:
        addresses = self.target.addresses()
        # The variables that Google's libraries document for a service at another address.
        for service, protocol, variable in (
            ("pubsub", "grpc", "PUBSUB_EMULATOR_HOST"),
            ("datastore", "grpc", "DATASTORE_EMULATOR_HOST"),
            ("storage", "http", "STORAGE_EMULATOR_HOST"),
        ):
            if service in addresses:
                os.environ[variable] = addresses[service][protocol]

    @property
    def project(self) -> str:
        """The project id."""
        return self.target.project

    @property
    def location(self) -> str:
        """``projects/P/locations/L``."""
        return f"projects/{self.target.project}/locations/{self.target.region}"

    def url(self, service: str) -> str:
        """Base URL of a service's REST API."""
        addresses = self.target.addresses()
        if service in addresses:
            return addresses[service]["http"]
        return PUBLIC.get(service) or f"https://{self.target.region}-{service}.googleapis.com"

    def grpc_url(self, service: str) -> str:
        """Base URL of a service's gRPC API; the scheme says whether the channel is encrypted."""
        addresses = self.target.addresses()
        return f"http://{addresses[service]['grpc']}" if service in addresses else PUBLIC[service]

    def _rest(self, client: type[Any], service: str, **options: Any) -> Any:
        if service not in self.target.addresses():
            return client(**options)
        transport = client.get_transport_class("rest")(host=self.url(service), credentials=AnonymousCredentials())
        return client(transport=transport)

    @cached_property
    def storage(self) -> storage.Client:
        """Cloud Storage."""
        return storage.Client(project=self.project)

    @cached_property
    def datastore(self) -> datastore.Client:
        """Datastore."""
        return datastore.Client(project=self.project)

    @cached_property
    def datastore_api(self) -> DatastoreClient:
        """Datastore without the convenience: the one above knows no compare-and-set."""
        addresses = self.target.addresses()
        if "datastore" not in addresses:
            return DatastoreClient()
        channel = grpc.insecure_channel(addresses["datastore"]["grpc"])
        return DatastoreClient(transport=DatastoreClient.get_transport_class("grpc")(channel=channel))

    @cached_property
    def datastore_admin(self) -> DatastoreAdminClient:
        """Datastore's composite indexes."""
        return self._rest(DatastoreAdminClient, "datastore")

    @cached_property
    def publisher(self) -> pubsub_v1.PublisherClient:
        """Topics."""
        return pubsub_v1.PublisherClient()

    @cached_property
    def subscriber(self) -> pubsub_v1.SubscriberClient:
        """Subscriptions."""
        return pubsub_v1.SubscriberClient()

    @cached_property
    def functions(self) -> FunctionServiceClient:
        """Cloud Functions, 2nd generation."""
        return self._rest(FunctionServiceClient, "functions")

    @cached_property
    def flex_templates(self) -> FlexTemplatesServiceClient:
        """Launching Dataflow jobs."""
        return self._rest(FlexTemplatesServiceClient, "dataflow")

    @cached_property
    def dataflow_jobs(self) -> JobsV1Beta3Client:
        """Looking at Dataflow jobs."""
        return self._rest(JobsV1Beta3Client, "dataflow")

    @cached_property
    def workflow_templates(self) -> WorkflowTemplateServiceClient:
        """Dataproc workflow templates."""
        regional = {"client_options": {"api_endpoint": f"{self.target.region}-dataproc.googleapis.com:443"}}
        return self._rest(WorkflowTemplateServiceClient, "dataproc", **regional)

    @cached_property
    def dataproc_jobs(self) -> JobControllerClient:
        """Dataproc jobs."""
        regional = {"client_options": {"api_endpoint": f"{self.target.region}-dataproc.googleapis.com:443"}}
        return self._rest(JobControllerClient, "dataproc", **regional)

    @cached_property
    def workflows(self) -> WorkflowsClient:
        """Workflow definitions."""
        return self._rest(WorkflowsClient, "workflows")

    @cached_property
    def executions(self) -> ExecutionsClient:
        """Workflow executions. This client speaks gRPC only."""
        addresses = self.target.addresses()
        if "workflows" not in addresses:
            return ExecutionsClient()
        channel = grpc.insecure_channel(addresses["workflows"]["grpc"])
        return ExecutionsClient(transport=ExecutionsClient.get_transport_class("grpc")(channel=channel))

    @cached_property
    def scheduler(self) -> CloudSchedulerClient:
        """Scheduler jobs."""
        return self._rest(CloudSchedulerClient, "scheduler")

    @cached_property
    def http(self) -> requests.Session:
        """Plain HTTP with the target's credentials, for the one call that no client has (step entries)."""
        credentials: Credentials
        if "workflows" in self.target.addresses():
            return requests.Session()
        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        return google.auth.transport.requests.AuthorizedSession(credentials)
