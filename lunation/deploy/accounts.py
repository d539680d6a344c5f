"""Service accounts, one a unit, and the custom roles that give them no more than they use."""

from collections.abc import Iterator

from lunation.clients import Clients
from lunation.deploy.resource import Resource, State, if_found

PREFIX = "lunation-"


def account(project: str, unit: str) -> str:
    """The e-mail address of a unit's service account."""
    return f"{PREFIX}{unit}@{project}.iam.gserviceaccount.com"


class ServiceAccount(Resource):
    """What a unit runs as.

    Args:
        unit: whose it is.
        purpose: what the unit does, in a sentence.
    """

    kind = "service-account"
    about = "what a unit runs as"
    service = "iam"
    api = "iam.googleapis.com"
    managed_with = "roles/iam.serviceAccountAdmin"

    def __init__(self, unit: str, purpose: str) -> None:
        super().__init__(f"{PREFIX}{unit}")
        self._purpose = purpose

    def _path(self, clients: Clients) -> str:
        return f"projects/{clients.project}/serviceAccounts/{self.name}@{clients.project}.iam.gserviceaccount.com"

    def desired(self, clients: Clients) -> State:
        """What it is called."""
        return {"display_name": self.name, "description": self._purpose, "disabled": False}

    def summary(self, clients: Clients) -> str:
        """What it is for."""
        return self._purpose

    def read(self, clients: Clients) -> State | None:
        """As it is."""
        found = if_found(lambda: clients.iam.get_service_account(name=self._path(clients)))
        if found is None:
            return None
        return {"display_name": found.display_name, "description": found.description, "disabled": found.disabled}

    def create(self, clients: Clients) -> None:
        """Create it."""
        clients.iam.create_service_account(
            request={
                "name": f"projects/{clients.project}",
                "account_id": self.name,
                "service_account": {"display_name": self.name, "description": self._purpose},
            }
        )

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Set the fields that changed; enable it if it was disabled."""
        if "disabled" in changed:
            clients.iam.enable_service_account(request={"name": self._path(clients)})
        paths = [field for field in changed if field != "disabled"]
        if paths:
            wanted = {"name": self._path(clients), "display_name": self.name, "description": self._purpose}
            clients.iam.patch_service_account(request={"service_account": wanted, "update_mask": {"paths": paths}})

    def delete(self, clients: Clients) -> None:
        """Delete it. It can be had back for 30 days."""
        clients.iam.delete_service_account(name=self._path(clients))

    @classmethod
    def ours(cls, clients: Clients) -> Iterator[Resource]:
        """Those whose name begins like ours. The deployer's own account, made by hand, is not one of them."""
        for found in clients.iam.list_service_accounts(name=f"projects/{clients.project}"):
            name = found.email.partition("@")[0]
            if name.startswith(PREFIX) and found.display_name == name:
                yield cls.named(name)


class CustomRole(Resource):
    """A role of the project with exactly these permissions, where every predefined one gives more than is used.

    Args:
        role_id: its id; ``projects/P/roles/<role_id>`` is its name in a policy.
        permissions: what it gives.
        purpose: who does what with it.
    """

    kind = "role"
    about = "permissions that belong together, no more than a unit uses"
    service = "iam"
    api = "iam.googleapis.com"
    managed_with = "roles/iam.roleAdmin"

    def __init__(self, role_id: str, permissions: tuple[str, ...], purpose: str) -> None:
        super().__init__(role_id)
        self.permissions = permissions
        self._purpose = purpose

    def path(self, project: str) -> str:
        """Its name in a policy."""
        return f"projects/{project}/roles/{self.name}"

    def desired(self, clients: Clients) -> State:
        """What it gives."""
        return {
            "title": f"Lunation: {self._purpose}",
            "included_permissions": sorted(self.permissions),
            "stage": "GA",
        }

    def summary(self, clients: Clients) -> str:
        """What it gives."""
        return ", ".join(sorted(self.permissions))

    def read(self, clients: Clients) -> State | None:
        """As it is; one that was deleted is not there."""
        found = self._find(clients)
        if found is None or found.deleted:
            return None
        stage = type(found).RoleLaunchStage(found.stage).name
        return {"title": found.title, "included_permissions": sorted(found.included_permissions), "stage": stage}

    def create(self, clients: Clients) -> None:
        """Create it. The id of a deleted role is taken for 37 days, so that one is had back."""
        found = self._find(clients)
        if found is not None:
            clients.iam.undelete_role(request={"name": self.path(clients.project)})
            self.update(clients, [])
            return
        request = {"parent": f"projects/{clients.project}", "role_id": self.name, "role": self.desired(clients)}
        clients.iam.create_role(request=request)

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Set what it gives, unless somebody else changed it in between (its etag)."""
        current = clients.iam.get_role(request={"name": self.path(clients.project)})
        wanted = {**self.desired(clients), "etag": current.etag}
        paths = changed or ["title", "included_permissions", "stage"]
        clients.iam.update_role(
            request={"name": self.path(clients.project), "role": wanted, "update_mask": {"paths": paths}}
        )

    def delete(self, clients: Clients) -> None:
        """Delete it. It can be had back for a week."""
        clients.iam.delete_role(request={"name": self.path(clients.project)})

    @classmethod
    def ours(cls, clients: Clients) -> Iterator[Resource]:
        """Those whose id begins like ours."""
        for found in clients.iam.list_roles(request={"parent": f"projects/{clients.project}"}):
            role_id = found.name.rsplit("/", 1)[1]
            if role_id.startswith("lunation"):
                yield cls.named(role_id)

    def _find(self, clients: Clients):  # type: ignore[no-untyped-def]
        return if_found(lambda: clients.iam.get_role(request={"name": self.path(clients.project)}))
