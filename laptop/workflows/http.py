"""``http.*``: requests as the service makes them, and its errors.

https://cloud.google.com/workflows/docs/reference/stdlib/http/request
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp

from laptop.workflows.errors import RaisedError, error
from laptop.workflows.expressions import is_number, text_of, type_name
from laptop.workflows.values import json_value

MAX_SECONDS = 1800.0
SECONDS = 300.0
MAX_RESPONSE_BYTES = 2 * 1024 * 1024
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
FORM = "application/x-www-form-urlencoded"
USER_AGENT = "GoogleCloudWorkflows; (+https://cloud.google.com/workflows/docs)"
"""The default, and what is appended to a value of the workflow's own:
https://cloud.google.com/workflows/docs/http-requests#invoke_an_http_endpoint."""
Authorize = Callable[[str, str | None, str], str]


@dataclass
class Request:
    """What is to be sent.

    Args:
        auth: type and audience (None: not named), or None.
    """

    method: str
    url: str
    headers: dict[str, str]
    query: list[tuple[str, str]]
    data: bytes | None
    auth: tuple[str, str | None] | None
    seconds: float


def request(method: Any, arguments: Mapping[str, Any]) -> Request:
    """The request that a call's arguments mean.

    Raises:
        RaisedError: a TypeError or ValueError of the language.
    """
    name = f"http.{str(method).lower()}"
    if not isinstance(method, str) or method.upper() not in METHODS:
        raise error("ValueError", f"http.request: {method!r} is none of {', '.join(sorted(METHODS))}")
    url = arguments["url"]
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise error("ValueError", f"{name}: {url!r} is no URL")
    headers = dict(_map(arguments, "headers", name))
    for key, value in headers.items():
        if not isinstance(value, str):
            raise error("TypeError", f"{name}: the header {key} must be a string, not {type_name(value)}")
    agent = next((key for key in headers if key.lower() == "user-agent"), "User-Agent")
    headers[agent] = f"{headers.get(agent, '')} {USER_AGENT}".lstrip()
    query = []
    for key, value in _map(arguments, "query", name).items():
        query += [(key, text_of(one)) for one in (value if isinstance(value, list) else [value])]
    seconds = arguments.get("timeout", SECONDS)
    if not is_number(seconds) or not 0 < seconds <= MAX_SECONDS:
        raise error("ValueError", f"{name}: timeout must be more than 0 and at most {MAX_SECONDS:.0f} seconds")
    data = _encoded(arguments.get("body"), headers, name)
    return Request(method.upper(), url, headers, query, data, _auth(arguments, name), float(seconds))


class Client:
    """Sends requests.

    Args:
        session: the HTTP client.
        authorize: gives the Authorization header for a type, an audience or None, and a URL.
    """

    def __init__(self, session: aiohttp.ClientSession, authorize: Authorize) -> None:
        self._session = session
        self._authorize = authorize

    async def send(self, wanted: Request) -> dict[str, Any]:
        """The response: ``code``, ``headers``, ``body``.

        Raises:
            RaisedError: HttpError, TimeoutError, ConnectionFailedError, ConnectionError, ResourceLimitError.
        """
        headers = dict(wanted.headers)
        if wanted.auth is not None:
            headers["Authorization"] = self._authorize(*wanted.auth, wanted.url)
        try:
            async with self._session.request(
                wanted.method,
                wanted.url,
                params=wanted.query,
                headers=headers,
                data=wanted.data,
                timeout=aiohttp.ClientTimeout(total=wanted.seconds, sock_connect=10),
            ) as response:
                content = await _read(response, wanted.url)
                answer = {
                    "code": response.status,
                    "headers": {key.title(): value for key, value in response.headers.items()},
                    "body": _decoded(content, response.headers.get("Content-Type", "")),
                }
        except TimeoutError:
            raise error("TimeoutError", f"no answer from {wanted.url} in time") from None
        except aiohttp.ClientConnectorError as cause:
            raise error("ConnectionFailedError", str(cause)) from None
        except (aiohttp.ClientError, OSError) as cause:
            raise error("ConnectionError", f"{type(cause).__name__}: {cause}") from None
        except ValueError as cause:
            raise error("ValueError", f"{wanted.url}: {cause}") from None
        if answer["code"] >= 400:
            raise RaisedError({"message": f"HTTP server responded with error code {answer['code']}",
                          "tags": ["HttpError"], **answer})  # fmt: skip
        return answer


def _map(arguments: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    value = arguments.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise error("TypeError", f"{name}: {key} must be a map, not {type_name(value)}")
    return value


def _auth(arguments: Mapping[str, Any], name: str) -> tuple[str, str | None] | None:
    auth = _map(arguments, "auth", name)
    if not auth:
        return None
    if auth.get("type") not in ("OIDC", "OAuth2"):
        raise error("ValueError", f"{name}: auth.type is {auth.get('type')!r}, none of OIDC, OAuth2")
    return auth["type"], auth.get("audience")


def _encoded(body: Any, headers: dict[str, str], name: str) -> bytes | None:
    """The body as bytes; without a Content-Type among ``headers``, these get one."""
    if body is None:
        return None
    kind = next((value for key, value in headers.items() if key.lower() == "content-type"), None)
    if isinstance(body, bytes):
        if kind is None:
            headers["Content-Type"] = "application/octet-stream"
        return body
    if kind is not None and isinstance(body, str):
        return body.encode()
    if kind is not None and kind.startswith(FORM):
        if not isinstance(body, dict):
            raise error("TypeError", f"{name}: the body of a form is a map, not {type_name(body)}")
        return urlencode({key: text_of(value) for key, value in body.items()}).encode()
    if kind is None:
        headers["Content-Type"] = "application/json; charset=utf-8"
    elif "json" not in kind:
        raise error("ValueError", f"{name}: a {type_name(body)} cannot be sent as {kind}")
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as cause:
        raise error("ValueError", f"{name}: the body cannot be sent as JSON: {cause}") from None


async def _read(response: aiohttp.ClientResponse, url: str) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        content += chunk
        if len(content) > MAX_RESPONSE_BYTES:
            raise error("ResourceLimitError", f"the answer of {url} has more than {MAX_RESPONSE_BYTES >> 20} MB")
    return bytes(content)


def _decoded(content: bytes, content_type: str) -> Any:
    if "json" in content_type:
        try:
            return json_value(content.decode(errors="replace")) if content else None
        except (ValueError, RecursionError):
            return content.decode(errors="replace")
    if content_type.startswith("text/"):
        return content.decode(errors="replace")
    return content
