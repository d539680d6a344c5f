"""The steps of the Workflows language, run in this process: what they do, and how they fail."""

import json
import time
from typing import Any

import pytest

from laptop.workflows import http, interpreter
from laptop.workflows.errors import RaisedError
from laptop.workflows.memory import Meter, Variables
from tests.laptop.workflows_support import Notes, quoted, run, steps
from tests.pubsub_support import Endpoint, endpoint


def raised(*lines: str, **more: Any) -> Any:
    """The value that a main workflow of these steps raises."""
    with pytest.raises(RaisedError) as caught:
        steps(*lines, **more)
    return caught.value.value


# --- variables


def test_a_value_is_assigned_as_a_copy() -> None:
    """Changing the one leaves the other; nested maps are made on the way."""
    found = steps(
        "a: {assign: [{x: {list: [1, 2]}}, {y: '${x}'}, {'y.list[0]': 9}, {y.new.deep: 1}, {'y[\"k-1\"]': 2},"
        " {w: {}}, {w.x: '${x}'}, {w.x.list: gone}]}",
        "b: {call: change, args: {given: '${x}'}, result: z}",
        "c: {return: {x: '${x}', y: '${y}', z: '${z}'}}\n"
        "change:\n  params: [given]\n  steps:\n    - a: {assign: [{given.list: []}]}\n    - b: {return: '${given}'}",
    )
    assert found == {
        "x": {"list": [1, 2]},
        "y": {"list": [9, 2], "new": {"deep": 1}, "k-1": 2},
        "z": {"list": []},
    }


def test_the_key_of_a_map_may_be_an_expression() -> None:
    """The examples of https://cloud.google.com/workflows/docs/reference/syntax/maps, and wherever else a map stands."""
    found = steps(
        "a: {assign: [{dynamicKey: myKey}, {myMap: {'${dynamicKey}': myValue}},"
        " {myMap2: {'${dynamicKey + \"Apple\"}': {'${dynamicKey}': 1, plain: '${dynamicKey}'}}}]}",
        "b: {call: echo, args: {given: [{'${dynamicKey}': 2}]}, result: sent}",
        "c: {return: {'${dynamicKey}': ['${myMap}', '${myMap2}', '${sent}']}}\n"
        "echo: {params: [given], steps: [{a: {return: '${given}'}}]}",
    )
    assert found == {
        "myKey": [{"myKey": "myValue"}, {"myKeyApple": {"myKey": 1, "plain": "myKey"}}, [{"myKey": 2}]],
    }


