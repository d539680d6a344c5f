"""Datastore: the database, its composite indexes, and which property ends an entity's life."""

from typing import TYPE_CHECKING, Any

from google.api_core.exceptions import AlreadyExists
from google.cloud.datastore_admin_v1 import Index

from lunation.clients import Clients
from lunation.deploy.resource import Resource, State, if_found, message_of, state_of
from lunation.deploy.settling import UNDER_WAY, NotYetError

if TYPE_CHECKING:
    from google.cloud.firestore_admin_v1.types import Field

BUILD_SECONDS = 1200
"""How long the operation of an index or a time to live is waited for. With data it may take hours, and goes on by
itself: Terraform's provider gives up after as long
(https://github.com/hashicorp/terraform-provider-google/issues/7842)."""


class Database(Resource):
    """The project's default database, in Datastore mode, with a week of point-in-time recovery."""

    kind = "database"
    about = "fast copies, answers, the model pointer and its history"
    service = "firestore"
    api = "firestore.googleapis.com"
    managed_with = "roles/datastore.owner"
    fixed = frozenset({"location_id", "type_"})
    keeps_data = True

    def _path(self, clients: Clients) -> str:
        return f"projects/{clients.project}/databases/{self.name}"

    def desired(self, clients: Clients) -> State:
        """Mode, place, and how it is kept from being lost."""
        return {
            "location_id": clients.target.region,
            "type_": "DATASTORE_MODE",
            "concurrency_mode": "OPTIMISTIC",
            "point_in_time_recovery_enablement": "POINT_IN_TIME_RECOVERY_ENABLED",
            "delete_protection_state": "DELETE_PROTECTION_ENABLED",
        }

    def differences(self, clients: Clients, actual: State) -> list[tuple[str, Any, Any]]:
        """What is not as declared.

        Raises:
            ValueError: it is of the other mode, or in another place. It keeps data, so it stays what it is.
        """
        kind, place = actual.get("type_"), actual.get("location_id")
        region, project = clients.target.region, clients.project
        if kind != "DATASTORE_MODE":
            # "Mode changes are only allowed if the database is empty": DatabaseType in the API's reference,
            # https://docs.cloud.google.com/sdk/gcloud/reference/firestore/databases/update
            raise ValueError(
                f"the project's default database is of the kind {kind}, and Lunation's entities need DATASTORE_MODE. "
                f"If it is empty: gcloud firestore databases update --type=datastore-mode --project={project}; if it "
                "holds somebody's data, take a project of its own"
            )
        if place != region:
            raise ValueError(
                f"the project's default database is in {place}, and the target's region is {region}; a database never "
                f"moves. Set `region` of the target to {place} if that is a region, or take another project. Nobody "
                f"needs it: gcloud firestore databases delete --database='(default)' --project={project}"
            )
        return super().differences(clients, actual)

    def read(self, clients: Clients) -> State | None:
        """As it is."""
        found = if_found(lambda: clients.firestore_admin.get_database(name=self._path(clients)))
        return None if found is None else state_of(found)

    def create(self, clients: Clients) -> None:
        """Create it and wait."""
        from google.cloud.firestore_admin_v1.types import Database as Message

        clients.firestore_admin.create_database(
            parent=f"projects/{clients.project}",
            database=message_of(Message, self.desired(clients)),
            database_id=self.name,
        ).result(timeout=600)

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Set the fields that changed, unless somebody else changed it in between (its etag)."""
        from google.cloud.firestore_admin_v1.types import Database as Message

        current = clients.firestore_admin.get_database(name=self._path(clients))
        wanted = {"name": self._path(clients), "etag": current.etag, **self.desired(clients)}
        request = {"database": message_of(Message, wanted), "update_mask": {"paths": changed}}
        clients.firestore_admin.update_database(request=request).result(timeout=600)

    def delete(self, clients: Clients) -> None:
        """Lift its protection, then delete it with every entity."""
        request = {
            "database": {"name": self._path(clients), "delete_protection_state": "DELETE_PROTECTION_DISABLED"},
            "update_mask": {"paths": ["delete_protection_state"]},
        }
        clients.firestore_admin.update_database(request=request).result(timeout=600)
        clients.firestore_admin.delete_database(name=self._path(clients)).result(timeout=600)


class TimeToLive(Resource):
    """Entities of a kind are deleted some time after the instant in one of their properties.

    Args:
        kind_name: the Datastore kind.
        property_name: the property with the instant.
    """

    kind = "ttl"
    about = "which property ends an entity's life"
    service = "firestore"
    api = "firestore.googleapis.com"
    managed_with = "roles/datastore.owner"
    needed_by_none = True
    told = frozenset({"state"})

    def __init__(self, kind_name: str, property_name: str) -> None:
        super().__init__(f"{kind_name}.{property_name}")

    def _path(self, clients: Clients) -> str:
        kind_name, property_name = self.name.split(".")
        return f"projects/{clients.project}/databases/(default)/collectionGroups/{kind_name}/fields/{property_name}"

    def desired(self, clients: Clients) -> State:
        """On, for every entity that there is."""
        return {"expires": True, "state": "ACTIVE"}

    def read(self, clients: Clients) -> State | None:
        """On, or not there."""
        found = if_found(lambda: clients.firestore_admin.get_field(name=self._path(clients)))
        if found is None or "ttl_config" not in found:
            return None
        return {"expires": True, "state": found.ttl_config.state.name}

    def create(self, clients: Clients) -> None:
        """Switch it on, and wait until it is on for every entity. The service takes up to a day until it deletes."""
        from google.cloud.firestore_admin_v1.types import Field

        self._set(clients, Field(name=self._path(clients), ttl_config=Field.TtlConfig()))

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Switch off what failed for some entities, and on again.

        Raises:
            NotYetError: it is still being switched on.
        """
        found = self.read(clients)
        if found is not None and found["state"] == "CREATING":
            raise NotYetError("the time to live is CREATING", UNDER_WAY)
        if found is not None and found["state"] == "ACTIVE":  # it was switched on since it was looked at
            return
        self.delete(clients)
        self.create(clients)

    def delete(self, clients: Clients) -> None:
        """Switch it off; nothing is deleted any more."""
        from google.cloud.firestore_admin_v1.types import Field

        self._set(clients, Field(name=self._path(clients)))

    def _set(self, clients: Clients, field: "Field") -> None:
        """Until this is done, Datastore answers 409 to whoever creates an index
        (https://github.com/hashicorp/terraform-provider-google/issues/16664)."""
        request = {"field": field, "update_mask": {"paths": ["ttl_config"]}}
        clients.firestore_admin.update_field(request=request).result(timeout=BUILD_SECONDS)


