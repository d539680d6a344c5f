"""The REST form of an API: paths, query parameters and JSON bodies to messages and back, as Google transcodes them.

The rules are those of ``google/api/http.proto``.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from laptop.documents import ContentTypeError, DocumentError, received
from laptop.errors import ServiceError, invalid, refused
from laptop.surface import HttpRoute, Rpc

# https://cloud.google.com/apis/docs/system-parameters: not fields of the request.
SYSTEM_PARAMETERS = {
    "alt", "access_token", "callback", "fields", "key", "prettyPrint", "quotaUser", "uploadType", "upload_protocol",
    "oauth_token", "userProject", "$.xgafv",
}  # fmt: skip

Call = Callable[[Rpc, Message], Awaitable[Message]]


class RestRouter:
    """Finds the RPC that a REST request means.

    Args:
        rpcs: the RPCs to expose.
        call: answers one RPC.
    """

    def __init__(self, rpcs: Iterable[Rpc], call: Call) -> None:
        self._call = call
        # A literal part such as ":publish" or "/v1/" outranks a wildcard, so the longest literal goes first.
        self._routes = sorted(
            (
                (re.sub(r"\{[^}]*\}", "", route.uri), _pattern(route.uri), route, rpc)
                for rpc in rpcs
                for route in rpc.http
            ),
            key=lambda row: (":" in row[0], len(row[0])),
            reverse=True,
        )

    async def answer(self, request: web.Request) -> web.Response:
        """Answer ``request``; 404 in Google's form if no binding fits."""
        try:
            route, rpc, bound = self._match(request.method.lower(), request.raw_path.partition("?")[0])
            content = await received(request) if route.body else {}
            message = _request_message(rpc, route, bound, request, content)
            response = await self._call(rpc, message)
            return _json_response(response, request)
        except ServiceError as error:
            return web.json_response(error.body(), status=error.http_status)
        except ContentTypeError as error:
            return web.json_response(refused(415, f"{rpc.name}: {error}"), status=415)
        except DocumentError as error:
            return web.json_response(invalid(f"{rpc.name}: the body is not JSON: {error}").body(), status=400)

    def _match(self, method: str, path: str) -> tuple[HttpRoute, Rpc, dict[str, str]]:
        for candidate in (path, unquote(path)):
            for _, pattern, route, rpc in self._routes:
                if route.method == method and (found := pattern.fullmatch(candidate)):
                    fields = {key.replace("__", "."): unquote(value) for key, value in found.groupdict().items()}
                    return route, rpc, fields
        raise ServiceError(
            "UNIMPLEMENTED",
            f"{method.upper()} {path}: this server has no such method. LIMITATIONS.md lists what it answers",
        )


def _pattern(uri: str) -> re.Pattern[str]:
    parts = []
    for literal, variable in re.findall(r"([^{]+)|\{([^}]*)\}", uri):
        if literal:
            parts.append(re.escape(literal))
        else:
            name, _, template = variable.partition("=")
            glob = re.escape(template or "*").replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
            parts.append(f"(?P<{name.replace('.', '__')}>{glob})")
    return re.compile("".join(parts))


def _request_message(rpc: Rpc, route: HttpRoute, bound: dict[str, str], request: web.Request, content: Any) -> Message:
    if not isinstance(content, dict):
        raise invalid(f"{rpc.name}: the body must be a JSON object")
    for name in route.beyond:
        content.pop(name, None)
    document: dict[str, Any] = content
    if route.body not in (None, "*"):
        document = {route.body: content} if content else {}
    descriptor: Descriptor = rpc.request.DESCRIPTOR
    for key in dict.fromkeys(request.query):
        if key not in SYSTEM_PARAMETERS and not key.startswith("$"):
            _bind(rpc, descriptor, document, key, request.query.getall(key))
    for key, value in bound.items():
        _bind(rpc, descriptor, document, key, [value])
    try:
        return json_format.ParseDict(document, rpc.request())
    except json_format.ParseError as error:
        raise invalid(f"{rpc.name}: {error}") from error


def _bind(rpc: Rpc, descriptor: Descriptor, document: dict[str, Any], path: str, values: list[str]) -> None:
    *parents, last = path.split(".")
    for name in parents:
        field = _field(rpc, descriptor, name, path)
        if field.message_type is None:
            raise invalid(f"{rpc.name}: {path}: {name} has no fields")
        # The body may spell a field in camel case; one spelling in the document, or the parser sees two.
        document = document.setdefault(_spelling(document, field), {})
        descriptor = field.message_type
    field = _field(rpc, descriptor, last, path)
    typed = [_scalar(field, value) for value in values]
    document[_spelling(document, field)] = typed if _repeated(field) else typed[-1]


def _repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _spelling(document: dict[str, Any], field: FieldDescriptor) -> str:
    return field.json_name if field.json_name in document else field.name


def _field(rpc: Rpc, descriptor: Descriptor, name: str, path: str) -> FieldDescriptor:
    for field in descriptor.fields:
        if name in (field.name, field.json_name):
            return field
    raise invalid(f'{rpc.name}: unknown name "{path}": cannot bind query parameter')


def _scalar(field: FieldDescriptor, value: str) -> Any:
    if field.type == FieldDescriptor.TYPE_BOOL:
        if value.lower() not in ("true", "false"):
            raise invalid(f"{field.name}: expected true or false, got {value!r}")
        return value.lower() == "true"
    return value


def _json_response(message: Message, request: web.Request) -> web.Response:
    alt = request.query.get("$alt", "") + request.query.get("alt", "")
    document = json_format.MessageToDict(message, use_integers_for_enums="enum-encoding=int" in alt)
    if fields := request.query.get("fields"):
        document = select(document, fields)
    return web.json_response(document)


def select(document: Any, fields: str) -> Any:
    """The part of ``document`` that a ``fields`` parameter such as ``done,metadata.state,jobs(id,state)`` names."""
    chosen: dict[str, str | None] = {}
    for part in _split(fields):
        head = re.match(r"[^./(]+", part)
        if head is None:
            raise invalid(f"fields: cannot read {fields!r}")
        rest = part[head.end() :]
        if rest.startswith("(") and rest.endswith(")"):
            rest = rest[1:-1]
        rest = rest.lstrip("./")
        before = chosen.get(head.group(), "")
        chosen[head.group()] = (
            None if not rest or before is None else ",".join(filter(None, [chosen.get(head.group()) or "", rest]))
        )
    if isinstance(document, list):
        return [select(item, fields) for item in document]
    if not isinstance(document, dict):
        return document
    if "*" in chosen:
        return document
    return {
        key: value if chosen[key] is None else select(value, chosen[key] or "")
        for key, value in document.items()
        if key in chosen
    }


def _split(fields: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for index, character in enumerate(fields):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(fields[start:index])
            start = index + 1
    return [*parts, fields[start:]]
