"""The OpenAPI document of the function ``submit``."""

from typing import Any

from pydantic import TypeAdapter

from functions.runtime.body import MAX_VALUES
from functions.runtime.openapi import about_itself, answer, body, parameter, problems, ref
from functions.runtime.openapi import document as whole
from functions.runtime.request_limits import MAX_BODY_BYTES, MAX_RECORDS
from functions.runtime.responses import NDJSON
from schemas import Classification, RecordId, UseCase

from .waiting import MAX_WAIT_SECONDS, MAX_WAITED_FOR

RESULT: dict[str, Any] = {
    "type": "object",
    "required": ["record_id", "status"],
    "properties": {
        "record_id": {"type": ["string", "null"], "description": "Null if the document has no valid id."},
        "status": {
            "enum": ["accepted", "classified", "refused", "not_published"],
            "description": "`not_published`: Pub/Sub has not confirmed it; send it again.",
        },
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
        "classification": ref("Classification"),
    },
}
RESULTS: dict[str, Any] = {
    "type": "object",
    "required": ["results"],
    "properties": {"results": {"type": "array", "items": ref("Result")}},
}
STORED: dict[str, Any] = {
    "type": "object",
    "required": ["record_id", "record", "stored_at", "expire_at"],
    "properties": {
        "record_id": {"type": "string"},
        "record": {
            "type": ["object", "string"],
            "description": "The record as it was sent. A string if an earlier release accepted what is not JSON.",
        },
        "stored_at": {"type": "string", "format": "date-time"},
        "expire_at": {"type": "string", "format": "date-time"},
    },
}


def document(case: UseCase) -> dict[str, Any]:
    """Build the document for a use case."""
    one_or_more = {"oneOf": [ref("Result"), ref("Results")]}
    wait = parameter(
        "wait",
        "query",
        {"type": "number", "minimum": 0, "maximum": MAX_WAIT_SECONDS},
        f"Wait up to this many seconds for the classifications of up to {MAX_WAITED_FOR} records.",
    )
    record_id = TypeAdapter(RecordId).json_schema()
    by_id = [parameter("record_id", "query", record_id, "The record's id; every id is possible here.", required=True)]
    by_path = [
        parameter(
            "record_id",
            "path",
            {**record_id, "not": {"pattern": r"(^\.{1,2}|z)$"}},
            "The record's id, if it is not . or .. and does not end in z: such paths do not reach the function.",
        )
    ]
    record = {
        "summary": "Return the stored copy of a record, as it was sent.",
        "responses": {
            "200": answer("The stored copy.", ref("StoredRecord")),
            **problems(s404="not yet, or no longer", s422="no record id", s503="Datastore is out of reach"),
        },
    }
    classification = {
        "summary": "Return the classification that was served for a record.",
        "responses": {
            "200": answer("The first classification, which never changes.", ref("Classification")),
            **problems(s404="not yet", s422="no record id", s503="Datastore is out of reach"),
        },
    }
    paths = {
        "/v1/records": {
            "post": {
                "operationId": "submit",
                "summary": "Publish one or more records. The id is the idempotency key.",
                "parameters": [wait],
                "requestBody": body("Record", MAX_RECORDS, NDJSON),
                "responses": {
                    "200": answer("All records are accepted and were classified in time.", one_or_more),
                    "202": answer("All records are accepted: Pub/Sub has confirmed them.", one_or_more),
                    "207": answer("Some records are accepted, others are refused.", ref("Results")),
                    **problems(
                        s400="not JSON: nothing is published",
                        s415="compressed by another method than gzip: nothing is published",
                        s413=f"more than {MAX_BODY_BYTES} bytes, {MAX_RECORDS} records or {MAX_VALUES} values: "
                        "nothing is published",
                        s422="no record is valid, or wait is invalid: nothing is published",
                        s503="not confirmed by Pub/Sub: send the same again after Retry-After seconds",
                    ),
                },
            },
            "get": {"operationId": "record", "parameters": by_id, **record},
        },
        "/v1/classifications": {"get": {"operationId": "classification", "parameters": by_id, **classification}},
        "/v1/records/{record_id}": {"get": {"operationId": "record_by_path", "parameters": by_path, **record}},
        "/v1/classifications/{record_id}": {
            "get": {"operationId": "classification_by_path", "parameters": by_path, **classification}
        },
        **about_itself({"type": "object"}),
    }
    return whole(
        "Lunation: submit",
        f"Publishes and returns records of use case {case.name}.",
        paths,
        {"Record": case.record, "Classification": Classification},
        {"Result": RESULT, "Results": RESULTS, "StoredRecord": STORED},
    )
