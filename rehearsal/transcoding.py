"""The REST form of a gRPC call: which method of a discovery document it is, and what would stand where in its request.

The rule is the one that the client package has for its own REST transport (``google/api/http.proto``). A package that
has none (IAM, Monitoring) is matched by names: ``CreateRole`` is ``roles.create`` of what the request's fields name.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from laptop.surface import HttpRoute, Rpc
from rehearsal.documents import Binding, Document, Method

VARIABLE = re.compile(r"\{([^}=]+)=?([^}]*)\}")


@dataclass(frozen=True)
class Request:
    """What is checked.

    Args:
        method: which.
        path: what the path is filled with, by parameter.
        query: what follows the question mark, decoded.
        body: the JSON value; None if there is none.
    """

    method: Method
    path: dict[str, str]
    query: tuple[tuple[str, str], ...]
    body: Any


class NoRestFormError(Exception):
    """A call that has none, with the reason."""


def binding(route: HttpRoute) -> Binding:
    """Where a route is found in a document."""
    path = VARIABLE.sub(lambda found: found[2] or "*", route.uri)
    return route.method.upper(), re.sub(r"\*+", "{}", path).lstrip("/")


def in_rest(documents: Iterable[Document], rpc: Rpc, message: Message) -> Request:
    """The request that means the same over REST.

    Raises:
        NoRestFormError: no document has such a method, or what the message names fits none of its paths, or the
            message has no JSON form.
    """
    documents = list(documents)
    try:
        content = json_format.MessageToDict(message)
    except (json_format.Error, ValueError, TypeError) as error:
        raise NoRestFormError(f"it has no JSON form: {error}") from error
    for route in rpc.http:
        values = _filled(route, message)
        method = next((one.bindings[binding(route)] for one in documents if binding(route) in one.bindings), None)
        if method is not None and values is not None:
            body = _body(content, route, values)
            return Request(method, _by_place(method, values.values()), tuple(_query(content)), body)
    return _by_name(documents, rpc, message, content)


def _filled(route: HttpRoute, message: Message) -> dict[str, str] | None:
    """What the variables of a route's path hold; None if one is not of its form."""
    found = {}
    for name, template in VARIABLE.findall(route.uri):
        value: Any = message
        for part in name.split("."):
            value = getattr(value, part) if hasattr(value, part) else getattr(value, f"{part}_", "")
        glob = re.escape(template or "*").replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
        if not re.fullmatch(glob, str(value)):
            return None
        found[name] = str(value)
    return found


def _by_place(method: Method, values: Iterable[str]) -> dict[str, str]:
    """A document's path parameters stand where the rule's do, under names of their own."""
    return dict(zip(re.findall(r"\{\+?([^}]+)\}", method.template), values, strict=True))


def _body(content: dict[str, Any], route: HttpRoute, values: dict[str, str]) -> Any:
    """The body; what is left in ``content`` are the query's parameters."""
    body: Any = content.pop(_json(route.body), {}) if route.body and route.body != "*" else None
    for name in values:
        if "." not in name:  # what stands inside the body stays there, as the client packages send it
            content.pop(_json(name), None)
    if route.body == "*":
        body = dict(content)
        content.clear()
    return body


def _query(content: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _query(value, f"{before}{name}.")
        else:
            for one in value if isinstance(value, list) else [value]:
                yield f"{before}{name}", str(one).lower() if isinstance(one, bool) else str(one)


def _json(name: str) -> str:
    """The name in JSON of a message's field."""
    head, *tail = name.rstrip("_").split("_")
    return head + "".join(part.capitalize() for part in tail)


# --- without a rule


def _by_name(documents: list[Document], rpc: Rpc, message: Message, content: dict[str, Any]) -> Request:
    candidates = [method for document in documents for method in document.methods.values() if _means(method, rpc.name)]
    if not candidates:
        raise NoRestFormError(f"no such method is in {' or '.join(document.name for document in documents)}")
    wrong = []
    for method in sorted(candidates, key=lambda one: one.id.endswith(".patch")):  # an update, if there are both
        values = {name: _named(message, name) for name in method.path_parameters}
        forms = {name: one.get("pattern", "^[^/]+$") for name, one in method.path_parameters.items()}
        misfits = [name for name, form in forms.items() if not re.fullmatch(form, values[name])]
        if not misfits:
            return Request(method, values, *_rest(method, message, content, values))
        wrong += [f"path {name}: {values[name]!r} is not of the form {forms[name]}" for name in misfits]
    raise NoRestFormError(" or ".join(wrong))


def _means(method: Method, name: str) -> bool:
    """Whether ``monitoring.projects.alertPolicies.create`` is ``CreateAlertPolicy``."""
    *above, collection, verb = method.id.split(".")
    one = _one(collection)
    nouns = ["", collection, one, *(_one(above[-1]) + noun for noun in (collection, one) if above)]
    verbs = (verb, "update") if verb == "patch" else (verb,)
    return any(name.lower().replace(noun.lower(), "", 1) == each.lower() for noun in nouns for each in verbs)


def _one(collection: str) -> str:
    """One of a collection."""
    return re.sub(r"ies$", "y", collection) if collection.endswith("ies") else collection.removesuffix("s")


def _named(message: Message, parameter: str) -> str:
    """What the request says for a parameter: a field of its own, or of the resource that it carries."""
    for field in message.DESCRIPTOR.fields:
        if _json(field.name) == parameter and field.message_type is None:
            return str(getattr(message, field.name))
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE and not field.is_repeated and hasattr(value, parameter):
            return str(getattr(value, parameter))
    return ""


def _rest(
    method: Method, message: Message, content: dict[str, Any], values: dict[str, str]
) -> tuple[tuple[tuple[str, str], ...], Any]:
    """Query and body: the body is the whole request if its schema is called so, else the resource in it."""
    for name in values:
        content.pop(name, None)
    if method.request == message.DESCRIPTOR.name:
        return (), content
    body = None
    for field in message.DESCRIPTOR.fields:
        if method.request is not None and field.message_type is not None and field.message_type.name == method.request:
            body = content.pop(_json(field.name), {})
    return tuple(_query(content)), body
