"""An empty project to plan against, for a target that is only an example: two servers on this machine."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import grpc

from lunation.settings import Target

HOST = "127.0.0.1"
NUMBER = "123456789012"
"""The number of the empty project, as Google's documentation writes one."""
SERVICES = (
    "artifactregistry",
    "cloudbuild",
    "dataflow",
    "dataproc",
    "datastore",
    "firestore",
    "functions",
    "iam",
    "monitoring",
    "pubsub",
    "pubsub-schemas",
    "resourcemanager",
    "scheduler",
    "serviceusage",
    "storage",
    "telemetry",
    "workflows",
)
"""The services that a plan asks, as :class:`lunation.clients.Clients` names them."""
BUCKETS = "/storage/v1/b"
NOT_THERE = "the project is an example, and empty: nothing is there"
NOTHING_IS_MADE = "this is a plan, nothing is made"


@contextmanager
def empty_project(target: Target) -> Iterator[Target]:
    """``target``, with a project behind it in which there is nothing and nothing can be made."""
    pool = ThreadPoolExecutor()
    server = grpc.server(pool, handlers=[_Rpcs(target.project)])
    address = f"{HOST}:{server.add_insecure_port(f'{HOST}:0')}"
    server.start()
    rest = ThreadingHTTPServer((HOST, 0), _Rest)
    thread = threading.Thread(target=rest.serve_forever, args=(0.05,), name="empty-project", daemon=True)
    thread.start()
    addresses = {"http": f"http://{HOST}:{rest.server_port}", "grpc": address}
    try:
        with TemporaryDirectory() as folder:
            endpoints = Path(folder) / "endpoints.json"
            endpoints.write_text(json.dumps(dict.fromkeys(SERVICES, addresses)))
            yield target.model_copy(update={"endpoints": endpoints})
    finally:
        rest.shutdown()
        rest.server_close()
        thread.join()
        server.stop(grace=1).wait()
        pool.shutdown()


class _Rpcs(grpc.GenericRpcHandler):
    """Every method of every service: messages pass as bytes, and an empty list is the empty message."""

    def __init__(self, project: str) -> None:
        self._answers: dict[str, Callable[[bytes], bytes]] = {
            "/google.cloud.resourcemanager.v3.Projects/GetProject": lambda _: _project(project),
            "/google.cloud.resourcemanager.v3.Projects/GetIamPolicy": lambda _: b"",
            "/google.api.serviceusage.v1.ServiceUsage/GetService": _disabled,
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = handler_call_details.method
        known = self._answers.get(method)
        name = method.rpartition("/")[2]

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            if known is not None:
                return known(request)
            if name.startswith("List"):
                return b""
            if name.startswith("Get"):
                return context.abort(grpc.StatusCode.NOT_FOUND, f"{method}: {NOT_THERE}")  # which raises
            return context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method}: {NOTHING_IS_MADE}")

        return grpc.unary_unary_rpc_method_handler(answer)


def _project(project: str) -> bytes:
    from google.cloud.resourcemanager_v3 import Project

    found = Project(name=f"projects/{NUMBER}", project_id=project, state=Project.State.ACTIVE)
    return Project.serialize(found)


def _disabled(request: bytes) -> bytes:
    from google.cloud.service_usage_v1 import GetServiceRequest, Service, State

    return Service.serialize(Service(name=GetServiceRequest.deserialize(request).name, state=State.DISABLED))


class _Rest(BaseHTTPRequestHandler):
    """The same over HTTP: names of things and of collections alternate in a path (https://google.aip.dev/122)."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        collection = path == BUCKETS or (
            not path.startswith(f"{BUCKETS}/") and ":" not in path and len(path.strip("/").split("/")[1:]) % 2 == 1
        )
        if collection:
            self._send(200, {})
        else:
            self._fail(404, "NOT_FOUND", NOT_THERE)

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._fail(501, "UNIMPLEMENTED", NOTHING_IS_MADE)

    do_DELETE = do_PATCH = do_POST = do_PUT = _refuse

    def _fail(self, code: int, status: str, why: str) -> None:
        message = f"{self.command} {self.path}: {why}"
        self._send(code, {"error": {"code": code, "status": status, "message": message}})

    def _send(self, code: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a plan prints what it found, not what it asked."""
