"""What a row of the resource table is, and how two states of it are compared."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from lunation.clients import Clients

State = dict[str, Any]
"""The declared part of a resource, as JSON: what plan compares and prints."""

UNKNOWN = "(known after apply)"
"""Stands for a value that a resource further up will only have once it is there, such as a function's URL."""


class Resource(ABC):
    """One thing in the project.

    Args:
        name: its short name. ``kind/name`` is its address.
    """

    kind: str
    keeps_data = False
    """True for what ``destroy`` leaves alone unless it is named."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def address(self) -> str:
        """What plan prints, for example ``topic/records``."""
        return f"{self.kind}/{self.name}"

    @abstractmethod
    def desired(self, clients: Clients) -> State:
        """What it should be. Fields that are not declared here are the service's own business."""

    @abstractmethod
    def read(self, clients: Clients) -> State | None:
        """What it is; None if it is not there."""

    @abstractmethod
    def create(self, clients: Clients) -> None:
        """Make it."""

    @abstractmethod
    def update(self, clients: Clients, changed: list[str]) -> None:
        """Make the top-level fields ``changed`` as desired."""

    @abstractmethod
    def delete(self, clients: Clients) -> None:
        """Take it away."""


def state_of(message: Message | Any) -> State:
    """A protobuf (or proto-plus) message as JSON with the field names of the protobuf."""
    plain = type(message).pb(message) if hasattr(type(message), "pb") else message
    return json_format.MessageToDict(plain, preserving_proto_field_name=True)


def differences(desired: State, actual: State, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """``(field path, actual value, desired value)`` for every declared field that is not as declared.

    A field that the service adds is no difference; in a declared list every element counts.
    """
    for key, wanted in desired.items():
        path = f"{prefix}{key}"
        found = actual.get(key)
        if isinstance(wanted, dict) and isinstance(found, dict):
            yield from differences(wanted, found, f"{path}.")
        elif wanted != found and not (found is None and wanted in ("", 0, False, [], {})):
            yield path, found, wanted


def if_found(look: Callable[[], Any]) -> Any | None:
    """What ``look`` returns, or None if the service answers NOT_FOUND."""
    from google.api_core.exceptions import NotFound

    try:
        return look()
    except NotFound:
        return None