def test_a_loop_and_an_except_have_variables_of_their_own() -> None:
    """What they make is gone afterwards, and made anew each time; what was there before is changed."""
    found = steps(
        "a: {assign: [{total: 0}, {e: kept}]}",
        "b: {for: {value: v, index: i, in: [10, 20], steps: [{c: {assign: [{own: '${i}'},"
        " {total: '${total + v * (own + 1)}'}]}}]}}",
        "d: {try: {raise: no}, except: {as: caught, steps: [{f: {assign: [{e: '${caught}'}]}}]}}",
        "g: {return: ['${total}', '${e}']}",
    )
    assert found == [50, "no"]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("{assign: [{x: 1}, {x.y: 2}]}", "TypeError"),
        ("{assign: [{x: [1]}, {'x[1]': 2}]}", "IndexError"),
        ("{assign: [{x: {}}, {'x[1]': 2}]}", "TypeError"),
        ("{assign: [{x: '${later}'}, {later: 1}]}", "KeyError"),
        ("{call: sys.sleep, args: {seconds: x}}", "TypeError"),
        ("{call: sys.sleep, args: {seconds: -1}}", "ValueError"),
        ("{call: sys.sleep}", "TypeError"),
        ("{call: sys.now, args: {zone: x}}", "TypeError"),
        ("{call: sys.sleep_until, args: {time: tomorrow}}", "ValueError"),
        ("{call: sys.get_env, args: {name: NOWHERE}}", "KeyError"),
        # https://cloud.google.com/workflows/docs/reference/stdlib/sys/get_env: name and default are strings
        ("{call: sys.get_env, args: {name: NOWHERE, default: 1}}", "TypeError"),
        ("{call: sys.get_env, args: {name: NOWHERE, default: null}}", "TypeError"),
        ("{call: sys.get_env, args: {name: [NOWHERE]}}", "TypeError"),
        # …/sys/log: one of data, text and json
        ("{call: sys.log}", "TypeError"),
        ("{call: sys.log, args: {data: null}}", "TypeError"),
        ("{call: sys.log, args: {data: a, text: b}}", "TypeError"),
        ("{call: sys.log, args: {json: a}}", "TypeError"),
        ("{call: sys.log, args: {text: '${text.encode(\"a\")}'}}", "TypeError"),
        ("{call: sys.log, args: {text: a, severity: LOUD}}", "ValueError"),
        ("{call: sys.log, args: {text: a, severity: 1}}", "TypeError"),
        ("{call: sys.now, args: [1]}", "TypeError"),
        ("{call: sys.sleep_until, args: {time: 5}}", "TypeError"),
        ("{call: sys.sleep_until, args: {time: soon}}", "ValueError"),
        ("{call: sys.sleep_until, args: {time: '9000-01-01T00:00:00Z'}}", "ValueError"),
        ("{assign: [{m: {'${1}': 2}}]}", "TypeError"),
        ("{call: len, args: {values: x}}", "TypeError"),
        ("{call: sys.now, args: '${[1]}'}", "TypeError"),
        ("{raise: '${1}'}", "TypeError"),
        ("{switch: [{condition: 1}]}", "TypeError"),
        ("{for: {value: v, in: 5, steps: [{b: {return: 1}}]}}", "TypeError"),
        ("{for: {value: v, range: [1], steps: [{b: {return: 1}}]}}", "TypeError"),
        ("{for: {value: v, range: [a, b], steps: [{b: {return: 1}}]}}", "TypeError"),
    ],
)
def test_a_mistake_at_run_time_is_an_error_that_can_be_caught(step: str, expected: str) -> None:
    """It carries its documented tag, and an except step sees it."""
    assert raised(f"a: {step}")["tags"] == [expected]
    assert steps(
        f"a: {{try: {{steps: [{{b: {step}}}]}}, except: {{as: e, steps: [{{c: {{return: '${{e.tags}}'}}}}]}}}}"
    ) == [expected]


# --- ways through


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["a: {return: 1}", "b: {return: 2}"], 1),
        (["a: {next: c}", "b: {return: 2}", "c: {return: 3}"], 3),
        (["a: {assign: [{x: 1}], next: end}", "b: {return: 2}"], None),
        (["a: {assign: [{x: 1}]}"], None),
        (["a: {steps: [{b: {next: c}}, {d: {return: 4}}]}", "c: {return: 3}"], 3),
        # switch: the first that is true; none: on to the next step, or to the switch's own
        (["a: {switch: [{condition: false, return: 1}, {condition: true, return: 2}, {condition: true, return: 3}]}"],
         2),
        (["a: {switch: [{condition: false, return: 1}]}", "b: {return: 2}"], 2),
        (["a: {switch: [{condition: false, return: 1}], next: c}", "b: {return: 2}", "c: {return: 3}"], 3),
        (["a: {switch: [{condition: true, next: c}]}", "b: {return: 2}", "c: {return: 3}"], 3),
        (["a: {switch: [{condition: true, assign: [{x: 5}]}]}", "b: {return: '${x}'}"], 5),
        (["a: {switch: [{condition: true, steps: [{c: {assign: [{x: 5}]}}, {d: {next: b}}, {e: {return: 1}}]}]}",
          "b: {return: '${x}'}"], 5),
        (["a: {switch: [{condition: true, next: end}]}", "b: {return: 2}"], None),
        # for
        (["a: {assign: [{x: []}]}", "b: {for: {value: v, range: [1, 3], steps: [{c: {assign: "
          "[{x: '${list.concat(x, v)}'}]}}]}}", "d: {return: '${x}'}"], [1, 2, 3]),
        (["a: {assign: [{x: []}]}", "b: {for: {value: v, range: '${[0.5, 2]}', steps: [{c: {assign: "
          "[{x: '${list.concat(x, v)}'}]}}]}}", "d: {return: '${x}'}"], [0.5, 1.5]),
        (["a: {assign: [{x: []}]}", "b: {for: {value: v, in: {k: 1, l: 2}, steps: [{c: {assign: "
          "[{x: '${list.concat(x, v)}'}]}}]}}", "d: {return: '${x}'}"], ["k", "l"]),
        (["a: {assign: [{x: [1, 2]}]}", "b: {for: {value: v, in: '${x}', steps: [{c: {assign: "
          "[{x: '${list.concat(x, v)}'}]}}]}}", "d: {return: '${x}'}"], [1, 2, 1, 2]),
        (["b: {for: {value: v, range: [3, 1], steps: [{c: {return: 1}}]}}", "d: {return: 2}"], 2),
        (["b: {for: {value: v, range: [1, 9], steps: [{c: {switch: [{condition: '${v == 4}', return: '${v}'}]}}]}}"],
         4),
        (["a: {assign: [{x: 0}]}", "b: {for: {value: v, range: [1, 9], steps: [{c: {switch: [{condition: '${v == 3}',"
          " next: continue}, {condition: '${v == 6}', next: break}]}}, {d: {assign: [{x: '${x + v}'}]}}]}}",
          "e: {return: '${x}'}"], 12),
        (["a: {assign: [{x: 0}]}", "b: {for: {value: v, range: [1, 2], steps: [{c: {for: {value: w, range: [1, 5], "
          "steps: [{d: {switch: [{condition: '${w == 2}', next: break}]}}, {f: {assign: [{x: '${x + w}'}]}}]}}}]}}",
          "g: {return: '${x}'}"], 2),
        # arguments
        (["a: {return: '${argument}'}"], {"given": [1]}),
        # the library outside of expressions, by the names of its parameters
        (["a: {call: text.substring, args: {source: abc, start: 1, end: 2}, result: x}", "b: {return: '${x}'}"], "b"),
        (["a: {call: map.get, args: {map: {k: 1}, keys: k}, result: x}", "b: {return: '${x}'}"], 1),
    ],
)  # fmt: skip
def test_a_workflow_takes_its_documented_way(lines: list[str], expected: Any) -> None:
    """return, next, end, switch, for with break and continue."""
    assert steps(*lines, argument={"given": [1]}) == expected


