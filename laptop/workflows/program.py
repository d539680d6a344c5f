"""From YAML to a tree of steps; what the service would refuse at deployment is refused here."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from laptop.workflows import library, source
from laptop.workflows.errors import SourceError
from laptop.workflows.expressions import Binary, Call, Index, ListOf, Literal, MapOf, Name, Tree, Unary, parse

# https://cloud.google.com/workflows/quotas#resource_limits
MAX_ASSIGNMENTS = 50
MAX_CONDITIONS = 50
EXPRESSION = re.compile(r"\$\{(.*)\}", re.DOTALL)
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
JUMPS = {"end", "break", "continue"}
RETRY = {"predicate", "max_retries", "backoff"}
BACKOFF = {"initial_delay", "max_delay", "multiplier"}
MODULES = {"http", "retry"}
"""What an expression may name without calling it: policies and predicates."""


@dataclass
class Step:
    """One step.

    Args:
        name: as written.
        kind: ``assign``, ``call``, ``switch``, ``for``, ``try``, ``raise``, ``return`` or ``steps``.
        fields: the parts of it, expressions parsed.
        next: where to go afterwards; None for the following step.
        line: where it stands in the source.
    """

    name: str
    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    next: str | None = None
    line: int = 0


@dataclass
class Routine:
    """The main workflow or a subworkflow.

    Args:
        params: name and default of each parameter; the default is None for one that is required.
    """

    name: str
    params: list[tuple[str, Tree | None]]
    steps: list[Step]


def load(text: str) -> dict[str, Routine]:
    """The routines of a source, ``main`` among them.

    Raises:
        SourceError: with the line, the step and the cause.
    """
    document = source.read(text)
    if isinstance(document, list):
        document = {"main": {"steps": document}}
    if not isinstance(document, dict) or "main" not in document:
        raise SourceError("the source has no routine called main")
    try:
        routines = {}
        for name, body in document.items():
            routines[name] = _within(document, name, lambda name=name, body=body: _routine(name, body))
        _check_names(routines)
    except RecursionError:
        raise SourceError("the source is nested too deeply") from None
    return routines


def _within(held: Any, key: Any, work: Any) -> Any:
    """What ``work`` answers; an error that it raises gets the line of ``held[key]``."""
    try:
        return work()
    except SourceError as error:
        lines = getattr(held, "lines", None)
        raise error.at(lines[key] if lines else None) from None


def _routine(name: str, body: Any) -> Routine:
    _identifier(name, name)
    if not isinstance(body, dict) or not isinstance(body.get("steps"), list):
        raise SourceError(f"{name}: a routine needs steps")
    _only(name, body, {"params", "steps"})
    given = body.get("params") or []
    if not isinstance(given, list):
        raise SourceError(f"{name}: params must be a list")
    params: list[tuple[str, Tree | None]] = []
    for one in given:
        if isinstance(one, dict) and len(one) == 1:
            ((key, default),) = one.items()
            params.append((_identifier(key, name), _tree(default, name)))
        else:
            params.append((_identifier(one, name), None))
    if name == "main" and len(params) > 1:
        raise SourceError("main: takes one parameter, the execution's argument")
    return Routine(name, params, _steps(body["steps"], name))


def _identifier(name: Any, where: str) -> str:
    if not isinstance(name, str) or not IDENTIFIER.fullmatch(name):
        raise SourceError(f"{where}: {name!r} is no name: letters, digits and _, not beginning with a digit")
    return name


def _steps(items: Any, where: str) -> list[Step]:
    if not isinstance(items, list) or not items:
        raise SourceError(f"{where}: needs steps, a list")
    steps: dict[str, Step] = {}
    for number, item in enumerate(items):
        step = _within(items, number, lambda item=item: _named_step(item, where))
        if step.name in steps:
            raise SourceError(f"{where}: the step {step.name} is there twice", step.line)
        steps[step.name] = step
    return list(steps.values())


def _named_step(item: Any, where: str) -> Step:
    if not isinstance(item, dict) or len(item) != 1:
        raise SourceError(f"{where}: a step is a map with one key, its name; found {str(item)[:80]!r}")
    ((name, body),) = item.items()
    if name in JUMPS:
        raise SourceError(f"{where}: a step cannot be called {name}, which is where next leads")
    step: Step = _within(item, name, lambda: _step(name, body, f"{where}.{name}"))
    step.line = getattr(item, "lines", {}).get(name, 0)
    return step


def _step(name: str, body: Any, where: str) -> Step:  # noqa: C901  # a branch for each kind of step
    if not isinstance(body, dict):
        raise SourceError(f"{where}: a step is a map")
    if "parallel" in body:
        raise SourceError(f"{where}: parallel steps are not run on a laptop (LIMITATIONS.md)")
    kinds = [kind for kind in ("assign", "call", "switch", "for", "try", "raise", "return", "steps") if kind in body]
    if not kinds and set(body) == {"next"}:
        return Step(name, "steps", {"steps": []}, str(body["next"]))
    if len(kinds) != 1:
        raise SourceError(f"{where}: a step has exactly one of assign, call, switch, for, try, raise, return, steps")
    kind = kinds[0]
    following = None if body.get("next") is None else str(body["next"])
    content = body[kind]
    fields: dict[str, Any]
    if kind == "assign":
        _only(where, body, {"assign", "next"})
        assignments = _list(content, where, "assign", MAX_ASSIGNMENTS)
        fields = {"assign": [_within(content, n, lambda one=one: _assignment(one, where))
                             for n, one in enumerate(assignments)]}  # fmt: skip
    elif kind == "call":
        _only(where, body, {"call", "args", "result", "next"})
        if not isinstance(body.get("args") or {}, (dict, list, str)):
            raise SourceError(f"{where}: args is a map of the parameters by name, or a list of them")
        result = None if body.get("result") is None else _identifier(body["result"], where)
        fields = {"call": str(content), "args": _tree(body.get("args"), where), "result": result}
    elif kind == "switch":
        _only(where, body, {"switch", "next"})
        conditions = _list(content, where, "switch", MAX_CONDITIONS)
        fields = {"switch": [_within(content, n, lambda one=one: _condition(one, where))
                             for n, one in enumerate(conditions)]}  # fmt: skip
    elif kind == "for":
        _only(where, body, {"for", "next"})
        _only(where, content, {"value", "index", "in", "range", "steps"})
        if ("in" in content) == ("range" in content):
            raise SourceError(f"{where}: for goes over one of: in, range")
        fields = {
            "value": _identifier(content.get("value"), where),
            "index": None if content.get("index") is None else _identifier(content["index"], where),
            "in": _tree(content["in"], where) if "in" in content else None,
            "range": _tree(content["range"], where) if "range" in content else None,
            "steps": _steps(content.get("steps"), where),
        }
    elif kind == "try":
        _only(where, body, {"try", "retry", "except", "next"})
        fields = {"try": _block(content, where), "retry": None, "except": None}
        if "retry" not in body and "except" not in body:
            raise SourceError(f"{where}: try needs retry, except, or both")
        if "retry" in body:
            fields["retry"] = _within(body, "retry", lambda: _retry(body["retry"], where))
        if "except" in body:
            _only(where, body["except"], {"as", "steps"})
            caught = _identifier(body["except"].get("as"), f"{where}: except: as")
            fields["except"] = (caught, _steps(body["except"].get("steps"), where))
    elif kind == "steps":
        _only(where, body, {"steps", "next"})
        fields = {"steps": _steps(content, where)}
    else:
        _only(where, body, {kind, "next"})
        fields = {kind: _tree(content, where)}
    return Step(name, kind, fields, following)


def _list(content: Any, where: str, kind: str, most: int) -> list[Any]:
    if not isinstance(content, list) or not content:
        raise SourceError(f"{where}: {kind} is a list")
    if len(content) > most:
        raise SourceError(f"{where}: {kind} has {len(content)} parts of at most {most}")
    return content


def _retry(policy: Any, where: str) -> Tree:
    """A policy by its name, or all its parts."""
    if isinstance(policy, dict):
        _only(f"{where}: retry", policy, RETRY)
        if policy.keys() != RETRY or not isinstance(policy["backoff"], dict) or policy["backoff"].keys() != BACKOFF:
            raise SourceError(
                f"{where}: retry is a policy such as ${{http.default_retry}}, or has predicate, max_retries and "
                "backoff, this with initial_delay, max_delay and multiplier"
            )
    return _tree(policy, where)


def _block(content: Any, where: str) -> list[Step]:
    """What stands under ``try``: steps, or a single call without a name."""
    if isinstance(content, dict) and "steps" in content:
        return _steps(content["steps"], where)
    return [_step("try", content, where)]


def _condition(item: Any, where: str) -> tuple[Tree, list[Step], str | None]:
    if not isinstance(item, dict) or "condition" not in item:
        raise SourceError(f"{where}: each part of a switch has a condition")
    _only(where, item, {"condition", "steps", "next", "assign", "call", "args", "result", "return", "raise"})
    steps: list[Step] = []
    if "steps" in item:
        steps = _steps(item["steps"], where)
    else:
        rest = {key: value for key, value in item.items() if key not in ("condition", "next")}
        if rest:
            steps = [_step("switch", rest, where)]
    following = None if item.get("next") is None else str(item["next"])
    return _tree(item["condition"], where), steps, following


def _assignment(item: Any, where: str) -> tuple[Tree, Tree]:
    if not isinstance(item, dict) or len(item) != 1:
        raise SourceError(f"{where}: an assignment is a map with one key")
    ((target, value),) = item.items()
    try:
        tree = parse(target)
    except SourceError as error:
        raise SourceError(f"{where}: {error}") from None
    base = tree
    while isinstance(base, Index):
        base = base.base
    if not isinstance(base, Name):
        raise SourceError(f"{where}: {target!r} is nothing that can be assigned to")
    return tree, _tree(value, where)


def _tree(value: Any, where: str) -> Tree:
    """A YAML value with its expressions parsed.

    The key of a map may be an expression, too: https://cloud.google.com/workflows/docs/reference/syntax/maps.
    """
    if isinstance(value, str):
        match = EXPRESSION.fullmatch(value.strip())
        if match is None:
            if "${" in value:
                raise SourceError(f'{where}: {value!r}: an expression is the whole text: ${{"a" + b}}')
            return Literal(value)
        try:
            return parse(match.group(1).strip())
        except SourceError as error:
            raise SourceError(f"{where}: {error}") from None
    if isinstance(value, list):
        return ListOf(tuple(_within(value, n, lambda one=one: _tree(one, where)) for n, one in enumerate(value)))
    if isinstance(value, dict):
        return MapOf(tuple(_within(value, key, lambda key=key, one=one: (_tree(key, where), _tree(one, where)))
                           for key, one in value.items()))  # fmt: skip
    return Literal(value)


def _only(where: str, body: Any, known: set[str]) -> None:
    if not isinstance(body, dict):
        raise SourceError(f"{where}: expected a map")
    for key in body:
        if key not in known:
            raise SourceError(f"{where}: unexpected {key!r}; there can be: {', '.join(sorted(known))}")


def _check_names(routines: dict[str, Routine]) -> None:
    """Every function and variable that is named exists, and every ``next`` leads somewhere."""
    for routine in routines.values():
        known = {name for name, _ in routine.params} | _assigned(routine.steps)
        for name, default in routine.params:
            if default is not None:
                _check_trees(default, f"{routine.name}: {name}", routines, set())
        _check_steps(routine.steps, routine.name, routines, set(), known)


def _assigned(steps: list[Step]) -> set[str]:
    """The variables that ``steps`` make; those of a loop or of an ``except`` stay there."""
    found = set()
    for step in steps:
        if step.kind == "assign":
            found |= {target.name for target, _ in step.fields["assign"] if isinstance(target, Name)}
        if step.kind == "call" and step.fields["result"] is not None:
            found.add(step.fields["result"])
        for inner, own in _inner(step):
            if own is None:
                found |= _assigned(inner)
    return found


def _check_steps(steps: list[Step], where: str, routines: dict[str, Routine], outer: set[str], known: set[str]) -> None:
    """Check.

    Args:
        steps: of one level.
        where: for the messages.
        routines: of the program.
        outer: the steps around these that ``next`` may name.
        known: the variables there may be.
    """
    there = outer | {step.name for step in steps}
    for step in steps:
        place = f"{where}.{step.name}"
        try:
            _check_step(step, place, routines, there, known)
        except SourceError as error:
            raise error.at(step.line or None) from None


def _check_step(step: Step, place: str, routines: dict[str, Routine], there: set[str], known: set[str]) -> None:
    targets = [step.next]
    if step.kind == "call" and step.fields["call"] not in routines:
        _check_function(step.fields["call"], place)
    if step.kind == "switch":
        targets += [following for _, _, following in step.fields["switch"]]
    for target in targets:
        if target not in (None, "end") and target not in there:
            raise SourceError(f"{place}: next: there is no step {target!r} within reach")
    _check_trees(step.fields, place, routines, known)
    for inner, own in _inner(step):
        scope = known if own is None else known | own | _assigned(inner)
        # Nothing leads into a loop or out of it, but for break and continue.
        _check_steps(inner, place, routines, {"break", "continue"} if step.kind == "for" else there, scope)


def _check_trees(value: Any, place: str, routines: dict[str, Routine], known: set[str]) -> None:
    for tree in _trees(value):
        for name in _called(tree):
            if name in library.BLOCKING:
                raise SourceError(f"{place}: {name} waits: it is for a call step, not for an expression")
            if name not in routines:
                _check_function(name, place)
        for name in _named(tree):
            if name not in known and name not in routines and name not in MODULES:
                raise SourceError(f"{place}: there is no variable {name}")


def _check_function(name: str, where: str) -> None:
    if name.startswith("googleapis."):
        raise SourceError(f"{where}: the connector {name} is not there on a laptop: call the API with http.post")
    if name not in library.NAMES:
        raise SourceError(f"{where}: there is no function {name}")


def _inner(step: Step) -> Iterator[tuple[list[Step], set[str] | None]]:
    """The steps inside ``step``, with the variables that they are given; None: they share those around them."""
    if step.kind == "for":
        yield step.fields["steps"], {name for name in (step.fields["value"], step.fields["index"]) if name}
    elif step.kind == "steps":
        if step.fields["steps"]:
            yield step.fields["steps"], None
    elif step.kind == "switch":
        yield from ((steps, None) for _, steps, _ in step.fields["switch"] if steps)
    elif step.kind == "try":
        yield step.fields["try"], None
        if step.fields["except"] is not None:
            yield step.fields["except"][1], {step.fields["except"][0]}


def _trees(value: Any) -> Iterator[Tree]:
    if isinstance(value, (Literal, Name, ListOf, MapOf, Index, Call, Unary, Binary)):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _trees(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _trees(one)


def _called(tree: Tree) -> Iterator[str]:
    """The functions that ``tree`` calls."""
    if isinstance(tree, Call):
        yield tree.name
    for one in _parts(tree):
        yield from _called(one)


def _named(tree: Tree) -> Iterator[str]:
    """The variables that ``tree`` reads."""
    if isinstance(tree, Name):
        yield tree.name
    for one in _parts(tree):
        yield from _named(one)


def _parts(tree: Tree) -> Iterator[Tree]:
    if isinstance(tree, Call):
        yield from tree.positional
    elif isinstance(tree, Binary):
        yield from (tree.left, tree.right)
    elif isinstance(tree, Unary):
        yield tree.operand
    elif isinstance(tree, Index):
        yield from (tree.base, tree.index)
    elif isinstance(tree, ListOf):
        yield from tree.items
    elif isinstance(tree, MapOf):
        for key, one in tree.items:
            yield from (key, one)
