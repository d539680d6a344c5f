"""The usual way to take a pushed record: a plain function, Google's clients as they come, one ``put`` a request.

``classify`` publishes its answer, as ours does; but a record that comes again it answers anew.
"""

import base64
import os
from datetime import UTC, datetime, timedelta

import flask
import functions_framework
import orjson
from flights_model import FlightsModel, Record
from google.cloud import datastore, pubsub_v1  # type: ignore[attr-defined]

CLIENT = datastore.Client(project=os.environ["PROJECT"])
if "MODEL_FOLDER" in os.environ:
    MODEL = FlightsModel()
    PUBLISHER = pubsub_v1.PublisherClient()
    TOPIC = PUBLISHER.topic_path(os.environ["PROJECT"], "classifications")


def _data(request: flask.Request) -> bytes:
    return base64.b64decode(request.get_json()["message"]["data"])


def _put(kind: str, name: str, values: dict, unindexed: tuple[str, ...]) -> tuple[str, int]:
    entity = datastore.Entity(CLIENT.key(kind, name), exclude_from_indexes=unindexed)
    entity.update(values)
    CLIENT.put(entity)
    return "", 204


@functions_framework.http
def classify(request: flask.Request) -> tuple[str, int]:
    """Classifies the record, stores the answer and publishes it."""
    record = Record.model_validate_json(_data(request))
    (answer,) = MODEL.classify([record])
    done = _put("Classification", record.record_id, answer, ("record_id", "probability", "generation", "stale"))
    PUBLISHER.publish(TOPIC, orjson.dumps(answer), record_id=record.record_id).result(20)
    return done


@functions_framework.http
def ingest_fast(request: flask.Request) -> tuple[str, int]:
    """Stores the record."""
    data = _data(request)
    record = Record.model_validate_json(data)
    now = datetime.now(UTC)
    values = {
        "payload": data.decode(),
        "event_time": record.event_time,
        "stored_at": now,
        "expire_at": now + timedelta(days=90),
    }
    return _put("Record", record.record_id, values, tuple(values))
