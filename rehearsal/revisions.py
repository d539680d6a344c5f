"""Which revisions of a message's schema Pub/Sub takes.

https://cloud.google.com/pubsub/docs/commit-schema-revision: "For a Protocol Buffer schema, you can add or remove
optional fields. You can't add or remove other fields. You also can't edit any existing field." and "A schema can have a
maximum of 20 revisions at a time." The page does not give the words of a refusal, so those here are our own.
"""

import re

MOST_REVISIONS = 20
_FIELD = re.compile(r"^\s*(?:(optional|repeated|required)\s+)?([\w.<>, ]+?)\s+(\w+)\s*=\s*(\d+)\s*;")
_BEGIN = re.compile(r"^\s*(?:message|enum|oneof)\s+(\w+)\s*\{")


def refused(before: str, after: str) -> str:
    """Why a revision is refused; empty if it is not.

    Args:
        before: the newest revision, in the Protocol Buffers form.
        after: what is to be the next one.
    """
    old, new = _fields(before), _fields(after)
    for name in sorted(old.keys() | new.keys()):
        was, will_be = old.get(name), new.get(name)
        if was == will_be:
            continue
        if was is not None and will_be is not None:
            return f"field {name} cannot be changed, from {was!r} to {will_be!r}"
        if not (was or will_be or "").startswith("optional "):
            return f"field {name} is not optional, and so cannot be {'removed' if will_be is None else 'added'}"
    return ""


def _fields(definition: str) -> dict[str, str]:
    """What each field is declared as, by its name with those of the messages around it."""
    found: dict[str, str] = {}
    inside: list[str] = []
    for line in definition.splitlines():
        begin, field = _BEGIN.match(line), _FIELD.match(line)
        if begin:
            inside.append(begin.group(1))
        elif field:
            label, kind, name, number = field.groups()
            found[".".join([*inside, name])] = f"{label or ''} {kind} = {number}".strip()
        elif line.strip() == "}":
            inside.pop()
    return found
