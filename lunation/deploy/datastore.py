"""Datastore: the database, its composite indexes, and which property ends an entity's life."""

from typing import TYPE_CHECKING

from google.cloud.datastore_admin_v1 import Index

from lunation.clients import Clients
from lunation.deploy.resource import Resource, State, if_found, message_of, state_of

if TYPE_CHECKING:
    from google.cloud.firestore_admin_v1.types import Field


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

    def __init__(self, kind_name: str, property_name: str) -> None:
        super().__init__(f"{kind_name}.{property_name}")

    def _path(self, clients: Clients) -> str:
        kind_name, property_name = self.name.split(".")
        return f"projects/{clients.project}/databases/(default)/collectionGroups/{kind_name}/fields/{property_name}"

    def desired(self, clients: Clients) -> State:
        """On."""
        return {"expires": True}

    def read(self, clients: Clients) -> State | None:
        """On, or not there."""
        found = if_found(lambda: clients.firestore_admin.get_field(name=self._path(clients)))
        if found is None or "ttl_config" not in found or found.ttl_config.state.name == "NEEDS_REPAIR":
            return None
        return {"expires": True}

    def create(self, clients: Clients) -> None:
        """Switch it on. The service takes up to a day until it deletes."""
        from google.cloud.firestore_admin_v1.types import Field

        self._set(clients, Field(name=self._path(clients), ttl_config=Field.TtlConfig()))

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Switch it on again."""
        self.create(clients)

    def delete(self, clients: Clients) -> None:
        """Switch it off; nothing is deleted any more."""
        from google.cloud.firestore_admin_v1.types import Field

        self._set(clients, Field(name=self._path(clients)))

    def _set(self, clients: Clients, field: "Field") -> None:
        request = {"field": field, "update_mask": {"paths": ["ttl_config"]}}
        clients.firestore_admin.update_field(request=request)  # works on for hours, there is no use in waiting


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

    def __init__(self, kind_name: str, *properties: str) -> None:
        super().__init__(f"{kind_name}({', '.join(properties)})")
        self._kind_name = kind_name
        self._properties = [
            {"name": name.removeprefix("-"), "direction": "DESCENDING" if name.startswith("-") else "ASCENDING"}
            for name in properties
        ]

    def desired(self, clients: Clients) -> State:
        """The kind and its properties."""
        return {"kind": self._kind_name, "properties": self._properties}

    def read(self, clients: Clients) -> State | None:
        """The index with these properties; an index has no name that one chooses."""
        return None if self._find(clients) is None else self.desired(clients)

    def _find(self, clients: Clients) -> Index | None:
        for index in clients.datastore_admin.list_indexes(request={"project_id": clients.project}):
            properties = [{"name": one.name, "direction": one.direction.name} for one in index.properties]
            if index.kind == self._kind_name and properties == self._properties and index.state != Index.State.DELETING:
                return index
        return None

    def create(self, clients: Clients) -> None:
        """Create it and wait until it is built."""
        index = Index(
            kind=self._kind_name,
            ancestor=Index.AncestorMode.NONE,
            properties=[{"name": one["name"], "direction": one["direction"]} for one in self._properties],
        )
        clients.datastore_admin.create_index(request={"project_id": clients.project, "index": index}).result()

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Never called: an index with other properties is another index."""
        raise ValueError(f"{self.address}: an index cannot be changed")

    def delete(self, clients: Clients) -> None:
        """Delete it."""
        index = self._find(clients)
        if index is not None:
            request = {"project_id": clients.project, "index_id": index.index_id}
            clients.datastore_admin.delete_index(request=request).result()
