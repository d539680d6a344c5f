"""From the text of a source to maps and lists that know their lines.

The types are those of JSON, as the service has them: ``no`` and ``2026-03-02`` are strings, ``010`` is ten.
"""

import re
from typing import Any

import yaml

from laptop.workflows.errors import SourceError

MAX_SOURCE_BYTES = 128 * 1024
MAX_WRITTEN_OUT = 4 * MAX_SOURCE_BYTES
"""Characters of keys and values when each alias is replaced by what it stands for: aliases could make a small source a
very large one, and each character has to be looked at."""
_HALF = re.compile("[\ud800-\udfff]")


class Map(dict[str, Any]):
    """A map; ``lines`` tells where each key stands."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class List(list[Any]):
    """A list; ``lines`` tells where each element stands."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as the base has it


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)


def read(text: str) -> Any:
    """The document.

    Raises:
        SourceError: too long, no YAML, or YAML that is no JSON.
    """
    size = len(text.encode())
    if size > MAX_SOURCE_BYTES:
        raise SourceError(f"the source has {size} bytes of at most {MAX_SOURCE_BYTES}")
    try:
        return _Reader().value(yaml.compose(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else None
        raise SourceError(f"the source is not YAML: {error.problem or error.context}", line) from error
    except (yaml.YAMLError, ValueError) as error:
        raise SourceError(f"the source is not YAML: {error}") from error
    except RecursionError:
        raise SourceError("the source is nested too deeply") from None


class _Reader:
    def __init__(self) -> None:
        self._written_out = 0

    def value(self, node: yaml.Node | None) -> Any:
        if node is None:
            return None
        line = _line(node)
        self._count(node, line)
        if isinstance(node, yaml.MappingNode):
            found = Map()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise SourceError("the key of a map must be a text", _line(key))
                self._count(key, line)
                name = _joined(key.value, _line(key))
                if name in found:
                    raise SourceError(f"the key {name!r} is there twice", _line(key))
                found[name] = self.value(value)
                found.lines[name] = _line(key)
            return found
        if isinstance(node, yaml.SequenceNode):
            items = List()
            for one in node.value:
                items.append(self.value(one))
                items.lines.append(_line(one))
            return items
        assert isinstance(node, yaml.ScalarNode)
        return _scalar(node, line)

    def _count(self, node: yaml.Node, line: int) -> None:
        self._written_out += 1 + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
        if self._written_out > MAX_WRITTEN_OUT:
            raise SourceError(
                f"with its aliases written out, the source has more than {MAX_WRITTEN_OUT} characters", line
            )


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _joined(text: str, line: int) -> str:
    """The text with ``\\ud83d\\ude00`` as one character: JSON writes it so, and YAML's parser leaves it in halves."""
    if _HALF.search(text) is None:
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise SourceError("a text has half a surrogate pair", line) from None


def _scalar(node: yaml.ScalarNode, line: int) -> Any:
    tag, text = node.tag.removeprefix("tag:yaml.org,2002:"), node.value
    if tag == "str":
        return _joined(text, line)
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() == "true"
    if tag == "int" and abs(int(text)) < 2**63:
        return int(text)
    if tag in ("int", "float"):
        return float(text)
    raise SourceError(f"the tag {node.tag} is not read here", line)
