"""Builds the OpenAPI document of a function from written paths and from the records in ``schemas``."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from functions.runtime.paths import HEALTH
from functions.runtime.responses import JSON, PROBLEM

VERSION = "3.1.0"
"""The version of the OpenAPI specification that the documents follow."""
PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457: what is wrong and how to correct it.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "JSON pointer to the invalid field."},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}


def document(
    title: str,
    description: str,
    paths: Mapping[str, Any],
    records: Mapping[str, type[BaseModel]],
    schemas: Mapping[str, Any],
) -> dict[str, Any]:
    """Build an OpenAPI document.

    Args:
        title: the title of the API.
        description: one sentence about the API.
        paths: the paths, in the form of OpenAPI.
        records: pydantic models by the name under which ``$ref`` finds them. The models they refer to are included.
        schemas: other JSON schemas by name.
    """
    generated, definitions = models_json_schema(
        [(model, "validation") for model in records.values()], ref_template="#/components/schemas/{model}"
    )
    # pydantic gives Record[FlightFeatures] a longer name of its own.
    names = {name: generated[model, "validation"] for name, model in records.items()}
    aliases = {name: schema for name, schema in names.items() if schema != ref(name)}
    return {
        "openapi": VERSION,
        "info": {"title": title, "version": "1", "description": description},
        "security": [{"identity": []}],
        "paths": paths,
        "components": {
            "schemas": {**definitions["$defs"], **aliases, "Problem": PROBLEM_SCHEMA, **schemas},
            "securitySchemes": {
                "identity": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An identity token of a member with roles/run.invoker.",
                }
            },
        },
    }


def about_itself(health: Any) -> dict[str, Any]:
    """Build the paths that every HTTP function serves.

    Args:
        health: the schema of the response to :data:`.paths.HEALTH`.
    """
    return {
        HEALTH: {
            "get": {
                "operationId": "health",
                "summary": "200 while the process is running.",
                "responses": {"200": answer("The process is running.", health)},
            }
        },
        "/openapi.json": {
            "get": {
                "operationId": "openapi",
                "summary": "This document.",
                "responses": {"200": answer("OpenAPI 3.1.", {"type": "object"})},
            }
        },
    }


def answer(description: str, schema: Any, media_type: str = JSON) -> dict[str, Any]:
    """Build a response that has a body."""
    return {"description": description, "content": {media_type: {"schema": schema}}}


def ref(name: str) -> dict[str, str]:
    """Build a reference to the schema called ``name``."""
    return {"$ref": f"#/components/schemas/{name}"}


def problems(**said: str) -> dict[str, Any]:
    """Build problem responses from descriptions by status (``s413="too large"``)."""
    return {status[1:]: answer(description, ref("Problem"), PROBLEM) for status, description in said.items()}


def body(one: str, limit: int, lines: str) -> dict[str, Any]:
    """Build a request body of one record, a list of records, or records on lines.

    Args:
        one: the name of the record's schema.
        limit: limit for the number of records.
        lines: the media type of newline-delimited JSON.
    """
    many = {"type": "array", "items": ref(one), "maxItems": limit}
    return {
        "required": True,
        "content": {
            JSON: {"schema": {"oneOf": [ref(one), many]}},
            lines: {"schema": {"type": "string", "description": f"One {one} per line, at most {limit} lines."}},
        },
    }


def parameter(name: str, where: str, schema: Any, description: str, *, required: bool = False) -> dict[str, Any]:
    """Build a parameter. A parameter in the path is always required."""
    needed = required or where == "path"
    return {"name": name, "in": where, "required": needed, "schema": schema, "description": description}
