"""Who is who, and who may do what: the accounts, the custom roles, and the access of each resource.

A unit says in its own module what it may do, and where; here that is put together by resource, as a policy has it.
"""

from collections.abc import Sequence

from lunation.deploy.access import Access, Grant, Policy, project_policy
from lunation.deploy.accounts import CustomRole, ServiceAccount, account
from lunation.deploy.resource import Resource, owned
from lunation.deploy.stack.unit import Unit
from lunation.settings import Target

SHARED_ROLES: dict[str, tuple[str, ...]] = {
    "lunationObjectReader": ("storage.objects.get",),
    # Cloud Build resolves a source by its bucket, too; with get alone it ends in «does not have storage.objects.list
    # access» (GoogleCloudPlatform/bigquery-dlp-remote-function#70).
    "lunationSourceReader": ("storage.objects.get", "storage.objects.list"),
    "lunationObjectCreator": ("storage.objects.create",),
    "lunationObjectAppender": ("storage.objects.create", "storage.objects.get", "storage.objects.list"),
    "lunationObjectWriter": (
        # The Cloud Storage connector looks the bucket up when it finds no object of a name at its root
        # (GoogleCloudDataproc/hadoop-connectors#135), and so do Dataflow and Dataproc with their staging bucket.
        "storage.buckets.get",
        "storage.objects.create",
        "storage.objects.delete",
        "storage.objects.get",
        "storage.objects.list",
    ),
    "lunationSubscriptionReader": ("pubsub.subscriptions.consume", "pubsub.subscriptions.get"),
}
"""What is granted on single buckets and subscriptions: the predefined roles all give something too much there."""


class Grants:
    """What the units may do in one target.

    Args:
        target: where.
        units: all of them, in the order in which a policy names them.
    """

    def __init__(self, target: Target, units: Sequence[Unit]) -> None:
        self._target = target
        self._units = units
        own = {unit.role_id: CustomRole(unit.role_id, unit.permissions, unit.purpose) for unit in units}
        self._roles = {role_id: role for role_id, role in own.items() if role.permissions} | {
            role_id: CustomRole(role_id, permissions, "what is granted on single buckets and subscriptions")
            for role_id, permissions in SHARED_ROLES.items()
        }

    def identities(self) -> list[Resource]:
        """The units' service accounts, then the roles: each unit's own, and those that they share."""
        owners = {unit.role_id: unit.name for unit in self._units}
        rows: list[Resource] = []
        for unit in self._units:
            rows += owned(unit.name, ServiceAccount(unit.name, unit.purpose))
        for role_id, role in self._roles.items():
            rows += owned(owners.get(role_id, "project"), role)
        return rows

    def on(self, policy: Policy, first: str = "") -> Access:
        """The access of one resource: what the units' permits say of it.

        Args:
            policy: of the resource.
            first: the unit that is named before the others.
        """
        units = sorted(self._units, key=lambda unit: unit.name != first)
        return Access(policy, *self._permitted(policy.address, units))

    def on_project(self) -> Access:
        """The access of the project: each unit's own role, the predefined ones, and what holds on a condition."""
        policy = project_policy([unit.name for unit in self._units])
        own = [
            Grant(self._roles[unit.role_id], self._member(unit), unit.purpose)
            for unit in self._units
            if unit.role_id in self._roles
        ]
        predefined = [Grant(role, self._member(unit), why) for unit in self._units for role, why in unit.roles]
        return Access(policy, *own, *predefined, *self._permitted(policy.address, self._units))

    def _permitted(self, address: str, units: Sequence[Unit]) -> list[Grant]:
        found = []
        for unit in units:
            permit = unit.permits(self._target).get(address)
            if permit is not None:
                role = self._roles.get(permit.role, permit.role)
                found.append(Grant(role, self._member(unit), permit.why, permit.condition))
        return found

    def _member(self, unit: Unit) -> str:
        return f"serviceAccount:{account(self._target.project, unit.name)}"
