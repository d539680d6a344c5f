"""What is refused when a workflow is deployed, and where the message points to."""

import contextlib
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptop.workflows.errors import SourceError
from laptop.workflows.program import load
from laptop.workflows.source import read
from tests.support import ROOT


def main(step: str) -> str:
    """A main workflow with one step, in YAML's flow style."""
    return f"main: {{params: [argument], steps: [{{a: {step}}}]}}"


FOR = "{for: {value: v, in: [1], steps: [%s]}}"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        # shape
        ("", "no routine called main"),
        ("other: {steps: [{a: {return: 1}}]}", "main"),
        ("main: [", "line 1: the source is not YAML"),
        ("main: {steps: []}", "needs steps"),
        ("main: {steps: {a: {return: 1}}}", "needs steps"),
        ("main: {steps: [{a: {return: 1}, b: {return: 1}}]}", "one key, its name"),
        ("main: {steps: [{a: {return: 1}}, {a: {return: 2}}]}", "the step a is there twice"),
        ("main: {steps: [{end: {return: 1}}]}", "cannot be called end"),
        ("main: {steps: [{a: {return: 1}}], step: 1}", "unexpected 'step'"),
        ("main: {params: [a, b], steps: [{a: {return: 1}}]}", "takes one parameter"),
        ("main: {params: x, steps: [{a: {return: 1}}]}", "params must be a list"),
        ("main: {steps: [{a: {return: 1}}]}\nsub: {params: ['a b'], steps: [{a: {return: 1}}]}", "'a b' is no name"),
        ("main: {steps: [{a: {return: 1, return: 2}}]}", "the key 'return' is there twice"),
        ("main: {steps: [{a: {return: !!python/none x}}]}", "the tag .* is not read"),
        ("main: {steps: [{a: &x {return: 1}}, {[b]: *x}]}", "the key of a map must be a text"),
        ("main: &m {steps: *m}", "anchor|deeply"),
        # steps
        (main("{return: 1, retrun: 2}"), "retrun"),
        (main("{return: 1, raise: x}"), "exactly one of"),
        (main("{}"), "exactly one of"),
        (main("x"), "a step is a map"),
        (main("{parallel: {}}"), "parallel"),
        (main("{assign: {x: 1}}"), "assign is a list"),
        (main("{assign: [{x: 1, y: 2}]}"), "one key"),
        (main("{assign: [{'x + 1': 1}]}"), "nothing that can be assigned to"),
        (main(f"{{assign: [{', '.join(f'{{x{n}: 1}}' for n in range(51))}]}}"), "51 parts of at most 50"),
        (main(f"{{switch: [{', '.join(['{condition: true}'] * 51)}]}}"), "51 parts of at most 50"),
        (main("{switch: [{next: end}]}"), "has a condition"),
        (main("{for: {value: v, steps: [{b: {return: 1}}]}}"), "one of: in, range"),
        (main("{for: {value: v, in: [1], range: [1, 2], steps: [{b: {return: 1}}]}}"), "one of: in, range"),
        (main("{for: {in: [1], steps: [{b: {return: 1}}]}}"), "None is no name"),
        (main("{for: {value: v, in: [1], steps: []}}"), "needs steps"),
        (main("{try: {steps: [{b: {return: 1}}]}}"), "retry, except, or both"),
        (main("{try: {call: sys.now}, except: {steps: [{b: {return: 1}}]}}"), "except: as"),
        (main("{try: {call: sys.now}, retry: {max_retries: 3}}"), "has predicate, max_retries and backoff"),
        (main("{try: {call: sys.now}, retry: {predicate: x, max_retries: 3, backoff: {initial_delay: 1}}}"), "backoff"),
        (main("{call: sys.now, args: 1}"), "args is a map"),
        (main("{assign: [{m: {'${1 +}': 1}}]}"), "unexpected the end"),
        (main("{assign: [{m: {'a${x}': 1}}]}"), "whole text"),
        (main("{assign: [{m: {'${typo}': 1}}]}"), "there is no variable typo"),
        (main(r'{return: "\ud83c"}'), "half a surrogate pair"),
        (main("{call: sys.now, result: a.b}"), "'a.b' is no name"),
        # names
        (main("{call: nothing.there}"), "no function nothing.there"),
        (main("{call: googleapis.x.y}"), "connector"),
        (main("{return: '${nothing(1)}'}"), "no function nothing"),
        (main("{return: '${http.get(\"http://x\")}'}"), "http.get waits"),
        (main("{return: '${typo + 1}'}"), "there is no variable typo"),
        (main("{assign: [{typo.x: 1}]}"), "there is no variable typo"),
        (main("{next: b}"), "no step 'b'"),
        (main("{next: break}"), "no step 'break'"),
        (main(FOR % "{b: {next: a}}"), "no step 'a'"),
        ("main: {steps: [{a: %s}, {c: {return: '${v}'}}]}" % (FOR % "{b: {next: continue}}"), "no variable v"),
        ("main: {steps: [{a: %s}, {c: {return: '${x}'}}]}" % (FOR % "{b: {assign: [{x: 1}]}}"), "no variable x"),
        ("main: {steps: [{a: {try: {call: sys.now}, except: {as: e, steps: [{b: {assign: [{x: 1}]}}]}}},"
         " {c: {return: '${x}'}}]}", "no variable x"),
        # expressions
        (main("{return: 'Hello ${x}'}"), "whole text"),
        (main("{assign: [{x: '${1 +}'}]}"), "main.a"),
        (main("{return: '${" + "1+" * 200 + "1}'}"), "401 characters"),
    ],
)  # fmt: skip
def test_a_source_that_cannot_run_is_refused_with_its_place(source: str, words: str) -> None:
    """At deployment, not in the middle of the night."""
    with pytest.raises(SourceError, match=words):
        load(source)


