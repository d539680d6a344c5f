"""Datastore over grpc.aio: converts entities to and from plain values, and looks them up.

The messages are the raw protobuf classes of Google's package. Its proto-plus wrappers cost more per entity than
everything else in a request.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc.aio
from google.cloud.datastore_v1.types import datastore as _datastore
from google.cloud.datastore_v1.types import entity as _entity

from functions.runtime.rpc import Rpc

CommitRequest: Any = _datastore.CommitRequest.pb()
CommitResponse: Any = _datastore.CommitResponse.pb()
Mutation: Any = _datastore.Mutation.pb()
LookupRequest: Any = _datastore.LookupRequest.pb()
LookupResponse: Any = _datastore.LookupResponse.pb()
Entity: Any = _entity.Entity.pb()
Key: Any = _entity.Key.pb()

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def key(project: str, kind: str, name: str) -> Any:
    """Build the key of the entity called ``name`` in the default database and namespace."""
    made = Key()
    made.partition_id.project_id = project
    element = made.path.add()
    element.kind = kind
    element.name = name
    return made


def entity(project: str, kind: str, name: str, values: Mapping[str, Any], unindexed: Collection[str] = ()) -> Any:
    """Build an entity from ``values`` (str, bool, int, float, aware datetime, None).

    Raises:
        TypeError: a value has another type; the text names it.
    """
    made = Entity()
    made.key.CopyFrom(key(project, kind, name))
    properties = made.properties
    for field, value in values.items():
        target = properties[field]
        if isinstance(value, str):
            target.string_value = value
        elif isinstance(value, bool):
            target.boolean_value = value
        elif isinstance(value, int):
            target.integer_value = value
        elif isinstance(value, float):
            target.double_value = value
        elif isinstance(value, datetime):
            micros = (value - _EPOCH) // _MICROSECOND
            target.timestamp_value.seconds, rest = divmod(micros, 1_000_000)
            target.timestamp_value.nanos = rest * 1000
        elif value is None:
            target.null_value = 0
        else:
            raise TypeError(f"{kind}.{field} is a {type(value).__name__}; there is no Datastore value for it")
        if field in unindexed:
            target.exclude_from_indexes = True
    return made


def values(stored: Any) -> dict[str, Any]:
    """Return the properties of an entity as plain values; the inverse of :func:`entity`.

    Raises:
        TypeError: a property has a type that no record of this system has; the text names it.
    """
    return {field: _plain(field, value) for field, value in stored.properties.items()}


def _plain(field: str, value: Any) -> Any:
    kind = value.WhichOneof("value_type")
    if kind == "timestamp_value":
        stamp = value.timestamp_value
        return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
    if kind in ("string_value", "boolean_value", "integer_value", "double_value"):
        return getattr(value, kind)
    if kind == "entity_value":
        return values(value.entity_value)
    if kind in ("null_value", None):
        return None
    raise TypeError(f"property {field} is a {kind}; expected text, a number, a boolean or a time")


class Lookup:
    """Reads entities by their keys."""

    def __init__(self, channel: grpc.aio.Channel, project: str, *, timeout: float = 4.0, attempts: int = 3) -> None:
        """Use ``channel``. ``timeout``, in seconds, applies to each of ``attempts`` attempts."""
        self._project = project
        self._lookup = Rpc(
            channel,
            "/google.datastore.v1.Datastore/Lookup",
            LookupResponse,
            routing={"project_id": project},
            timeout=timeout,
            attempts=attempts,
        )

    async def one(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return the values of one entity, or None if it does not exist.

        Raises:
            RpcError: Datastore refused the call or could not be reached.
            TypeError: a property has a type that no record of this system has.
        """
        found = await self.entities([key(self._project, kind, name)])
        return values(next(iter(found.values()))) if found else None

    async def entities(self, keys: Iterable[Any]) -> dict[bytes, Any]:
        """Return the existing entities among ``keys`` (at most 1,000), each by :func:`path` of its key.

        Raises:
            RpcError: Datastore refused the call or could not be reached.
        """
        found: dict[bytes, Any] = {}
        wanted = list(keys)
        while wanted:
            request = LookupRequest(project_id=self._project, keys=wanted)
            response = await self._lookup(request.SerializeToString())
            for result in response.found:
                found[path(result.entity.key)] = result.entity
            # Datastore defers keys whose entities would make the response too large.
            wanted = list(response.deferred)
        return found


def path(entity_key: Any) -> bytes:
    """Serialize the kinds and names of a key. Unlike the key itself, they are equal whether or not the server filled in
    the partition."""
    return b"".join(element.SerializeToString(deterministic=True) for element in entity_key.path)
