"""The function that mirrors records into Datastore."""

from lunation.clients import Clients
from lunation.deploy.access import function_policy
from lunation.deploy.functions import Function
from lunation.deploy.pubsub import Subscription
from lunation.deploy.resource import Resource, owned
from lunation.deploy.stack.deployment import Deployment
from lunation.deploy.stack.unit import METRICS_WRITER, Permit, Unit
from lunation.settings import Target


def _permits(target: Target) -> dict[str, Permit]:
    return {"topic/dead-letters": Permit("roles/pubsub.publisher", "publishes")}


UNIT = Unit(
    "ingest-fast",
    "mirrors records into Datastore",
    uses=("datastore.entities.create", "datastore.entities.update"),
    roles=(METRICS_WRITER,),
    permits=_permits,
)


def _function(deployment: Deployment) -> Function:
    def environment(clients: Clients) -> dict[str, str]:
        return {
            **deployment.function_environment(clients),
            "RECORD_TTL_DAYS": str(deployment.settings.records.ttl_days),
        }

    return deployment.function(
        UNIT.name,
        entry_point="ingest_fast",
        folder="ingest_fast",
        size=deployment.settings.functions.ingest_fast,
        environment=environment,
    )


def function(deployment: Deployment) -> tuple[Resource, ...]:
    """The function, and who may call it."""
    return owned(UNIT.name, _function(deployment), deployment.grants.on(function_policy(UNIT.name)))


def pushes(deployment: Deployment) -> tuple[Resource, ...]:
    """What pushes records to it."""
    push_to, push_as = _function(deployment).url, deployment.runs_as("push")
    return owned(UNIT.name, Subscription("records-ingest-fast", "records", push_to=push_to, push_as=push_as))
