"""The schemas of the messages, as Pub/Sub keeps them, for publishers to check theirs against.

They are registered, and no topic refuses a message for them: a newer publisher may send fields that we do not know yet,
and what cannot be read is kept as a dead letter with its reason (docs/decisions/0011-custom-roles.md).
"""

from collections.abc import Iterator

from google.pubsub_v1 import types

from lunation.clients import Clients
from lunation.deploy.resource import Resource, State, if_found

PREFIX = "lunation-"


class MessageSchema(Resource):
    """A schema in the Protocol Buffers form.

    Args:
        name: its id.
        definition: the ``.proto`` text.
    """

    kind = "schema"
    about = "what a message looks like, for publishers"
    service = "pubsub-schemas"
    api = "pubsub.googleapis.com"
    managed_with = "roles/pubsub.admin"
    needed_by_none = True

    def __init__(self, name: str, definition: str) -> None:
        super().__init__(name)
        self._definition = definition

    def _path(self, clients: Clients) -> str:
        return f"projects/{clients.project}/schemas/{self.name}"

    def desired(self, clients: Clients) -> State:
        """The definition."""
        return {"type": "PROTOCOL_BUFFER", "definition": self._definition}

    def summary(self, clients: Clients) -> str:
        """How many fields."""
        return f"{self._definition.count(' = ') - 1} fields"

    def read(self, clients: Clients) -> State | None:
        """The newest revision."""
        request = {"name": self._path(clients), "view": types.SchemaView.FULL}
        found = if_found(lambda: clients.pubsub_schemas.get_schema(request=request))
        return None if found is None else {"type": found.type_.name, "definition": found.definition}

    def create(self, clients: Clients) -> None:
        """Create it."""
        clients.pubsub_schemas.create_schema(
            parent=f"projects/{clients.project}", schema=self._message(clients), schema_id=self.name
        )

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Make a new revision."""
        clients.pubsub_schemas.commit_schema(name=self._path(clients), schema=self._message(clients))

    def delete(self, clients: Clients) -> None:
        """Delete it with all revisions."""
        clients.pubsub_schemas.delete_schema(name=self._path(clients))

    @classmethod
    def ours(cls, clients: Clients) -> Iterator[Resource]:
        """Those whose id begins like ours."""
        for found in clients.pubsub_schemas.list_schemas(parent=f"projects/{clients.project}"):
            name = found.name.rsplit("/", 1)[1]
            if name.startswith(PREFIX):
                yield cls.named(name)

    def _message(self, clients: Clients) -> types.Schema:
        kind = types.Schema.Type.PROTOCOL_BUFFER
        return types.Schema(name=self._path(clients), type_=kind, definition=self._definition)
