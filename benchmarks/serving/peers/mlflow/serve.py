"""Saves the model in MLflow's format, with a signature, and serves it by ``mlflow models serve`` with one worker."""

import os
import sys
import tempfile
import types
import typing
from pathlib import Path

import mlflow
from flights_model import CASE
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema


def column(name: str, annotation: object) -> ColSpec:
    """The column of a feature."""
    optional = isinstance(annotation, types.UnionType)
    plain = typing.get_args(annotation)[0] if optional else annotation
    return ColSpec("string" if plain is str else "double", name, required=not optional)


columns = [ColSpec("string", "record_id"), ColSpec("string", "event_time")]
columns += [column(name, field.annotation) for name, field in CASE.features.model_fields.items()]
folder = Path(tempfile.mkdtemp(prefix="mlflow-")) / "model"
mlflow.pyfunc.save_model(
    folder,
    python_model=str(Path(__file__).with_name("model.py")),
    signature=ModelSignature(inputs=Schema(columns)),
    pip_requirements=[],
)
command = ["mlflow", "models", "serve", "--model-uri", str(folder), "--env-manager", "local", "--workers", "1"]
os.execv(str(Path(sys.executable).with_name("mlflow")), [*command, "--host", "127.0.0.1", "--port", sys.argv[1]])
