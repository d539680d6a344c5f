"""Who may do what on a resource: its IAM policy, as far as it is ours.

A policy is read, changed and written with its etag, so two changes at a time cannot undo each other. On a resource of
our own, whatever is not declared is taken away; on the project, only what our own service accounts have and should not.
What is not ours stays as it is, byte for byte.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from google.api_core.exceptions import NotFound
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.type import expr_pb2

from lunation.clients import Clients
from lunation.deploy.accounts import PREFIX, CustomRole, ServiceAccount, account
from lunation.deploy.errors import unless_off
from lunation.deploy.resource import Resource, State

ACCOUNT = "serviceAccount:"
DELETED = "deleted:"
"""What a member becomes when it is deleted, ``deleted:serviceAccount:…?uid=…``: a policy that names both that and a
new one of the same name is refused (https://github.com/GoogleCloudPlatform/k8s-config-connector/issues/279)."""
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
        role: ``roles/…``, or one of our own, whose full name may change.
        member: for example ``serviceAccount:…``; a function for one whose name Google chooses.
        why: what the member does with it, in half a sentence.
        condition: None holds always.
    """

    role: str | CustomRole
    member: str | Callable[[Clients], str]
    why: str
    condition: Condition | None = None


class Policy(ABC):
    """The IAM policy of one resource."""

    exclusive = True
    """Whether the resource is ours alone."""
    units: tuple[str, ...] = ()
    """Of a resource that is not ours alone, the units whose accounts are ours there, whatever they have."""

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
        units: Iterable[str] = (),
    ) -> None:
        super().__init__(address, service, api, managed_with)
        self._client = client
        self._resource = resource
        self.exclusive = exclusive
        self.units = tuple(units)

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
        """Members by role; a role with a condition is told apart by the condition's title.

        A role of our own is named as it is declared, whichever id it has, which a plan may not know yet.
        """
        wanted: dict[str, set[str]] = {}
        for grant in self.grants:
            wanted.setdefault(_key(_role(grant, clients), grant.condition), set()).add(_member(grant, clients))
        return {role: sorted(members) for role, members in sorted(wanted.items())}

    def summary(self, clients: Clients) -> str:
        """Who may do what."""
        return "; ".join(
            f"{_short(_member(grant, clients))} {_role(grant, clients).rsplit('/', 1)[1]}" for grant in self.grants
        )

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
        ours, key_of = self._ours(clients), self._keys(clients)
        found: dict[str, set[str]] = {}
        for binding in policy.bindings:
            members = {member for member in binding.members if ours(member)}
            if members:
                found.setdefault(key_of(binding), set()).update(members)
        return {key: sorted(members) for key, members in found.items()} or None

    def create(self, clients: Clients) -> None:
        """Grant it."""
        self._write(clients, self.desired(clients))

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Grant what is missing, take away what is too much."""
        self._write(clients, self.desired(clients))

    def delete(self, clients: Clients) -> None:
        """Take it all away."""
        self._write(clients, {})

    def _ours(self, clients: Clients) -> Callable[[str], bool]:
        """Tells whether a member is ours to grant to and to take from."""
        if self.policy.exclusive:
            return lambda member: not member.startswith(CONVENIENCE)
        own = {_member(grant, clients) for grant in self.grants}
        own |= {f"{ACCOUNT}{account(clients.project, unit)}" for unit in self.policy.units}
        # And those that an earlier release had, as long as they are there and carry our mark.
        nothing: list[str] = []
        marked = unless_off(lambda: [row.name for row in ServiceAccount.ours(clients)], nothing)
        own |= {f"{ACCOUNT}{account(clients.project, name.removeprefix(PREFIX))}" for name in marked}
        own.discard(f"{ACCOUNT}{clients.target.impersonate}")
        return lambda member: _as_it_was(member) in own

    def _keys(self, clients: Clients) -> Callable[[policy_pb2.Binding], str]:
        """Gives the key of a binding, as :meth:`desired` has it."""
        own = [grant.role for grant in self.grants if isinstance(grant.role, CustomRole)]
        declared = {role.path(clients): role.declared(clients) for role in own}
        conditions = {_key(_role(grant, clients), grant.condition): grant.condition for grant in self.grants}

        def key_of(binding: policy_pb2.Binding) -> str:
            role = declared.get(binding.role, binding.role)
            if binding.role not in declared and role in declared.values():
                role = f"{role} (deleted)"  # its id is another one by now
            key = _key(role, binding.condition if binding.HasField("condition") else None)
            condition = conditions.get(key)
            if condition is not None and condition.expression != binding.condition.expression:
                return f"{role} [{binding.condition.title}: {binding.condition.expression}]"
            return key

        return key_of

    def _write(self, clients: Clients, wanted: State) -> None:
        """Change the policy in place: what is not ours is not touched, not even in its order."""
        policy = self.policy.get(clients)
        ours, key_of = self._ours(clients), self._keys(clients)
        grants = {_key(_role(grant, clients), grant.condition): grant for grant in self.grants}
        missing = {key: set(members) for key, members in wanted.items()}
        for binding in policy.bindings:
            key = key_of(binding)
            stay = [member for member in binding.members if not ours(member) or member in wanted.get(key, ())]
            if stay != list(binding.members):
                binding.members[:] = stay
            missing.get(key, set()).difference_update(stay)
        for key, members in sorted(missing.items()):
            if not members:
                continue
            role, condition = grants[key].role, grants[key].condition
            binding = next((one for one in policy.bindings if key_of(one) == key), None)
            if binding is None:
                binding = policy.bindings.add(role=role.path(clients) if isinstance(role, CustomRole) else role)
                if condition is not None:
                    binding.condition.CopyFrom(expr_pb2.Expr(title=condition.title, expression=condition.expression))
            binding.members.extend(sorted(members))
        kept = [binding for binding in policy.bindings if binding.members]
        del policy.bindings[:]
        policy.bindings.extend(kept)
        policy.version = 3
        self.policy.set(clients, policy)


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


def project_policy(units: Iterable[str] = ()) -> Policy:
    """The policy of the project, which is not ours alone.

    Args:
        units: those whose accounts have there what is declared, and nothing else.
    """
    return RpcPolicy(
        "project",
        "resourcemanager",
        "cloudresourcemanager.googleapis.com",
        "roles/resourcemanager.projectIamAdmin",
        client=lambda clients: clients.projects,
        resource=lambda clients: f"projects/{clients.project}",
        exclusive=False,
        units=units,
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


def _role(grant: Grant, clients: Clients) -> str:
    return grant.role if isinstance(grant.role, str) else grant.role.declared(clients)


def _key(role: str, condition: Any) -> str:
    return f"{role} [{condition.title}]" if condition is not None else role


def _as_it_was(member: str) -> str:
    """A deleted member, by the name that it had."""
    return member.removeprefix(DELETED).partition("?uid=")[0] if member.startswith(DELETED) else member


def _condition(binding: policy_pb2.Binding) -> dict[str, Any]:
    if not binding.HasField("condition"):
        return {}
    return {"condition": {"title": binding.condition.title, "expression": binding.condition.expression}}


def _unit(member: str) -> str:
    return member.removeprefix(f"serviceAccount:{PREFIX}").partition("@")[0]


def _short(member: str) -> str:
    return _unit(member) if member.startswith(f"serviceAccount:{PREFIX}") else member
