"""Who may do what on a resource: its IAM policy, as far as it is ours.

A policy is read, changed and written with its etag, so two changes at a time cannot undo each other. On a resource of
our own, whatever is not declared is taken away; on the project, only what our own service accounts have and should not.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from google.api_core.exceptions import NotFound
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.type import expr_pb2

from lunation.clients import Clients
from lunation.deploy.accounts import PREFIX
from lunation.deploy.resource import Resource, State

CONVENIENCE = ("projectOwner:", "projectEditor:", "projectViewer:")
"""What Cloud Storage puts into a new bucket's policy for the project's basic roles."""


@dataclass(frozen=True)
class Condition:
    """When a grant holds, in the Common Expression Language."""

    title: str
    expression: str


@dataclass(frozen=True)
class Grant:
    """A role, and who has it.

    Args:
        role: ``roles/…`` or ``projects/P/roles/…``.
        member: for example ``serviceAccount:…``; a function for one whose name Google chooses.
        why: what the member does with it, in half a sentence.
        condition: None holds always.
    """

    role: str
    member: str | Callable[[Clients], str]
    why: str
    condition: Condition | None = None


class Policy(ABC):
    """The IAM policy of one resource."""

    exclusive = True
    """Whether the resource is ours alone."""

    def __init__(self, address: str, service: str, api: str, managed_with: str) -> None:
        self.address = address
        self.service = service
        self.api = api
        self.managed_with = managed_with

    @abstractmethod
    def get(self, clients: Clients) -> policy_pb2.Policy:
        """The policy.

        Raises:
            NotFound: there is no such resource.
        """

    @abstractmethod
    def set(self, clients: Clients, policy: policy_pb2.Policy) -> None:
        """Replace it; refused if its etag is not the current one."""


class RpcPolicy(Policy):
    """A policy behind the usual pair of methods, ``get_iam_policy`` and ``set_iam_policy``.

    Args:
        address: of the row whose policy it is, for example ``topic/records``.
        client: gives the client.
        resource: gives the full resource name.
    """

    def __init__(
        self,
        address: str,
        service: str,
        api: str,
        managed_with: str,
        *,
        client: Callable[[Clients], Any],
        resource: Callable[[Clients], str],
        exclusive: bool = True,
    ) -> None:
        super().__init__(address, service, api, managed_with)
        self._client = client
        self._resource = resource
        self.exclusive = exclusive

    def get(self, clients: Clients) -> policy_pb2.Policy:
        """Read it, conditions included."""
        request = iam_policy_pb2.GetIamPolicyRequest(
            resource=self._resource(clients), options={"requested_policy_version": 3}
        )
        return self._client(clients).get_iam_policy(request=request)

    def set(self, clients: Clients, policy: policy_pb2.Policy) -> None:
        """Write it."""
        request = iam_policy_pb2.SetIamPolicyRequest(resource=self._resource(clients), policy=policy)
        self._client(clients).set_iam_policy(request=request)


class BucketPolicy(Policy):
    """A bucket's policy: the JSON API has a form of its own."""

    def __init__(self, bucket: str) -> None:
        super().__init__(f"bucket/{bucket}", "storage", "storage.googleapis.com", "roles/storage.admin")
        self._bucket = bucket

    def get(self, clients: Clients) -> policy_pb2.Policy:
        """Read it."""
        found = clients.storage.bucket(self._bucket).get_iam_policy(requested_policy_version=3)
        policy = policy_pb2.Policy(version=found.version or 1, etag=(found.etag or "").encode())
        for binding in found.bindings:
            condition = binding.get("condition")
            policy.bindings.add(
                role=binding["role"],
                members=sorted(binding["members"]),
                condition=expr_pb2.Expr(**condition) if condition else None,
            )
        return policy

    def set(self, clients: Clients, policy: policy_pb2.Policy) -> None:
        """Write it."""
        from google.api_core.iam import Policy as StoragePolicy

        wanted = StoragePolicy(etag=policy.etag.decode(), version=3)
        wanted.bindings = [
            {"role": binding.role, "members": set(binding.members), **_condition(binding)}
            for binding in policy.bindings
        ]
        clients.storage.bucket(self._bucket).set_iam_policy(wanted)


