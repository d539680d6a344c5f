"""From YAML to a tree of steps; what the service would refuse at deployment is refused here."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from laptop.workflows import library
from laptop.workflows.errors import SourceError
from laptop.workflows.expressions import Binary, Call, Index, ListOf, Literal, MapOf, Name, Tree, Unary, dotted, parse

MAX_SOURCE_BYTES = 128 * 1024
EXPRESSION = re.compile(r"\$\{(.*)\}", re.DOTALL)


@dataclass
class Step:
    """One step.

    Args:
        name: as written.
        kind: ``assign``, ``call``, ``switch``, ``for``, ``try``, ``raise``, ``return`` or ``steps``.
        fields: the parts of it, expressions parsed.
        next: where to go afterwards; None for the following step.
    """

    name: str
    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    next: str | None = None


@dataclass
class Routine:
    """The main workflow or a subworkflow.

    Args:
        params: name and default of each parameter; the default is None for one that is required.
    """

    name: str
    params: list[tuple[str, Tree | None]]
    steps: list[Step]


def load(source: str) -> dict[str, Routine]:
    """The routines of a source, ``main`` among them.

    Raises:
        SourceError: with the step and the cause.
    """
    if len(source.encode()) > MAX_SOURCE_BYTES:
        raise SourceError(f"the source has {len(source.encode())} bytes of at most {MAX_SOURCE_BYTES}")
    try:
        document = yaml.safe_load(source)
    except yaml.YAMLError as error:
        raise SourceError(f"the source is not YAML: {error}") from error
    if isinstance(document, list):
        document = {"main": {"steps": document}}
    if not isinstance(document, dict) or "main" not in document:
        raise SourceError("the source has no routine called main")
    routines = {str(name): _routine(str(name), body) for name, body in document.items()}
    _check_names(routines)
    return routines


def _routine(name: str, body: Any) -> Routine:
    if not isinstance(body, dict) or not isinstance(body.get("steps"), list) or not body["steps"]:
        raise SourceError(f"{name}: a routine needs steps")
    _only(name, body, {"params", "steps"})
    params: list[tuple[str, Tree | None]] = []
    for one in body.get("params") or []:
        if isinstance(one, dict):
            ((key, default),) = one.items()
            params.append((str(key), _tree(default, name)))
        else:
            params.append((str(one), None))
    return Routine(name, params, _steps(body["steps"], name))


def _steps(items: Any, where: str) -> list[Step]:
    if not isinstance(items, list):
        raise SourceError(f"{where}: steps must be a list")
    steps = []
    for item in items:
        if not isinstance(item, dict) or len(item) != 1:
            raise SourceError(f"{where}: a step is a map with one key, its name; found {str(item)[:80]!r}")
        ((name, body),) = item.items()
        steps.append(_step(str(name), body, f"{where}.{name}"))
    names = [step.name for step in steps]
    for name in names:
        if names.count(name) > 1:
            raise SourceError(f"{where}: the step {name} is there twice")
    return steps


def _step(name: str, body: Any, where: str) -> Step:
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
        fields = {"assign": [_assignment(one, where) for one in content]}
    elif kind == "call":
        _only(where, body, {"call", "args", "result", "next"})
        fields = {"call": str(content), "args": _tree(body.get("args"), where), "result": body.get("result")}
    elif kind == "switch":
        _only(where, body, {"switch", "next"})
        fields = {"switch": [_condition(one, where) for one in content]}
    elif kind == "for":
        _only(where, body, {"for", "next"})
        _only(where, content, {"value", "index", "in", "range", "steps"})
        fields = {
            "value": str(content.get("value")),
            "index": content.get("index"),
            "in": _tree(content["in"], where) if "in" in content else None,
            "range": _tree(content["range"], where) if "range" in content else None,
            "steps": _steps(content.get("steps"), where),
        }
    elif kind == "try":
        _only(where, body, {"try", "retry", "except", "next"})
        fields = {"try": _block(content, where), "retry": None, "except": None}
        if "retry" in body:
            fields["retry"] = _tree(body["retry"], where)
        if "except" in body:
            _only(where, body["except"], {"as", "steps"})
            fields["except"] = (str(body["except"].get("as")), _steps(body["except"].get("steps"), where))
    elif kind == "steps":
        _only(where, body, {"steps", "next"})
        fields = {"steps": _steps(content, where)}
    else:
        _only(where, body, {kind, "next"})
        fields = {kind: _tree(content, where)}
    return Step(name, kind, fields, following)


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
        tree = parse(str(target))
    except SourceError as error:
        raise SourceError(f"{where}: {error}") from None
    base = tree
    while isinstance(base, Index):
        base = base.base
    if not isinstance(base, Name):
        raise SourceError(f"{where}: {target!r} is nothing that can be assigned to")
    return tree, _tree(value, where)


def _tree(value: Any, where: str) -> Tree:
    """A YAML value with its expressions parsed."""
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
        return ListOf(tuple(_tree(one, where) for one in value))
    if isinstance(value, dict):
        return MapOf(tuple((Literal(str(key)), _tree(one, where)) for key, one in value.items()))
    return Literal(value)


def _only(where: str, body: Any, known: set[str]) -> None:
    if not isinstance(body, dict):
        raise SourceError(f"{where}: expected a map")
    for key in body:
        if key not in known:
            raise SourceError(f"{where}: unexpected {key!r}; there can be: {', '.join(sorted(known))}")


def _check_names(routines: dict[str, Routine]) -> None:
    """Every function that is called exists, and every ``next`` leads somewhere."""
    for routine in routines.values():
        _check_steps(routine.steps, routine.name, routines, set())


def _check_steps(steps: list[Step], where: str, routines: dict[str, Routine], outer: set[str]) -> None:
    there = outer | {step.name for step in steps}
    for step in steps:
        place = f"{where}.{step.name}"
        targets = [step.next]
        if step.kind == "call" and step.fields["call"] not in routines:
            _check_function(step.fields["call"], place)
        if step.kind == "switch":
            targets += [following for _, _, following in step.fields["switch"]]
        for target in targets:
            if target not in (None, "end", "break", "continue") and target not in there:
                raise SourceError(f"{place}: next: there is no step {target!r} within reach")
        for tree in _trees(step.fields):
            for name in _called(tree):
                if name not in routines:
                    _check_function(name, place)
        for inner in _inner(step):
            _check_steps(inner, place, routines, there)


def _check_function(name: str, where: str) -> None:
    if name.startswith("googleapis."):
        raise SourceError(f"{where}: the connector {name} is not there on a laptop: call the API with http.post")
    if name not in library.NAMES:
        raise SourceError(f"{where}: there is no function {name}")


def _inner(step: Step) -> Iterator[list[Step]]:
    if step.kind in ("for", "steps"):
        yield step.fields["steps"]
    elif step.kind == "switch":
        yield from (steps for _, steps, _ in step.fields["switch"] if steps)
    elif step.kind == "try":
        yield step.fields["try"]
        if step.fields["except"] is not None:
            yield step.fields["except"][1]


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
    if isinstance(tree, Call):
        yield tree.name
        for one in tree.positional:
            yield from _called(one)
    elif isinstance(tree, Binary):
        yield from _called(tree.left)
        yield from _called(tree.right)
    elif isinstance(tree, Unary):
        yield from _called(tree.operand)
    elif isinstance(tree, Index):
        if dotted(tree) is None:
            yield from _called(tree.base)
        yield from _called(tree.index)
    elif isinstance(tree, ListOf):
        for one in tree.items:
            yield from _called(one)
    elif isinstance(tree, MapOf):
        for key, one in tree.items:
            yield from _called(key)
            yield from _called(one)
