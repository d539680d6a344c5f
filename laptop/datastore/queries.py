"""Queries: which index is read, what matches, and in which order.

An index only narrows what is looked at; whether an entity matches is always decided by the entity itself.
"""

import itertools
import struct
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from google.cloud.datastore_v1 import types

from laptop.datastore.entities import Stored, property_number, stored
from laptop.datastore.filters import (
    COMPARISONS,
    check_filter,
    compared,
    conjuncts,
    has_ancestor,
    matcher,
    operator_of,
    ranges_of,
)
from laptop.datastore.keys import check_partition, path_of, scope_of
from laptop.datastore.values import encode, invert, micros, values
from laptop.errors import ServiceError, invalid

DESCENDING = types.PropertyOrder.Direction.DESCENDING
MEANING_TIME = 18
FEW = 1000
"""So many entities are rather sorted than looked for in the index of the order."""
Rows = Callable[[str, tuple[Any, ...]], Iterator[Any]]


@dataclass(frozen=True)
class Found:
    """One result."""

    first: bytes
    """The encoding of what is ordered by first, as it stands in the index; empty without an order."""
    position: bytes
    """Sorts as the results do."""
    stored: Stored
    projected: dict[str, Any] | None
    """The values that were asked for; None for all."""

    @property
    def cursor(self) -> bytes:
        """Where the query goes on after this result, whatever is written in the meantime."""
        return struct.pack(">I", len(self.first)) + self.first + self.position

    def result(self, keys_only: bool) -> Any:
        """As a batch gives it."""
        if self.projected is None:
            return self.stored.result(keys_only)
        made = self.stored.result(keys_only=True)
        for name, value in self.projected.items():
            shown = made.entity.properties[name]
            if value.WhichOneof("value_type") == "timestamp_value":  # comes as it stands in the index
                shown.integer_value = micros(value)
                shown.meaning = MEANING_TIME
            else:
                shown.CopyFrom(value)
        return made


