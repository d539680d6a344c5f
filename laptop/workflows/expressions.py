"""From tokens to a tree, and the value of a tree.

https://cloud.google.com/workflows/docs/reference/syntax/expressions and …/datatypes describe the rules.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from laptop.workflows.errors import SourceError, error
from laptop.workflows.lexer import Token, tokens

MAX_EXPRESSION = 400
_PRECEDENCE = {
    "or": 1, "and": 2, "in": 4, "==": 4, "!=": 4, "<": 4, "<=": 4, ">": 4, ">=": 4,
    "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6,
}  # fmt: skip


class Scope(Protocol):
    """Where an expression finds names and functions."""

    def look_up(self, name: str) -> Any:
        """The value of a variable."""
        ...

    def call(self, name: str, positional: list[Any], named: Mapping[str, Any]) -> Awaitable[Any]:
        """The result of a function."""
        ...


class Tree(Protocol):
    """A node of an expression."""

    async def value(self, scope: Scope) -> Any:
        """Its value.

        Raises:
            Raised: an error of the language.
        """
        ...


@dataclass(frozen=True)
class Literal:
    """A constant."""

    constant: Any

    async def value(self, scope: Scope) -> Any:
        """Itself."""
        return self.constant


@dataclass(frozen=True)
class Name:
    """A variable."""

    name: str

    async def value(self, scope: Scope) -> Any:
        """What it holds."""
        return scope.look_up(self.name)


@dataclass(frozen=True)
class ListOf:
    """A list."""

    items: tuple[Tree, ...]

    async def value(self, scope: Scope) -> Any:
        """Its elements' values."""
        return [await item.value(scope) for item in self.items]


@dataclass(frozen=True)
class MapOf:
    """A map."""

    items: tuple[tuple[Tree, Tree], ...]

    async def value(self, scope: Scope) -> Any:
        """Its entries' values."""
        return {await key.value(scope): await item.value(scope) for key, item in self.items}


@dataclass(frozen=True)
class Index:
    """``base[index]``, and ``base.name``, which is the same with a text."""

    base: Tree
    index: Tree

    async def value(self, scope: Scope) -> Any:
        """The element."""
        return element(await self.base.value(scope), await self.index.value(scope))


@dataclass(frozen=True)
class Call:
    """A function, ours or the workflow's own."""

    name: str
    positional: tuple[Tree, ...]
    named: tuple[tuple[str, Tree], ...]

    async def value(self, scope: Scope) -> Any:
        """What it returns."""
        positional = [await one.value(scope) for one in self.positional]
        return await scope.call(self.name, positional, {name: await one.value(scope) for name, one in self.named})


@dataclass(frozen=True)
class Unary:
    """``-x``, ``+x`` and ``not x``."""

    operator: str
    operand: Tree

    async def value(self, scope: Scope) -> Any:
        """The result."""
        operand = await self.operand.value(scope)
        if self.operator == "not":
            return not truth(operand, "not")
        if not is_number(operand):
            raise error("TypeError", f"unary {self.operator} does not take {type_name(operand)}")
        return -operand if self.operator == "-" else operand


@dataclass(frozen=True)
class Binary:
    """Two operands."""

    operator: str
    left: Tree
    right: Tree

    async def value(self, scope: Scope) -> Any:
        """The result; ``and`` and ``or`` look at the right side only if they must."""
        left = await self.left.value(scope)
        if self.operator in ("and", "or"):
            if truth(left, self.operator) == (self.operator == "or"):
                return left
            return truth(await self.right.value(scope), self.operator)
        return operate(self.operator, left, await self.right.value(scope))


