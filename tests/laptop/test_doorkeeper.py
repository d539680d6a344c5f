"""A web page that is visited on this machine reaches no server of the laptop: every port of a running one is tried."""

import io
import json
import socket
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud.functions_v2 import FunctionServiceClient
from google.cloud.storage import Client
from google.iam.v1 import policy_pb2

from laptop import secret
from laptop.supervisor import SERVICES, Supervisor
from tests.support import eventually

PARENT = "projects/local-dev/locations/us-central1"
SOURCE = """
import functions_framework

@functions_framework.http
def answer(request):
    return "moon"
"""
DOOR = "a function's door"
HTTP_SERVERS = (*SERVICES, DOOR)
# What each is asked for, which it answers to a program.
LOOKS = {
    "pubsub": "/v1/projects/local-dev/topics",
    "datastore": "/v1/projects/local-dev/indexes",
    "storage": "/storage/v1/b?project=local-dev",
    "workflows": f"/v1/{PARENT}/workflows",
    "dataproc": "/v1/projects/local-dev/regions/us-central1/workflowTemplates",
    "scheduler": f"/v1/{PARENT}/jobs",
    "functions": f"/v2/{PARENT}/functions",
    "dataflow": "/v1b3/projects/local-dev/locations/us-central1/jobs",
    DOOR: "/",
}
# A call of each that wants a JSON object.
CALLS = {
    "pubsub": ("PUT", "/v1/projects/local-dev/topics/deep"),
    "datastore": ("POST", "/v1/projects/local-dev:lookup"),
    "storage": ("POST", "/storage/v1/b"),
    "workflows": ("POST", f"/v1/{PARENT}/workflows?workflowId=deep"),
    "dataproc": ("POST", "/v1/projects/local-dev/regions/us-central1/workflowTemplates"),
    "scheduler": ("POST", f"/v1/{PARENT}/jobs"),
    "functions": ("POST", f"/v2/{PARENT}/functions?functionId=deep"),
    "dataflow": ("POST", "/v1b3/projects/local-dev/locations/us-central1/flexTemplates:launch"),
}


@dataclass
class Laptop:
    """A laptop that runs, with a bucket and a function that everybody may call."""

    servers: Supervisor
    ports: dict[str, int]
    """Those that speak HTTP/1.1, by what listens there."""

    def ask(self, server: str, lines: list[str], body: bytes = b"") -> tuple[int, str]:
        """The status and the text that a request with just these lines is answered with."""
        head = "\r\n".join([*lines, "Connection: close", f"Content-Length: {len(body)}", "", ""])
        return answer_of(self.ports[server], head.encode() + body)

    def look(self, server: str, *headers: str, host: str | None = None) -> tuple[int, str]:
        """A plain look at a server, with more headers."""
        port = self.ports[server]
        return self.ask(server, [f"GET {LOOKS[server]} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}", *headers])


def answer_of(port: int, request: bytes) -> tuple[int, str]:
    """What comes back on a connection of its own; status 0 for what is not HTTP."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request)
        content = b""
        try:
            while piece := connection.recv(65536):
                content += piece
        except ConnectionResetError:
            pass
    words = content.split(b" ", 2)
    status = int(words[1]) if words[0].startswith(b"HTTP/1.") else 0
    return status, content.partition(b"\r\n\r\n")[2].decode(errors="replace")


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    with Supervisor(tmp_path_factory.mktemp("laptop") / "state") as servers:
        servers.wait_ready()
        http = servers.endpoints["functions"]["http"]
        transport = FunctionServiceClient.get_transport_class("rest")(host=http, credentials=AnonymousCredentials())
        client = FunctionServiceClient(transport=transport)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("main.py", SOURCE)
        where = client.generate_upload_url(request={"parent": PARENT})
        put = requests.put(where.upload_url, packed.getvalue(), headers={"Content-Type": "application/zip"}, timeout=10)
        assert put.status_code == 200
        build = {"runtime": "python311", "entry_point": "answer", "source": {"storage_source": where.storage_source}}
        made = client.create_function(parent=PARENT, function={"build_config": build}, function_id="moon")
        eventually(made.done, 60)
        url = made.result().url
        policy = policy_pb2.Policy(bindings=[policy_pb2.Binding(role="roles/run.invoker", members=["allUsers"])])
        client.set_iam_policy(request={"resource": made.result().name, "policy": policy})
        api = {"api_endpoint": servers.endpoints["storage"]["http"]}
        Client("local-dev", AnonymousCredentials(), client_options=api).create_bucket("bucket")
        ports = {service: port_of(address["http"]) for service, address in servers.endpoints.items()}
        yield Laptop(servers, {**ports, DOOR: port_of(url)})


def port_of(address: str) -> int:
    return int(address.rsplit(":", 1)[1])


def test_nothing_else_listens(laptop: Laptop) -> None:
    """What the other tests try is all that there is: no process of a laptop has a port that no doorkeeper keeps."""
    grpc = {port_of(address["grpc"]) for address in laptop.servers.endpoints.values()}
    servers = [one for one in psutil.Process().children() if str(laptop.servers.state) in one.cmdline()]
    assert len(servers) == len(laptop.servers.endpoints)
    family = [process for server in servers for process in [server, *server.children(recursive=True)]]
    listening = {
        connection.laddr.port
        for process in family
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == grpc | set(laptop.ports.values())


@pytest.mark.parametrize("server", HTTP_SERVERS)
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LocalHost", "[::1]"])
def test_a_program_is_answered(laptop: Laptop, server: str, name: str) -> None:
    """By each name of this machine's own that a client may have for a server."""
    status, text = laptop.look(server, host=f"{name}:{laptop.ports[server]}")
    assert status == 200, text