SUB = """
main:
  params: [argument]
  steps:
    - a: {call: plus, args: {a: 1}, result: x}
    - b: {call: plus, args: {a: 1, b: 2}, result: y}
    - c: {assign: [{z: "${plus(5, 6)}"}]}
    - d: {call: nothing, result: w}
    - e: {return: ["${x}", "${y}", "${z}", "${w}"]}
plus:
  params: [a, b: "${5 * 2}"]
  steps:
    - sum: {return: "${a + b}"}
nothing:
  steps:
    - pass: {assign: [{x: 1}]}
"""


def test_a_subworkflow_has_parameters_with_defaults() -> None:
    """By name in a step, by position in an expression; without a return its result is null."""
    assert run(SUB) == [11, 3, 11, None]
    for args, words in (("{}", "a is missing"), ("{a: 1, c: 1}", "no parameter c")):
        with pytest.raises(RaisedError, match=words):
            run(SUB.replace("args: {a: 1}", f"args: {args}"))
    with pytest.raises(RaisedError, match="takes 2 arguments"):
        run(SUB.replace("plus(5, 6)", "plus(5, 6, 7)"))


# --- errors


def test_strings_and_maps_are_raised_and_caught_as_they_are() -> None:
    """The error variable is what was raised; uncaught, it is the execution's."""
    for value in ('"no"', "{code: 7, message: no, more: [1]}"):
        line = f"a: {{try: {{raise: {value}}}, except: {{as: e, steps: [{{b: {{return: '${{e}}'}}}}]}}}}"
        expected = "no" if value.startswith('"') else {"code": 7, "message": "no", "more": [1]}
        assert steps(line) == expected
        assert raised(f"a: {{raise: {value}}}") == expected
    again = "a: {try: {raise: {code: 7}}, except: {as: e, steps: [{b: {raise: '${e}'}}]}}"
    assert raised(again) == {"code": 7}


def test_an_error_tells_where_it_was_raised() -> None:
    """Routine, step and line, from the inside out."""
    source = "main:\n  steps:\n    - outer:\n        call: sub\nsub:\n  steps:\n    - inner:\n        raise: no\n"
    with pytest.raises(RaisedError) as caught:
        run(source)
    assert caught.value.trace == [("sub", "inner", 7), ("main", "outer", 3)]


RETRY = """
main:
  params: [argument]
  steps:
    - count: {assign: [{tries: 0}]}
    - work:
        try:
          steps:
            - one: {assign: [{tries: "${tries + 1}"}]}
            - two:
                switch:
                  - condition: ${tries < argument.good}
                    raise: {code: "${argument.code}", tags: [HttpError]}
        retry:
          predicate: PREDICATE
          max_retries: 3
          backoff: {initial_delay: 1, max_delay: 3, multiplier: 2}
        except:
          as: e
          steps:
            - given_up: {return: "${-tries}"}
    - done: {return: "${tries}"}
wanted:
  params: [e]
  steps:
    - tell: {return: "${e.code == 500}"}
"""


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that a run makes, which do not last."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(round(seconds, 1))

    monkeypatch.setattr(interpreter.asyncio, "sleep", sleep)
    return pauses


