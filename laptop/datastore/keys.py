"""Keys: what the service takes for one, and keys as bytes that sort like keys."""

import secrets
import struct
from typing import Any

from laptop.errors import invalid

# https://cloud.google.com/datastore/docs/concepts/limits, and entity.proto
MAX_KEY_BYTES = 6 * 1024
MAX_NAME_BYTES = 1500
MAX_ELEMENTS = 100


def scope_of(request: Any, key: Any = None) -> str:
    """What holds a key's or a query's entities apart from others: project, database, namespace."""
    partition = key.partition_id if key is not None else request.partition_id
    return f"{request.project_id}|{request.database_id}|{partition.namespace_id}"


def check_partition(request: Any, partition: Any) -> None:
    """Refuse a partition of another project or database than the request's."""
    if partition.project_id not in ("", request.project_id):
        raise invalid(f'mismatched projects: the request is for "{request.project_id}", not "{partition.project_id}"')
    if partition.database_id not in ("", request.database_id):
        raise invalid(
            f'mismatched databases: the request is for "{request.database_id}", not "{partition.database_id}"'
        )


def check_key(request: Any, key: Any, must_be_complete: bool) -> None:  # noqa: C901  # a key's rules, one after the other
    """Refuse a key that the service refuses."""
    check_partition(request, key.partition_id)
    path = key.path
    if not 1 <= len(path) <= MAX_ELEMENTS:
        raise invalid(f"a key has 1 to {MAX_ELEMENTS} path elements, not {len(path)}")
    last = len(path) - 1
    for number, element in enumerate(path):
        kind = element.kind
        if not kind or reserved(kind):
            raise invalid(f'the kind "{kind}" is empty or reserved')
        id_type = element.WhichOneof("id_type")
        if id_type == "name":
            if not 1 <= len(element.name.encode()) <= MAX_NAME_BYTES:
                raise invalid(f"a key name of {kind} has 1 to {MAX_NAME_BYTES} bytes")
            if reserved(element.name):
                raise invalid(f'the key name "{element.name}" of {kind} is reserved')
        elif id_type is None:
            if must_be_complete or number < last:
                raise invalid(f"the key of {kind} is incomplete: it needs an id or a name")
        elif element.id == 0:
            raise invalid(f"the id of {kind} cannot be 0")
        if len(kind.encode()) > MAX_NAME_BYTES:
            raise invalid(f"a kind has 1 to {MAX_NAME_BYTES} bytes")
    if key.ByteSize() > MAX_KEY_BYTES:
        raise invalid(f"the key of {path[last].kind} has {key.ByteSize()} bytes of {MAX_KEY_BYTES}")


def complete(key: Any) -> bool:
    """Whether the key's last element has an id or a name."""
    return bool(key.path) and key.path[-1].WhichOneof("id_type") is not None


def reserved(name: str) -> bool:
    """Whether a kind, name or property is the service's own."""
    return name.startswith("__") and name.endswith("__") and len(name) > 3


def new_id() -> int:
    """An id that nobody else gets: there are 2 to the 52 of them."""
    return secrets.randbits(52) + 1


def path_of(key: Any) -> bytes:
    """A key as bytes that sort like keys: by kind, then ids before names. A parent's are the beginning of a child's."""
    parts = []
    for element in key.path:
        parts.append(terminated(element.kind))
        if element.WhichOneof("id_type") == "id":
            parts.append(b"\x01" + struct.pack(">Q", element.id + (1 << 63)))
        else:
            parts.append(b"\x02" + terminated(element.name))
    return b"".join(parts)


def show(key: Any) -> str:
    """A key for a person."""
    return "/".join(f"{element.kind}:{element.name or element.id}" for element in key.path)


def escaped(data: bytes) -> bytes:
    """Bytes with an end, which sort as they did without."""
    return (data.replace(b"\x00", b"\x00\xff") if b"\x00" in data else data) + b"\x00"


def terminated(text: str) -> bytes:
    """The same for text."""
    return escaped(text.encode())
