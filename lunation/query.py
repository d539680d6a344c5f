"""Reading the fast path: records, classifications, the pointer and its history, training runs.

An entity that cannot be read is told to the argument ``broken``, and left out of what is returned: whoever shows or
judges goes on with the others. Who gives no ``broken`` gets the first one as an error.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any, TypeVar

from google.cloud import datastore
from google.cloud.datastore.query import PropertyFilter
from google.cloud.datastore_v1 import DatastoreClient
from google.cloud.datastore_v1.types import LookupResponse
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from schemas import Classification, ModelPointer, ModelPromotion, TrainingRun

Model = TypeVar("Model", bound=BaseModel)
NO_TIME = "expected a timestamp"


@dataclass(frozen=True)
class Broken:
    """Something that is there and cannot be read."""

    kind: str
    """Of the entity; ``ModelManifest`` for a manifest."""
    key: str
    """The entity's name; a manifest's model version."""
    property: str
    """Which one does not fit; nested ones with dots, empty if it is the whole."""
    reason: str
    """What is wrong with it, without its value."""

    def __str__(self) -> str:
        where = f", property {self.property}" if self.property else ""
        return f"{self.kind} {self.key}{where}: {self.reason}"


Tell = Callable[[Broken], None]


class BrokenEntityError(ValueError):
    """An entity cannot be read; the text names it, its property and what is wrong."""


def refuse(found: Broken) -> None:
    """What happens to a broken entity if nobody is there to be told.

    Raises:
        BrokenEntityError: always.
    """
    raise BrokenEntityError(str(found))


def read(kind: type[Model], entity: datastore.Entity, broken: Tell = refuse) -> Model | None:
    """The record of ``schemas`` that an entity is. None if it is none: then each property that does not fit was told.

    Raises:
        BrokenEntityError: it is none, and nobody is there to be told.
    """
    try:
        return kind.model_validate(dict(entity))
    except ValidationError as error:
        key = str(entity.key.id_or_name) if entity.key is not None else ""
        for one in error.errors(include_url=False, include_context=False, include_input=False):
            place = ".".join(str(step) for step in one["loc"])
            broken(Broken(kind.__name__, key, place, one["msg"].removeprefix("Value error, ")))
        return None


def record(client: datastore.Client, record_id: str, broken: Tell = refuse) -> dict[str, Any] | None:
    """The mirrored record, or None. ``payload`` is the document as its publisher sent it, parsed; one that is no JSON
    is told, and stays what it is."""
    entity = client.get(client.key("Record", record_id))
    if entity is None:
        return None
    payload = entity.get("payload")
    try:
        payload = from_json(payload, allow_inf_nan=False)
    except (TypeError, ValueError) as error:
        broken(Broken("Record", record_id, "payload", str(error) if "payload" in entity else "it is missing"))
    return {**entity, "payload": payload}


def classification(client: datastore.Client, record_id: str, broken: Tell = refuse) -> Classification | None:
    """The answer that was served for a record, or None."""
    entity = client.get(client.key("Classification", record_id))
    return None if entity is None else read(Classification, entity, broken)


def classifications(
    client: datastore.Client,
    *,
    label: str | None = None,
    model_version: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = 20,
    broken: Tell = refuse,
) -> Iterator[Classification]:
    """Answers, newest first.

    Args:
        label: only these.
        model_version: only those of this model.
        since: answered at that time or later.
        until: answered before that time.
        limit: at most so many, broken ones included; None for all.
    """
    query = client.query(kind="Classification", order=["-classified_at"])
    for name, operator, value in (
        ("label", "=", label),
        ("model_version", "=", model_version),
        ("classified_at", ">=", since),
        ("classified_at", "<", until),
    ):
        if value is not None:
            query.add_filter(filter=PropertyFilter(name, operator, value))
    yield from _read_all(Classification, query.fetch(limit=limit), broken)


def pointer(client: datastore.Client, use_case: str, broken: Tell = refuse) -> ModelPointer | None:
    """What serves now, or None before the first model, and if the pointer is broken: then that was told."""
    entity = client.get(client.key("ModelPointer", use_case))
    return None if entity is None else read(ModelPointer, entity, broken)


def promotions(
    client: datastore.Client, use_case: str, limit: int | None = 20, broken: Tell = refuse
) -> list[ModelPromotion]:
    """The pointer's history, newest first."""
    return list(_read_all(ModelPromotion, _history(client, use_case).fetch(limit=limit), broken))