def test_a_mistake_is_told_with_its_line() -> None:
    """Of the expression itself, wherever it is nested."""
    source = """
main:
  steps:
    - first:
        assign:
          - good: 1
          - bad: ${1 +}
"""
    with pytest.raises(SourceError, match=r"^line 7: main\.first: unexpected the end") as caught:
        load(source)
    assert caught.value.line == 7
    nested = source.replace("bad: ${1 +}", "map:\n              deep: [1, '${nothing(1)}']")
    with pytest.raises(SourceError, match=r"^line 4: main\.first: there is no function nothing"):
        load(nested)


def test_a_source_has_the_types_of_json() -> None:
    """As the service reads it: no octal numbers, no dates, no ``yes``; JSON is YAML, too."""
    text = "[no, on, 2026-03-02, 12:30, 010, 1_000, 0x10, 1.5, 1e3, -3, true, True, ~, null, '1', .nan, 1.]"
    assert read(text) == [
        "no", "on", "2026-03-02", "12:30", 10, "1_000", "0x10", 1.5, 1000.0, -3, True, True, None, None, "1",
        ".nan", 1.0,
    ]  # fmt: skip
    assert read('{"a": {"1": [null, "x"]}}') == {"a": {"1": [None, "x"]}}
    assert load('{"main": {"steps": [{"a": {"return": 1}}]}}').keys() == {"main"}
    assert load("- a: {return: 1}").keys() == {"main"}
    assert read(r'{"a": "\ud83c\udf19", "\ud83c\udf19": 1}') == {"a": "🌙", "🌙": 1}


def test_a_source_has_the_service_s_size() -> None:
    """128 KB, and not much more behind aliases."""
    padding = "# " + "x" * (128 * 1024)
    with pytest.raises(SourceError, match="bytes of at most 131072"):
        load(padding + "\n- a: {return: 1}")
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(SourceError, match="with its aliases written out, the source has more than 524288 characters"):
        load("\n".join(lines))
    long = f"- a: {{return: [&e '{'x' * 60_000}', {'*e, ' * 10_000} 1]}}"
    with pytest.raises(SourceError, match="aliases"):
        load(long)
    assert load(f"- a: {{return: [&e {'x' * 100}, {'*e, ' * 1000} 1]}}").keys() == {"main"}


@pytest.mark.parametrize(
    "source",
    [
        "[" * 131072, "[" * 65536 + "]" * 65536, "{a: " * 32768, "- " * 65536, "? " * 65536,
        "- s: {return: [&e '${" + "1+" * 198 + "1}', " + "*e, " * 32000 + "1]}",
        "\n".join(f"- s{n}: {{steps: [{{a: {{next: s{n}}}}}]}}" for n in range(3000)),
        "\n".join(f"- s{n}: {{return: 1}}" for n in range(6000)),
    ],
    ids=["open lists", "lists", "maps", "dashes", "questions", "aliases", "nested steps", "steps"],
)  # fmt: skip
def test_a_source_is_checked_in_bounded_time(source: str) -> None:
    """Seconds, for what the service's 128 KB can hold at worst."""
    started = time.monotonic()
    with contextlib.suppress(SourceError):
        load(source)
    assert time.monotonic() - started < 60


def test_the_retraining_workflow_keeps_the_limits_of_the_service() -> None:
    """It loads, which checks source size, expression lengths and names; and it reads at most 20 variables."""
    source = (ROOT / "workflows" / "retrain.yaml").read_text()
    assert "main" in load(source)
    variables = {line.split('sys.get_env("')[1].split('"')[0] for line in source.splitlines() if "sys.get_env(" in line}
    assert len(variables) <= 20


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.text(alphabet=st.sampled_from("{}[]:,&*!|>'\"-#$ \nabmsteps1"), max_size=60))
def test_any_text_is_a_source_or_is_refused(text: str) -> None:
    """No other exception than SourceError, whatever is under ``main``."""
    for source in (text, f"main: {{steps: [{{a: {text}}}]}}", f"main:\n  steps:\n    - a:\n        {text}"):
        with contextlib.suppress(SourceError):
            load(source)


WORDS = (
    "assign", "call", "args", "result", "switch", "condition", "for", "value", "index", "in", "range", "try", "retry",
    "except", "as", "raise", "return", "steps", "next", "predicate", "max_retries", "backoff", "x",
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from(["x", "${x}", "end", "sys.now", "${1"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(WORDS),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(VALUES)
def test_any_step_can_be_deployed_or_is_refused(value: object) -> None:
    """The same for what has the shape of YAML, but not of a workflow."""
    with contextlib.suppress(SourceError):
        load(json.dumps({"main": {"params": ["x"], "steps": [{"a": value}]}}))
