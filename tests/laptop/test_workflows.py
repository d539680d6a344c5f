"""Workflows and Executions through Google's clients: deployed, run, looked at, cancelled, killed."""

import json
import threading
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import requests
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud.workflows.executions_v1 import Execution, ExecutionsClient, ExecutionView
from google.cloud.workflows_v1 import Workflow, WorkflowsClient

from laptop.identity import Identity
from tests.pubsub_support import Endpoint, endpoint
from tests.support import ServerProcess, eventually

PARENT = "projects/local-dev/locations/us-central1"
State = Execution.State


@dataclass
class Google:
    """A server and Google's two clients to it."""

    server: ServerProcess
    workflows: WorkflowsClient
    executions: ExecutionsClient

    def deploy(self, name: str, source: str, **fields: Any) -> Workflow:
        """Deploy a workflow."""
        workflow = {"source_contents": source, **fields}
        return self.workflows.create_workflow(parent=PARENT, workflow_id=name, workflow=workflow).result(timeout=20)

    def start(self, name: str, argument: Any = None) -> Execution:
        """Start an execution."""
        execution = Execution() if argument is None else Execution(argument=json.dumps(argument))
        return self.executions.create_execution(parent=f"{PARENT}/workflows/{name}", execution=execution)

    def ended(self, execution: Execution) -> Execution:
        """The execution once it has come to its end."""

        def look() -> Execution | None:
            found = self.executions.get_execution(name=execution.name)
            return found if found.state != State.ACTIVE else None

        return eventually(look)

    def steps(self, execution: Execution, **query: Any) -> list[dict[str, Any]]:
        """The history of an execution."""
        asked = "&".join(f"{key}={value}" for key, value in query.items())
        return self.server.admin("GET", f"/v1/{execution.name}/stepEntries?{asked}")["stepEntries"]


def google(server: ServerProcess) -> Google:
    """The clients of a server."""
    transport = WorkflowsClient.get_transport_class("rest")(host=server.http, credentials=AnonymousCredentials())
    channel = grpc.insecure_channel(server.grpc)
    executions = ExecutionsClient(transport=ExecutionsClient.get_transport_class("grpc")(channel=channel))
    return Google(server, WorkflowsClient(transport=transport), executions)


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    """One server for the tests that do not kill it; each has workflows of its own."""
    server = ServerProcess("workflows", tmp_path_factory.mktemp("workflows"))
    server.start()
    yield google(server)
    server.stop()


@pytest.fixture
def target() -> Iterator[Endpoint]:
    """What workflows call."""
    with endpoint() as known:
        yield known


# --- workflows


def test_an_execution_may_have_what_the_client_package_does_not_know(clients: Google) -> None:
    """What gcloud sends, byte for byte: https://cloud.google.com/sdk/gcloud/reference/workflows/execute."""
    clients.deploy("of-gcloud", "main: {params: [n], steps: [{a: {return: '${n + 1}'}}]}")
    body = (
        b'{"argument": "4", "callLogLevel": "CALL_LOG_LEVEL_UNSPECIFIED", "disableConcurrencyQuotaOverflowBuffering": '
        b'false, "executionHistoryLevel": "EXECUTION_HISTORY_LEVEL_UNSPECIFIED"}'
    )
    url = f"{clients.server.http}/v1/{PARENT}/workflows/of-gcloud/executions?alt=json"
    response = requests.post(url, data=body, headers={"content-type": "application/json"}, timeout=10)
    assert response.status_code == 200, response.text
    assert clients.ended(Execution(name=response.json()["name"])).result == "5"
    typo = requests.post(url, json={"argument": "4", "disableConcurrencyQuota": False}, timeout=10)
    assert (typo.status_code, "disableConcurrencyQuota" in typo.text) == (400, True)


