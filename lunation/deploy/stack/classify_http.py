"""The function that classifies on request, from the same source as the one that records are pushed to."""

from lunation.deploy.access import function_policy
from lunation.deploy.names import CLASSIFY_HTTP, models_bucket
from lunation.deploy.resource import Resource, owned
from lunation.deploy.stack import classify
from lunation.deploy.stack.deployment import Deployment
from lunation.deploy.stack.unit import METRICS_WRITER, Permit, Unit
from lunation.settings import Target


def _permits(target: Target) -> dict[str, Permit]:
    return {f"bucket/{models_bucket(target)}": Permit("lunationObjectReader", "loads the model")}


UNIT = Unit(
    CLASSIFY_HTTP,
    "answers requests for a classification",
    uses=("datastore.entities.get",),
    roles=(METRICS_WRITER,),
    permits=_permits,
)


def function(deployment: Deployment) -> tuple[Resource, ...]:
    """The function, and who may call it."""
    made = deployment.function(
        UNIT.name,
        entry_point="classify_http",
        folder="classify",
        size=deployment.settings.functions.classify,
        environment=lambda clients: classify.environment(deployment, clients),
        internal=False,
    )
    return owned(UNIT.name, made, deployment.grants.on(function_policy(UNIT.name)))
