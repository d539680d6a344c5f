"""``matchGlob``: https://cloud.google.com/storage/docs/json_api/v1/objects/list#list-objects-and-prefixes-using-glob."""

import re

from laptop.storage.errors import invalid

TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[[!^]?[^\]]+\]|\{[^{}]*\}|[^*?\[\]{}]+|.", re.DOTALL)
WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def glob(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression over the whole name.

    Raises:
        HttpError: 400.
    """
    try:
        return re.compile(_expression(pattern), re.DOTALL)
    except re.error as error:
        raise invalid(f"matchGlob: cannot read {pattern!r}: {error}") from None


def literal_prefix(pattern: str) -> str:
    """What every name that matches begins with."""
    return re.split(r"[*?\[{]", pattern)[0]


def _expression(pattern: str) -> str:
    return "".join(map(_token, TOKEN.findall(pattern)))


def _token(part: str) -> str:
    if part in WILD:
        return WILD[part]
    if part[0] == "[" and len(part) > 2:
        inner = part[1:-1].replace("\\", "\\\\").replace("[", "\\[")
        return f"(?!/)[{'^' + inner[1:] if inner[0] in '!^' else inner}]"
    if part[0] == "{" and len(part) > 1:
        return "(?:" + "|".join(map(_expression, part[1:-1].split(","))) + ")"
    if part in ("[", "]", "{", "}"):
        raise invalid(f"matchGlob: {part} without its other half")
    return re.escape(part)
