"""What an API looks like on the wire, read out of Google's own client packages.

Each generated client knows every RPC's gRPC path and message types (its gRPC transport) and the REST paths that
the documentation gives it (its REST transport). Reading both spares us a hand-written second list that could be
wrong.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import grpc
from google.cloud.location import locations_pb2
from google.iam.v1 import iam_policy_pb2
from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

# The generated stubs of these shared interfaces use plain protobuf classes, whose serializer does not tell its class.
_MIXIN_REQUESTS: dict[str, type[Message]] = {
    "SetIamPolicy": iam_policy_pb2.SetIamPolicyRequest,
    "GetIamPolicy": iam_policy_pb2.GetIamPolicyRequest,
    "TestIamPermissions": iam_policy_pb2.TestIamPermissionsRequest,
    "GetOperation": operations_pb2.GetOperationRequest,
    "ListOperations": operations_pb2.ListOperationsRequest,
    "CancelOperation": operations_pb2.CancelOperationRequest,
    "DeleteOperation": operations_pb2.DeleteOperationRequest,
    "WaitOperation": operations_pb2.WaitOperationRequest,
    "GetLocation": locations_pb2.GetLocationRequest,
    "ListLocations": locations_pb2.ListLocationsRequest,
}


@dataclass(frozen=True)
class HttpRoute:
    """One REST binding of an RPC, as in ``google.api.http``."""

    method: str
    """Lower case, as the client packages write it."""
    uri: str
    """For example ``/v1/{topic=projects/*/topics/*}:publish``."""
    body: str | None = None
    """The request field that the body fills, ``*`` for the whole request, None if there is no body."""
    beyond: tuple[str, ...] = ()
    """Fields of the body that the API documents and the client package does not know; they have no effect."""


@dataclass(frozen=True)
class Rpc:
    """One method of a Google API."""

    path: str
    """The gRPC path, for example ``/google.pubsub.v1.Publisher/Publish``."""
    request: type[Message]
    response: type[Message]
    request_streaming: bool
    response_streaming: bool
    http: tuple[HttpRoute, ...]

    @property
    def service(self) -> str:
        """The interface, for example ``google.pubsub.v1.Publisher``."""
        return self.path.split("/")[1]

    @property
    def name(self) -> str:
        """The method, for example ``CreateTopic``."""
        return self.path.split("/")[2]

    @property
    def handler(self) -> str:
        """The name of the Python method that answers it, for example ``create_topic``."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", self.name).lower()


def rpcs_of(client: type[Any], http: Mapping[str, Iterable[HttpRoute]] | None = None) -> list[Rpc]:
    """Every RPC that a generated client can call.

    Args:
        client: for example ``google.pubsub_v1.PublisherClient``.
        http: REST bindings by RPC name, for a client package that ships none (Workflow Executions).
    """
    recorder = _Recorder()
    transport_class = client.get_transport_class("grpc")
    transport = transport_class(channel=recorder)
    # The logging interceptor in between makes stubs only when they are called; without it, at once.
    transport._logged_channel, transport._stubs = recorder, {}  # noqa: SLF001  # generated code has no other door
    for name in dir(transport_class):
        if not name.startswith("_") and isinstance(getattr(transport_class, name), property):
            getattr(transport, name)  # makes the stub, which tells the recorder its path and types
    bindings = dict(http or {}) or _rest_bindings(transport_class)
    rpcs = []
    for path, (request, response, request_streaming, response_streaming) in sorted(recorder.calls.items()):
        name = path.rsplit("/", 1)[1]
        request_class = _message_class(request) or _MIXIN_REQUESTS.get(name)
        response_class = _message_class(response) or (Empty if name in _MIXIN_REQUESTS else None)
        if request_class is None or response_class is None:
            raise TypeError(f"{path}: the client package does not tell the message types")
        rpcs.append(
            Rpc(
                path,
                request_class,
                response_class,
                request_streaming,
                response_streaming,
                tuple(bindings.get(name, ())),
            )
        )
    return rpcs


def _message_class(method: Any) -> type[Message] | None:
    owner = getattr(method, "__self__", None)
    if owner is None:
        return None
    if isinstance(owner, type) and issubclass(owner, Message):
        return owner
    return owner.pb()  # proto-plus: the plain class beneath is several times faster


def _rest_bindings(transport_class: type[Any]) -> dict[str, list[HttpRoute]]:
    package = transport_class.__module__.rsplit(".", 1)[0]
    try:
        module: ModuleType = import_module(f"{package}.rest_base")
    except ModuleNotFoundError:
        return {}
    (base,) = [
        value for name, value in vars(module).items() if name.startswith("_Base") and name.endswith("RestTransport")
    ]
    found = {}
    for name, member in vars(base).items():
        options = getattr(member, "_get_http_options", None)
        if name.startswith("_Base") and options is not None:
            found[name.removeprefix("_Base")] = [
                HttpRoute(option["method"], option["uri"], option.get("body")) for option in options()
            ]
    return found


class _Recorder(grpc.Channel):
    """A channel that only notes which stubs a transport makes."""

    def __init__(self) -> None:
        self.calls: dict[str, tuple[Any, Any, bool, bool]] = {}

    def _note(self, path: str, request: Any, response: Any, streams: tuple[bool, bool]) -> Any:
        self.calls[path] = (request, response, *streams)
        return lambda *_args, **_kwargs: None

    def unary_unary(self, method, request_serializer=None, response_deserializer=None, *_, **__):  # type: ignore[no-untyped-def]
        return self._note(method, request_serializer, response_deserializer, (False, False))

    def unary_stream(self, method, request_serializer=None, response_deserializer=None, *_, **__):  # type: ignore[no-untyped-def]
        return self._note(method, request_serializer, response_deserializer, (False, True))

    def stream_unary(self, method, request_serializer=None, response_deserializer=None, *_, **__):  # type: ignore[no-untyped-def]
        return self._note(method, request_serializer, response_deserializer, (True, False))

    def stream_stream(self, method, request_serializer=None, response_deserializer=None, *_, **__):  # type: ignore[no-untyped-def]
        return self._note(method, request_serializer, response_deserializer, (True, True))

    def subscribe(self, callback, try_to_connect=False):  # type: ignore[no-untyped-def]
        """Nothing to watch."""

    def unsubscribe(self, callback):  # type: ignore[no-untyped-def]
        """Nothing to watch."""

    def close(self) -> None:
        """Nothing to close."""

    def __enter__(self):  # type: ignore[no-untyped-def]
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""
