"""Partial responses: the query parameter ``fields`` names what an answer shall have.

Grammar: https://cloud.google.com/storage/docs/json_api#partial-response
"""

import re
from typing import Any

from laptop.storage.errors import invalid

Mask = dict[str, Any]
"""What is wanted: a field's name with the mask of what is below it; an empty one wants all of it."""

TOKEN = re.compile(r"[\w*-]+|[,/()]")


def mask(fields: str) -> Mask:  # noqa: C901  # a parser with its grammar in one place
    """Parse ``fields``, such as ``items(name,md5Hash),nextPageToken`` or ``items/name``; an empty one wants all.

    Raises:
        HttpError: 400, it is not of that form.
    """
    if not fields:
        return {}
    tokens = TOKEN.findall(fields)
    if "".join(tokens) != re.sub(r"\s", "", fields):
        raise _malformed(fields)
    tokens.append("")

    def selection(end: str) -> Mask:
        found: Mask = {}
        while True:
            below, inner = found, found
            while True:
                name = tokens.pop(0)
                if not re.match(r"[\w*]", name):
                    raise _malformed(fields)
                below, inner = inner, inner.setdefault(name, {})
                if tokens[0] != "/":
                    break
                tokens.pop(0)
            if tokens[0] == "(":
                tokens.pop(0)
                below[name] = inner | selection(")")
            mark = tokens.pop(0)
            if mark == end:
                return found
            if mark != ",":
                raise _malformed(fields)

    try:
        return selection("")
    except RecursionError:
        raise _malformed(fields) from None


def pick(value: Any, wanted: Mask) -> Any:
    """``value`` with nothing but what is ``wanted``; of a list, of each of its items."""
    if not wanted or ("*" in wanted and not wanted["*"]):
        return value
    if isinstance(value, list):
        return [pick(item, wanted) for item in value]
    if not isinstance(value, dict):
        return value
    if "*" in wanted:
        return {name: pick(item, wanted["*"]) for name, item in value.items()}
    return {name: pick(value[name], inner) for name, inner in wanted.items() if name in value}


def _malformed(fields: str) -> Exception:
    return invalid(f"fields: {fields!r} is no list of fields, such as items(name,size),nextPageToken")
