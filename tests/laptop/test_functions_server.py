"""Cloud Functions through Google's client: deployed from a zip, called at their doors, replaced, scaled, killed."""

import io
import json
import os
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.api_core import exceptions, operation
from google.auth import crypt, jwt
from google.auth.credentials import AnonymousCredentials
from google.cloud.functions_v2 import Function, FunctionServiceClient
from google.cloud.iam_credentials_v1 import IAMCredentialsClient
from google.iam.v1 import policy_pb2

from laptop import secret
from laptop.faults import FaultInjector
from laptop.functions import build, deployments, door
from laptop.identity import Identity
from laptop.service import Context
from tests.laptop.in_thread import serving
from tests.laptop.slow import dripped
from tests.support import ServerProcess, eventually

PARENT = "projects/local-dev/locations/us-central1"
CALLER = "caller@local-dev.iam.gserviceaccount.com"
SOURCE = """
import asyncio, json, os
import functions_framework.aio
from starlette.responses import JSONResponse

@functions_framework.aio.http
async def answer(request):
    await asyncio.sleep(float(request.query_params.get("sleep", 0)))
    if "end" in request.query_params:
        os._exit(3)
    body = (await request.body()).decode()
    return JSONResponse({"version": VERSION, "pid": os.getpid(), "word": os.environ.get("WORD"), "body": body,
                         "path": request.url.path, "revision": os.environ["K_REVISION"]})
"""


def source(version: int = 1, **files: str | None) -> bytes:
    """A zip with a function that tells which version it is; ``main__py`` and the like replace a file."""
    content = {"main.py": f"VERSION = {version}\n{SOURCE}", "requirements.txt": "functions-framework\n"}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in {**content, **{key.replace("__", "."): text for key, text in files.items()}}.items():
            if text is not None:
                archive.writestr(name, text)
    return packed.getvalue()


class Google:
    """Google's client of a server, and what a deployer does with it."""

    def __init__(self, http: str, state: Path) -> None:
        transport = FunctionServiceClient.get_transport_class("rest")(host=http, credentials=AnonymousCredentials())
        self.client = FunctionServiceClient(transport=transport)
        self.state = state
        self.identity = Identity(state)
        self.http = http

    def upload(self, content: bytes) -> Any:
        """Upload a source; answers what stands for it in a declaration."""
        answer = self.client.generate_upload_url(request={"parent": PARENT})
        put(answer.upload_url, content)
        return answer.storage_source

    def declared(self, content: bytes, entry_point: str = "answer", **service: Any) -> dict[str, Any]:
        """A function's declaration."""
        build_config = {"runtime": "python311", "entry_point": entry_point}
        build_config["source"] = {"storage_source": self.upload(content)}  # type: ignore[assignment]
        return {"build_config": build_config, "service_config": service}

    def create(self, name: str, content: bytes | None = None, **more: Any) -> Function:
        """Deploy a new function."""
        function = self.declared(content or source(), **more)
        return ended(self.client.create_function(parent=PARENT, function=function, function_id=name))

    def update(self, name: str, content: bytes, **more: Any) -> operation.Operation:
        """Deploy a new source."""
        function = {"name": path(name), **self.declared(content, **more)}
        return self.client.update_function(function=function, update_mask={"paths": ["build_config"]})

    def allow(self, name: str, *members: str) -> None:
        """Give ``roles/run.invoker`` to ``members``, and to nobody else."""
        policy = policy_pb2.Policy(bindings=[policy_pb2.Binding(role="roles/run.invoker", members=members)])
        self.client.set_iam_policy(request={"resource": path(name), "policy": policy})

    def caller(self, function: Function) -> Callable[..., Any]:
        """Calls a function with a token of CALLER, who is made an invoker."""
        self.allow(function.name.rsplit("/", 1)[1], f"serviceAccount:{CALLER}")
        return lambda query="", body=None: call(function.url + query, self.identity.token(CALLER, function.url), body)

    def running(self, name: str) -> dict[str, Any]:
        """The processes behind a function."""
        request = urllib.request.Request(f"{self.http}/_laptop/functions", headers=secret.headers(self.state))
        with urllib.request.urlopen(request, timeout=10) as response:
            return next(one for one in json.load(response) if one["name"] == path(name))


