"""What a training run left in its model's folder."""

import hashlib
import re

from google.api_core.exceptions import NotFound
from pydantic import ValidationError

from lunation import query
from lunation.clients import Clients
from lunation.deploy.table import models_bucket
from schemas import ModelManifest, RunState, TrainingRun
from schemas.dead_letter import explain

_MODEL_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}/[A-Za-z0-9][A-Za-z0-9-]{0,63}")


class NoSuchResult(ValueError):
    """A run left nothing of the kind; the text says why."""


def model_version(clients: Clients, use_case: str, text: str) -> str:
    """The model version of a run, by its id or by the model version itself.

    Raises:
        NoSuchResult: no such run, or it made no model; then with the cause.
    """
    if _MODEL_VERSION.fullmatch(text):
        return text
    runs = [run for run in query.training_runs(clients.datastore, use_case, None) if run.run_id == text]
    if not runs:
        raise NoSuchResult(f"no run {text!r} for use case {use_case}; `lunation runs` lists them")
    (run, *_) = runs
    if run.model_version is None:
        raise NoSuchResult(_without_model(run))
    return run.model_version


def manifest(clients: Clients, version: str) -> ModelManifest:
    """The manifest of a model.

    Raises:
        NoSuchResult: there is none, or it cannot be read.
    """
    content = _read(clients, version, "manifest.json")
    try:
        return ModelManifest.model_validate_json(content)
    except ValidationError as error:
        raise NoSuchResult(f"the manifest of {version} cannot be read: {explain(error)}") from None


def evidence(clients: Clients, found: ModelManifest, name: str) -> bytes:
    """A file that tells about the run, as its manifest has it.

    Raises:
        NoSuchResult: the manifest names none, it is gone, or it was changed.
    """
    expected = {file.name: file.sha256 for file in found.evidence}.get(name)
    if expected is None:
        raise NoSuchResult(f"the run of {found.model_version} left no {name}: it is older than those")
    content = _read(clients, found.model_version, name)
    if hashlib.sha256(content).hexdigest() != expected:
        raise NoSuchResult(f"{name} of {found.model_version} is not the file that its manifest names (SHA-256)")
    return content


def _read(clients: Clients, version: str, name: str) -> bytes:
    bucket = models_bucket(clients.target)
    try:
        content: bytes = clients.storage.bucket(bucket).blob(f"models/{version}/{name}").download_as_bytes()
    except NotFound:
        raise NoSuchResult(
            f"there is no gs://{bucket}/models/{version}/{name}; `lunation runs` lists the runs"
        ) from None
    return content


def _without_model(run: TrainingRun) -> str:
    if run.state == RunState.RUNNING:
        return f"run {run.run_id} is not over yet: lunation runs {run.run_id}"
    return f"run {run.run_id} made no model: {run.cause or 'no cause is recorded'}"