def test_a_workflow_is_deployed_changed_and_deleted(clients: Google) -> None:
    """Each change is a revision; an execution runs the newest; deleting takes the executions along."""
    made = clients.deploy("lived", "- a: {return: 1}", labels={"team": "moon"}, user_env_vars={"PLACE": "here"})
    assert (made.state, made.labels, made.revision_id[:7]) == (Workflow.State.ACTIVE, {"team": "moon"}, "000001-")
    assert clients.workflows.get_workflow(name=made.name) == made
    with pytest.raises(exceptions.Conflict, match="lived"):
        clients.deploy("lived", "- a: {return: 1}")
    changed = clients.workflows.update_workflow(
        workflow={"name": made.name, "source_contents": "- a: {return: 2}", "description": "not in the mask"},
        update_mask={"paths": ["source_contents"]},
    ).result(timeout=20)
    assert (changed.revision_id[:7], changed.description, changed.labels) == ("000002-", "", {"team": "moon"})
    started = clients.start("lived")
    assert (clients.ended(started).result, started.workflow_revision_id) == ("2", changed.revision_id)
    clients.workflows.delete_workflow(name=made.name).result(timeout=20)
    for call in (
        lambda: clients.workflows.get_workflow(name=made.name),
        lambda: clients.executions.get_execution(name=started.name),
        lambda: clients.start("lived"),
    ):
        with pytest.raises(exceptions.NotFound, match="lived"):
            call()


def test_workflows_are_listed_by_page(clients: Google) -> None:
    """Every one of the location once, and none of another that begins alike."""
    parent = "projects/lister/locations/us-central1"
    other = "projects/lister/locations/us-central12"
    for place, name in ((parent, "a"), (parent, "b"), (parent, "c"), (other, "d")):
        workflow = {"source_contents": "- a: {return: 1}"}
        clients.workflows.create_workflow(parent=place, workflow_id=name, workflow=workflow).result(timeout=20)
    pages = clients.workflows.list_workflows(request={"parent": parent, "page_size": 2}).pages
    assert [[one.name[-1] for one in page.workflows] for page in pages] == [["a", "b"], ["c"]]
    everywhere = clients.workflows.list_workflows(parent="projects/lister/locations/-")
    assert [one.name[-1] for one in everywhere] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        (
            "bad",
            {"source_contents": "main:\n  steps:\n  - a:\n      call: no.such"},
            "line 3: main.a: there is no func",
        ),
        ("1st", {"source_contents": "- a: {return: 1}"}, "no workflow's name"),
        ("many", {"user_env_vars": {f"V{n}": "x" for n in range(21)}}, "at most 20"),
        ("long", {"user_env_vars": {"V": "x" * 4097}}, "more than 4 KB"),
        ("ours", {"user_env_vars": {"GOOGLE_X": "x"}}, "not beginning with GOOGLE"),
    ],
)
def test_a_workflow_that_cannot_run_is_refused(clients: Google, name: str, fields: Any, words: str) -> None:
    """INVALID_ARGUMENT with the line, the step and the cause; nothing is deployed."""
    workflow = {"source_contents": "- a: {return: 1}", **fields}
    with pytest.raises(exceptions.BadRequest, match=words):
        clients.workflows.create_workflow(parent=PARENT, workflow_id=name, workflow=workflow)
    with pytest.raises(exceptions.NotFound):
        clients.workflows.get_workflow(name=f"{PARENT}/workflows/{name}")


def test_what_is_not_served_is_refused_by_name(clients: Google) -> None:
    """Filters, orders, unknown paths of a mask, calls of no handler."""
    clients.deploy("plain", "- a: {return: 1}")
    name = f"{PARENT}/workflows/plain"
    for request in ({"filter": "x"}, {"order_by": "x"}):
        with pytest.raises(exceptions.MethodNotImplemented, match=next(iter(request))):
            clients.executions.list_executions(request={"parent": name, **request})
        with pytest.raises(exceptions.MethodNotImplemented, match=next(iter(request))):
            clients.workflows.list_workflows(request={"parent": PARENT, **request})
    with pytest.raises(exceptions.MethodNotImplemented, match="ListWorkflowRevisions"):
        clients.workflows.list_workflow_revisions(request={"name": name})
    with pytest.raises(exceptions.BadRequest, match="colour"):
        clients.workflows.update_workflow(workflow={"name": name}, update_mask={"paths": ["colour"]})
    with pytest.raises(exceptions.InvalidArgument, match="page_token"):
        clients.executions.list_executions(request={"parent": name, "page_token": "x"})