class Query:
    """One query, made ready.

    Args:
        request: RunQueryRequest or RunAggregationQueryRequest.
        query: the query in it.

    Raises:
        ServiceError: it asks for what the service refuses, or for what is not served.
    """

    def __init__(self, request: Any, query: Any) -> None:
        _check(request, query)
        self.scope = scope_of(request)
        self.kind: str | None = query.kind[0].name if query.kind else None
        self.projection = [one.property.name for one in query.projection]
        self.keys_only = self.projection == ["__key__"]
        self.limit: int | None = query.limit.value if query.HasField("limit") else None
        """None for no limit."""
        self.offset: int = query.offset
        tree = query.filter if query.HasField("filter") else None
        self._matches = matcher(tree) if tree is not None else None
        every = conjuncts(tree) if tree is not None else []
        self._ranges = ranges_of(every or [])
        self.equal_names, unequal_names = compared(tree) if tree is not None else (set(), set())
        self._equal = [
            (one.property.name, encode(one.value))
            for one in every or []
            if operator_of(one) == "EQUAL" and one.property.name != "__key__"
        ]
        self._exact = every is not None and len(self._equal) == len(every)
        self._path_bounds = _path_bounds(request, every or [])
        self.by_ancestor = tree is not None and has_ancestor(tree)
        self.key_descends = any(one.property.name == "__key__" and one.direction == DESCENDING for one in query.order)
        self.orders, self._path_descends = self._all_orders(query, unequal_names)
        if self.kind is None and (self.key_descends or self.orders or (self.equal_names | unequal_names) - {"__key__"}):
            raise invalid("kind is required for filters and orders, except for those by __key__, ascending")
        if both := self.equal_names & set(self.projection):
            raise invalid(f"cannot use projection on a property with an equality filter: {', '.join(sorted(both))}")
        self._start, self._end = _cursor(query.start_cursor), _cursor(query.end_cursor)

    def _all_orders(self, query: Any, unequal: set[str]) -> tuple[list[tuple[str, bool]], bool]:
        """Stated orders, then those that inequalities and projections imply; and whether keys descend in the end."""
        orders: list[tuple[str, bool]] = []
        descends = False
        by_key = False
        for one in query.order:
            descends = one.direction == DESCENDING
            by_key = one.property.name == "__key__"
            if by_key:
                break  # no two entities have the same key: nothing is left to order
            orders.append((one.property.name, descends))
        implied = [(name, descends) for name in sorted(unequal)]
        implied += [(name, False) for name in self.projection]
        named = {"__key__", *(name for name, _ in orders)}
        if not by_key:
            for name, direction in implied:
                if name not in named:
                    orders.append((name, direction))
                    named.add(name)
        return orders, descends

    def run(self, rows: Rows) -> Generator[Found, None, None]:
        """The results in order, from the start cursor on."""
        low, high = self._start[1], self._end[1]
        for found in self._sorted(rows) if self._few_equal(rows) else self._walked(rows):
            if high and found.position > high:
                return
            if not low or found.position > low:
                yield found

    def count(self, rows: Rows) -> int | None:
        """How many there are, where indexes alone can tell; else None."""
        if not self._exact or self.orders or self.limit is not None or self.offset or self._start[1] or self._end[1]:
            return None
        if not self._equal:
            condition, parameters = self._scope_condition("e")
            sql = f"SELECT COUNT(*) AS n FROM entities e WHERE {condition}"  # noqa: S608 - see _read
        else:
            tables, conditions, parameters = self._entry_tables(self._equal)
            sql = f"SELECT COUNT(*) AS n FROM {tables} WHERE {conditions}"  # noqa: S608 - see _read
        return int(next(iter(rows(sql, parameters)))["n"])

    # --- reading

    def _few_equal(self, rows: Rows) -> bool:
        """Whether few entities fulfil one of the equalities, where the order is by another property."""
        if not self.orders:
            return False
        for name, value in self._equal:
            sql = "SELECT COUNT(*) AS n FROM (SELECT 1 FROM entries WHERE property = ? AND value = ? LIMIT ?)"
            parameters = (self._number(name), value, FEW + 1)
            if next(iter(rows(sql, parameters)))["n"] <= FEW:
                return True
        return False

    def _sorted(self, rows: Rows) -> Iterator[Found]:
        tables, conditions, parameters = self._entry_tables(self._equal)
        found = [one for _, entity in self._read(rows, tables, conditions, parameters) for one in self._results(entity)]
        yield from sorted(found, key=lambda one: one.position)

    def _walked(self, rows: Rows) -> Iterator[Found]:
        """In the order of an index, without reading further than the caller asks."""
        if self.orders:
            name, descends = self.orders[0]
            tables, conditions, parameters = self._entry_tables(self._equal, name)
            if self._start[0]:
                conditions += f" AND e0.value {'<=' if descends else '>='} ?"
                parameters += (self._start[0],)
            direction = " DESC" if descends else ""
            order = f" ORDER BY e0.value{direction}, e0.path{' DESC' if self._path_descends else ''}"
            read = self._read(rows, tables, conditions, parameters, order)
            for value, group in itertools.groupby(read, key=lambda pair: pair[0]):
                # An entity with several values stands several times in the index, and once in the results.
                each = (one for _, entity in group for one in self._results(entity) if one.first == value)
                yield from sorted(each, key=lambda one: one.position) if len(self.orders) > 1 else each
            return
        if self._equal:
            tables, conditions, parameters = self._entry_tables(self._equal)
            path = "e0.path"
        else:
            tables, path = "entities e", "e.path"
            conditions, parameters = self._scope_condition("e")
        for comparison, bound in self._path_bounds:
            conditions += f" AND {path} {comparison} ?"
            parameters += (bound,)
        if self._start[1]:
            position = invert(self._start[1]) if self._path_descends else self._start[1]
            conditions += f" AND {path} {'<' if self._path_descends else '>'} ?"
            parameters += (position[:-1],)
        order = f" ORDER BY {path}{' DESC' if self._path_descends else ''}"
        for _, entity in self._read(rows, tables, conditions, parameters, order):
            yield from self._results(entity)

    def _scope_condition(self, table: str) -> tuple[str, tuple[Any, ...]]:
        if self.kind is None:
            return f"{table}.scope = ?", (self.scope,)
        return f"{table}.scope = ? AND {table}.kind = ?", (self.scope, self.kind)

    def _entry_tables(
        self, equal: list[tuple[str, bytes]], first: str | None = None
    ) -> tuple[str, str, tuple[Any, ...]]:
        """Tables and conditions for the entries of property ``first`` (or the first equality) that all of ``equal``
        have too. CROSS JOIN keeps SQLite from another order of the tables."""
        columns: list[tuple[str, bytes | None]] = [(first, None)] if first is not None else []
        columns += equal
        tables, conditions = [], []
        parameters: tuple[Any, ...] = ()
        for number, (name, value) in enumerate(columns):
            tables.append(f"entries e{number}")
            conditions.append(f"e{number}.property = ?")
            parameters += (self._number(name),)
            if value is not None:
                conditions.append(f"e{number}.value = ?")
                parameters += (value,)
            elif name in self._ranges:
                for comparison, bound in self._ranges[name].bounds:
                    conditions.append(f"e{number}.value {comparison} ?")
                    parameters += (bound,)
            if number:
                conditions.append(f"e{number}.path = e0.path")
        return " CROSS JOIN ".join(tables), " AND ".join(conditions), parameters

    def _read(
        self, rows: Rows, tables: str, conditions: str, parameters: tuple[Any, ...], order: str = ""
    ) -> Iterator[tuple[bytes, Stored]]:
        value = "x''"
        if "entries" in tables:
            condition, more = self._scope_condition("e")
            tables += " CROSS JOIN entities e"
            conditions += f" AND {condition} AND e.path = e0.path"
            parameters += more
            value = "e0.value"
        # Put together from this file's own words only: whatever a client has sent is a parameter.
        sql = f"SELECT {value} AS value, e.* FROM {tables} WHERE {conditions}{order}"  # noqa: S608
        for row in rows(sql, parameters):
            entity = stored(row)
            if self._matches is None or self._matches(entity.entity):
                yield row["value"], entity

    def _number(self, name: str) -> int:
        return property_number(self.scope, self.kind or "", name)

    # --- results

    def _results(self, one: Stored) -> Iterator[Found]:
        """The entity's places in the results: one, or one for each combination of projected values, or none."""
        columns = []
        for name, descends in self.orders:
            pairs = values(one.entity, name)
            if name in self._ranges:
                pairs = [pair for pair in pairs if self._ranges[name](pair[0])]
            if not pairs:
                return
            if name not in self.projection:
                pairs = [(max if descends else min)(pairs, key=lambda pair: pair[0])]
            columns.append(dict(pairs).items())
        tail = one.path + b"\x00"
        if self._path_descends:
            tail = invert(tail)
        project = bool(self.projection) and not self.keys_only
        for combination in itertools.product(*columns):
            position = b"".join(
                invert(value) if descends else value
                for (value, _), (_, descends) in zip(combination, self.orders, strict=True)
            )
            shown = {name: value for (name, _), (_, value) in zip(self.orders, combination, strict=True)}
            projected = {name: shown[name] for name in self.projection if name in shown} if project else None
            yield Found(combination[0][0] if combination else b"", position + tail, one, projected)