def path(name: str) -> str:
    """A function's full name."""
    return f"{PARENT}/functions/{name}"


def put(url: str, content: bytes, kind: str = "application/zip") -> None:
    """Upload, as a signed URL wants it."""
    request = urllib.request.Request(url, data=content, method="PUT", headers={"Content-Type": kind})
    urllib.request.urlopen(request, timeout=10).close()


def post(url: str, document: Any) -> None:
    """A request that no client would make."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=json.dumps(document).encode(), headers=headers)
    urllib.request.urlopen(request, timeout=10).close()


def call(url: str, token: str | None = None, body: bytes | None = None) -> Any:
    """A function's answer, or the status that it did not answer with."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=30) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError:
        return None  # nobody listens


def ended(started: operation.Operation) -> Any:
    """What an operation answers once it is done."""
    eventually(started.done, 60)
    return started.result()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all tests; each has functions of its own."""
    server = ServerProcess("functions", tmp_path_factory.mktemp("functions"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def google(server: ServerProcess) -> Google:
    """The client of the server."""
    return Google(server.http, server.state)


@pytest.fixture(scope="module")
def steady(server: ServerProcess) -> Function:
    """A function that no test changes."""
    return Google(server.http, server.state).create("steady")


# --- the life of a function


def test_a_function_is_deployed_called_and_deleted(google: Google) -> None:
    """From an uploaded zip; told, listed and answering at its URL; relabelled without a new revision; then gone."""
    made = google.create("lived", environment_variables={"WORD": "moon"})
    assert (made.state, made.name) == (Function.State.ACTIVE, path("lived"))
    assert made.service_config.environment_variables == {"WORD": "moon", "LOG_EXECUTION_ID": "true"}
    assert google.client.get_function(name=made.name) == made
    assert made.name in [one.name for one in google.client.list_functions(parent=PARENT)]
    with pytest.raises(exceptions.Conflict, match="lived"):
        google.create("lived")
    ask = google.caller(made)
    found = ask("/some/path", b"hello")
    assert (found["version"], found["word"], found["body"], found["path"]) == (1, "moon", "hello", "/some/path")
    assert found["revision"] == made.service_config.revision
    labelled = ended(
        google.client.update_function(
            function={"name": made.name, "labels": {"a": "b"}}, update_mask={"paths": ["labels"]}
        )
    )
    assert (labelled.labels, labelled.service_config) == ({"a": "b"}, made.service_config)
    pid = found["pid"]
    assert ask()["pid"] == pid
    ended(google.client.delete_function(name=made.name))
    assert ask() is None
    assert not psutil.pid_exists(pid)
    for missing in (google.client.get_function, google.client.delete_function):
        with pytest.raises(exceptions.NotFound, match="lived"):
            missing(name=made.name)


def test_a_token_for_the_asking_opens_a_door(google: Google, server: ServerProcess, steady: Function) -> None:
    """IAM Credentials gives one for a service account and an audience, and for nothing else."""
    transport = IAMCredentialsClient.get_transport_class("grpc")(channel=grpc.insecure_channel(server.grpc))
    tokens = IAMCredentialsClient(transport=transport)
    google.allow("steady", f"serviceAccount:{CALLER}")
    name = f"projects/-/serviceAccounts/{CALLER}"
    token = tokens.generate_id_token(name=name, audience=steady.url, include_email=True).token
    assert call(steady.url, token)["version"] == 1
    other = tokens.generate_id_token(name=name, audience="https://other", include_email=True).token
    assert call(steady.url, other) == 401
    for wrong in ({"name": "projects/-/serviceAccounts/somebody", "audience": "x"}, {"name": name, "audience": ""}):
        with pytest.raises(exceptions.InvalidArgument):
            tokens.generate_id_token(request=wrong)


def test_an_upload_url_takes_one_zip(google: Google) -> None:
    """With the type that it is signed for; a declaration whose zip never came is refused with the reason."""
    answer = google.client.generate_upload_url(request={"parent": PARENT})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        put(answer.upload_url, source(), "text/plain")
    put(answer.upload_url, source())
    for url in (answer.upload_url, answer.upload_url + "x"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            put(url, source())
    fresh = google.client.generate_upload_url(request={"parent": PARENT})
    function = {
        "build_config": {
            "runtime": "python311", "entry_point": "answer", "source": {"storage_source": fresh.storage_source},
        },
    }  # fmt: skip
    with pytest.raises(exceptions.GoogleAPICallError, match="PUT the zip first"):
        ended(google.client.create_function(parent=PARENT, function=function, function_id="no-zip"))


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"event_trigger": {"event_type": "x"}}, exceptions.MethodNotImplemented, "no Eventarc"),
        ({"build_config": {"runtime": "nodejs20"}}, exceptions.BadRequest, "runs python311 only"),
        ({"build_config": {"runtime": "python311", "entry_point": "a b"}}, exceptions.BadRequest, "'a b' is no name"),
        ({"service_config": {"environment_variables": {"PORT": "1"}}}, exceptions.BadRequest, "PORT is set by"),
        ({"service_config": {"timeout_seconds": 3601}}, exceptions.BadRequest, "1 to 3600"),
        ({"service_config": {"min_instance_count": 3, "max_instance_count": 2}}, exceptions.BadRequest, "between 0"),
        ({"service_config": {"secret_volumes": [{"secret": "x"}]}}, exceptions.MethodNotImplemented, "Secret Manager"),
    ],
)
def test_what_cannot_be_honoured_is_refused_when_it_is_declared(
    google: Google, fields: dict[str, Any], kind: type[Exception], words: str
) -> None:
    """At once, by name."""
    build_config = {
        "runtime": "python311", "entry_point": "answer",
        "source": {"storage_source": {"bucket": "b", "object": "o"}},
    }  # fmt: skip
    function = {"build_config": build_config, **fields}
    if "build_config" in fields:
        function["build_config"] = {**build_config, **fields["build_config"]}
    with pytest.raises(kind, match=words):
        google.client.create_function(parent=PARENT, function=function, function_id="refused")


def test_what_is_not_served_is_refused_by_name(google: Google) -> None:
    """Calls of no handler, filters, masks that name no field, fields that there are not."""
    with pytest.raises(exceptions.MethodNotImplemented, match="GenerateDownloadUrl"):
        google.client.generate_download_url(request={"name": path("any")})
    with pytest.raises(exceptions.MethodNotImplemented, match="filter"):
        google.client.list_functions(request={"parent": PARENT, "filter": "labels.a=b"})
    with pytest.raises(urllib.error.HTTPError, match="400") as caught:
        post(f"{google.http}/v2/{PARENT}/functions?functionId=f", {"buildConfig": {"runtimes": "python311"}})
    assert "runtimes" in caught.value.read().decode()


# --- revisions


def test_an_update_fails_no_request(google: Google) -> None:
    """Callers who never pause see the old version, then the new one, and nothing else."""
    made = google.create("replaced", max_instance_request_concurrency=80)
    ask = google.caller(made)
    seen: list[list[Any]] = [[] for _ in range(3)]
    stopped = threading.Event()

    def hammer(answers: list[Any]) -> None:
        while not stopped.is_set():
            found = ask("?sleep=0.02")
            answers.append(found["version"] if isinstance(found, dict) else found)

    callers = [threading.Thread(target=hammer, args=(answers,)) for answers in seen]
    for one in callers:
        one.start()
    try:
        eventually(lambda: all(seen))
        updated = ended(google.update("replaced", source(2)))
        eventually(lambda: all(answers[-1] == 2 for answers in seen))
    finally:
        stopped.set()
        for one in callers:
            one.join()
    assert updated.service_config.revision != made.service_config.revision
    assert updated.url == made.url
    for answers in seen:
        assert set(answers) == {1, 2}
        assert answers == sorted(answers)


@pytest.mark.parametrize(
    ("content", "entry_point", "words"),
    [
        (source(main__py="raise RuntimeError('on purpose')"), "answer", r"(?s)ended with 1 .*on purpose"),
        (source(), "nothing", "(?s)expected to contain a function named 'nothing'"),
        (
            source(requirements__txt="functions-framework\nno-such-package==1\n"),
            "answer",
            "no-such-package is not inst",
        ),
        (source(requirements__txt="functions-framework==0.1\n"), "answer", r"functions-framework \S+ is installed"),
        (b"no zip", "answer", "no zip that can be read"),
    ],
    ids=["raises", "entry-point", "package", "version", "zip"],
)
def test_a_revision_that_does_not_come_up_changes_nothing(
    google: Google, steady: Function, content: bytes, entry_point: str, words: str
) -> None:
    """The operation's error and the function tell why; what served still does."""
    with pytest.raises(exceptions.GoogleAPICallError, match=words):
        ended(google.update("steady", content, entry_point=entry_point))
    shown = google.client.get_function(name=path("steady"))
    assert (shown.state, shown.service_config.revision) == (Function.State.ACTIVE, steady.service_config.revision)
    assert shown.state_messages[-1].type_ == "DeploymentFailed"
    assert google.caller(steady)()["version"] == 1