@pytest.mark.parametrize("server", HTTP_SERVERS)
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "0:{port}", "0.0.0.0:{port}",
             "localhost.evil.example:{port}", "localhost:{port}.evil.example", "evil.example@localhost:{port}"],
)  # fmt: skip
def test_a_name_of_somebody_elses_is_refused(laptop: Laptop, server: str, host: str) -> None:
    """A page can have its own name resolved to this machine; the Host header still tells the name."""
    status, text = laptop.look(server, host=host.format(port=laptop.ports[server]))
    assert (status, "Host" in text, f"127.0.0.1:{laptop.ports[server]}" in text) == (421, True, True)


@pytest.mark.parametrize("server", HTTP_SERVERS)
def test_a_host_is_wanted_once(laptop: Laptop, server: str) -> None:
    """Neither none nor two: who reads the first and who reads the last would not agree on what is asked."""
    host = f"Host: 127.0.0.1:{laptop.ports[server]}"
    for hosts in ([], [host, host], [host, "Host: evil.example"], ["Host: evil.example", host]):
        status, text = laptop.ask(server, [f"GET {LOOKS[server]} HTTP/1.1", *hosts])
        assert status in (400, 421), text
        assert "Host" in text


@pytest.mark.parametrize("server", HTTP_SERVERS)
@pytest.mark.parametrize(
    "header",
    ["Origin: http://evil.example", "Origin: https://127.0.0.1:{port}", "Origin: http://localhost:3000", "Origin: null",
     "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"],
)  # fmt: skip
def test_a_page_of_another_site_is_refused(laptop: Laptop, server: str, header: str) -> None:
    """A browser says where a request comes from; another port of this machine is another site, too."""
    status, text = laptop.look(server, header.format(port=laptop.ports[server]))
    assert (status, header.partition(":")[0] in text) == (403, True)
    assert "program" in text or "address" in text


