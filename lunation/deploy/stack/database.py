"""Datastore: the database, how long a fast copy lives, and what is asked for in an order of its own."""

from lunation.deploy.datastore import CompositeIndex, Database, TimeToLive
from lunation.deploy.resource import Resource, owned


def database() -> tuple[Resource, ...]:
    """The database, with its time to live and its composite indexes."""
    return owned(
        "project",
        Database("(default)"),
        TimeToLive("Record", "expire_at"),
        CompositeIndex("Classification", "label", "-classified_at"),
        CompositeIndex("Classification", "model_version", "-classified_at"),
        CompositeIndex("ModelPromotion", "use_case", "-generation"),
        CompositeIndex("TrainingRun", "use_case", "-claimed_at"),
    )
