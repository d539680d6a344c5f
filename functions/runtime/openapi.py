"""An OpenAPI document of a function: its paths written out, its records taken from ``schemas``."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from functions.runtime.paths import HEALTH
from functions.runtime.responses import JSON, PROBLEM

VERSION = "3.1.0"
PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457: what is wrong and what to do.",
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
                    "pointer": {"type": "string", "description": "JSON pointer to the field at fault."},
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
    """The document.

    Args:
        paths: as OpenAPI has them.
        records: models by the name that ``$ref`` has for them; what they refer to comes along.
        schemas: other schemas by name.
    """
    generated, definitions = models_json_schema(
        [(model, "validation") for model in records.values()], ref_template="#/components/schemas/{model}"
    )
    # Record[FlightFeatures] has a longer name of its own.
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
    """The paths that every function over HTTP has.

    Args:
        health: schema of what :data:`.paths.HEALTH` answers.
    """
    return {
        HEALTH: {
            "get": {
                "operationId": "health",
                "summary": "200 as long as the process lives.",
                "responses": {"200": answer("It lives.", health)},
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
    """A response with a body."""
    return {"description": description, "content": {media_type: {"schema": schema}}}


def ref(name: str) -> dict[str, str]:
    """A reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def problems(**said: str) -> dict[str, Any]:
    """Responses by their status (``s413="too large"``), each a problem."""
    return {status[1:]: answer(description, ref("Problem"), PROBLEM) for status, description in said.items()}


def body(one: str, limit: int, lines: str) -> dict[str, Any]:
    """A request body of one record, a list, or lines."""
    many = {"type": "array", "items": ref(one), "maxItems": limit}
    return {
        "required": True,
        "content": {
            JSON: {"schema": {"oneOf": [ref(one), many]}},
            lines: {"schema": {"type": "string", "description": f"A {one} on each line, at most {limit}."}},
        },
    }


def parameter(name: str, where: str, schema: Any, description: str, *, required: bool = False) -> dict[str, Any]:
    """A parameter. One in the path is always required."""
    needed = required or where == "path"
    return {"name": name, "in": where, "required": needed, "schema": schema, "description": description}
