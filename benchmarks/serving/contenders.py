"""Who is measured: each with the command that starts it, and the form in which it wants a record."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving import environments
from benchmarks.serving.environments import PEERS
from benchmarks.serving.process import PORT
from laptop.ports import HOST, free_port
from lunation.settings import ROOT

FUNCTIONS = Path(__file__).parent / "functions"
Body = Callable[[dict[str, Any]], Any]
"""The document that is sent for one record."""


@dataclass(frozen=True)
class Contender:
    """A server: started with ``command`` in ``folder``, it takes records at ``path``."""

    title: str
    command: list[str]
    folder: Path
    path: str = "/v1/classify"
    many_path: str = "/v1/classify"
    body: Body = lambda record: record
    environment: Mapping[str, str] = field(default_factory=dict)


def function(title: str, folder: Path, target: str, **environment: str) -> Contender:
    """A function, served as it is in the cloud."""
    command = [sys.executable, "-m", "functions_framework", "--source", "main.py", "--target", target]
    return Contender(title, [*command, "--host", HOST, "--port", PORT], folder, environment=environment)


def floor() -> Contender:
    """A function that does nothing with its request."""
    return function("the floor", FUNCTIONS / "floor", "floor")


def thread_mode(model: Path) -> Contender:
    """Our own classification as a plain function."""
    variables = {"MODEL_FOLDER": str(model), "PYTHONPATH": str(ROOT)}
    return function("our function in thread mode", FUNCTIONS / "thread", "classify", **variables)


def usual(target: str, model: Path, settings: Mapping[str, str]) -> Contender:
    """The usual function for a pushed record: ``classify`` or ``ingest_fast``."""
    variables = {"PYTHONPATH": f"{ROOT}:{PEERS}", **settings}
    if target == "classify":
        variables["MODEL_FOLDER"] = str(model)
    return function(f"the usual {target}", FUNCTIONS / "usual", target, **variables)


def peer(name: str, model: Path, say: Callable[[str], None]) -> Contender:
    """Another server, installed if it is not.

    Raises:
        NotInstalledError: see :func:`.environments.python`.
    """
    interpreter = environments.python(name, say)
    title, command, more = _PEERS[name](interpreter)
    environment = {
        "MODEL_FOLDER": str(model),
        "PYTHONPATH": f"{ROOT}:{PEERS}",
        "PATH": f"{interpreter.parent}:/usr/local/bin:/usr/bin:/bin",
        **more.pop("environment", {}),
    }
    return Contender(title, command, PEERS / name, environment=environment, **more)


def _fastapi(python: Path) -> Any:
    command = [str(python), "-m", "uvicorn", "serve:app", "--host", HOST, "--port", PORT, "--loop", "uvloop"]
    command += ["--http", "httptools", "--log-level", "error", "--no-access-log"]
    return "FastAPI + onnxruntime", command, {"many_path": "/v1/classify-many"}


def _litserve(python: Path) -> Any:
    return "LitServe", [str(python), "serve.py", PORT], {}


def _mlserver(python: Path) -> Any:
    ports = {"MLSERVER_HTTP_PORT": PORT}
    ports |= {f"MLSERVER_{name}_PORT": str(free_port()) for name in ("GRPC", "METRICS")}
    return (
        "MLServer",
        [str(python.with_name("mlserver")), "start", "."],
        {"path": "/v2/models/flights/infer", "body": _tensor, "environment": ports},
    )


def _bentoml(python: Path) -> Any:
    command = [str(python.with_name("bentoml")), "serve", "service:Flights", "--host", HOST, "--port", PORT]
    return "BentoML", command, {"environment": {"BENTOML_DO_NOT_TRACK": "True"}}


def _ray(python: Path) -> Any:
    return "Ray Serve", [str(python), "serve_flights.py", PORT], {"environment": {"RAY_USAGE_STATS_ENABLED": "0"}}


def _mlflow(python: Path) -> Any:
    more = {"path": "/invocations", "body": _frame, "environment": {"MLFLOW_DISABLE_TELEMETRY": "true"}}
    return "mlflow models serve", [str(python), "serve.py", PORT], more


def _tensor(record: dict[str, Any]) -> Any:
    """The record in MLServer's protocol (V2)."""
    text = json.dumps(record, separators=(",", ":"))
    return {"inputs": [{"name": "record", "shape": [1], "datatype": "BYTES", "data": [text]}]}


def _frame(record: dict[str, Any]) -> Any:
    """The record as MLflow's frame of one row."""
    row = {"record_id": record["record_id"], "event_time": record["event_time"], **record["features"]}
    return {"dataframe_records": [row]}


_PEERS: dict[str, Callable[[Path], Any]] = {
    "fastapi": _fastapi,
    "litserve": _litserve,
    "mlserver": _mlserver,
    "bentoml": _bentoml,
    "ray": _ray,
    "mlflow": _mlflow,
}
NAMES = tuple(_PEERS)