class Access(Resource):
    """What is granted on one resource.

    Args:
        policy: whose.
        grants: all of them.
    """

    kind = "access"
    about = "who may do what on one resource"
    service = ""  # that of the resource
    api = ""
    managed_with = ""

    def __init__(self, policy: Policy, *grants: Grant) -> None:
        super().__init__(policy.address)
        self.within = policy.address
        self.grants = grants
        self.policy = policy
        self.service = policy.service  # type: ignore[misc]
        self.api = policy.api  # type: ignore[misc]
        self.managed_with = policy.managed_with  # type: ignore[misc]

    def desired(self, clients: Clients) -> State:
        """Members by role; a role with a condition is told apart by the condition's title."""
        wanted: dict[str, set[str]] = {}
        for grant in self.grants:
            wanted.setdefault(_key(grant.role, grant.condition), set()).add(_member(grant, clients))
        return {role: sorted(members) for role, members in sorted(wanted.items())}

    def summary(self, clients: Clients) -> str:
        """Who may do what."""
        return "; ".join(f"{_short(member)} {_role(grant.role)}" for grant in self.grants
                         for member in [_member(grant, clients)])  # fmt: skip

    def differences(self, clients: Clients, actual: State) -> list[tuple[str, Any, Any]]:
        """A role that is not declared differs, too."""
        wanted = self.desired(clients)
        roles = sorted({*wanted, *actual})
        return [(role, actual.get(role), wanted.get(role)) for role in roles if actual.get(role) != wanted.get(role)]

    def read(self, clients: Clients) -> State | None:
        """As it is, as far as it is ours; None if the resource is not there or grants nothing of it."""
        try:
            policy = self.policy.get(clients)
        except NotFound:
            return None
        found = {}
        for binding in policy.bindings:
            members = sorted(member for member in binding.members if self._ours(member, clients))
            if members:
                found[_key(binding.role, binding.condition if binding.HasField("condition") else None)] = members
        return found or None

    def create(self, clients: Clients) -> None:
        """Grant it."""
        self._write(clients, self.desired(clients))

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Grant what is missing, take away what is too much."""
        self._write(clients, self.desired(clients))

    def delete(self, clients: Clients) -> None:
        """Take it all away."""
        self._write(clients, {})

    def _ours(self, member: str, clients: Clients) -> bool:
        if self.policy.exclusive:
            return not member.startswith(CONVENIENCE)
        declared = {_member(grant, clients) for grant in self.grants}
        suffix = f"@{clients.project}.iam.gserviceaccount.com"
        own = member.startswith(f"serviceAccount:{PREFIX}") and member.endswith(suffix)
        deployer = member == f"serviceAccount:{clients.target.impersonate}"
        return member in declared or (own and not deployer and _unit(member) != "deployer")

    def _write(self, clients: Clients, wanted: State) -> None:
        policy = self.policy.get(clients)
        conditions = {_key(grant.role, grant.condition): grant.condition for grant in self.grants}
        kept: dict[str, tuple[policy_pb2.Binding, list[str]]] = {}
        for binding in policy.bindings:
            key = _key(binding.role, binding.condition if binding.HasField("condition") else None)
            kept[key] = (binding, [member for member in binding.members if not self._ours(member, clients)])
        updated = policy_pb2.Policy(version=3, etag=policy.etag)
        for key in sorted({*kept, *wanted}):
            before, others = kept.get(key, (None, []))
            members = sorted({*others, *wanted.get(key, ())})
            if not members:
                continue
            condition = conditions.get(key)
            if before is not None and before.HasField("condition"):
                expression = before.condition
            elif condition is not None:
                expression = expr_pb2.Expr(title=condition.title, expression=condition.expression)
            else:
                expression = None
            updated.bindings.add(role=key.partition(" [")[0], members=members, condition=expression)
        self.policy.set(clients, updated)


def topic_policy(name: str) -> Policy:
    """The policy of a topic."""
    return RpcPolicy(
        f"topic/{name}",
        "pubsub",
        "pubsub.googleapis.com",
        "roles/pubsub.admin",
        client=lambda clients: clients.publisher,
        resource=lambda clients: f"projects/{clients.project}/topics/{name}",
    )


def subscription_policy(name: str) -> Policy:
    """The policy of a subscription."""
    return RpcPolicy(
        f"subscription/{name}",
        "pubsub",
        "pubsub.googleapis.com",
        "roles/pubsub.admin",
        client=lambda clients: clients.subscriber,
        resource=lambda clients: f"projects/{clients.project}/subscriptions/{name}",
    )


def function_policy(name: str) -> Policy:
    """The policy of the Cloud Run service beneath a function: that is what an invoker needs a role on."""
    return RpcPolicy(
        f"function/{name}",
        "functions",
        "run.googleapis.com",
        "roles/run.admin",
        client=lambda clients: clients.run_services,
        resource=lambda clients: f"{clients.location}/services/{name}",
    )


def account_policy(unit: str) -> Policy:
    """The policy of a unit's service account: who may act as it."""
    return RpcPolicy(
        f"service-account/{PREFIX}{unit}",
        "iam",
        "iam.googleapis.com",
        "roles/iam.serviceAccountAdmin",
        client=lambda clients: clients.iam,
        resource=lambda clients: (
            f"projects/{clients.project}/serviceAccounts/{PREFIX}{unit}@{clients.project}.iam.gserviceaccount.com"
        ),
    )


def repository_policy(name: str) -> Policy:
    """The policy of an Artifact Registry repository."""
    return RpcPolicy(
        f"repository/{name}",
        "artifactregistry",
        "artifactregistry.googleapis.com",
        "roles/artifactregistry.admin",
        client=lambda clients: clients.artifact_registry,
        resource=lambda clients: f"{clients.location}/repositories/{name}",
    )


def project_policy() -> Policy:
    """The policy of the project, which is not ours alone."""
    return RpcPolicy(
        "project",
        "resourcemanager",
        "cloudresourcemanager.googleapis.com",
        "roles/resourcemanager.projectIamAdmin",
        client=lambda clients: clients.projects,
        resource=lambda clients: f"projects/{clients.project}",
        exclusive=False,
    )


def lines(fields: Iterable[tuple[str, Any, Any]]) -> list[tuple[str, str, str]]:
    """``(+ or -, role, member)`` for every member that gains or loses a role."""
    found = []
    for role, now, then in fields:
        before, after = set(now or ()), set(then or ())
        found += [("+", role, member) for member in sorted(after - before)]
        found += [("-", role, member) for member in sorted(before - after)]
    return found


def _member(grant: Grant, clients: Clients) -> str:
    return grant.member if isinstance(grant.member, str) else grant.member(clients)


def _key(role: str, condition: Any) -> str:
    return f"{role} [{condition.title}]" if condition is not None else role


def _condition(binding: policy_pb2.Binding) -> dict[str, Any]:
    if not binding.HasField("condition"):
        return {}
    return {"condition": {"title": binding.condition.title, "expression": binding.condition.expression}}


def _unit(member: str) -> str:
    return member.removeprefix(f"serviceAccount:{PREFIX}").partition("@")[0]


def _short(member: str) -> str:
    return _unit(member) if member.startswith(f"serviceAccount:{PREFIX}") else member


def _role(role: str) -> str:
    return role.rsplit("/", 1)[1]
