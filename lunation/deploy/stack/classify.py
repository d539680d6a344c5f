"""The function that classifies pushed records."""

from lunation.clients import Clients
from lunation.deploy.access import function_policy, topic_policy
from lunation.deploy.functions import Function
from lunation.deploy.names import models_bucket
from lunation.deploy.pubsub import Subscription
from lunation.deploy.resource import Resource, owned
from lunation.deploy.stack.deployment import Deployment
from lunation.deploy.stack.unit import METRICS_WRITER, Permit, Unit
from lunation.settings import Target


def _permits(target: Target) -> dict[str, Permit]:
    publishes = Permit("roles/pubsub.publisher", "publishes")
    return {
        f"bucket/{models_bucket(target)}": Permit("lunationObjectReader", "loads the model"),
        "topic/classifications": publishes,
        "topic/comparisons": publishes,
        "topic/dead-letters": publishes,
    }


UNIT = Unit(
    "classify",
    "classifies pushed records, stores and publishes the answers",
    uses=("datastore.entities.create", "datastore.entities.get"),
    roles=(METRICS_WRITER,),
    permits=_permits,
)


def environment(deployment: Deployment, clients: Clients) -> dict[str, str]:
    """The variables of what serves a model."""
    return {**deployment.function_environment(clients), "MODELS_BUCKET": deployment.models_bucket}


def _function(deployment: Deployment) -> Function:
    return deployment.function(
        UNIT.name,
        entry_point="classify_push",
        folder="classify",
        size=deployment.settings.functions.classify,
        environment=lambda clients: environment(deployment, clients),
    )


def topics_access(deployment: Deployment) -> tuple[Resource, ...]:
    """Who publishes answers, and comparisons of two models' answers."""
    return owned(
        UNIT.name,
        deployment.grants.on(topic_policy("classifications")),
        deployment.grants.on(topic_policy("comparisons")),
    )


def function(deployment: Deployment) -> tuple[Resource, ...]:
    """The function, and who may call it."""
    return owned(UNIT.name, _function(deployment), deployment.grants.on(function_policy(UNIT.name)))


def pushes(deployment: Deployment) -> tuple[Resource, ...]:
    """What pushes records to it."""
    push_to, push_as = _function(deployment).url, deployment.runs_as("push")
    return owned(UNIT.name, Subscription("records-classify", "records", push_to=push_to, push_as=push_as))