@pytest.mark.parametrize(
    ("predicate", "good", "code", "expected", "pauses"),
    [
        ("${wanted}", 1, 500, 1, []),
        ("${wanted}", 3, 500, 3, [1.0, 2.0]),
        ("${wanted}", 4, 500, 4, [1.0, 2.0, 3.0]),
        ("${wanted}", 9, 500, -4, [1.0, 2.0, 3.0]),
        ("${wanted}", 3, 404, -1, []),
        ("${http.default_retry_predicate}", 2, 503, 2, [1.0]),
        ("${http.default_retry_predicate}", 2, 502, 2, [1.0]),
        ("${http.default_retry_predicate}", 2, 500, -1, []),
        ("${http.default_retry_predicate_non_idempotent}", 2, 429, 2, [1.0]),
        ("${http.default_retry_predicate_non_idempotent}", 2, 502, -1, []),
        ("${retry.always}", 2, 404, 2, [1.0]),
        ("${retry.never}", 2, 503, -1, []),
    ],
)
def test_a_block_is_tried_again_as_its_policy_says(
    slept: list[float], predicate: str, good: int, code: int, expected: int, pauses: list[float]
) -> None:
    """max_retries beyond the first attempt, pauses that grow to max_delay, and only what the predicate wants; then
    the except step."""
    found = run(RETRY.replace("PREDICATE", predicate), {"good": good, "code": code})
    assert (found, slept) == (expected, pauses)


def test_a_default_policy_is_five_retries(slept: list[float]) -> None:
    """Of what the documentation calls transient, with growing pauses."""
    line = "a: {try: {raise: {code: 503, tags: [HttpError]}}, retry: '${http.default_retry}'}"
    raised(line)
    assert slept == [1.0, 1.2, 1.6, 2.0, 2.4]


@pytest.mark.parametrize("policy", ["5", "{predicate: 5, max_retries: 1, backoff: BACKOFF}",
                                    "{predicate: '${wanted}', max_retries: x, backoff: BACKOFF}"])  # fmt: skip
def test_a_policy_that_is_none_is_a_type_error(policy: str) -> None:
    """Not a crash of the interpreter."""
    policy = policy.replace("BACKOFF", "{initial_delay: 1, max_delay: 1, multiplier: 1}")
    found = raised(
        f"a: {{try: {{raise: no}}, retry: {policy}}}\nwanted:\n  params: [e]\n  steps:\n    - a: {{return: true}}"
    )
    assert found["tags"] == ["TypeError"]


# --- what looks outside


def test_the_environment_the_clock_and_chance() -> None:
    """sys.get_env with a default, sys.now, uuid.generate, sys.log; a sleep until a time that is over is none."""
    notes = Notes()
    found = steps(
        "a: {call: sys.log, args: {data: {x: 1}, severity: INFO}}",
        "b: {call: sys.log, args: {text: hello}}",
        "b2: {call: sys.log, args: ['${null}', ERROR, listed]}",
        "c: {call: sys.sleep_until, args: {time: '1999-12-31T23:59:59Z'}}",
        'd: {return: ["${sys.get_env(\\"PLACE\\")}", "${sys.get_env(\\"NO\\", \\"5\\")}", "${sys.now()}", '
        '"${uuid.generate()}"]}',
        notes=notes,
        environment={"PLACE": "here"},
    )
    assert found[:2] == ["here", "5"]
    assert abs(found[2] - time.time()) < 60
    assert len(found[3]) == 36
    assert notes.logged == ['{"x":1}', "hello", "listed"]


def test_a_run_that_goes_on_repeats_nothing_that_was_written_down() -> None:
    """The same times, identifiers and errors as in the first run, bytes and odd keys included."""
    line = 'a: {return: ["${sys.now()}", "${uuid.generate()}"]}'
    notes = Notes()
    first = steps(line, notes=notes)
    assert steps(line, notes=Notes(notes.outcomes)) == first
    odd = {"value": {"body": b"\xff", "\0bytes": "00", "\0\0x": [{"\0bytes": "zz", "y": 1.5}]}}
    assert interpreter.journal.decode(interpreter.journal.encode(odd)) == odd