def parse(text: str) -> Tree:
    """The tree of what stands between ``${`` and ``}``.

    Raises:
        SourceError: it is no expression, or longer than the service takes.
    """
    if len(text) > MAX_EXPRESSION:
        raise SourceError(f"the expression has {len(text)} characters of at most {MAX_EXPRESSION}: {text[:60]}…")
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._at = 0

    def whole(self) -> Tree:
        tree = self._binary(0)
        if self._now.kind != "end":
            raise self._unexpected()
        return tree

    @property
    def _now(self) -> Token:
        return self._tokens[self._at]

    def _unexpected(self) -> SourceError:
        found = repr(self._now.text) if self._now.kind != "end" else "the end"
        return SourceError(f"unexpected {found} at position {self._now.at} of ${{{self._text}}}")

    def _accept(self, *texts: str) -> bool:
        if self._now.kind in ("operator", "name") and self._now.text in texts:
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._unexpected()

    def _operator(self) -> str | None:
        token = self._now
        if token.kind == "name" and token.text == "not":
            following = self._tokens[self._at + 1]
            return "not in" if (following.kind, following.text) == ("name", "in") else None
        return token.text if token.kind in ("operator", "name") and token.text in _PRECEDENCE else None

    def _binary(self, least: int) -> Tree:
        left = self._unary()
        while (operator := self._operator()) is not None:
            strength = _PRECEDENCE["in" if operator == "not in" else operator]
            if strength < least:
                break
            self._at += 2 if operator == "not in" else 1
            right = self._binary(strength + 1)
            left = Unary("not", Binary("in", left, right)) if operator == "not in" else Binary(operator, left, right)
        return left

    def _unary(self) -> Tree:
        if self._accept("not"):
            return Unary("not", self._binary(3))
        if self._now.kind == "operator" and self._now.text in ("-", "+"):
            operator = self._now.text
            self._at += 1
            return Unary(operator, self._unary())
        return self._postfix()

    def _postfix(self) -> Tree:
        tree = self._primary()
        while True:
            if self._accept("["):
                index = self._binary(0)
                self._expect("]")
                tree = Index(tree, index)
            elif self._accept("."):
                if self._now.kind != "name":
                    raise self._unexpected()
                tree = Index(tree, Literal(self._now.text))
                self._at += 1
            elif self._now.text == "(" and self._now.kind == "operator":
                tree = self._call(tree)
            else:
                return tree

    def _call(self, function: Tree) -> Tree:
        name = dotted(function)
        if name is None:
            raise self._unexpected()
        self._expect("(")
        positional: list[Tree] = []
        while not self._accept(")"):
            positional.append(self._binary(0))
            if self._now.text != ")":
                self._expect(",")
        return Call(name, tuple(positional), ())

    def _primary(self) -> Tree:
        token = self._now
        self._at += 1
        if token.kind == "number":
            integer = token.text.isdecimal()
            return Literal(int(token.text) if integer else float(token.text))
        if token.kind == "string":
            return Literal(token.text)
        if token.kind == "name":
            constants = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
                         "null": None, "None": None}  # fmt: skip
            if token.text in constants:
                return Literal(constants[token.text])
            if token.text not in ("and", "or", "in", "not"):
                return Name(token.text)
        elif token.text == "(":
            tree = self._binary(0)
            self._expect(")")
            return tree
        elif token.text == "[":
            items: list[Tree] = []
            while not self._accept("]"):
                items.append(self._binary(0))
                if self._now.text != "]":
                    self._expect(",")
            return ListOf(tuple(items))
        elif token.text == "{":
            entries: list[tuple[Tree, Tree]] = []
            while not self._accept("}"):
                key = self._binary(0)
                self._expect(":")
                entries.append((key, self._binary(0)))
                if self._now.text != "}":
                    self._expect(",")
            return MapOf(tuple(entries))
        self._at -= 1
        raise self._unexpected()


def dotted(tree: Tree) -> str | None:
    """``a.b.c`` as a text, or None for anything else."""
    if isinstance(tree, Name):
        return tree.name
    if isinstance(tree, Index) and isinstance(tree.index, Literal) and isinstance(tree.index.constant, str):
        base = dotted(tree.base)
        return None if base is None else f"{base}.{tree.index.constant}"
    return None


# --- values


def type_name(value: Any) -> str:
    """A value's type, as ``get_type`` tells it."""
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "double"), (str, "string"), (bytes, "bytes"),
                       (list, "list"), (dict, "map")):  # fmt: skip
        if isinstance(value, kind):
            return name
    return "null"


def is_number(value: Any) -> bool:
    """An integer or a double; a boolean is neither."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def truth(value: Any, where: str) -> bool:
    """A boolean as it is; nothing else has a truth value."""
    if not isinstance(value, bool):
        raise error("TypeError", f"{where}: expected a boolean, got {type_name(value)}")
    return value


def element(base: Any, index: Any) -> Any:
    """``base[index]``."""
    if isinstance(base, dict):
        if not isinstance(index, str):
            raise error("TypeError", f"the key of a map is a string, not {type_name(index)}")
        if index not in base:
            raise error("KeyError", f"key not found: {index}")
        return base[index]
    if isinstance(base, list):
        if not isinstance(index, int) or isinstance(index, bool):
            raise error("TypeError", f"the index of a list is an integer, not {type_name(index)}")
        if not 0 <= index < len(base):
            raise error("IndexError", f"index out of range: {index} of {len(base)}")
        return base[index]
    raise error("TypeError", f"{type_name(base)} has no element {index!r}")


def operate(operator: str, left: Any, right: Any) -> Any:
    """The result of a binary operator other than ``and`` and ``or``."""
    if operator in ("==", "!="):
        same = _same(left, right)
        return same if operator == "==" else not same
    if operator == "in":
        if isinstance(right, dict):
            return left in right
        if isinstance(right, list):
            return any(_same(left, one) for one in right)
        raise error("TypeError", f"in: {type_name(right)} holds no elements")
    if operator in ("<", "<=", ">", ">="):
        if not ((is_number(left) and is_number(right)) or (isinstance(left, str) and isinstance(right, str))):
            raise error("TypeError", f"{operator}: cannot compare {type_name(left)} with {type_name(right)}")
        compare: dict[str, Callable[[Any, Any], bool]] = {
            "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
        }  # fmt: skip
        return compare[operator](left, right)
    if operator == "+" and isinstance(left, str) and isinstance(right, str):
        return left + right
    if not is_number(left) or not is_number(right):
        raise error("TypeError", f"{operator} does not take {type_name(left)} and {type_name(right)}")
    return _arithmetic(operator, left, right)


def _arithmetic(operator: str, left: Any, right: Any) -> Any:
    if operator in ("/", "//", "%") and right == 0:
        raise error("ZeroDivisionError", "division by zero")
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if operator == "/":
        return left / right
    if operator == "//":
        return left // right if isinstance(left, int) and isinstance(right, int) else float(math.floor(left / right))
    return left % right


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)
