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
    of = Deployment(settings.of(target), target, shipped or staged(), Grants(target, list(UNITS.values())))
    watched = (*alerts.alerts(of.settings.monitoring), *dashboard.dashboard())
    rows = [*_who(of), *_kept(of), *_launched(of), *watched]
    return [row for row in rows if target.serves(row.service)]


def _who(of: Deployment) -> list[Resource]:
    """The APIs, the accounts and roles, and what is granted on the whole project."""
    return [*project.apis(), *of.grants.identities(), *project.access(of)]


def _kept(of: Deployment) -> list[Resource]:
    """What is kept, each with who may do what there."""
    return [
        *archive.bucket(of),
        *train.bucket(of),
        *build.shipped(of),
        *archive.spec(of),
        *topics.topics(of),
        *classify.topics_access(of),
        *submit.topics_access(of),
        *archive.subscriptions(of),
        *topics.review_subscriptions(),
        *callers.push_account_access(of),
        *train.account_access(of),
        *database.database(),
    ]


def _launched(of: Deployment) -> list[Resource]:
    """What runs as somebody. Records are pushed to a function when it is there and may be called."""
    return [
        *build.image(of),
        *ingest_fast.function(of),
        *classify.function(of),
        *submit.function(of),
        *classify_http.function(of),
        *ingest_fast.pushes(of),
        *classify.pushes(of),
        *archive.job(of),
        *train.template(of),
        *retrain.workflow(of),
        *scheduler.job(of),
    ]