def _path_bounds(request: Any, filters: list[Any]) -> list[tuple[str, bytes]]:
    """What filters that must all hold say about the path: comparison and bound, as SQL has them."""
    bounds = []
    for one in filters:
        operator, key = operator_of(one), one.value.key_value
        if one.property.name != "__key__" or key.partition_id.namespace_id != request.partition_id.namespace_id:
            continue
        if operator == "HAS_ANCESTOR":
            bounds += [(">=", path_of(key)), ("<", path_of(key) + b"\xff")]
        elif operator in COMPARISONS or operator == "EQUAL":
            bounds.append((COMPARISONS.get(operator, "="), path_of(key)))
    return bounds


def _check(request: Any, query: Any) -> None:
    check_partition(request, request.partition_id)
    if len(query.kind) > 1:
        raise invalid("a query has one kind at most")
    if query.offset < 0 or query.limit.value < 0:
        raise invalid("offset and limit cannot be negative")
    if query.distinct_on:
        raise ServiceError("UNIMPLEMENTED", "distinct_on is not served on a laptop (LIMITATIONS.md)")
    if query.HasField("find_nearest"):
        raise ServiceError("UNIMPLEMENTED", "find_nearest is not served on a laptop (LIMITATIONS.md)")
    if query.HasField("filter"):
        check_filter(request, query.filter)


def _cursor(cursor: bytes) -> tuple[bytes, bytes]:
    """What is ordered by first, and the position, at a cursor."""
    if not cursor:
        return b"", b""
    try:
        (length,) = struct.unpack_from(">I", cursor)
    except struct.error:
        raise invalid("a cursor of no query of this server") from None
    first, position = cursor[4 : 4 + length], cursor[4 + length :]
    if len(first) != length or not position:
        raise invalid("a cursor of no query of this server")
    return first, position
