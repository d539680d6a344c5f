"""The Workflows language, as its documentation has it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.workflows.executions_v1 import Execution, ExecutionsClient
from google.cloud.workflows_v1 import WorkflowsClient

from laptop.workflows.errors import Raised, SourceError
from laptop.workflows.expressions import parse
from laptop.workflows.program import load
from tests.support import ROOT, ServerProcess, eventually


class Names:
    """A scope with a few variables and the pure functions of the library."""

    held: dict[str, Any] = {"a": 7, "s": "text", "m": {"k": {"n": [1, 2]}}, "l": [10, 20], "t": True, "n": None}  # noqa: RUF012

    def look_up(self, name: str) -> Any:
        """A variable."""
        return self.held[name]

    async def call(self, name: str, positional: list[Any], named: Any) -> Any:
        """A function."""
        from laptop.workflows import library

        return library.call(name, positional, dict(named))


def value(text: str) -> Any:
    """The value of an expression."""
    return asyncio.run(parse(text).value(Names()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("7 / 2", 3.5),
        ("7 // 2", 3),
        ("-7 // 2", -4),
        ("7 % 4", 3),
        ("7.0 // 2", 3.0),
        ("-a + 1", -6),
        ("1 - -1", 2),
        ('"a" + "b"', "ab"),
        (r'"a\n\"b\""', 'a\n"b"'),
        ("'it'", "it"),
        ("a == 7 and not (s == \"x\")", True),
        ("not t or true", True),
        ("1 < 2 and 2 <= 2 and 3 > 2 and 3 >= 3", True),
        ("1 == 1.0", True),
        ("true == 1", False),
        ("n == null", True),
        ("m.k.n[1]", 2),
        ('m["k"].n[0]', 1),
        ("l[a - 6]", 20),
        ('"k" in m', True),
        ("30 not in l", True),
        ("[1, a, \"x\"]", [1, 7, "x"]),
        ("len(l) + len(s) + len(m)", 7),
        ("keys(m)", ["k"]),
        ("default(n, 5)", 5),
        ('map.get(m, ["k", "n", 1])', 2),
        ('map.get(m, ["k", "no", 1])', None),
        ("int(\"12\") + int(3.9)", 15),
        ("string(12) + string(true)", "12true"),
        ('text.split("a,b", ",")', ["a", "b"]),
        ('text.substring("abcdef", 1, 3)', "bc"),
        ('text.url_encode("a/b c")', "a%2Fb%20c"),
        ('json.decode("{\\"a\\": [1]}")', {"a": [1]}),
        ("json.encode_to_string(m)", '{"k":{"n":[1,2]}}'),
        ('base64.decode(base64.encode("x"))', b"x"),
        ("time.format(0)", "1970-01-01T00:00:00.000000Z"),
        ('time.parse("1970-01-02T00:00:00Z")', 86400.0),
        ("get_type(1.5)", "double"),
    ],
)  # fmt: skip
def test_an_expression_has_its_documented_value(text: str, expected: Any) -> None:
    """A table of probes over operators, types and the standard library."""
    assert value(text) == expected
    assert type(value(text)) is type(expected)


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("1 + \"a\"", "TypeError"),
        ("\"a\" < 1", "TypeError"),
        ("1 / 0", "ZeroDivisionError"),
        ("m.nothing", "KeyError"),
        ("l[9]", "IndexError"),
        ("a.b", "TypeError"),
        ("1 and true", "TypeError"),
        ("int(\"x\")", "ValueError"),
        ("len(5)", "TypeError"),
    ],
)  # fmt: skip
def test_an_error_of_an_expression_has_its_documented_tag(text: str, tag: str) -> None:
    """So that an except step can tell them apart."""
    with pytest.raises(Raised) as caught:
        value(text)
    assert caught.value.value["tags"] == [tag]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("main: {steps: [{a: {assign: [{x: '${1 +}'}]}}]}", "main.a"),
        ("main: {steps: [{a: {call: nothing.there}}]}", "no function nothing.there"),
        ("main: {steps: [{a: {call: googleapis.x.y}}]}", "connector"),
        ("main: {steps: [{a: {next: b}}]}", "no step 'b'"),
        ("main: {steps: [{a: {return: 1, retrun: 2}}]}", "retrun"),
        ("main: {steps: [{a: {return: 1}}, {a: {return: 2}}]}", "twice"),
        ("main: {steps: [{a: {parallel: {}}}]}", "parallel"),
        ("main: {steps: [{a: {return: 'Hello ${x}'}}]}", "whole text"),
        ("main: {steps: []}", "needs steps"),
        ("other: {steps: [{a: {return: 1}}]}", "main"),
        ("main: [", "not YAML"),
        ("main: {steps: [{a: {return: '${" + "1+" * 200 + "1}'}}]}", "401 characters"),
    ],
)
def test_a_source_that_cannot_run_is_refused_with_its_place(source: str, words: str) -> None:
    """At deployment, not in the middle of the night."""
    with pytest.raises(SourceError, match=words):
        load(source)


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


@pytest.fixture
def clients(serve: Any) -> tuple[ServerProcess, WorkflowsClient, ExecutionsClient]:
    """The server and Google's two clients."""
    server = serve("workflows")
    transport = WorkflowsClient.get_transport_class("rest")(host=server.http, credentials=AnonymousCredentials())
    channel = grpc.insecure_channel(server.grpc)
    executions = ExecutionsClient(transport=ExecutionsClient.get_transport_class("grpc")(channel=channel))
    return server, WorkflowsClient(transport=transport), executions


