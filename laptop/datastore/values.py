"""Values: what the service takes for one, and values as bytes that compare as the service compares them.

https://cloud.google.com/datastore/docs/concepts/entities#value_type_ordering: null, integers and times, booleans, byte
and text strings, floating-point numbers, geographical points, keys. No encoding of a value is the beginning of
another's, so encodings can be put one behind the other, and inverted where an order descends.
"""

import struct
from collections.abc import Iterator
from typing import Any

from laptop.datastore.keys import escaped, path_of, terminated
from laptop.errors import invalid

# https://cloud.google.com/datastore/docs/concepts/limits
MAX_INDEXED_BYTES = 1500
MAX_UNINDEXED_BYTES = 1_048_487
MAX_DEPTH = 20
_INVERTED = bytes(255 - one for one in range(256))
_SIGN = 1 << 63
_pack = struct.Struct(">BQB").pack


def check_value(name: str, value: Any, depth: int = 0) -> None:  # noqa: C901  # a branch for each type of value
    """Refuse a value that the service refuses; cut a time to the microseconds that it keeps.

    Args:
        name: the property's, for the error.
        value: may be changed.
        depth: of the entity that the value is in, within others.
    """
    kind = value.WhichOneof("value_type")
    if kind in ("string_value", "blob_value"):
        text = value.string_value if kind == "string_value" else value.blob_value
        size = len(text) if kind == "blob_value" or text.isascii() else len(text.encode())
        if value.exclude_from_indexes:
            if size > MAX_UNINDEXED_BYTES:
                raise invalid(f'The value of property "{name}" is longer than {MAX_UNINDEXED_BYTES} bytes.')
        elif size > MAX_INDEXED_BYTES:
            raise invalid(
                f'The value of property "{name}" is longer than {MAX_INDEXED_BYTES} bytes. Exclude it from indexes.'
            )
    elif kind == "timestamp_value":
        value.timestamp_value.nanos -= value.timestamp_value.nanos % 1000
    elif kind == "array_value":
        for one in value.array_value.values:
            if one.WhichOneof("value_type") == "array_value":
                raise invalid(f'The value of property "{name}" is an array in an array.')
            check_value(name, one, depth)
    elif kind == "entity_value":
        if depth + 1 > MAX_DEPTH:
            raise invalid(f'The value of property "{name}" has entities within each other deeper than {MAX_DEPTH}.')
        for inner, one in value.entity_value.properties.items():
            check_value(f"{name}.{inner}", one, depth + 1)


def invert(data: bytes) -> bytes:
    """Bytes that compare the other way round."""
    return data.translate(_INVERTED)


def encode(value: Any) -> bytes:
    """A value as bytes that sort as the service sorts values."""
    kind = value.WhichOneof("value_type")
    if kind == "string_value":
        return b"\x04" + terminated(value.string_value) + b"\x02"
    if kind == "integer_value":
        return _pack(2, value.integer_value + _SIGN, 1)
    if kind == "timestamp_value":
        return _pack(2, micros(value) + _SIGN, 2)
    if kind == "boolean_value":
        return b"\x03\x01" if value.boolean_value else b"\x03\x00"
    if kind == "double_value":
        return b"\x05" + _double(value.double_value)
    if kind in (None, "null_value"):
        return b"\x01"
    if kind == "blob_value":
        return b"\x04" + escaped(value.blob_value) + b"\x01"
    if kind == "geo_point_value":
        return b"\x06" + _double(value.geo_point_value.latitude) + _double(value.geo_point_value.longitude)
    if kind == "key_value":
        return b"\x07" + terminated(value.key_value.partition_id.namespace_id) + path_of(value.key_value) + b"\x00"
    raise invalid(f"a value of type {kind} cannot be compared")


def micros(value: Any) -> int:
    """A time as the index has it, in microseconds since 1970."""
    return int(value.timestamp_value.seconds * 1_000_000 + value.timestamp_value.nanos // 1000)


def indexed(entity: Any) -> Iterator[tuple[str, Any]]:
    """Each indexed value with its property's name; ``a.b`` for property ``b`` of an entity within ``a``."""
    properties = entity.properties
    for name in properties:  # items() would go through Python for each
        value = properties[name]
        if not value.exclude_from_indexes:
            yield from _indexed(name, value)


def values(entity: Any, name: str) -> list[tuple[bytes, Any]]:
    """The indexed values of one property, each with its encoding."""
    if name == "__key__":
        # Compared with what a client gives as a key_value, whose partition may be left out but for the namespace.
        namespace = terminated(entity.key.partition_id.namespace_id)
        return [(b"\x07" + namespace + path_of(entity.key) + b"\x00", None)]
    if name in entity.properties:
        pairs = _indexed(name, entity.properties[name])
    elif "." in name:
        pairs = indexed(entity)
    else:
        return []
    return [(encode(value), value) for found, value in pairs if found == name]


def _indexed(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if value.exclude_from_indexes:
        return
    kind = value.WhichOneof("value_type")
    if kind == "array_value":
        for one in value.array_value.values:
            yield from _indexed(name, one)
    elif kind == "entity_value":
        for inner, one in value.entity_value.properties.items():
            yield from _indexed(f"{name}.{inner}", one)
    else:
        yield name, value


def _double(number: float) -> bytes:
    if number != number:  # noqa: PLR0124 - not a number, which sorts before all
        return bytes(8)
    (bits,) = struct.unpack(">Q", struct.pack(">d", number + 0.0))  # + 0.0 makes -0.0 0.0
    return struct.pack(">Q", bits ^ (_SIGN if bits < _SIGN else (1 << 64) - 1))