@pytest.fixture
def target() -> Any:
    """What is called; answers 200 without a body."""
    with endpoint(lambda _: 200) as known:
        yield known


@pytest.mark.parametrize(
    ("arguments", "content_type", "body"),
    [
        ({"body": {"a": [1, None]}}, "application/json; charset=utf-8", b'{"a": [1, null]}'),
        ({"body": "text"}, "application/json; charset=utf-8", b'"text"'),
        ({"body": "text", "headers": {"content-type": "text/plain"}}, "text/plain", b"text"),
        ({"body": {"a": 1}, "headers": {"Content-Type": "application/json"}}, "application/json", b'{"a": 1}'),
        ({"body": {"a b": "c&d", "n": 1}, "headers": {"Content-Type": http.FORM}}, http.FORM, b"a+b=c%26d&n=1"),
        ({"body": "${text.encode(\"raw\")}"}, "application/octet-stream", b"raw"),
    ],
)  # fmt: skip
def test_a_body_is_sent_as_documented(target: Endpoint, arguments: Any, content_type: str, body: bytes) -> None:
    """JSON unless a header or its type says otherwise."""
    steps(f"a: {{call: http.post, args: {json.dumps({'url': target.url, **arguments})}}}")
    (push,) = target.pushes
    assert (push.headers["content-type"], push.body) == (content_type, body)


def test_a_request_carries_query_headers_and_identity(target: Endpoint) -> None:
    """Lists become repeated parameters; OIDC names the audience, OAuth2 none."""
    args = {
        "url": target.url, "query": {"q": ["a b", 2], "t": True}, "headers": {"X-Own": "1"},
        "auth": {"type": "OIDC", "audience": "me"}, "body": None, "method": "post",
    }  # fmt: skip
    answer = steps(
        f"a: {{call: http.request, args: {json.dumps(args)}, result: r}}", "b: {return: '${r}'}", "c: {return: 1}"
    )
    (push,) = target.pushes
    assert push.path.endswith("?q=a+b&q=2&t=true")
    assert push.headers["x-own"] == "1"
    assert push.headers["user-agent"] == "GoogleCloudWorkflows; (+https://cloud.google.com/workflows/docs)"
    assert push.headers["authorization"] == f"OIDC me {target.url}"
    assert (answer["code"], answer["body"]) == (200, b"")
    assert answer["headers"]["Content-Length"] == "0"


def test_a_request_names_its_own_user_agent_and_the_service(target: Endpoint) -> None:
    """https://cloud.google.com/workflows/docs/http-requests: the service's is appended, with a space between."""
    args = {"url": target.url, "headers": {"user-agent": "MY_USER_AGENT_VALUE"}}
    steps(f"a: {{call: http.post, args: {json.dumps(args)}}}")
    (push,) = target.pushes
    expected = "MY_USER_AGENT_VALUE GoogleCloudWorkflows; (+https://cloud.google.com/workflows/docs)"
    assert push.headers["user-agent"] == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"url": "ftp://x"}, "ValueError"),
        ({"url": 5}, "ValueError"),
        ({}, "TypeError"),
        ({"url": "URL", "querry": {}}, "TypeError"),
        ({"url": "URL", "query": "a=b"}, "TypeError"),
        ({"url": "URL", "headers": {"X": 1}}, "TypeError"),
        ({"url": "URL", "headers": {"X": "a\nb"}}, "ValueError"),
        ({"url": "URL", "auth": {"type": "Basic"}}, "ValueError"),
        ({"url": "URL", "timeout": 1801}, "ValueError"),
        ({"url": "URL", "timeout": "soon"}, "ValueError"),
        ({"url": "URL", "body": [1], "headers": {"Content-Type": http.FORM}}, "TypeError"),
        ({"url": "URL", "body": {"a": 1}, "headers": {"Content-Type": "text/plain"}}, "ValueError"),
        ({"url": "http://127.0.0.1:1/"}, "ConnectionFailedError"),
        ({"url": "http://[half/"}, "ConnectionError"),
    ],
)
def test_a_request_that_cannot_be_made_has_its_documented_tag(target: Endpoint, arguments: Any, expected: str) -> None:
    """And is not sent."""
    given = json.dumps(arguments).replace('"URL"', json.dumps(target.url))
    assert raised(f"a: {{call: http.post, args: {given}}}")["tags"] == [expected]
    assert not target.pushes