def test_a_function_that_never_came_up_can_be_mended(google: Google) -> None:
    """It is FAILED, with the reason; the next source makes it ACTIVE at the same URL."""
    with pytest.raises(exceptions.GoogleAPICallError, match=r"missing main\.py.*found: requirements\.txt"):
        google.create("mended", source(main__py=None))
    shown = google.client.get_function(name=path("mended"))
    assert (shown.state, "main.py" in shown.state_messages[-1].message) == (Function.State.FAILED, True)
    mended = ended(google.update("mended", source(2)))
    assert (mended.state, mended.url, list(mended.state_messages)) == (Function.State.ACTIVE, shown.url, [])
    assert google.caller(mended)()["version"] == 2


# --- the front door


def test_the_door_checks_who_calls(google: Google, steady: Function, tmp_path: Path) -> None:
    """A token of an invoker, for this function, signed, not expired; anything else is 401 or 403, as on Cloud Run."""
    url = steady.url
    google.allow("steady")
    token = google.identity.token(CALLER, url)
    assert call(url, token) == 403  # nobody is an invoker yet
    google.allow("steady", f"serviceAccount:{CALLER}")
    assert call(url, token)["version"] == 1
    assert call(url) == 403
    assert call(url, google.identity.token("other@local-dev.iam.gserviceaccount.com", url)) == 403
    for bad in (
        "nonsense",
        google.identity.token(CALLER, "https://another.function"),
        Identity(tmp_path).token(CALLER, url),  # signed by a key of somebody else
        Identity(google.state, now=lambda: 1_000_000_000).token(CALLER, url),  # expired long ago
        token[:-4] + ("AAAA" if not token.endswith("AAAA") else "BBBB"),
    ):
        assert call(url, bad) == 401, bad
    google.allow("steady", "allUsers")
    assert call(url)["version"] == 1
    policy = google.client.get_iam_policy(request={"resource": steady.name})
    google.allow("steady")
    assert call(url, token) == 403
    with pytest.raises(exceptions.Conflict, match="changed since"):
        google.client.set_iam_policy(request={"resource": steady.name, "policy": policy})