# --- executions

SOURCE = """
main:
  params: [input]
  steps:
    - start:
        assign: [{total: 0}, {state: {}}, {state.list: []}]
    - each:
        for:
          value: item
          in: ${input.items}
          steps:
            - skip:
                switch:
                  - condition: ${item == 3}
                    next: continue
            - add:
                call: plus
                args: {a: "${total}", b: "${item}"}
                result: total
            - note: {assign: [{state.list: "${list.concat(state.list, item)}"}]}
    - risky:
        try:
          raise: {code: 7, message: no}
        except:
          as: e
          steps:
            - caught: {assign: [{state.code: "${e.code}"}]}
    - wait: {call: sys.sleep, args: {seconds: "${input.pause}"}}
    - done: {return: {total: "${total}", state: "${state}"}}
plus:
  params: [a, b: 1]
  steps:
    - sum: {return: "${a + b}"}
"""


def test_an_execution_shows_its_steps_in_order(clients: Google) -> None:
    """Each with its type and how it ended; over pages, too."""
    clients.deploy("sum", SOURCE, execution_history_level="EXECUTION_HISTORY_DETAILED")
    found = clients.ended(clients.start("sum", {"items": [1, 3], "pause": 0}))
    assert json.loads(found.result) == {"total": 1, "state": {"list": [1], "code": 7}}
    assert found.end_time >= found.start_time
    steps = clients.steps(found)
    assert [(step["step"], step["stepType"].removeprefix("STEP_")) for step in steps] == [
        ("start", "ASSIGN"), ("each", "FOR"), ("skip", "SWITCH"), ("add", "SUBWORKFLOW_CALL"), ("sum", "RETURN"),
        ("note", "ASSIGN"), ("skip", "SWITCH"), ("risky", "TRY"), ("try", "RAISE"), ("caught", "ASSIGN"),
        ("wait", "STD_LIB_CALL"), ("done", "RETURN"),
    ]  # fmt: skip
    failed = [step["step"] for step in steps if step["state"] == "STATE_FAILED"]
    assert (failed, json.loads(steps[8]["exception"]["payload"])["code"]) == (["try"], 7)
    assert {step["state"] for step in steps} == {"STATE_SUCCEEDED", "STATE_FAILED"}
    assert [step["step"] for step in clients.steps(found, pageSize=2, pageToken=10)] == ["wait", "done"]
    with pytest.raises(urllib.error.HTTPError, match="400"):
        clients.steps(found, pageSize="x")


def test_a_failed_execution_tells_the_error_and_its_place(clients: Google) -> None:
    """The payload as it was raised; the context and the stack name routine, step and line."""
    clients.deploy(
        "fails", "main:\n  steps:\n    - outer: {call: sub}\nsub:\n  steps:\n    - inner: {raise: {code: 7}}"
    )
    found = clients.ended(clients.start("fails"))
    assert (found.state, json.loads(found.error.payload)) == (State.FAILED, {"code": 7})
    assert 'in step "inner", routine "sub", line: 6' in found.error.context
    stack = [(one.routine, one.step, one.position.line) for one in found.error.stack_trace.elements]
    assert stack == [("sub", "inner", 6), ("main", "outer", 3)]
    clients.deploy("bytes", '- a: {return: "${text.encode(\\"x\\")}"}')
    found = clients.ended(clients.start("bytes"))
    assert json.loads(found.error.payload)["tags"] == ["ValueError"]


def test_executions_are_listed_newest_first(clients: Google) -> None:
    """Over pages; argument and result only when the whole is asked for."""
    clients.deploy("listed", "main: {params: [n], steps: [{a: {return: '${n}'}}]}")
    for number in range(3):
        clients.ended(clients.start("listed", number))
    parent = f"{PARENT}/workflows/listed"
    pages = list(clients.executions.list_executions(request={"parent": parent, "page_size": 2}).pages)
    assert [[one.result for one in page.executions] for page in pages] == [["", ""], [""]]
    full = clients.executions.list_executions(request={"parent": parent, "view": ExecutionView.FULL})
    assert [(one.argument, one.result) for one in full] == [("2", "2"), ("1", "1"), ("0", "0")]


