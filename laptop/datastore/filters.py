"""Filters: which of them the service takes, and which entities match."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from google.cloud.datastore_v1 import types

from laptop.datastore.keys import check_key, path_of
from laptop.datastore.values import encode, values
from laptop.errors import invalid

Operator: Any = types.PropertyFilter.pb().Operator
And: Any = types.CompositeFilter.pb().Operator.Value("AND")

# https://cloud.google.com/datastore/docs/concepts/queries#multiple_equality_filters, and query.proto
MAX_DISJUNCTIONS = 30
MAX_NOT_IN = 10
COMPARISONS = {"LESS_THAN": "<", "LESS_THAN_OR_EQUAL": "<=", "GREATER_THAN": ">", "GREATER_THAN_OR_EQUAL": ">="}
EQUALITIES = ("EQUAL", "IN", "HAS_ANCESTOR")
Matches = Callable[[Any], bool]


class Range:
    """The inequalities of one property, which one and the same of its values must fulfil."""

    def __init__(self) -> None:
        self.bounds: list[tuple[str, bytes]] = []
        """Comparison and bound, as SQL has them."""
        self._excluded: set[bytes] = set()

    def add(self, one: Any) -> None:
        """One more property filter."""
        operator = operator_of(one)
        if operator == "NOT_IN":
            self._excluded |= {encode(value) for value in one.value.array_value.values}
        elif operator == "NOT_EQUAL":
            self._excluded.add(encode(one.value))
        else:
            self.bounds.append((COMPARISONS[operator], encode(one.value)))

    def __call__(self, value: bytes) -> bool:
        """Whether a value, encoded, fulfils all of them."""
        if value in self._excluded:
            return False
        return all(
            (value < bound if comparison == "<" else value <= bound)
            if comparison[0] == "<"
            else (value > bound if comparison == ">" else value >= bound)
            for comparison, bound in self.bounds
        )


def check_filter(request: Any, tree: Any) -> None:  # noqa: C901  # a filter's rules, one after the other
    """Refuse a filter that the service refuses."""
    plain = list(_property_filters(tree))
    operators = [operator_of(one) for one in plain]
    for one, operator in zip(plain, operators, strict=True):
        name = one.property.name
        if not name:
            raise invalid("a filter needs a property")
        if operator == "OPERATOR_UNSPECIFIED":
            raise invalid(f"the filter on {name} needs an operator")
        if operator in ("IN", "NOT_IN"):
            number = len(one.value.array_value.values)
            most = MAX_NOT_IN if operator == "NOT_IN" else MAX_DISJUNCTIONS
            if not 1 <= number <= most:
                raise invalid(f"{operator} takes an array of 1 to {most} values, not {number}")
        elif operator == "HAS_ANCESTOR":
            if name != "__key__" or one.value.WhichOneof("value_type") != "key_value":
                raise invalid("HAS_ANCESTOR compares __key__ with a key")
            check_key(request, one.value.key_value, must_be_complete=True)
        if name == "__key__" and any(value.WhichOneof("value_type") != "key_value" for value in _operands(one)):
            raise invalid("__key__ is compared with keys only")
    excluding = operators.count("NOT_EQUAL") + operators.count("NOT_IN")
    if excluding > 1:
        raise invalid("a query has one NOT_EQUAL or NOT_IN filter at most")
    if "NOT_IN" in operators and ("IN" in operators or _has_or(tree)):
        raise invalid("NOT_IN cannot be together with IN or OR")
    if (number := _disjunctions(tree)) > MAX_DISJUNCTIONS:
        raise invalid(f"a query has {MAX_DISJUNCTIONS} disjunctions at most, not {number}")


def operator_of(one: Any) -> str:
    """A property filter's operator."""
    return str(Operator.Name(one.op))


def conjuncts(tree: Any) -> list[Any] | None:
    """The property filters that must all hold; None if there is more to the filter than that."""
    return None if _has_or(tree) else list(_property_filters(tree))


def ranges_of(filters: list[Any]) -> dict[str, Range]:
    """The inequalities among property filters that must all hold, by property."""
    found: dict[str, Range] = {}
    for one in filters:
        if operator_of(one) not in EQUALITIES:
            found.setdefault(one.property.name, Range()).add(one)
    return found


def matcher(tree: Any) -> Matches:
    """What tells whether an entity matches."""
    if tree.WhichOneof("filter_type") == "composite_filter" and tree.composite_filter.op != And:
        either = [matcher(one) for one in tree.composite_filter.filters]
        return lambda entity: any(part(entity) for part in either)
    parts: list[Matches] = []
    plain: list[Any] = []
    pending = [tree]
    while pending:
        one = pending.pop(0)
        if one.WhichOneof("filter_type") == "property_filter":
            plain.append(one.property_filter)
        elif one.composite_filter.op == And:
            pending += one.composite_filter.filters
        else:
            parts.append(matcher(one))
    parts += [_equality(one) for one in plain if operator_of(one) in EQUALITIES]
    parts += [_inequality(name, test) for name, test in ranges_of(plain).items()]
    return parts[0] if len(parts) == 1 else lambda entity: all(part(entity) for part in parts)


def compared(tree: Any) -> tuple[set[str], set[str]]:
    """The properties that a filter compares for equality, and the others."""
    plain = list(_property_filters(tree))
    equal = {one.property.name for one in plain if operator_of(one) in EQUALITIES}
    return equal, {one.property.name for one in plain if operator_of(one) not in EQUALITIES}


def has_ancestor(tree: Any) -> bool:
    """Whether a filter keeps to what is below an entity."""
    return any(operator_of(one) == "HAS_ANCESTOR" for one in _property_filters(tree))


def _property_filters(tree: Any) -> Iterator[Any]:
    if tree.WhichOneof("filter_type") == "property_filter":
        yield tree.property_filter
        return
    if not tree.composite_filter.filters or not tree.composite_filter.op:
        raise invalid("a composite filter needs an operator and at least one filter")
    for one in tree.composite_filter.filters:
        yield from _property_filters(one)


def _has_or(tree: Any) -> bool:
    if tree.WhichOneof("filter_type") != "composite_filter":
        return False
    return tree.composite_filter.op != And or any(map(_has_or, tree.composite_filter.filters))


def _disjunctions(tree: Any) -> int:
    """How many conjunctions the filter is the disjunction of, written out."""
    if tree.WhichOneof("filter_type") == "composite_filter":
        numbers = [_disjunctions(one) for one in tree.composite_filter.filters]
        return math.prod(numbers) if tree.composite_filter.op == And else sum(numbers)
    one = tree.property_filter
    return len(one.value.array_value.values) if operator_of(one) == "IN" else 1


def _operands(one: Any) -> list[Any]:
    return list(one.value.array_value.values) if operator_of(one) in ("IN", "NOT_IN") else [one.value]


def _inequality(name: str, test: Range) -> Matches:
    return lambda entity: any(test(value) for value, _ in values(entity, name))


def _equality(one: Any) -> Matches:
    name = one.property.name
    if operator_of(one) == "HAS_ANCESTOR":
        prefix = path_of(one.value.key_value)
        return lambda entity: path_of(entity.key).startswith(prefix)
    choices = {encode(value) for value in _operands(one)}
    return lambda entity: any(value in choices for value, _ in values(entity, name))
