"""Reading the fast path: records, classifications, the pointer and its history, training runs."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any

from google.cloud import datastore
from google.cloud.datastore.query import PropertyFilter
from google.cloud.datastore_v1 import DatastoreClient
from google.cloud.datastore_v1.types import LookupResponse

from schemas import Classification, ModelPointer, ModelPromotion, TrainingRun


def record(client: datastore.Client, record_id: str) -> dict[str, Any] | None:
    """The mirrored record, or None. ``payload`` is the document as its publisher sent it, parsed."""
    entity = client.get(client.key("Record", record_id))
    return None if entity is None else {**entity, "payload": json.loads(entity["payload"])}


def classification(client: datastore.Client, record_id: str) -> Classification | None:
    """The answer that was served for a record, or None."""
    entity = client.get(client.key("Classification", record_id))
    return None if entity is None else Classification.model_validate(dict(entity))


def classifications(
    client: datastore.Client,
    *,
    label: str | None = None,
    model_version: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = 20,
) -> Iterator[Classification]:
    """Answers, newest first.

    Args:
        label: only these.
        model_version: only those of this model.
        since: answered at that time or later.
        until: answered before that time.
        limit: at most so many; None for all.
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
    for entity in query.fetch(limit=limit):
        yield Classification.model_validate(dict(entity))


def pointer(client: datastore.Client, use_case: str) -> ModelPointer | None:
    """What serves now, or None before the first model."""
    entity = client.get(client.key("ModelPointer", use_case))
    return None if entity is None else ModelPointer.model_validate(dict(entity))


def promotions(client: datastore.Client, use_case: str, limit: int | None = 20) -> list[ModelPromotion]:
    """The pointer's history, newest first."""
    query = client.query(kind="ModelPromotion", order=["-generation"])
    query.add_filter(filter=PropertyFilter("use_case", "=", use_case))
    return [ModelPromotion.model_validate(dict(entity)) for entity in query.fetch(limit=limit)]


def served_at(client: datastore.Client, use_case: str, when: datetime) -> ModelPromotion | None:
    """The move whose model the pointer named at that time; None before the first one."""
    query = client.query(kind="ModelPromotion", order=["-generation"])
    query.add_filter(filter=PropertyFilter("use_case", "=", use_case))
    rows = (ModelPromotion.model_validate(dict(entity)) for entity in query.fetch())
    return next((row for row in rows if row.moved_at <= when), None)


def training_runs(client: datastore.Client, use_case: str, limit: int | None = 20) -> list[TrainingRun]:
    """Claimed cycles, newest first."""
    query = client.query(kind="TrainingRun", order=["-claimed_at"])
    query.add_filter(filter=PropertyFilter("use_case", "=", use_case))
    return [TrainingRun.model_validate(dict(entity)) for entity in query.fetch(limit=limit)]


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


def next_classified_day(client: datastore.Client, day: date) -> date | None:
    """The first day from ``day`` on with an event that was answered; None: there is none."""
    query = client.query(kind="Classification", order=["event_time"])
    query.add_filter(filter=PropertyFilter("event_time", ">=", _midnight(day)))
    found = next(iter(query.fetch(limit=1)), None)
    return None if found is None else found["event_time"].astimezone(UTC).date()


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


KEYS_IN_A_LOOKUP = 1000
"""https://cloud.google.com/datastore/docs/concepts/limits"""


def times(
    client: DatastoreClient, project: str, kind: str, name: str, record_ids: Iterable[str]
) -> dict[str, datetime]:
    """Which entities there are, each with the time in its property ``name``; nothing else of them is transferred."""
    found: dict[str, datetime] = {}
    names = iter(record_ids)
    while batch := list(islice(names, KEYS_IN_A_LOOKUP)):
        keys: Any = [{"path": [{"kind": kind, "name": one}]} for one in batch]
        while keys:
            request = {"project_id": project, "keys": keys, "property_mask": {"paths": [name]}}
            answer = LookupResponse.pb(client.lookup(request=request))
            for one in answer.found:
                at = one.entity.properties[name].timestamp_value.ToDatetime(tzinfo=UTC)
                found[one.entity.key.path[-1].name] = at
            keys = list(answer.deferred)
    return found