def test_an_argument_is_json_of_the_service_s_size(clients: Google) -> None:
    """Anything else is refused before it starts; what no value of the language can hold ends it with an error."""
    clients.deploy("argued", "- a: {return: 1}")
    large = clients.executions.create_execution(
        parent=f"{PARENT}/workflows/argued", execution=Execution(argument="1" * 400)
    )
    assert json.loads(clients.ended(large).error.payload)["tags"] == ["ValueError"]
    for argument, words in (("{", "not JSON"), (json.dumps("x" * 32768), "more than 32 KB")):
        with pytest.raises(exceptions.InvalidArgument, match=words):
            clients.executions.create_execution(
                parent=f"{PARENT}/workflows/argued", execution=Execution(argument=argument)
            )


def test_a_workflow_knows_where_it_runs(clients: Google) -> None:
    """All that https://cloud.google.com/workflows/docs/reference/environment-variables lists, and its own. Without an
    account of its own a workflow runs as the project's default one."""
    names = [
        *("PROJECT_ID", "LOCATION", "WORKFLOW_ID", "PROJECT_NUMBER", "SERVICE_ACCOUNT_NAME"),
        *("WORKFLOW_REVISION_ID", "WORKFLOW_EXECUTION_ID"),
    ]
    values = ", ".join(f'"${{sys.get_env(\\"GOOGLE_CLOUD_{name}\\")}}"' for name in names)
    made = clients.deploy(
        "placed", f'- a: {{return: [{values}, "${{sys.get_env(\\"PLACE\\")}}"]}}', user_env_vars={"PLACE": "here"}
    )
    started = clients.start("placed")
    expected = [
        *("local-dev", "us-central1", "placed", "0", "0-compute@developer.gserviceaccount.com"),
        *(made.revision_id, started.name.rsplit("/", 1)[1], "here"),
    ]
    assert json.loads(clients.ended(started).result) == expected
    account = "runner@local-dev.iam.gserviceaccount.com"
    source = '- a: {return: "${sys.get_env(\\"GOOGLE_CLOUD_SERVICE_ACCOUNT_NAME\\")}"}'
    clients.deploy("owned", source, service_account=f"projects/local-dev/serviceAccounts/{account}")
    assert json.loads(clients.ended(clients.start("owned")).result) == account


def test_calls_carry_the_identity_of_the_workflow(clients: Google, target: Endpoint) -> None:
    """OIDC for the service that is called, so that a function's door accepts it; OAuth2 for Google's APIs."""
    account = "runner@local-dev.iam.gserviceaccount.com"
    calls = "".join(
        f"- {kind}: {{call: http.post, args: {{url: '{target.url}', auth: {{type: {kind}}}}}}}\n"
        for kind in ("OIDC", "OAuth2")
    )
    clients.deploy("known", calls, service_account=f"projects/-/serviceAccounts/{account}")
    assert clients.ended(clients.start("known")).state == State.SUCCEEDED
    identity = Identity(clients.server.state)
    tokens = [push.headers["authorization"].removeprefix("Bearer ") for push in target.pushes]
    origin = target.url.partition("/projects")[0]
    for token, audience in zip(tokens, (origin, "laptop"), strict=True):
        assert identity.verify(token, audience)["email"] == account


@contextmanager
def others_are_answered(clients: Google) -> Iterator[None]:
    """Asserts that meanwhile no other call waits for a second."""
    longest = [0.0]
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            started = time.monotonic()
            clients.server.admin("GET", f"/v1/{PARENT}/workflows")
            longest.append(time.monotonic() - started)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert len(longest) > 2
    assert max(longest) < 1


