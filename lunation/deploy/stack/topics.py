"""The topics, the schemas of their messages, and the subscriptions that people look through."""

from lunation.deploy.message_schemas import PREFIX, MessageSchema
from lunation.deploy.pubsub import Subscription, Topic
from lunation.deploy.resource import Resource, owned
from lunation.deploy.stack.deployment import Deployment
from schemas import USE_CASES, Classification, Comparison, DeadLetter, Label
from schemas.shapes import proto_definition

TOPICS = ("records", "labels", "classifications", "dead-letters", "comparisons")


def topics(deployment: Deployment) -> tuple[Resource, ...]:
    """The topics, after the schemas of what may be published to them."""
    record = USE_CASES[deployment.settings.use_case].record
    return owned(
        "project",
        MessageSchema(f"{PREFIX}record", proto_definition(record, "Record")),
        MessageSchema(f"{PREFIX}label", proto_definition(Label, "Label")),
        MessageSchema(f"{PREFIX}classification", proto_definition(Classification, "Classification")),
        MessageSchema(f"{PREFIX}dead-letter", proto_definition(DeadLetter, "DeadLetter")),
        MessageSchema(f"{PREFIX}comparison", proto_definition(Comparison, "Comparison")),
        *(Topic(name) for name in TOPICS),
    )


def review_subscriptions() -> tuple[Resource, ...]:
    """What nothing of ours reads: people do."""
    return owned(
        "project",
        Subscription("dead-letters-review", "dead-letters"),
        Subscription("classifications-review", "classifications"),
    )
