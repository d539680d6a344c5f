"""From the text of an expression to tokens."""

import re
from dataclasses import dataclass

from laptop.workflows.errors import SourceError

_PATTERN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<number>(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\d+)
  | (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<operator>==|!=|<=|>=|//|[-+*/%<>()\[\]{},.:])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "$": "$", "/": "/", "b": "\b", "f": "\f"}


@dataclass(frozen=True)
class Token:
    """A piece of an expression.

    Args:
        kind: ``number``, ``string``, ``name``, ``operator`` or ``end``.
        text: as written; of a string, its value.
        at: position in the expression.
    """

    kind: str
    text: str
    at: int


def tokens(text: str) -> list[Token]:
    """The tokens of ``text``, ``end`` last.

    Raises:
        SourceError: a character that begins no token.
    """
    found = []
    at = 0
    while at < len(text):
        match = _PATTERN.match(text, at)
        if match is None and text[at] in "'\"":
            raise SourceError(f"a string stands between two double quotes; at position {at} of ${{{text}}}")
        if match is None:
            raise SourceError(f"unexpected {text[at]!r} at position {at} of ${{{text}}}")
        kind = match.lastgroup or ""
        if kind == "string":
            found.append(Token(kind, _unescaped(match.group()[1:-1], text), at))
        elif kind != "space":
            found.append(Token(kind, match.group(), at))
        at = match.end()
    return [*found, Token("end", "", len(text))]


def _unescaped(body: str, text: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match.group(1)
        if code.startswith("u") and len(code) == 5:
            return chr(int(code[1:], 16))
        if code not in _ESCAPES:
            raise SourceError(f"unknown escape \\{code} in ${{{text}}}")
        return _ESCAPES[code]

    plain = re.sub(r"\\(u[0-9a-fA-F]{4}|.)", one, body, flags=re.DOTALL)
    try:
        return plain.encode("utf-16", "surrogatepass").decode("utf-16")  # joins \\ud83d\\ude00
    except UnicodeDecodeError:
        raise SourceError(f"half a surrogate pair in ${{{text}}}") from None