def test_a_regular_expression_does_not_hold_the_server(clients: Google) -> None:
    """Neither one that other engines would try exponentially many ways for, nor one that takes RE2 a second or two."""
    source = """
main:
  params: [n]
  steps:
    - a: {return: ["${text.match_regex(\\"aaaaaaaaaaaaaaaaaaaaaaaa!\\", \\"^(a+)+$\\")}", "${grown(n)}"]}
grown:
  params: [n]
  steps:
    - a: {assign: [{x: aaaaaaaaaa}]}
    - b: {for: {value: v, range: [1, "${n}"], steps: [{c: {assign: [{x: "${x + x}"}]}}]}}
    - d: {return: "${text.match_regex(x, \\"(a?){1000}a{1000}b\\")}"}
"""
    clients.deploy("patterns", source)
    with others_are_answered(clients):
        assert json.loads(clients.ended(clients.start("patterns", 10)).result) == [False, False]


def test_checking_a_source_does_not_hold_the_server(clients: Google) -> None:
    """However long it takes; a second deployment waits for the first one."""
    slow = "\n".join(f"- s{n}: {{return: [{n}, {{a: {n}}}]}}" for n in range(2500))
    with others_are_answered(clients):
        clients.deploy("slow", slow)
        with pytest.raises(exceptions.BadRequest, match="nested too deeply"):
            clients.deploy("deep", "[" * 100_000)
    with pytest.raises(exceptions.Conflict):
        clients.deploy("slow", slow)


def test_an_execution_is_cancelled_once(clients: Google) -> None:
    """It stops where it is, says so, and cannot be cancelled again."""
    clients.deploy("sleeps", "- a: {call: sys.sleep, args: {seconds: 3600}}")
    started = clients.start("sleeps")
    current = eventually(lambda: clients.executions.get_execution(name=started.name).status.current_steps)
    assert [(one.routine, one.step) for one in current] == [("main", "a")]
    assert clients.executions.cancel_execution(name=started.name).state == State.CANCELLED
    assert clients.ended(started).state == State.CANCELLED
    with pytest.raises(exceptions.FailedPrecondition, match="has ended"):
        clients.executions.cancel_execution(name=started.name)


def test_executions_are_served_over_rest(clients: Google) -> None:
    """As Cloud Scheduler starts them, and a workflow asks for another one's state; the client has gRPC only."""
    clients.deploy("rest", "main: {params: [n], steps: [{a: {return: '${n}'}}]}")
    made = clients.server.admin("POST", f"/v1/{PARENT}/workflows/rest/executions", {"argument": "[1]"})
    found = eventually(
        lambda: one if (one := clients.server.admin("GET", f"/v1/{made['name']}"))["state"] != "ACTIVE" else None
    )
    assert (found["state"], found["result"]) == ("SUCCEEDED", "[1]")
    with pytest.raises(urllib.error.HTTPError, match="400"):
        clients.server.admin("POST", f"/v1/{PARENT}/workflows/rest/executions", {"arguments": "[1]"})


# --- kill -9


def test_an_execution_goes_on_where_it_was_killed(serve: Any, target: Endpoint) -> None:
    """What was answered is not asked again, what was not is; a sleep is not begun anew; each step is told once."""
    clients = google(serve("workflows"))
    let_go = threading.Event()
    target.answer = lambda push: 200 if b"quick" in push.body or let_go.wait(20) else 500
    source = """
main:
  steps:
    - pause: {call: sys.sleep, args: {seconds: 1}}
    - before: {assign: [{id: "${uuid.generate()}"}]}
    - quick: {call: http.post, args: {url: URL, body: {quick: "${id}"}}}
    - slow: {call: http.post, args: {url: URL, body: {slow: "${id}"}}}
    - done: {return: "${id}"}
""".replace("URL", f"'{target.url}'")
    clients.deploy("goes", source)
    started = clients.start("goes")
    eventually(lambda: len(target.pushes) == 2)
    earlier = clients.steps(started)[:3]
    clients.server.kill()
    let_go.set()
    clients.server.start()
    found = clients.ended(started)
    assert found.state == State.SUCCEEDED, found.error
    bodies = [push.document for push in target.pushes]
    chosen = json.loads(found.result)
    assert bodies == [{"quick": chosen}, {"slow": chosen}, {"slow": chosen}]
    steps = clients.steps(found)
    assert [step["step"] for step in steps] == ["pause", "before", "quick", "slow", "done"]
    assert {step["state"] for step in steps} == {"STATE_SUCCEEDED"}
    assert steps[:3] == earlier
