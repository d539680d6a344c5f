"""The table of resources: everything that a deployment is made of, in the order in which it is made.

What lets somebody do something comes before what is done by it, and as early as can be: a grant takes minutes until all
of Google knows it, so who may read a bucket is told directly after the bucket, and everything that runs as somebody (a
build, a function, a job) is launched last.

The rows are made by the modules of :mod:`lunation.deploy.stack`, one a unit; only their order is decided here. A row of
a service that the target does not have is left out: a laptop has no IAM, no monitoring, no builds.
"""

from lunation.deploy.releases import Release, staged
from lunation.deploy.resource import Resource
from lunation.deploy.stack import (
    UNITS,
    alerts,
    archive,
    build,
    callers,
    classify,
    classify_http,
    dashboard,
    database,
    ingest_fast,
    project,
    retrain,
    scheduler,
    submit,
    topics,
    train,
)
from lunation.deploy.stack.deployment import Deployment
from lunation.deploy.stack.grants import Grants
from lunation.settings import Settings, Target


def resources(settings: Settings, target: Target, shipped: Release | None = None) -> list[Resource]:
    """The table for one target.

    Args:
        shipped: what is deployed. None: what is staged now from the sources, under ``build/``.
    """
    deployment = Deployment(settings.of(target), target, shipped or staged(), Grants(target, list(UNITS.values())))
    watched = (*alerts.alerts(deployment.settings.monitoring), *dashboard.dashboard())
    rows = [*_identities(deployment), *_kept(deployment), *_launched(deployment), *watched]
    return [row for row in rows if target.serves(row.service)]


def _identities(deployment: Deployment) -> list[Resource]:
    """The APIs, the accounts and roles, and what is granted on the whole project."""
    return [*project.apis(), *deployment.grants.identities(), *project.access(deployment)]


def _kept(deployment: Deployment) -> list[Resource]:
    """What is kept, each with who may do what there."""
    return [
        *archive.bucket(deployment),
        *train.bucket(deployment),
        *build.shipped(deployment),
        *archive.spec(deployment),
        *topics.topics(deployment),
        *classify.topics_access(deployment),
        *submit.topics_access(deployment),
        *archive.subscriptions(deployment),
        *topics.review_subscriptions(),
        *callers.push_account_access(deployment),
        *train.account_access(deployment),
        *database.database(),
    ]


def _launched(deployment: Deployment) -> list[Resource]:
    """What runs as somebody. Records are pushed to a function when it is there and may be called."""
    return [
        *build.image(deployment),
        *ingest_fast.function(deployment),
        *classify.function(deployment),
        *submit.function(deployment),
        *classify_http.function(deployment),
        *ingest_fast.pushes(deployment),
        *classify.pushes(deployment),
        *archive.job(deployment),
        *train.template(deployment),
        *retrain.workflow(deployment),
        *scheduler.job(deployment),
    ]