@pytest.mark.parametrize("kept", ["/healthz", "/eventlog", "/_ah/health", "/v1/records/fuzz", "/fu%7A", "/z?a=b"])
def test_the_door_keeps_the_paths_that_cloud_run_keeps(google: Google, steady: Function, kept: str) -> None:
    """They are 404 whoever asks, with a token or without, and the function does not see them."""
    ask = google.caller(steady)
    assert ask(kept) == call(steady.url + kept) == 404


@pytest.mark.parametrize("path_", ["/healthz/", "/v1/records?record_id=fuzz", "/eventlogs", "/_ah", "/Z", "/z/a"])
def test_the_door_keeps_no_other_path(google: Google, steady: Function, path_: str) -> None:
    """What comes near to one of them reaches the function."""
    assert google.caller(steady)(path_)["path"] == path_.partition("?")[0]


def raw(function: Function, *lines: str, body: bytes = b"") -> bytes:
    """All that comes back for a request of just these lines, on a connection of its own that the door has to end."""
    port = int(function.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        head = "\r\n".join([lines[0], f"Host: 127.0.0.1:{port}", *lines[1:], "", ""])
        connection.sendall(head.encode() + body)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_trailer_is_no_header(google: Google, steady: Function) -> None:
    """What comes behind the body can neither let somebody in nor reach the function."""
    google.allow("steady", f"serviceAccount:{CALLER}")
    token = google.identity.token(CALLER, steady.url)
    chunked = ["Transfer-Encoding: chunked", "Connection: close"]
    body = f"1\r\nx\r\n0\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    assert raw(steady, "POST / HTTP/1.1", *chunked, body=body).startswith(b"HTTP/1.1 403 ")
    signed = [*chunked, f"Authorization: Bearer {token}"]
    body = b"1\r\nx\r\n0\r\nAuthorization: Bearer forged\r\n\r\n"
    assert raw(steady, "POST / HTTP/1.1", *signed, body=body).startswith(b"HTTP/1.1 200 ")


def test_the_token_is_looked_at_before_the_body(google: Google, steady: Function) -> None:
    """Who may not call is told so while his 32 MB are still to come, and the connection can be used again."""
    google.allow("steady", f"serviceAccount:{CALLER}")
    token = google.identity.token(CALLER, steady.url)
    port = int(steady.url.rsplit(":", 1)[1])
    host = f"Host: 127.0.0.1:{port}\r\n"
    size = 8 * 1024 * 1024
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"POST / HTTP/1.1\r\n{host}Content-Length: {size}\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 403 ")
        connection.sendall(bytes(size))
        connection.sendall(f"GET / HTTP/1.1\r\n{host}Authorization: Bearer {token}\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    expecting = raw(steady, "POST / HTTP/1.1", f"Content-Length: {size}", "Expect: 100-continue")
    assert expecting.startswith(b"HTTP/1.1 403 ")
    welcome = ["Content-Length: 2", "Expect: 100-continue", f"Authorization: Bearer {token}", "Connection: close"]
    assert raw(steady, "POST / HTTP/1.1", *welcome, body=b"{}").startswith(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "
    )


def test_refusals_keep_their_place(google: Google, steady: Function) -> None:
    """Requests that come together are answered in order, whichever of them are refused."""
    google.allow("steady", f"serviceAccount:{CALLER}")
    signed = f"Authorization: Bearer {google.identity.token(CALLER, steady.url)}\r\n"
    port = int(steady.url.rsplit(":", 1)[1])
    host = f"Host: 127.0.0.1:{port}\r\n"
    body = "Content-Length: 2\r\n\r\n{}"
    requests = [
        f"POST /a?sleep=0.2 HTTP/1.1\r\n{host}{signed}{body}",
        f"POST /b HTTP/1.1\r\n{host}{body}",
        f"POST /c HTTP/1.1\r\n{host}{signed}{body}",
        f"POST /d HTTP/1.1\r\nHost: evil.example\r\n{signed}{body}",
        f"POST /e HTTP/1.1\r\n{host}{signed}Connection: close\r\n{body}",
    ]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall("".join(requests).encode())
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
    assert re.findall(rb"HTTP/1\.1 (\d+)", answers) == [b"200", b"403", b"200", b"421", b"200"]
    assert re.findall(rb'"path":"(/.)"', answers) == [b"/a", b"/c", b"/e"]


def test_who_is_refused_is_told_whatever_comes_behind_his_headers(google: Google, steady: Function) -> None:
    """A page of another site that asks for a WebSocket, and a body that is no HTTP: the connection ends with the
    answer, not without one."""
    google.allow("steady", f"serviceAccount:{CALLER}")
    upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA=="]
    answer = raw(steady, "GET / HTTP/1.1", "Origin: http://evil.example", *upgrade)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"Origin: http://evil.example" in answer.partition(b"\r\n\r\n")[2]
    assert raw(steady, "GET / HTTP/1.1", *upgrade).startswith(b"HTTP/1.1 403 ")
    answer = raw(steady, "POST / HTTP/1.1", "Transfer-Encoding: chunked", body=b"no chunk\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.count(b"HTTP/1.1") == 1
    signed = f"Authorization: Bearer {google.identity.token(CALLER, steady.url)}"
    assert raw(steady, "GET / HTTP/1.1", signed, *upgrade).startswith(b"HTTP/1.1 501 ")


def test_an_authorization_is_wanted_once(google: Google, steady: Function) -> None:
    """Two that differ mean one thing to who reads the first and another to who reads the last."""
    google.allow("steady", f"serviceAccount:{CALLER}")
    good = f"Authorization: Bearer {google.identity.token(CALLER, steady.url)}"
    for two in ([good, "Authorization: Bearer forged"], ["Authorization: Bearer forged", good], [good, good]):
        answer = raw(steady, "GET / HTTP/1.1", *two, "Connection: close")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"Authorization" in answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("exp", [None, "9999999999", float("nan"), float("inf"), True])
def test_a_token_without_an_end_is_401(google: Google, steady: Function, exp: Any) -> None:
    """Signed by the right key, but good for ever: refused, and the connection is answered."""
    google.allow("steady", f"serviceAccount:{CALLER}")
    token = google.identity.token(CALLER, steady.url)
    claims = {**jwt.decode(token, verify=False), "exp": exp}
    key = (google.state / "identity" / "key.pem").read_bytes()
    signer = crypt.RSASigner.from_string(key, jwt.decode_header(token)["kid"])
    assert call(steady.url, jwt.encode(signer, claims).decode()) == 401


def test_the_door_does_not_wait_for_who_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for headers a byte at a time nor for a body; who was refused before is not waited for either."""
    monkeypatch.setattr("laptop.patience.HEAD_SECONDS", 0.5)
    monkeypatch.setattr("laptop.patience.BODY_SECONDS", 0.5)
    with serving(lambda: build(Context(tmp_path, FaultInjector())), secret.secret(tmp_path)) as http:
        (tmp_path / "endpoints.json").write_text(json.dumps({"functions": {"http": http}}))
        google = Google(http, tmp_path)
        made = google.create("slow")
        port = int(made.url.rsplit(":", 1)[1])
        head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        answer = dripped(port, head.encode(), b"a: ")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"headers took longer than 0.5 s" in answer
        length = "Content-Length: 100000\r\n\r\n"
        assert dripped(port, f"{head}{length}".encode(), b"x").startswith(b"HTTP/1.1 403 ")
        signed = f"Authorization: Bearer {google.identity.token(CALLER, made.url)}\r\n"
        google.allow("slow", f"serviceAccount:{CALLER}")
        answer = dripped(port, f"{head}{signed}{length}".encode(), b"x")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"body came more slowly" in answer
        ask = google.caller(made)
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            time.sleep(0.7)  # one that says nothing is no reason
        assert ask("?sleep=0.8")["version"] == 1


def test_an_instance_has_no_port(google: Google, steady: Function) -> None:
    """It would be open to every program and page of the machine, past the door."""
    (instance,) = google.running("steady")["instances"]
    family = [psutil.Process(instance["pid"]), *psutil.Process(instance["pid"]).children(recursive=True)]
    assert [one for process in family for one in process.net_connections("inet") if one.status == "LISTEN"] == []
    sockets = google.state / "functions" / "sockets"
    assert sockets.stat().st_mode & 0o777 == 0o700


def test_a_state_folder_may_have_a_long_name(tmp_path: Path) -> None:
    """Longer than the path of a socket may be."""
    state = tmp_path / ("long" * 30)
    with serving(lambda: build(Context(state, FaultInjector())), secret.secret(state)) as http:
        (state / "endpoints.json").write_text(json.dumps({"functions": {"http": http}}))
        google = Google(http, state)
        assert google.caller(google.create("far"))()["version"] == 1


def test_an_instance_is_told_how_long_a_request_may_take(google: Google, steady: Function) -> None:
    """In the variable by which Cloud Run does, which no declaration can set."""
    main = SOURCE.replace('os.environ.get("WORD")', 'os.environ.get("CLOUD_RUN_TIMEOUT_SECONDS")')
    made = google.create("told", source(main__py=f"VERSION = 1\n{main}"), timeout_seconds=77)
    assert google.caller(made)()["word"] == "77"
    with pytest.raises(exceptions.BadRequest, match="CLOUD_RUN_TIMEOUT_SECONDS is set by the platform"):
        google.create("refused", environment_variables={"CLOUD_RUN_TIMEOUT_SECONDS": "0"})


def test_a_request_beyond_the_limits_is_turned_away(google: Google) -> None:
    """429 when no instance has room in time, 504 when the function takes too long; then it answers again."""
    made = google.create("limited", timeout_seconds=2, max_instance_count=1, max_instance_request_concurrency=1)
    ask = google.caller(made)
    assert ask("?sleep=9") == 504
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask("?sleep=1.2"), range(6)))
    statuses = [one if isinstance(one, int) else 200 for one in answers]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) <= 2
    assert ask()["version"] == 1


def test_instances_come_with_the_requests_and_go_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the minimum to the maximum while more ask than the running ones take, and back after a while of rest."""
    monkeypatch.setattr(door, "IDLE_SECONDS", 1.0)
    monkeypatch.setattr(deployments.os, "cpu_count", lambda: 2)
    with serving(lambda: build(Context(tmp_path, FaultInjector())), secret.secret(tmp_path)) as http:
        (tmp_path / "endpoints.json").write_text(json.dumps({"functions": {"http": http}}))
        google = Google(http, tmp_path)
        made = google.create("scaled", max_instance_count=5, max_instance_request_concurrency=1)
        ask = google.caller(made)
        assert len(google.running("scaled")["instances"]) == 1
        with ThreadPoolExecutor(4) as pool:
            seen: set[int] = set()

            def ask_all() -> bool:
                seen.update(one["pid"] for one in pool.map(lambda _: ask("?sleep=0.1"), range(8)))
                return len(seen) == 2

            eventually(ask_all)
        eventually(lambda: len(google.running("scaled")["instances"]) == 1)
        assert ask()["version"] == 1


# --- kill -9


def test_an_instance_that_dies_is_started_again(google: Google) -> None:
    """The request that it held is 503, for the caller to repeat; killed or ended by itself."""
    made = google.create("mortal", max_instance_count=1)
    ask = google.caller(made)
    first = ask()["pid"]
    assert ask("?end=1") == 503
    second = eventually(lambda: found if isinstance(found := ask(), dict) else None)["pid"]
    os.kill(google.running("mortal")["instances"][0]["pid"], signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(second))
    third = eventually(lambda: found if isinstance(found := ask(), dict) else None)["pid"]
    assert len({first, second, third}) == 3
    assert google.running("mortal")["instances"][0]["starts"] == 3


def test_functions_serve_again_after_the_server_has_ended(serve: Any) -> None:
    """Killed, at the same URLs, with their policies; the old processes are gone; a deployment under way is taken up."""
    server = serve("functions")
    google = Google(server.http, server.state)
    made = google.create("kept", environment_variables={"WORD": "moon"})
    ask = google.caller(made)
    pid = ask()["pid"]
    started = google.client.create_function(parent=PARENT, function=google.declared(source(7)), function_id="under-way")
    server.kill()
    server.start()
    found = eventually(lambda: one if isinstance(one := ask(), dict) else None)
    assert (found["version"], found["word"], found["pid"] != pid) == (1, "moon", True)
    eventually(lambda: not psutil.pid_exists(pid))
    assert google.caller(ended(started))()["version"] == 7
    started = google.update("under-way", source(8))
    server.stop()  # in order, which is no other for what is under way
    server.start()
    assert google.caller(ended(started))()["version"] == 8