class CompositeIndex(Resource):
    """An index over several properties of a kind.

    Args:
        kind_name: the Datastore kind.
        properties: in order; a leading ``-`` means descending.
    """

    kind = "index"
    about = "what a query over several properties needs"
    service = "datastore"
    api = "datastore.googleapis.com"
    managed_with = "roles/datastore.indexAdmin"
    needed_by_none = True
    told = frozenset({"state"})

    def __init__(self, kind_name: str, *properties: str) -> None:
        super().__init__(f"{kind_name}({', '.join(properties)})")
        self._kind_name = kind_name
        self._properties = [
            {"name": name.removeprefix("-"), "direction": "DESCENDING" if name.startswith("-") else "ASCENDING"}
            for name in properties
        ]

    def desired(self, clients: Clients) -> State:
        """The kind and its properties, and that queries can use it."""
        return {"kind": self._kind_name, "properties": self._properties, "state": "READY"}

    def read(self, clients: Clients) -> State | None:
        """The index with these properties; an index has no name that one chooses."""
        found = self._find(clients)
        if found is None or found.state == Index.State.DELETING:
            return None
        return {**self.desired(clients), "state": found.state.name}

    def create(self, clients: Clients) -> None:
        """Create it and wait.

        Raises:
            NotYetError: the service says that it is done a little before queries can use it
                (https://github.com/googleapis/google-cloud-dotnet/pull/13624); or one like it is being deleted.
        """
        self._not_while(clients, Index.State.DELETING)
        index = Index(
            kind=self._kind_name,
            ancestor=Index.AncestorMode.NONE,
            properties=[{"name": one["name"], "direction": one["direction"]} for one in self._properties],
        )
        request = {"project_id": clients.project, "index": index}
        try:
            clients.datastore_admin.create_index(request=request).result(timeout=BUILD_SECONDS)
        except AlreadyExists:
            if self._find(clients) is None:
                raise
        self._not_while(clients, Index.State.CREATING)

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Delete what could not be built, and build it again. In the state ERROR it cannot be used by queries, and
        nothing is under way with it, says the API's reference.

        Raises:
            NotYetError: it is still being built.
        """
        found = self._find(clients)
        if found is not None and found.state == Index.State.CREATING:
            raise NotYetError("the index is CREATING", UNDER_WAY)
        if found is not None and found.state == Index.State.READY:  # since it was compared
            return
        self.delete(clients)
        self.create(clients)

    def delete(self, clients: Clients) -> None:
        """Delete it."""
        index = self._find(clients)
        if index is not None and index.state != Index.State.DELETING:
            request = {"project_id": clients.project, "index_id": index.index_id}
            clients.datastore_admin.delete_index(request=request).result(timeout=BUILD_SECONDS)

    def _not_while(self, clients: Clients, state: Any) -> None:
        found = self._find(clients)
        if found is not None and found.state == state:
            raise NotYetError(f"the index is {found.state.name}", UNDER_WAY)

    def _find(self, clients: Clients) -> Index | None:
        """The one that is, or will be; one that is being deleted if there is no other."""
        found = None
        for index in clients.datastore_admin.list_indexes(request={"project_id": clients.project}):
            properties = [{"name": one.name, "direction": one.direction.name} for one in index.properties]
            if index.kind == self._kind_name and properties == self._properties:
                if index.state != Index.State.DELETING:
                    return index
                found = index
        return found
