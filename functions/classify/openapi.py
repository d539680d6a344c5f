"""The OpenAPI document of the function ``classify_http``."""

from typing import Any

from functions.runtime.body import MAX_VALUES
from functions.runtime.openapi import about_itself, answer, body, parameter, problems, ref
from functions.runtime.openapi import document as whole
from functions.runtime.request_limits import MAX_BODY_BYTES, MAX_RECORDS
from functions.runtime.responses import NDJSON
from schemas import Classification, UseCase
from schemas.model_pointer import HARD_BOUND_SECONDS

from .reasons import MAX_EXPLAINED_RECORDS, METHOD

CANDIDATE: dict[str, Any] = {
    "type": ["object", "null"],
    "required": ["model_version", "state", "trouble"],
    "properties": {
        "model_version": {"type": "string"},
        "state": {"enum": ["loading", "loaded", "refused"]},
        "trouble": {"type": ["string", "null"]},
        "share": {"type": "number", "description": "Fraction of the record ids; present for a canary only."},
    },
}
MODEL: dict[str, Any] = {
    "type": "object",
    "required": ["model_version", "generation", "pointer_age_seconds", "stale", "trouble", "loading", "history"],
    "properties": {
        "model_version": {"type": ["string", "null"]},
        "generation": {"type": ["integer", "null"]},
        "serving_since": {"type": ["string", "null"], "format": "date-time"},
        "pointer_age_seconds": {
            "type": ["number", "null"],
            "description": "Time, in seconds, since a read of the pointer last showed no newer model.",
        },
        "stale": {"type": "boolean", "description": f"The pointer could not be read for {HARD_BOUND_SECONDS:g} s."},
        "trouble": {"type": ["string", "null"], "description": "Why the pointer is not followed."},
        "loading": {"type": ["string", "null"], "description": "The version of the model that is loading."},
        "canary": CANDIDATE,
        "shadow": CANDIDATE,
        "history": {
            "type": "array",
            "description": "What this instance loaded or refused, oldest first.",
            "items": {
                "type": "object",
                "required": ["at", "model_version", "generation", "outcome", "seconds"],
                "properties": {
                    "at": {"type": "string", "format": "date-time"},
                    "model_version": {"type": "string"},
                    "generation": {"type": "integer"},
                    "outcome": {"type": "string", "description": "`serving`, or `refused: ` and the reason."},
                    "seconds": {"type": "number"},
                },
            },
        },
    },
}
REASONS: dict[str, Any] = {
    "type": "object",
    "description": "base_log_odds plus all contributions equals log_odds; probability = 1 / (1 + exp(-log_odds)).",
    "required": ["method", "base_log_odds", "log_odds", "contributions"],
    "properties": {
        "method": {"const": METHOD},
        "base_log_odds": {"type": "number"},
        "log_odds": {"type": "number"},
        "contributions": {
            "type": "object",
            "description": "The contribution of each column of the model's trees, the largest first, without zeros.",
            "additionalProperties": {"type": "number"},
        },
    },
}
ANSWER: dict[str, Any] = {
    "allOf": [ref("Classification"), {"type": "object", "properties": {"reasons": ref("Reasons")}}],
}
HEALTH: dict[str, Any] = {
    "type": "object",
    "required": ["status", "model_version", "generation", "stale"],
    "properties": {
        "status": {"const": "ok"},
        "model_version": {"type": ["string", "null"]},
        "generation": {"type": ["integer", "null"]},
        "stale": {"type": "boolean"},
    },
}


def document(case: UseCase) -> dict[str, Any]:
    """Build the document for a use case."""
    many = {"type": "array", "items": ref("Answer")}
    given = answer("In the order of the records.", {"oneOf": [ref("Answer"), many]})
    reasons = parameter(
        "reasons",
        "query",
        {"type": "boolean"},
        f"Explain the answers to up to {MAX_EXPLAINED_RECORDS} records: each answer has reasons.",
    )
    given["content"][NDJSON] = {"schema": {"type": "string", "description": "One answer per line."}}
    paths = {
        "/v1/classify": {
            "post": {
                "operationId": "classify",
                "summary": "Classify one or more records. Nothing is stored.",
                "parameters": [reasons],
                "requestBody": body("Record", MAX_RECORDS, NDJSON),
                "responses": {
                    "200": given,
                    **problems(
                        s400="not JSON",
                        s409="the model that answers has no reasons",
                        s415="compressed by another method than gzip",
                        s413=f"more than {MAX_BODY_BYTES} bytes, {MAX_RECORDS} records or {MAX_VALUES} values",
                        s422="a field is invalid; errors says which",
                        s503="no model yet, the model gave no probability, or large bodies fill the instance; "
                        "retry after Retry-After seconds",
                    ),
                },
            }
        },
        "/v1/model": {
            "get": {
                "operationId": "model",
                "summary": "The model that this instance serves, its candidates, and its loads.",
                "responses": {"200": answer("As this instance knows it.", ref("Model")), **problems(s503="no model")},
            }
        },
        **about_itself(ref("Health")),
    }
    return whole(
        "Lunation: classify",
        f"Classifications of use case {case.name} by the newest model.",
        paths,
        {"Record": case.record, "Classification": Classification},
        {"Answer": ANSWER, "Reasons": REASONS, "Model": MODEL, "Health": HEALTH},
    )
