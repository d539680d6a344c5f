"""Datastore's composite indexes."""

from google.cloud.datastore_admin_v1 import Index

from lunation.clients import Clients
from lunation.deploy.resource import Resource, State


class CompositeIndex(Resource):
    """An index over several properties of a kind.

    Args:
        kind_name: the Datastore kind.
        properties: in order; a leading ``-`` means descending.
    """

    kind = "index"

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
