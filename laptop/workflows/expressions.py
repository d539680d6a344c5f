"""From tokens to a tree, and the value of a tree.

https://cloud.google.com/workflows/docs/reference/syntax/expressions and …/datatypes describe the rules.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from laptop.workflows.errors import SourceError, error
from laptop.workflows.lexer import Token, tokens

T = TypeVar("T")

MAX_EXPRESSION = 400
MAX_INTEGER = 2**63 - 1
# https://cloud.google.com/workflows/docs/reference/syntax/datatypes#order_of_operations. "not" binds more tightly than
# all of these, unlike Python's: not a == b is (not a) == b.
_PRECEDENCE = {
    "or": 1, "and": 2, "in": 3, "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3,
    "+": 4, "-": 4, "*": 5, "/": 5, "//": 5, "%": 5,
}  # fmt: skip
_KEYWORDS = {"and": "and", "AND": "and", "or": "or", "OR": "or", "not": "not", "NOT": "not", "in": "in"}
_CONSTANTS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
              "null": None, "None": None}  # fmt: skip


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
            RaisedError: an error of the language.
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
        found = {}
        for key, item in self.items:
            name = await key.value(scope)
            if not isinstance(name, str):
                raise error("TypeError", f"the key of a map is a string, not {type_name(name)}")
            found[name] = await item.value(scope)
        return found


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
    """``-x`` and ``not x``."""

    operator: str
    operand: Tree

    async def value(self, scope: Scope) -> Any:
        """The result."""
        operand = await self.operand.value(scope)
        if self.operator == "not":
            return not truth(operand, "not")
        if not is_number(operand):
            raise error("TypeError", f"unary {self.operator} does not take {type_name(operand)}")
        return within(-operand)


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
    try:
        return _Parser(text).whole()
    except RecursionError:
        raise SourceError(f"the expression is nested too deeply: {text[:60]}…") from None


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
        text = _KEYWORDS.get(token.text, token.text) if token.kind == "name" else token.text
        return text if token.kind in ("operator", "name") and text in _PRECEDENCE else None

    def _binary(self, least: int) -> Tree:
        left = self._unary()
        while (operator := self._operator()) is not None:
            strength = _PRECEDENCE[operator]
            if strength < least:
                break
            self._at += 1
            left = Binary(operator, left, self._binary(strength + 1))
        return left

    def _unary(self) -> Tree:
        if self._now.kind == "name" and _KEYWORDS.get(self._now.text) == "not":
            self._at += 1
            return Unary("not", self._unary())
        if self._accept("-"):
            return Unary("-", self._unary())
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
        return Call(name, self._until(")", lambda: self._binary(0)), ())

    def _until(self, close: str, one: Callable[[], T]) -> tuple[T, ...]:
        """What stands between commas, up to ``close``."""
        found: list[T] = []
        if self._accept(close):
            return ()
        while True:
            found.append(one())
            if self._accept(close):
                return tuple(found)
            self._expect(",")

    def _entry(self) -> tuple[Tree, Tree]:
        key = self._binary(0)
        self._expect(":")
        return key, self._binary(0)

    def _primary(self) -> Tree:
        token = self._now
        self._at += 1
        if token.kind == "number":
            number = int(token.text) if token.text.isdecimal() else float(token.text)
            if isinstance(number, int) and number > MAX_INTEGER:
                raise SourceError(f"{token.text} is too large for a 64-bit integer, in ${{{self._text}}}")
            return Literal(number)
        if token.kind == "string":
            return Literal(token.text)
        if token.kind == "name":
            if token.text in _CONSTANTS:
                return Literal(_CONSTANTS[token.text])
            if token.text not in _KEYWORDS:
                return Name(token.text)
        elif token.text == "(":
            tree = self._binary(0)
            self._expect(")")
            return tree
        elif token.text == "[":
            return ListOf(self._until("]", lambda: self._binary(0)))
        elif token.text == "{":
            return MapOf(self._until("}", self._entry))
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


def text_of(value: Any) -> str:
    """A value as ``string()`` and ``+`` write it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value):
        return repr(value)
    raise error("TypeError", f"{type_name(value)} has no text")


def within(value: Any) -> Any:
    """A number as it is, unless it is an integer of more than 64 bits."""
    if isinstance(value, int) and not -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
        raise error("ValueError", "the result is too large for a 64-bit integer")
    return value


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
            return isinstance(left, str) and left in right
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
    if operator == "+" and (isinstance(left, str) or isinstance(right, str)):
        return text_of(left) + text_of(right)
    if not is_number(left) or not is_number(right):
        raise error("TypeError", f"{operator} does not take {type_name(left)} and {type_name(right)}")
    return within(_arithmetic(operator, left, right))


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
        return left // right
    return left % right


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(_same(one, other) for one, other in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    return bool(left == right)
