"""The filter language of subscriptions: https://cloud.google.com/pubsub/docs/subscription-message-filter."""

import re
from collections.abc import Callable, Mapping

from laptop.errors import invalid

Filter = Callable[[Mapping[str, str]], bool]

MAX_BYTES = 256
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*") | (?P<word>[A-Za-z0-9_][A-Za-z0-9_\-]*) | (?P<sign>!=|[=:.,()\-]))""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|[xX]([0-9a-fA-F]{2})|([0-3][0-7]{2})|(.))", re.DOTALL)


def parse_filter(text: str) -> Filter:
    """Whether a message's attributes pass.

    Raises:
        ServiceError: INVALID_ARGUMENT, with the place that is wrong.
    """
    if len(text.encode()) > MAX_BYTES:
        raise invalid(f"filter: longer than {MAX_BYTES} bytes")
    return _Parser(text).whole()


class _Parser:
    """A filter is a term, or terms joined by AND, or terms joined by OR; parentheses are needed to mix the two."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        position = 0
        end = len(text.rstrip())
        while position < end:
            found = _TOKEN.match(text, position)
            if found is None:
                raise self._wrong("unexpected character", position)
            kind = found.lastgroup or ""
            self._tokens.append((kind, found.group(kind), found.start(kind)))
            position = found.end()
        self._tokens.append(("end", "", end))
        self._at = 0

    def whole(self) -> Filter:
        found = self._expression()
        if self._peek()[0] != "end":
            raise self._wrong("expected AND, OR or the end")
        return found

    def _expression(self) -> Filter:
        terms = [self._term()]
        joined = self._peek()[1]
        if joined not in ("AND", "OR"):
            return terms[0]
        while self._peek()[1] in ("AND", "OR"):
            if self._peek()[1] != joined:
                raise self._wrong("AND and OR need parentheses when they are mixed")
            self._at += 1
            terms.append(self._term())
        if joined == "AND":
            return lambda attributes: all(term(attributes) for term in terms)
        return lambda attributes: any(term(attributes) for term in terms)

    def _term(self) -> Filter:
        kind, text, _ = self._peek()
        if text == "-" or (kind, text) == ("word", "NOT"):
            self._at += 1
            inner = self._term()
            return lambda attributes: not inner(attributes)
        if text == "(":
            self._at += 1
            inner = self._expression()
            self._expect(")")
            return inner
        if (kind, text) == ("word", "hasPrefix"):
            return self._has_prefix()
        return self._comparison()

    def _has_prefix(self) -> Filter:
        self._at += 1
        self._expect("(")
        self._expect("attributes")
        self._expect(".")
        key = self._key()
        self._expect(",")
        prefix = self._string()
        self._expect(")")
        return lambda attributes: key in attributes and attributes[key].startswith(prefix)

    def _comparison(self) -> Filter:
        self._expect("attributes")
        sign = self._peek()[1]
        if sign == ":":
            self._at += 1
            present = self._key()
            return lambda attributes: present in attributes
        self._expect(".")
        key = self._key()
        operator = self._peek()[1]
        if operator not in ("=", "!="):
            raise self._wrong("expected = or !=")
        self._at += 1
        value = self._string()
        if operator == "=":
            return lambda attributes: key in attributes and attributes[key] == value
        return lambda attributes: key not in attributes or attributes[key] != value

    def _key(self) -> str:
        kind, text, _ = self._peek()
        if kind == "string":
            return self._string()
        if kind != "word":
            raise self._wrong("expected the key of an attribute")
        self._at += 1
        return text

    def _string(self) -> str:
        kind, text, _ = self._peek()
        if kind != "string":
            raise self._wrong("expected a string in double quotes")
        self._at += 1
        return _ESCAPE.sub(_unescape, text[1:-1])

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._at]

    def _expect(self, text: str) -> None:
        if self._peek()[1] != text:
            raise self._wrong(f"expected {text}")
        self._at += 1

    def _wrong(self, reason: str, position: int | None = None) -> Exception:
        place = self._tokens[self._at][2] if position is None else position
        return invalid(f"filter: {reason} at character {place + 1} of {self._text!r}")


def _unescape(found: re.Match[str]) -> str:
    short, long, byte, octal, other = found.groups()
    for digits in (short, long, byte):
        if digits:
            return chr(int(digits, 16))
    if octal:
        return chr(int(octal, 8))
    return _ESCAPES.get(other, other)
