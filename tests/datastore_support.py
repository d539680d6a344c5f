"""What the Datastore tests share: Google's clients on one address, and short names for requests."""

import os
from collections.abc import Iterable
from typing import Any
from unittest import mock

import grpc
from google.cloud import datastore
from google.cloud.datastore_v1 import types
from google.cloud.datastore_v1.services.datastore import DatastoreClient
from google.cloud.datastore_v1.services.datastore.transports import DatastoreGrpcTransport

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
FAIL = types.Mutation.ConflictResolutionStrategy.FAIL
TIMEOUT = 10.0


class Clients:
    """Google's client on ``address`` (host:port), and beneath it the API as generated, for what it does not expose."""

    def __init__(self, address: str, project: str = "local-dev", namespace: str | None = None) -> None:
        self.project = project
        with mock.patch.dict(os.environ, DATASTORE_EMULATOR_HOST=address):
            self.client = datastore.Client(project=project, namespace=namespace)
        self.channel = grpc.insecure_channel(address, options=OPTIONS)
        self.api = DatastoreClient(transport=DatastoreGrpcTransport(channel=self.channel))

    def put(self, kind: str, name: str | int, unindexed: Iterable[str] = (), **properties: Any) -> datastore.Entity:
        """Store an entity."""
        entity = self.entity(kind, name, unindexed, **properties)
        self.client.put(entity)
        return entity

    def entity(self, kind: str, name: str | int, unindexed: Iterable[str] = (), **properties: Any) -> datastore.Entity:
        """An entity that is not stored yet."""
        entity = datastore.Entity(self.client.key(kind, name), exclude_from_indexes=tuple(unindexed))
        entity.update(properties)
        return entity

    def get(self, kind: str, name: str | int) -> dict[str, Any] | None:
        """An entity's properties."""
        found = self.client.get(self.client.key(kind, name))
        return None if found is None else dict(found)

    def fill(self, kind: str, rows: dict[str, dict[str, Any]]) -> None:
        """Store entities, properties by name."""
        self.client.put_multi([self.entity(kind, name, **properties) for name, properties in rows.items()])

    def key(self, kind: str, name: str) -> dict[str, Any]:
        """A key as the API has it."""
        return {"partition_id": {"project_id": self.project}, "path": [{"kind": kind, "name": name}]}

    def raw(self, kind: str, name: str, **properties: dict[str, Any]) -> dict[str, Any]:
        """An entity as the API has it; its properties as ``Value``."""
        return {"key": self.key(kind, name), "properties": properties}

    def commit(self, *mutations: dict[str, Any], transaction: bytes = b"", timeout: float = TIMEOUT) -> Any:
        """Commit mutations as the API has them."""
        request: dict[str, Any] = {"project_id": self.project, "mode": "NON_TRANSACTIONAL", "mutations": mutations}
        if transaction:
            request |= {"mode": "TRANSACTIONAL", "transaction": transaction}
        return self.api.commit(request=request, retry=None, timeout=timeout)

    def begin(self, **options: Any) -> bytes:
        """Begin a transaction."""
        request = {"project_id": self.project, "transaction_options": options}
        return self.api.begin_transaction(request=request).transaction

    def lookup(self, *keys: dict[str, Any], transaction: bytes = b"", timeout: float = TIMEOUT) -> Any:
        """Look up keys as the API has them."""
        request: dict[str, Any] = {"project_id": self.project, "keys": keys}
        if transaction:
            request["read_options"] = {"transaction": transaction}
        return self.api.lookup(request=request, retry=None, timeout=timeout)

    def query(self, timeout: float = TIMEOUT, read_options: Any = None, **query: Any) -> Any:
        """Run a query as the API has it; answers the first batch."""
        request = {"project_id": self.project, "query": query, "read_options": read_options}
        return self.api.run_query(request=request, retry=None, timeout=timeout).batch

    def close(self) -> None:
        """Close the connections."""
        self.channel.close()


def names(found: Iterable[datastore.Entity]) -> list[str | int]:
    """The names or ids of entities, in their order."""
    return [entity.key.id_or_name for entity in found]