def test_an_http_error_is_a_map_with_code_and_body(target: Endpoint) -> None:
    """From 400 on, and only then."""
    target.answer = lambda _: 404
    found = raised(f"a: {{call: http.post, args: {{url: '{target.url}'}}}}")
    assert (found["code"], found["tags"], found["body"]) == (404, ["HttpError"], b"")
    target.answer = lambda _: 304
    answer = steps(f"a: {{call: http.post, args: {{url: '{target.url}'}}, result: r}}", "b: {return: '${r.code}'}")
    assert answer == 304


def test_a_response_is_decoded_by_its_type() -> None:
    """JSON to values, text to a string, anything else to bytes; two megabytes are the limit."""
    assert http._decoded(b'{"a": 1}', "application/json; charset=utf-8") == {"a": 1}
    assert http._decoded(b"", "application/json") is None
    assert http._decoded(b"{", "application/json") == "{"
    assert http._decoded("é".encode(), "text/plain") == "é"
    assert http._decoded(b"\xff", "") == b"\xff"
    assert http._decoded(b'["\\ud800", 18446744073709551616]', "application/json") == ["\ufffd", 2.0**64]
    deep = b"[" * 100_000
    assert http._decoded(deep, "application/json") == deep.decode()


# --- limits


def test_an_execution_has_the_memory_of_the_service() -> None:
    """512 KB over all variables of all calls, counted as documented; what a call held is given back."""
    doubled = [f"s{n}: {{assign: [{{x: '${{x + x}}'}}]}}" for n in range(9)]  # 512 × 512 = 256 KB
    start = "a: {assign: [{x: " + "z" * 512 + "}]}"
    assert steps(start, *doubled, "e: {return: '${len(x)}'}") == 256 * 1024
    found = raised(start, *doubled, "e: {assign: [{y: '${x}'}]}")
    assert (found["tags"], "512 KB" in found["message"]) == (["ResourceLimitError"], True)
    found = raised(start, *doubled, "e: {assign: [{x: '${x + x}'}]}")
    assert (found["tags"], "256 KB" in found["message"]) == (["ResourceLimitError"], True)
    # What is held many times over is not counted, nor copied, to its end.
    value: Any = 1
    for _ in range(40):
        value = [value, value]
    with pytest.raises(RaisedError, match="ResourceLimitError"):
        Variables(Meter()).hold("x", value)
    # Twice in a row fits, because a call's variables end with it.
    sub = "\nhold:\n  params: [given]\n  steps:\n    - a: {return: '${len(given)}'}"
    calls = [f"f{n}: {{call: hold, args: {{given: '${{text.substring(x, 0, 200000)}}'}}}}" for n in range(2)]
    assert steps(start, *doubled, *calls, "g: {return: 1}" + sub) == 1


def test_an_execution_has_the_steps_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """A circle ends."""
    monkeypatch.setattr(interpreter, "MAX_STEPS", 500)
    notes = Notes()
    assert raised("a: {next: b}", "b: {next: a}", notes=notes)["tags"] == ["ResourceLimitError"]
    assert len(notes.steps) == 500


def test_calls_go_as_deep_as_the_service_s() -> None:
    """Twenty calls; steps that are nested in each other do not count."""
    source = """
main: {params: [depth], steps: [{a: {call: down, args: {left: "${depth}"}, result: r}}, {b: {return: "${r}"}}]}
down:
  params: [left]
  steps:
    - a:
        switch:
          - condition: ${left > 0}
            steps:
              - b:
                  for:
                    value: v
                    in: [1]
                    steps:
                      - c:
                          try:
                            steps:
                              - d: {call: down, args: {left: "${left - 1}"}, result: r}
                              - e: {return: "${r}"}
                          except: {as: e, steps: [{f: {raise: "${e}"}}]}
    - z: {return: bottom}
"""
    assert run(source, 18) == "bottom"
    loop = source.replace("main: {", "main: {params: [depth], steps: [{l: {for: {value: n, range: [1, 25], steps: "
                          "[{m: {call: down, args: {left: 0}}}]}}}]}\nother: {")  # fmt: skip
    assert run(loop, 0) is None
    with pytest.raises(RaisedError) as caught:
        run(source, 19)
    assert caught.value.value["tags"] == ["RecursionError"]


def test_an_expression_may_be_as_long_as_the_service_takes() -> None:
    """400 characters."""
    assert steps(f"a: {{return: {quoted('1' + '+1' * 199 + ' ')}}}") == 200
