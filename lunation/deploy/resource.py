"""What a row of the resource table is, and how two states of it are compared."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from lunation.clients import Clients

State = dict[str, Any]
"""The declared part of a resource, as JSON: what plan compares and prints."""

UNKNOWN = "(known after apply)"
"""Stands for a value that a resource further up will only have once it is there, such as a function's URL."""

SYSTEM = {"system": "lunation"}
"""The label of everything that a deployment makes, where a resource can have one."""


class Resource(ABC):
    """One thing in the project.

    A kind says about itself, beside how it is made, all that a reader of the plan may ask; a test walks the table and
    fails for a row without an answer.

    Args:
        name: its short name. ``kind/name`` is its address.
    """

    kind: ClassVar[str]
    about: ClassVar[str]
    """What a thing of this kind is for here, in half a sentence."""
    service: ClassVar[str]
    """Which of the target's services it belongs to. A target without that service has no such row."""
    api: ClassVar[str]
    """The API that must be on, for example ``pubsub.googleapis.com``."""
    managed_with: ClassVar[str]
    """The role that lets somebody deploy it."""
    fixed: ClassVar[frozenset[str]] = frozenset()
    """Fields that the service never changes: another value means another resource in its place."""
    holds: ClassVar[str] = ""
    """What is lost with it when it is replaced or deleted, though it is no data that ``destroy`` spares."""
    exact: ClassVar[frozenset[str]] = frozenset()
    """Paths of maps in which an entry that is not declared is a difference, too."""
    rewritten: ClassVar[frozenset[str]] = frozenset()
    """Paths that are sent and not compared, for the service answers with something of its own."""
    told: ClassVar[frozenset[str]] = frozenset()
    """Fields that only the service sets, such as a state: compared, and never sent."""
    needed_by_none: ClassVar[bool] = False
    """True for what nothing further down needs: if it cannot be made, the rest is made all the same."""
    keeps_data = False
    """True for what ``destroy`` leaves alone unless it is named."""
    stays: ClassVar[str | None] = None
    """Why ``destroy`` leaves it even when it keeps no data; None if it does not."""
    within: str = ""
    """The address of what it is a part of: replaced, that takes it along."""
    owner: str = ""
    """The unit that it belongs to, set by :func:`owned`."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def address(self) -> str:
        """What plan prints, for example ``topic/records``."""
        return f"{self.kind}/{self.name}"

    def summary(self, clients: Clients) -> str:
        """What it will be, in a line, for the plan that creates it."""
        parts = [f"{key} {_brief(value)}" for key, value in self.sent(clients).items() if key != "labels" and value]
        return ", ".join(parts)

    def differences(self, clients: Clients, actual: State) -> list[tuple[str, Any, Any]]:
        """``(field path, as it is, as it should be)`` of all that is not as declared."""
        found = differences(self.desired(clients), actual, exact=self.exact)
        return [one for one in found if not any(_within(one[0], path) for path in self.rewritten)]

    def sent(self, clients: Clients) -> State:
        """What is declared, without what only the service sets."""
        return {key: value for key, value in self.desired(clients).items() if key not in self.told}

    @abstractmethod
    def desired(self, clients: Clients) -> State:
        """What it should be. Fields that are not declared here are the service's own business."""

    @abstractmethod
    def read(self, clients: Clients) -> State | None:
        """What it is; None if it is not there."""

    @abstractmethod
    def create(self, clients: Clients) -> None:
        """Make it.

        Raises:
            lunation.deploy.settling.NotYetError: not yet; this and the two below.
        """

    @abstractmethod
    def update(self, clients: Clients, changed: list[str]) -> None:
        """Make the top-level fields ``changed`` as desired."""

    @abstractmethod
    def delete(self, clients: Clients) -> None:
        """Take it away."""

    def clear_up(self, clients: Clients) -> None:  # noqa: B027 - most kinds leave nothing behind
        """Delete what those before it left behind, when all is made. It may fail: the next deployment tries again."""

    @classmethod
    def ours(cls, clients: Clients) -> Iterator["Resource"]:
        """What there is of this kind that an earlier deployment made, as rows that can be deleted.

        A kind whose things cannot be told from other people's has none.
        """
        yield from ()

    @classmethod
    def named(cls, name: str) -> "Resource":
        """A row of which only the name is known: enough to delete it."""
        row = cls.__new__(cls)
        Resource.__init__(row, name)
        return row


Row = TypeVar("Row", bound=Resource)


def owned(unit: str, *rows: Row) -> tuple[Row, ...]:
    """``rows``, which belong to ``unit``."""
    for row in rows:
        row.owner = unit
    return rows


def state_of(message: Message | Any) -> State:
    """A protobuf (or proto-plus) message as JSON with the field names of the protobuf."""
    plain = type(message).pb(message) if hasattr(type(message), "pb") else message
    return json_format.MessageToDict(plain, preserving_proto_field_name=True)


def message_of(kind: Any, state: State) -> Any:
    """The proto-plus message ``kind`` that ``state`` describes.

    Raises:
        google.protobuf.json_format.ParseError: a field that the API does not know.
    """
    return kind.wrap(json_format.ParseDict(state, kind.pb()()))


def differences(
    desired: State, actual: State, prefix: str = "", exact: frozenset[str] = frozenset()
) -> Iterator[tuple[str, Any, Any]]:
    """``(field path, actual value, desired value)`` for every declared field that is not as declared.

    A field that the service adds is no difference, also in the elements of a list; another element is, and any field
    of a map that ``exact`` names.
    """
    if prefix.rstrip(".") in exact:
        for key in sorted(actual.keys() - desired.keys()):
            yield f"{prefix}{key}", actual[key], None
    for key, wanted in desired.items():
        path = f"{prefix}{key}"
        found = actual.get(key)
        if isinstance(wanted, dict) and isinstance(found, dict):
            yield from differences(wanted, found, f"{path}.", exact)
        elif _same_tables(wanted, found):
            for index, (one, other) in enumerate(zip(wanted, found or [], strict=True)):
                yield from differences(one, other, f"{path}[{index}].", exact)
        elif wanted != found and not (found is None and wanted in ("", 0, False, [], {})):
            yield path, found, wanted


def _same_tables(wanted: Any, found: Any) -> bool:
    """Whether both are lists of as many objects, to be compared one by one."""
    return (
        isinstance(wanted, list)
        and isinstance(found, list)
        and len(wanted) == len(found)
        and all(isinstance(one, dict) for one in (*wanted, *found))
    )


def fingerprint(state: State | None) -> str:
    """A short hash of a state; equal states, equal hash."""
    return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()[:16]


def if_found(look: Callable[[], Any]) -> Any | None:
    """What ``look`` returns, or None if the service answers NOT_FOUND."""
    from google.api_core.exceptions import NotFound

    try:
        return look()
    except NotFound:
        return None


def _within(path: str, whole: str) -> bool:
    return path == whole or path.startswith((f"{whole}.", f"{whole}["))


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, separators=(",", ":"))
    return text if len(text) <= 60 else f"{text[:57]}…"