@pytest.mark.parametrize("server", HTTP_SERVERS)
@pytest.mark.parametrize(
    "header", ["Origin: http://localhost:{port}", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: none"]
)
def test_who_types_the_address_is_answered(laptop: Laptop, server: str, header: str) -> None:
    """A person may look at a server with a browser."""
    assert laptop.look(server, header.format(port=laptop.ports[server]))[0] == 200


@pytest.mark.parametrize("service", SERVICES)
def test_a_browser_does_not_speak_grpc(laptop: Laptop, service: str) -> None:
    """It sends HTTP/1.1 to a plain port, and that is no call there."""
    port = port_of(laptop.servers.endpoints[service]["grpc"])
    request = f"POST /grpc.health HTTP/1.1\r\nHost: evil.example:{port}\r\nContent-Length: 0\r\n\r\n".encode()
    assert answer_of(port, request)[0] in (0, 400)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("kind", ["text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded",
                                  "multipart/form-data; boundary=x", None])  # fmt: skip
def test_what_any_form_can_send_is_no_json(laptop: Laptop, service: str, kind: str | None) -> None:
    """JSON that does not say that it is some is refused, with the header and what to send."""
    method, path = CALLS[service]
    headers = [f"Content-Type: {kind}"] if kind else []
    status, text = laptop.ask(
        service, [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{laptop.ports[service]}", *headers], b'{"name": "x"}'
    )
    assert (status, "Content-Type" in text, "application/json" in text) == (415, True, True)


def test_a_page_cannot_have_its_code_run(laptop: Laptop) -> None:
    """What a page could post to the storage server, as text, with its name or ours, becomes no object."""
    path = "/upload/storage/v1/b/bucket/o?uploadType=media&name=evil.py"
    own = f"127.0.0.1:{laptop.ports['storage']}"
    for host, origin in (("evil.example", "http://evil.example"), (own, "http://evil.example"), (own, "null")):
        lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Origin: {origin}", "Content-Type: text/plain"]
        assert laptop.ask("storage", lines, b"print('evil')")[0] in (403, 421)
    related = "/upload/storage/v1/b/bucket/o?uploadType=multipart"
    body = b'--x\r\n\r\n{"name": "evil.py"}\r\n--x\r\n\r\nevil\r\n--x--'
    lines = [f"POST {related} HTTP/1.1", f"Host: {own}", "Content-Type: multipart/form-data; boundary=x"]
    status, text = laptop.ask("storage", lines, body)
    assert (status, "multipart/related" in text) == (400, True)
    listed = json.loads(laptop.ask("storage", ["GET /storage/v1/b/bucket/o HTTP/1.1", f"Host: {own}"])[1])
    assert listed["items"] == []


# --- bodies


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "body",
    [DEEP, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b'{"labels": ' + b"[" * 101 + b"]" * 101 + b"}", b"5", b"null",
     b"[]", b'"text"', b"true", b"{", b'{"name": NaN}', b'{"name": 1e999}', b"\xff", b"9" * 5000],
    ids=["deep lists", "deep objects", "a little too deep", "5", "null", "list", "text", "true", "half", "NaN",
         "Infinity", "bytes", "digits"],
)  # fmt: skip
def test_a_body_that_is_no_request_is_400(laptop: Laptop, service: str, body: bytes) -> None:
    """Never 500, and each server lives: for the API's calls as for the server's own pages."""
    port = laptop.ports[service]
    for method, path in (CALLS[service], ("POST", "/_laptop/faults")):
        headers = {"Content-Type": "application/json", **secret.headers(laptop.servers.state)}
        response = requests.request(method, f"http://127.0.0.1:{port}{path}", data=body, headers=headers, timeout=20)
        assert response.status_code == 400, (path, response.text[:300])
        assert response.json()["error"]
    assert laptop.look(service)[0] == 200


@pytest.mark.parametrize("body", [DEEP, b"5", b"null"])
def test_an_argument_that_is_too_deep_is_400(laptop: Laptop, body: bytes) -> None:
    """The argument of an execution is JSON within JSON."""
    port = laptop.ports["workflows"]
    base = f"http://127.0.0.1:{port}/v1/{PARENT}/workflows"
    requests.post(f"{base}?workflowId=one", json={"sourceContents": "main: {steps: [{a: {return: 1}}]}"}, timeout=10)
    argument = body[:16_000] + body[-16_000:] if body is DEEP else None
    sent = {"json": {"argument": argument.decode()}} if argument else {"data": body}
    headers = {"Content-Type": "application/json"}
    response = requests.post(f"{base}/one/executions", headers=headers, timeout=10, **sent)
    assert response.status_code == 400, response.text[:300]


# --- the server's own pages


@pytest.mark.parametrize("service", SERVICES)
def test_own_pages_are_for_who_may_read_the_state_folder(laptop: Laptop, service: str) -> None:
    """Faults, health and processes: not without the secret, nor with another one; the text says where it is."""
    pages = [
        "/_laptop/faults",
        "/_laptop/health",
        "/_laptop/nothing",
        *(["/_laptop/functions"] * (service == "functions")),
    ]
    for page in pages:
        for given in ({}, {secret.HEADER: ""}, {secret.HEADER: "guessed"}, {secret.HEADER: "ä"}):
            url = f"http://127.0.0.1:{laptop.ports[service]}{page}"
            refused = requests.get(url, headers=given, timeout=10)
            assert refused.status_code == 403
            assert (secret.HEADER in refused.text, "state folder" in refused.text) == (True, True)
        assert requests.get(url, headers=secret.headers(laptop.servers.state), timeout=10).status_code in (200, 501)


def test_the_secret_is_a_file_for_its_owner_only(laptop: Laptop) -> None:
    """And the folder that it lies in is."""
    state: Path = laptop.servers.state
    assert (state / secret.FILE).stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700
