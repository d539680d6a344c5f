"""The schemas of the messages, as Pub/Sub keeps them, for publishers to check theirs against.

They are registered, and no topic refuses a message for them: a newer publisher may send fields that we do not know yet,
and what cannot be read is kept as a dead letter with its reason (docs/decisions/0011-custom-roles.md).

A schema has no labels, and nothing in it tells ours from one that somebody else called ``lunation-partner``: one that
the table no longer has stays.
"""

from google.api_core.exceptions import AlreadyExists, InvalidArgument
from google.pubsub_v1 import types

from lunation.clients import Clients
from lunation.deploy.resource import Resource, State, if_found
from lunation.deploy.settling import NAME_FREE, NotYetError

PREFIX = "lunation-"
MAX_REVISIONS = 20
"""As many as a schema can have: https://cloud.google.com/pubsub/docs/commit-schema-revision."""


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
        """Create it.

        Raises:
            NotYetError: Pub/Sub still knows the one of this name that was deleted a moment ago.
        """
        parent = f"projects/{clients.project}"
        try:
            clients.pubsub_schemas.create_schema(parent=parent, schema=self._message(clients), schema_id=self.name)
        except AlreadyExists as error:
            raise NotYetError(error.message, NAME_FREE) from error

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Make a new revision, in place of the oldest if there are as many as there can be.

        A revision may only add and remove optional fields (same page). What goes further (another type, a required
        field, a number that moved because a field was put before it) is refused with 400; then a new schema takes the
        place of the old one, since nobody is the worse for it.

        Raises:
            ValueError: a topic checks its messages by this schema, so no other can take its place.
        """
        request = {"name": self._path(clients), "view": types.SchemaView.BASIC}
        found = clients.pubsub_schemas.list_schema_revisions(request=request)
        revisions = sorted(found, key=lambda one: one.revision_create_time)
        for revision in revisions[: max(0, len(revisions) + 1 - MAX_REVISIONS)]:
            clients.pubsub_schemas.delete_schema_revision(name=f"{self._path(clients)}@{revision.revision_id}")
        try:
            clients.pubsub_schemas.commit_schema(name=self._path(clients), schema=self._message(clients))
        except InvalidArgument as refused:
            self._replace(clients, refused)

    def _replace(self, clients: Clients, refused: InvalidArgument) -> None:
        bound = [
            topic.name.rsplit("/", 1)[1]
            for topic in clients.publisher.list_topics(project=f"projects/{clients.project}")
            if topic.schema_settings.schema == self._path(clients)
        ]
        if bound:
            raise ValueError(
                f"Pub/Sub takes no such change ({refused.message}), and topic {bound[0]} checks its messages by this "
                f"schema, so it cannot be made anew. Free the topic: gcloud pubsub topics update {bound[0]} "
                f"--clear-schema-settings --project={clients.project}"
            ) from refused
        self.delete(clients)
        self.create(clients)

    def delete(self, clients: Clients) -> None:
        """Delete it with all revisions."""
        clients.pubsub_schemas.delete_schema(name=self._path(clients))

    def _message(self, clients: Clients) -> types.Schema:
        kind = types.Schema.Type.PROTOCOL_BUFFER
        return types.Schema(name=self._path(clients), type_=kind, definition=self._definition)