def promotions_of(
    client: datastore.Client, use_case: str, model_version: str, broken: Tell = refuse
) -> list[ModelPromotion]:
    """The moves that made a model serve."""
    query = client.query(kind="ModelPromotion")
    query.add_filter(filter=PropertyFilter("use_case", "=", use_case))
    query.add_filter(filter=PropertyFilter("model_version", "=", model_version))
    return list(_read_all(ModelPromotion, query.fetch(), broken))


def served_at(client: datastore.Client, use_case: str, when: datetime, broken: Tell = refuse) -> ModelPromotion | None:
    """The move whose model the pointer named at that time; None before the first one.

    Broken rows are told as far as they are newer than that move: each of them may be the one that is looked for.
    """
    rows = _read_all(ModelPromotion, _history(client, use_case).fetch(), broken)
    return next((row for row in rows if row.moved_at <= when), None)


def training_runs(
    client: datastore.Client, use_case: str, limit: int | None = 20, broken: Tell = refuse
) -> list[TrainingRun]:
    """Claimed cycles, newest first."""
    query = client.query(kind="TrainingRun", order=["-claimed_at"])
    query.add_filter(filter=PropertyFilter("use_case", "=", use_case))
    return list(_read_all(TrainingRun, query.fetch(limit=limit), broken))


def _history(client: datastore.Client, use_case: str) -> datastore.Query:
    query = client.query(kind="ModelPromotion", order=["-generation"])
    query.add_filter(filter=PropertyFilter("use_case", "=", use_case))
    return query


def _read_all(kind: type[Model], entities: Iterable[datastore.Entity], broken: Tell) -> Iterator[Model]:
    for entity in entities:
        found = read(kind, entity, broken)
        if found is not None:
            yield found


def keys(client: datastore.Client, kind: str) -> Iterable[str]:
    """The key names of every entity of a kind."""
    query = client.query(kind=kind)
    query.keys_only()
    return (str(entity.key.name) for entity in query.fetch())


def classified_on(client: datastore.Client, day: date) -> Iterator[str]:
    """The record ids of the answers whose event is on that day (UTC), by keys alone."""
    query = client.query(kind="Classification", order=["event_time"])
    query.add_filter(filter=PropertyFilter("event_time", ">=", _midnight(day)))
    query.add_filter(filter=PropertyFilter("event_time", "<", _midnight(day + timedelta(days=1))))
    query.keys_only()
    return (str(entity.key.name) for entity in query.fetch())


def next_classified_day(client: datastore.Client, day: date, broken: Tell = refuse) -> date | None:
    """The first day from ``day`` on with an event that was answered; None: there is none."""
    query = client.query(kind="Classification", order=["event_time"])
    query.add_filter(filter=PropertyFilter("event_time", ">=", _midnight(day)))
    for limit in (1, None):  # the first will do, unless somebody's hand was in it
        for entity in query.fetch(limit=limit):
            if isinstance(entity["event_time"], datetime):
                return entity["event_time"].astimezone(UTC).date()
            # A whole number lies among the times, text behind them:
            # https://cloud.google.com/datastore/docs/concepts/entities#value_type_ordering
            broken(Broken("Classification", str(entity.key.id_or_name), "event_time", NO_TIME))
    return None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


KEYS_IN_A_LOOKUP = 1000
"""https://cloud.google.com/datastore/docs/concepts/limits"""


def times(
    client: DatastoreClient, project: str, kind: str, name: str, record_ids: Iterable[str], broken: Tell = refuse
) -> dict[str, datetime]:
    """Which entities there are, each with the time in its property ``name``; nothing else of them is transferred. One
    whose property is no time is told, and is as old as can be."""
    found: dict[str, datetime] = {}
    names = iter(record_ids)
    while batch := list(islice(names, KEYS_IN_A_LOOKUP)):
        keys: Any = [{"path": [{"kind": kind, "name": one}]} for one in batch]
        while keys:
            request = {"project_id": project, "keys": keys, "property_mask": {"paths": [name]}}
            answer = LookupResponse.pb(client.lookup(request=request))
            for one in answer.found:
                key, value = one.entity.key.path[-1].name, one.entity.properties[name]
                if value.WhichOneof("value_type") == "timestamp_value":
                    found[key] = value.timestamp_value.ToDatetime(tzinfo=UTC)
                else:
                    broken(Broken(kind, key, name, NO_TIME))
                    found[key] = datetime.min.replace(tzinfo=UTC)
            keys = list(answer.deferred)
    return found
