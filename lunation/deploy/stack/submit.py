"""The function that publishes records for callers over HTTP."""

from lunation.deploy.access import function_policy, topic_policy
from lunation.deploy.resource import Resource, owned
from lunation.deploy.stack.deployment import Deployment
from lunation.deploy.stack.unit import METRICS_WRITER, Permit, Unit
from lunation.settings import Target


def _permits(target: Target) -> dict[str, Permit]:
    return {"topic/records": Permit("roles/pubsub.publisher", "publishes")}


UNIT = Unit(
    "submit",
    "publishes records for callers, and shows what became of them",
    uses=("datastore.entities.get",),
    roles=(METRICS_WRITER,),
    permits=_permits,
)


def topics_access(deployment: Deployment) -> tuple[Resource, ...]:
    """Who of ours publishes records."""
    return owned(UNIT.name, deployment.grants.on(topic_policy("records")))


def function(deployment: Deployment) -> tuple[Resource, ...]:
    """The function, and who may call it."""
    made = deployment.function(
        UNIT.name,
        entry_point="submit",
        folder="submit",
        size=deployment.settings.functions.submit,
        environment=deployment.function_environment,
        internal=False,
    )
    return owned(UNIT.name, made, deployment.grants.on(function_policy(UNIT.name)))
