"""Google's discovery documents: the methods of each API with their paths, parameters and schemas, as Google publishes
them (https://developers.google.com/discovery/v1/reference/apis). google-api-python-client ships one for every API."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any
from urllib.parse import unquote

Schema = dict[str, Any]
Binding = tuple[str, str]
"""HTTP method and path, with ``{}`` for whatever is filled in: the same for a document and for a client's rule."""


@dataclass(frozen=True, eq=False)
class Method:
    """One method of an API."""

    document: "Document"
    id: str
    """For example ``pubsub.projects.topics.publish``."""
    verb: str
    """``GET`` and so on."""
    template: str
    """The path, such as ``v1/{+topic}:publish``, from the root of the host."""
    binding: Binding
    parameters: dict[str, Schema]
    request: str | None
    """The schema of the body; None if it takes none."""
    response: str | None
    uploads: tuple[str, ...] = ()
    """The templates at which it takes a file beside its body, or in place of it."""

    @property
    def changes(self) -> bool:
        """Whether it is sent a resource that is there already."""
        return self.verb in ("PATCH", "PUT")

    @property
    def path_parameters(self) -> dict[str, Schema]:
        """What the path is filled with."""
        return {name: one for name, one in self.parameters.items() if one.get("location") == "path"}

    def takes_file_at(self, path: str) -> bool:
        """Whether a path is one at which a file is sent."""
        return any(path.lstrip("/").startswith(one.partition("{")[0]) for one in self.uploads)

    @cached_property
    def patterns(self) -> list[re.Pattern[str]]:
        """What a path of a request looks like, at each address that the method has."""
        addresses = [self.template, *self.uploads]
        if self.document.serves_media(self.id):
            addresses.append(f"download/{self.template}")
        return [self._pattern(address) for address in addresses]

    def _pattern(self, template: str) -> re.Pattern[str]:
        parts = []
        for literal, name in re.findall(r"([^{]+)|\{\+?([^}]+)\}", template):
            if literal:
                parts.append(re.escape(literal))
            else:
                form = self.parameters.get(name, {}).get("pattern", "[^/]+")
                parts.append(f"(?P<{name}>{form.removeprefix('^').removesuffix('$')})")
        return re.compile("".join(parts))


class Document:
    """The document of one API.

    Args:
        name: ``pubsub.v1``.

    Raises:
        LookupError: google-api-python-client ships no such document.
    """

    def __init__(self, name: str) -> None:
        file = files("googleapiclient") / "discovery_cache" / "documents" / f"{name}.json"
        try:
            self._content = json.loads(file.read_bytes())
        except FileNotFoundError:
            raise LookupError(f"google-api-python-client ships no discovery document {name}") from None
        self.name = name
        self.schemas: dict[str, Schema] = self._content["schemas"]
        self.parameters: dict[str, Schema] = self._content["parameters"]

    @property
    def common(self) -> bool:
        """Whether Google's common front end serves it, with the rules of ``google/api/http.proto``.

        Cloud Storage's JSON API is older, and has rules of its own.
        """
        return "$.xgafv" in self.parameters

    def serves_media(self, method: str) -> bool:
        """Whether a method also gives an object's content, at an address of its own."""
        return method in self._media

    @cached_property
    def methods(self) -> dict[str, Method]:
        """All methods by id."""
        return {method["id"]: self._method(method) for method in _methods(self._content)}

    @cached_property
    def bindings(self) -> dict[Binding, Method]:
        """All methods by where they are found."""
        return {method.binding: method for method in self.methods.values()}

    def find(self, verb: str, path: str) -> tuple[Method, dict[str, str]] | None:
        """The method that a request means, and what its path is filled with; None if there is none.

        Args:
            path: as it is on the wire, without the host, percent signs and all.
        """
        for candidate in dict.fromkeys((path.lstrip("/"), unquote(path.lstrip("/")))):
            for method, pattern in self._patterns.get(verb, ()):
                if found := pattern.fullmatch(candidate):
                    return method, {name: unquote(value) for name, value in found.groupdict().items()}
        return None

    @cached_property
    def _patterns(self) -> dict[str, list[tuple[Method, re.Pattern[str]]]]:
        """By HTTP method; a literal part such as ``:publish`` outranks what is filled in, so the longest goes first."""
        found: dict[str, list[tuple[Method, re.Pattern[str]]]] = {}
        for method in sorted(self.methods.values(), key=lambda one: -len(re.sub(r"\{[^}]*\}", "", one.template))):
            found.setdefault(method.verb, []).extend((method, pattern) for pattern in method.patterns)
        return found

    @cached_property
    def _media(self) -> frozenset[str]:
        return frozenset(one["id"] for one in _methods(self._content) if one.get("useMediaDownloadService"))

    def _method(self, content: dict[str, Any]) -> Method:
        base = self._content["servicePath"]
        flat = base + content.get("flatPath", content["path"])
        protocols = content.get("mediaUpload", {}).get("protocols", {})
        return Method(
            document=self,
            id=content["id"],
            verb=content["httpMethod"],
            template=base + content["path"],
            binding=(content["httpMethod"], re.sub(r"\{[^}]*\}", "{}", flat)),
            parameters=content.get("parameters", {}),
            request=content.get("request", {}).get("$ref"),
            response=content.get("response", {}).get("$ref"),
            uploads=tuple(one["path"].lstrip("/") for one in protocols.values()),
        )


@cache
def document(name: str) -> Document:
    """The document called ``name``, read once.

    Raises:
        LookupError: there is none.
    """
    return Document(name)


def documents(names: Iterable[str]) -> Iterator[Document]:
    """Several, one after another, each read when it is its turn."""
    return (document(name) for name in names)


def _methods(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from resource.get("methods", {}).values()
    for below in resource.get("resources", {}).values():
        yield from _methods(below)
