"""Aggregations over a query: count, sum, average."""

from collections.abc import Iterator
from typing import Any

from google.cloud.datastore_v1 import types

from laptop.datastore.values import values
from laptop.errors import invalid

AggregationResult: Any = types.AggregationResult.pb()

MAX_AGGREGATIONS = 5


def aliases(aggregations: Any) -> list[str]:
    """The name of each aggregation's result: its alias, or ``property_1`` and so on for those without.

    Raises:
        ServiceError: none, too many, or two of the same name.
    """
    if not 1 <= len(aggregations) <= MAX_AGGREGATIONS:
        raise invalid(f"an aggregation query has 1 to {MAX_AGGREGATIONS} aggregations, not {len(aggregations)}")
    names: list[str] = []
    unnamed = 0
    for one in aggregations:
        if one.WhichOneof("operator") is None:
            raise invalid("an aggregation needs an operator: count, sum or avg")
        unnamed += not one.alias
        names.append(one.alias or f"property_{unnamed}")
    if len(set(names)) != len(names):
        raise invalid("two aggregations have the same alias")
    return names


def aggregate(aggregations: Any, total: int, entities: list[Any]) -> Any:
    """The results.

    Args:
        aggregations: what was asked for.
        total: how many entities the query has found.
        entities: these; may be left out if only counts are asked for.

    A sum or an average leaves only the entities that have its property, also to the other aggregations.
    """
    operands = [getattr(one, one.WhichOneof("operator")) for one in aggregations if not one.HasField("count")]
    if operands:
        entities = [entity for entity in entities if all(values(entity, one.property.name) for one in operands)]
        total = len(entities)
    result = AggregationResult()
    for name, one in zip(aliases(aggregations), aggregations, strict=True):
        value = result.aggregate_properties[name]
        operator = one.WhichOneof("operator")
        if operator == "count":
            value.integer_value = min(total, one.count.up_to.value) if one.count.HasField("up_to") else total
            continue
        numbers = [number for entity in entities for number in _numbers(entity, getattr(one, operator).property.name)]
        if operator == "avg" and numbers:
            value.double_value = sum(numbers) / len(numbers)
        elif operator == "avg":
            value.null_value = 0
        elif all(isinstance(number, int) for number in numbers) and -(1 << 63) <= sum(numbers) < 1 << 63:
            value.integer_value = int(sum(numbers))
        else:
            value.double_value = float(sum(numbers))
    return result


def _numbers(entity: Any, name: str) -> Iterator[int | float]:
    for _, value in values(entity, name):
        kind = value.WhichOneof("value_type")
        if kind in ("integer_value", "double_value"):
            yield getattr(value, kind)
