"""Our own classification in the framework's default mode: a plain function, in gunicorn's threads."""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

import flask
import functions_framework
import orjson
from pydantic import TypeAdapter

from functions.classify.answer import answer, answers
from functions.classify.model import load_model
from functions.classify.serving import Served
from schemas import ModelManifest, use_case

CASE = use_case("flights")
FOLDER = Path(os.environ["MODEL_FOLDER"])
_manifest = (FOLDER / "manifest.json").read_bytes()
MODEL = load_model(
    CASE,
    ModelManifest.model_validate_json(_manifest).model_version,
    hashlib.sha256(_manifest).hexdigest(),
    lambda name: (FOLDER / name).read_bytes(),
)
SERVED = Served(
    model=MODEL,
    model_version=MODEL.manifest.model_version,
    generation=1,
    threshold=MODEL.manifest.threshold,
    uri="",
    manifest_sha256="",
    since=datetime.now(UTC),
)
MANY = TypeAdapter(list[CASE.record])  # type: ignore[name-defined]
ONE_AT_A_TIME = Lock()
"""The model's buffer is used again for each record."""


@functions_framework.http
def classify(request: flask.Request) -> flask.Response:
    """One record or a list."""
    body = request.get_data()
    with ONE_AT_A_TIME:
        if body[:1] == b"[":
            given = orjson.dumps(answers(CASE, SERVED, MANY.validate_json(body)))
        else:
            given = orjson.dumps(answer(CASE, SERVED, CASE.record.model_validate_json(body)))
    return flask.Response(given, mimetype="application/json")
