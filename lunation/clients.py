"""Google's clients for a target. The only place that knows how to reach a service."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import google.auth.transport.requests
import grpc
import requests
from google.auth import external_account_authorized_user, impersonated_credentials
from google.auth.credentials import AnonymousCredentials, Credentials
from google.cloud import datastore, pubsub_v1, storage  # type: ignore[attr-defined]
from google.cloud.dataflow_v1beta3 import FlexTemplatesServiceClient, JobsV1Beta3Client, MessagesV1Beta3Client
from google.cloud.dataproc_v1 import JobControllerClient, WorkflowTemplateServiceClient
from google.cloud.datastore_admin_v1 import DatastoreAdminClient
from google.cloud.datastore_v1 import DatastoreClient
from google.cloud.functions_v2 import FunctionServiceClient
from google.cloud.scheduler_v1 import CloudSchedulerClient
from google.cloud.workflows.executions_v1 import ExecutionsClient
from google.cloud.workflows_v1 import WorkflowsClient
from google.oauth2.credentials import Credentials as PersonalCredentials

from lunation.settings import Target

if TYPE_CHECKING:  # what only a deployment calls is imported when it does
    from google.cloud.artifactregistry_v1 import ArtifactRegistryClient
    from google.cloud.devtools.cloudbuild_v1 import CloudBuildClient
    from google.cloud.firestore_admin_v1 import FirestoreAdminClient
    from google.cloud.iam_admin_v1 import IAMClient
    from google.cloud.iam_credentials_v1 import IAMCredentialsClient
    from google.cloud.monitoring_dashboard_v1 import DashboardsServiceClient
    from google.cloud.monitoring_v3 import (
        AlertPolicyServiceClient,
        MetricServiceClient,
        NotificationChannelServiceClient,
    )
    from google.cloud.resourcemanager_v3 import ProjectsClient
    from google.cloud.run_v2 import ServicesClient
    from google.cloud.service_usage_v1 import ServiceUsageClient
    from google.pubsub_v1 import SchemaServiceClient

PERSONS = (PersonalCredentials, external_account_authorized_user.Credentials)
"""What ``gcloud auth application-default login`` leaves, and the same by an identity provider of one's own."""
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# Google's public endpoints, for what is configured with an address of its own (functions, workflow, scheduler), and for
# methods that no client package has.
PUBLIC = {
    "datastore": "https://datastore.googleapis.com",
    "pubsub": "https://pubsub.googleapis.com",
    "storage": "https://storage.googleapis.com",
    "workflows": "https://workflowexecutions.googleapis.com",
    "telemetry": "https://telemetry.googleapis.com",
    "serviceusage": "https://serviceusage.googleapis.com",
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

    @cached_property
    def credentials(self) -> Credentials:
        """Application Default Credentials, or short-lived ones of the service account that the target impersonates.

        A person's calls are counted against a quota project, whose APIs have to be on, and gcloud has put any of that
        person's into the credentials: here it is the target's own, which takes ``serviceusage.services.use`` on it. A
        service account's are counted against its own project without a word, and need no such permission
        (https://cloud.google.com/docs/quotas/quota-project).

        Raises:
            google.auth.exceptions.GoogleAuthError: there are none on this machine.
        """
        source, _ = google.auth.default(scopes=[SCOPE])
        if self.target.impersonate is None:
            return source.with_quota_project(self.project) if isinstance(source, PERSONS) else source
        return impersonated_credentials.Credentials(
            source_credentials=source, target_principal=self.target.impersonate, target_scopes=[SCOPE]
        )

    @property
    def principal(self) -> str:
        """Whom the calls come from, as an IAM member; a placeholder where the credentials do not tell."""
        if self.target.impersonate is not None:
            return f"serviceAccount:{self.target.impersonate}"
        if self.target.endpoints is not None:
            return "user:you@example.com"
        email = getattr(self.credentials, "service_account_email", None)
        return f"serviceAccount:{email}" if email and "@" in email else "user:YOUR_ACCOUNT"

    @property
    def project(self) -> str:
        """The project id."""
        return self.target.project

    @property
    def location(self) -> str:
        """``projects/P/locations/L``."""
        return self.target.location

    def url(self, service: str) -> str:
        """Base URL of a service's REST API."""
        addresses = self._elsewhere()
        if service in addresses:
            return addresses[service]["http"]
        return PUBLIC.get(service) or f"https://{self.target.region}-{service}.googleapis.com"

    def own_url(self, service: str) -> str:
        """The same for a call that is made here and now: a sample's goes to no service of Google's."""
        addresses = self.target.addresses()
        return addresses[service]["http"] if service in addresses else PUBLIC[service]

    def session(self, service: str) -> requests.Session:
        """Plain HTTP with the target's credentials, for a method of ``service`` that no client has."""
        if service in self.target.addresses():
            return requests.Session()
        return google.auth.transport.requests.AuthorizedSession(self.credentials)

    def grpc_url(self, service: str) -> str:
        """Base URL of a service's gRPC API; the scheme says whether the channel is encrypted."""
        addresses = self._elsewhere()
        return f"http://{addresses[service]['grpc']}" if service in addresses else PUBLIC[service]

    def _elsewhere(self) -> dict[str, dict[str, str]]:
        """Addresses for what is deployed. A sample is planned as it would be at Google's."""
        return {} if self.target.sample else self.target.addresses()

    def _rest(self, client: type[Any], service: str, **options: Any) -> Any:
        if service not in self.target.addresses():
            return client(credentials=self.credentials, **options)
        host = self.target.addresses()[service]["http"]
        transport = client.get_transport_class("rest")(host=host, credentials=AnonymousCredentials())
        return client(transport=transport)

    def _grpc(self, client: type[Any], service: str) -> Any:
        """The same for a client that speaks gRPC only."""
        addresses = self.target.addresses()
        if service not in addresses:
            return client(credentials=self.credentials)
        channel = grpc.insecure_channel(addresses[service]["grpc"])
        return client(transport=client.get_transport_class("grpc")(channel=channel))

    def _known(self, service: str) -> dict[str, Any]:
        """The credentials argument of a client that finds its emulator by a variable, and then refuses one."""
        return {} if service in self.target.addresses() else {"credentials": self.credentials}

    @cached_property
    def storage(self) -> storage.Client:
        """Cloud Storage."""
        return storage.Client(project=self.project, **self._known("storage"))

    @cached_property
    def datastore(self) -> datastore.Client:
        """Datastore."""
        return datastore.Client(project=self.project, **self._known("datastore"))

    @cached_property
    def datastore_api(self) -> DatastoreClient:
        """Datastore without the convenience: the one above knows no compare-and-set."""
        return self._grpc(DatastoreClient, "datastore")

    @cached_property
    def datastore_admin(self) -> DatastoreAdminClient:
        """Datastore's composite indexes."""
        return self._rest(DatastoreAdminClient, "datastore")

    @cached_property
    def publisher(self) -> pubsub_v1.PublisherClient:
        """Topics."""
        return pubsub_v1.PublisherClient(**self._known("pubsub"))

    @cached_property
    def subscriber(self) -> pubsub_v1.SubscriberClient:
        """Subscriptions."""
        return pubsub_v1.SubscriberClient(**self._known("pubsub"))

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
    def dataflow_messages(self) -> MessagesV1Beta3Client:
        """What Dataflow says of a job, such as why it failed."""
        return self._rest(MessagesV1Beta3Client, "dataflow")

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
        return self._grpc(ExecutionsClient, "workflows")

    @cached_property
    def scheduler(self) -> CloudSchedulerClient:
        """Scheduler jobs."""
        return self._rest(CloudSchedulerClient, "scheduler")

    @cached_property
    def http(self) -> requests.Session:
        """Plain HTTP to Workflow Executions, whose client has no step entries."""
        return self.session("workflows")

    @cached_property
    def iam_credentials(self) -> "IAMCredentialsClient":
        """Tokens of service accounts. Where functions are on this machine, their server gives them out."""
        from google.cloud.iam_credentials_v1 import IAMCredentialsClient

        return self._grpc(IAMCredentialsClient, "functions")

    # --- what only a deployment calls

    @cached_property
    def projects(self) -> "ProjectsClient":
        """The project itself, and its IAM policy."""
        from google.cloud.resourcemanager_v3 import ProjectsClient

        return self._grpc(ProjectsClient, "resourcemanager")

    @cached_property
    def service_usage(self) -> "ServiceUsageClient":
        """Which APIs are on."""
        from google.cloud.service_usage_v1 import ServiceUsageClient

        return self._grpc(ServiceUsageClient, "serviceusage")

    @cached_property
    def iam(self) -> "IAMClient":
        """Service accounts and custom roles."""
        from google.cloud.iam_admin_v1 import IAMClient

        return self._grpc(IAMClient, "iam")

    @cached_property
    def run_services(self) -> "ServicesClient":
        """The Cloud Run services beneath the functions: who may invoke one is kept there."""
        from google.cloud.run_v2 import ServicesClient

        return self._grpc(ServicesClient, "functions")

    @cached_property
    def pubsub_schemas(self) -> "SchemaServiceClient":
        """Schemas of messages."""
        from google.pubsub_v1 import SchemaServiceClient

        return self._grpc(SchemaServiceClient, "pubsub-schemas")

    @cached_property
    def firestore_admin(self) -> "FirestoreAdminClient":
        """The database, and what its fields' values mean to it (time to live)."""
        from google.cloud.firestore_admin_v1 import FirestoreAdminClient

        return self._grpc(FirestoreAdminClient, "firestore")

    @cached_property
    def artifact_registry(self) -> "ArtifactRegistryClient":
        """Container images."""
        from google.cloud.artifactregistry_v1 import ArtifactRegistryClient

        return self._grpc(ArtifactRegistryClient, "artifactregistry")

    @cached_property
    def cloud_build(self) -> "CloudBuildClient":
        """Builds of container images."""
        from google.cloud.devtools.cloudbuild_v1 import CloudBuildClient

        return self._grpc(CloudBuildClient, "cloudbuild")

    @cached_property
    def alert_policies(self) -> "AlertPolicyServiceClient":
        """When somebody is told."""
        from google.cloud.monitoring_v3 import AlertPolicyServiceClient

        return self._grpc(AlertPolicyServiceClient, "monitoring")

    @cached_property
    def notification_channels(self) -> "NotificationChannelServiceClient":
        """Who is told."""
        from google.cloud.monitoring_v3 import NotificationChannelServiceClient

        return self._grpc(NotificationChannelServiceClient, "monitoring")

    @cached_property
    def metrics(self) -> "MetricServiceClient":
        """What was measured."""
        from google.cloud.monitoring_v3 import MetricServiceClient

        return self._grpc(MetricServiceClient, "monitoring")

    @cached_property
    def dashboards(self) -> "DashboardsServiceClient":
        """What one looks at."""
        from google.cloud.monitoring_dashboard_v1 import DashboardsServiceClient

        return self._grpc(DashboardsServiceClient, "monitoring")

    def discovered(self, service: str, version: str) -> Any:
        """A client made of the discovery document that Google's library ships, for an API without a package of its own.

        Args:
            service: the API's name, for example ``compute``.
        """
        from googleapiclient.discovery import build_from_document
        from googleapiclient.discovery_cache import get_static_doc

        document = json.loads(get_static_doc(service, version))
        addresses = self.target.addresses()
        if service not in addresses:
            return build_from_document(document, credentials=self.credentials)
        base = f"{addresses[service]['http']}/{document['servicePath']}"
        return build_from_document(document, credentials=AnonymousCredentials(), client_options={"api_endpoint": base})

    @cached_property
    def project_number(self) -> str:
        """The number that Google's service agents carry in their names."""
        return self.projects.get_project(name=f"projects/{self.project}").name.rsplit("/", 1)[1]
