"""Service accounts, one a unit, and the custom roles that give them no more than they use."""

import re
from collections.abc import Iterator
from typing import Any

from google.api_core.exceptions import AlreadyExists, BadRequest, NotFound

from lunation.clients import Clients
from lunation.deploy.errors import unless_off
from lunation.deploy.resource import Resource, State, if_found
from lunation.deploy.settling import MADE, NotYetError

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
        """Create it.

        Raises:
            NotYetError: it is there, made by a run that was cut short, and who looks for it is not told so yet.
        """
        request = {
            "name": f"projects/{clients.project}",
            "account_id": self.name,
            "service_account": {"display_name": self.name, "description": self._purpose},
        }
        try:
            clients.iam.create_service_account(request=request)
        except AlreadyExists as error:
            raise NotYetError(error.message, MADE) from error

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
        """Those with our mark: a display name that is the account's own, and what the unit is for.

        An account of a like name that somebody made by hand, such as the deployer's or the one that plans in CI
        (docs/ci), has neither.
        """
        for found in clients.iam.list_service_accounts(name=f"projects/{clients.project}"):
            name = found.email.partition("@")[0]
            if name.startswith(PREFIX) and found.display_name == name and found.description:
                yield cls.named(name)


class CustomRole(Resource):
    """A role of the project with exactly these permissions, where every predefined one gives more than is used.

    A role that was deleted can be had back for seven days; then its id is taken for thirty more, in which the service
    answers NOT_FOUND to whoever looks for it or wants it back, and refuses to make it anew
    (https://cloud.google.com/iam/docs/creating-custom-roles#deleting-custom-role). So a role takes the first id that it
    can have, of ``lunationX``, ``lunationX_2``, ``lunationX_3``, and is known by the first of them. ``destroy`` leaves
    roles where they are (docs/decisions/0014-roles-stay.md).

    Args:
        role_id: the first of its ids; in a policy its name is :meth:`path`.
        permissions: what it gives.
        purpose: who does what with it.
    """

    kind = "role"
    about = "permissions that belong together, no more than a unit uses"
    service = "iam"
    api = "iam.googleapis.com"
    managed_with = "roles/iam.roleAdmin"
    stays = "nobody has it any more, and deleted, its name would be taken for 37 days"

    _taken: str | None = None
    """Which of its ids it has."""
    _looked = False
    """Whether that was looked up."""

    def __init__(self, role_id: str, permissions: tuple[str, ...], purpose: str) -> None:
        super().__init__(role_id)
        self.permissions = permissions
        self._purpose = purpose

    def declared(self, clients: Clients) -> str:
        """Its name in a policy as long as it has the first of its ids: what is shown."""
        return _role(clients, self.name)

    def path(self, clients: Clients) -> str:
        """Its name in a policy. A laptop keeps policies, too, and no roles."""
        if not self._looked and clients.target.serves(self.service):
            unless_off(lambda: self._find(clients), None)
        return _role(clients, self._taken or self.name)

    def desired(self, clients: Clients) -> State:
        """What it gives."""
        return {
            "title": f"{MARK}{self._purpose}",
            "included_permissions": sorted(self.permissions),
            "stage": "GA",
        }

    def summary(self, clients: Clients) -> str:
        """What it gives."""
        return ", ".join(sorted(self.permissions))

    def read(self, clients: Clients) -> State | None:
        """As it is; one that was deleted is not there."""
        found = self._find(clients)
        if found is None:
            return None
        stage = type(found).RoleLaunchStage(found.stage).name
        return {"title": found.title, "included_permissions": sorted(found.included_permissions), "stage": stage}

    def create(self, clients: Clients) -> None:
        """Create it, or have it back, under the first id that can be had.

        Raises:
            NotYetError: it is there, made by a run that was cut short, and who looks for it is not told so yet. Another
                id would make a second role, for good.
        """
        for number in range(1, MOST_IDS + 1):
            role_id = self.name if number == 1 else f"{self.name}_{number}"
            try:
                self._take(clients, role_id)
            except (AlreadyExists, BadRequest, NotFound) as error:
                if number == MOST_IDS or not _ID_TAKEN.search(str(error)):
                    raise
            else:
                self._looked, self._taken = True, role_id
                return

    def _take(self, clients: Clients, role_id: str) -> None:
        found = if_found(lambda: clients.iam.get_role(request={"name": _role(clients, role_id)}))
        if found is None:
            request = {"parent": f"projects/{clients.project}", "role_id": role_id, "role": self.desired(clients)}
            try:
                clients.iam.create_role(request=request)
            except AlreadyExists as error:
                if _ID_TAKEN.search(error.message):
                    raise
                raise NotYetError(error.message, MADE) from error
            return
        if role_id != self.name and not found.title.startswith(MARK):
            raise AlreadyExists(f"{found.name} is somebody else's")
        if found.deleted:
            clients.iam.undelete_role(request={"name": found.name})
        self._set(clients, found.name, [])

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Set what it gives, unless somebody else changed it in between (its etag)."""
        self._set(clients, self.path(clients), changed)

    def _set(self, clients: Clients, name: str, changed: list[str]) -> None:
        current = clients.iam.get_role(request={"name": name})
        wanted = {**self.desired(clients), "etag": current.etag}
        paths = changed or ["title", "included_permissions", "stage"]
        clients.iam.update_role(request={"name": name, "role": wanted, "update_mask": {"paths": paths}})

    def delete(self, clients: Clients) -> None:
        """Delete it. It can be had back for a week."""
        clients.iam.delete_role(request={"name": self.path(clients)})
        self._taken = None

    @classmethod
    def ours(cls, clients: Clients) -> Iterator[Resource]:
        """Those with our mark, which is in the title, and an id that begins like ours."""
        for found in clients.iam.list_roles(request={"parent": f"projects/{clients.project}"}):
            role_id = found.name.rsplit("/", 1)[1]
            if role_id.startswith("lunation") and found.title.startswith(MARK):
                role = cls.named(_NUMBER.sub("", role_id))
                role._taken = role_id  # type: ignore[attr-defined]
                yield role

    def _find(self, clients: Clients) -> Any | None:
        """The role, by the id that it has: the last of those that are there. One with a number has our mark, too."""
        first, numbered = _role(clients, self.name), re.compile(rf"{re.escape(self.name)}_\d+$")
        request = {"parent": f"projects/{clients.project}", "view": "FULL"}
        found = [
            one
            for one in clients.iam.list_roles(request=request)
            if one.name == first or (numbered.match(one.name.rsplit("/", 1)[1]) and one.title.startswith(MARK))
        ]
        last = max(found, key=lambda one: (len(one.name), one.name), default=None)
        self._looked, self._taken = True, last and last.name.rsplit("/", 1)[1]
        return last


MARK = "Lunation: "
"""How the title of each of our roles begins."""
MOST_IDS = 9
"""Ids that a role tries before it gives up: so many times somebody deleted it within 37 days."""
_NUMBER = re.compile(r"_\d+$")
_ID_TAKEN = re.compile(r"marked for deletion|\bdeleted\b|undelete|somebody else's", re.IGNORECASE)
"""FAILED_PRECONDITION: «You can't create a role_id (…) which has been marked for deletion», or «… where there is an
existing role with that role_id in a deleted state» (https://github.com/GoogleCloudPlatform/python-docs-samples/pull/9388);
the last is our own."""


def _role(clients: Clients, role_id: str) -> str:
    return f"projects/{clients.project}/roles/{role_id}"