PARENT = "projects/local-dev/locations/us-central1"


def test_an_execution_runs_survives_a_kill_and_shows_its_steps(clients: Any) -> None:
    """Killed while it sleeps, it goes on after the restart and ends once, with each step in its history once."""
    server, workflows, executions = clients
    workflow = {"source_contents": SOURCE, "execution_history_level": "EXECUTION_HISTORY_DETAILED"}
    workflows.create_workflow(parent=PARENT, workflow_id="sum", workflow=workflow).result(timeout=20)
    argument = json.dumps({"items": [1, 2, 3, 4], "pause": 2})
    started = executions.create_execution(parent=f"{PARENT}/workflows/sum", execution=Execution(argument=argument))

    def sleeping() -> bool:
        steps = server.admin("GET", f"/v1/{started.name}/stepEntries")["stepEntries"]
        return any(step["step"] == "wait" for step in steps)

    eventually(sleeping)
    server.kill()
    server.start()

    def ended() -> Execution | None:
        found = executions.get_execution(name=started.name)
        return found if found.state != Execution.State.ACTIVE else None

    found = eventually(ended)
    assert found.state == Execution.State.SUCCEEDED
    assert json.loads(found.result) == {"total": 7, "state": {"list": [1, 2, 4], "code": 7}}
    steps = server.admin("GET", f"/v1/{started.name}/stepEntries")["stepEntries"]
    assert [step["step"] for step in steps].count("start") == 1
    assert [step["step"] for step in steps][-1] == "done"
    assert {step["state"] for step in steps} <= {"STATE_SUCCEEDED", "STATE_FAILED"}


def test_the_retraining_workflow_keeps_the_limits_of_the_service() -> None:
    """Source size and expression length (the parser refuses longer ones), and at most 20 variables."""
    source = (ROOT / "workflows" / "retrain.yaml").read_text()
    assert "main" in load(source)
    assert len(source.encode()) < 128 * 1024
    variables = {line.split('sys.get_env("')[1].split('"')[0] for line in source.splitlines() if "sys.get_env(" in line}
    assert len(variables) <= 20


def test_a_bad_source_is_refused_at_deployment(clients: Any, tmp_path: Path) -> None:
    """INVALID_ARGUMENT with the step's place."""
    from google.api_core.exceptions import BadRequest

    _, workflows, _ = clients
    with pytest.raises(BadRequest, match=r"main\.a"):
        workflows.create_workflow(
            parent=PARENT, workflow_id="bad", workflow={"source_contents": "main: {steps: [{a: {call: no.such}}]}"}
        )
