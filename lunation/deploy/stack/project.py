"""The project itself: the APIs that must be on, Google's own agents in it, and who may do what on the whole of it."""

from collections.abc import Callable
from typing import Any

from lunation.clients import Clients
from lunation.deploy.apis import Api
from lunation.deploy.resource import Resource, owned
from lunation.deploy.service_agents import ServiceAgents
from lunation.deploy.stack.deployment import Deployment

APIS = (
    "cloudresourcemanager",
    "iam",
    "iamcredentials",
    "storage",
    "pubsub",
    "firestore",
    "datastore",
    "artifactregistry",
    "cloudbuild",
    "cloudfunctions",
    "run",
    "compute",
    "dataflow",
    "dataproc",
    "workflows",
    "workflowexecutions",
    "cloudscheduler",
    "logging",
    "monitoring",
    "telemetry",
)
LOCATED: dict[str, Callable[[Clients], Any]] = {
    "artifactregistry": lambda clients: clients.artifact_registry,
    "cloudfunctions": lambda clients: clients.functions,
    "workflows": lambda clients: clients.workflows,
}
"""Those whose clients tell in which regions they are."""


def apis() -> tuple[Resource, ...]:
    """The APIs, and the agents that they bring along."""
    switched_on = (Api(f"{name}.googleapis.com", LOCATED.get(name)) for name in APIS)
    return owned("project", *switched_on, ServiceAgents("google"))


def access(deployment: Deployment) -> tuple[Resource, ...]:
    """What only a project can grant."""
    return owned("project", deployment.grants.on_project())
