"""Those who call the functions: Pub/Sub's pushes, and people."""

from lunation.deploy.access import Access, Grant, account_policy
from lunation.deploy.names import CLASSIFY_HTTP
from lunation.deploy.resource import Resource, owned
from lunation.deploy.service_agents import PUBSUB, agent
from lunation.deploy.stack.deployment import Deployment
from lunation.deploy.stack.unit import Permit, Unit
from lunation.settings import Target

CALLS = Permit("roles/run.invoker", "calls it")


def _pushed_to(target: Target) -> dict[str, Permit]:
    return {"function/ingest-fast": CALLS, "function/classify": CALLS}


def _open_to_callers(target: Target) -> dict[str, Permit]:
    return {"function/submit": CALLS, f"function/{CLASSIFY_HTTP}": CALLS}


PUSH = Unit("push", "is whom Pub/Sub calls the functions as", permits=_pushed_to)
CALLER = Unit("caller", "may submit records and ask for classifications over HTTP", permits=_open_to_callers)


def push_account_access(deployment: Deployment) -> tuple[Resource, ...]:
    """Who may push as :data:`PUSH`: Pub/Sub itself."""
    signs = Grant(
        "roles/iam.serviceAccountOpenIdTokenCreator",
        lambda clients: agent(clients, PUBSUB),
        "signs the pushes' tokens",
    )
    return owned(PUSH.name, Access(account_policy(PUSH.name), signs))
