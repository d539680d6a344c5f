"""What a deployment would change, and doing it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lunation.clients import Clients
from lunation.deploy.resource import Resource, differences

Action = Literal["create", "change", "unchanged", "delete", "keep"]


@dataclass(frozen=True)
class Change:
    """What happens to one resource.

    ``fields`` holds ``(path, now, then)`` of what differs, for ``change``.
    """

    address: str
    action: Action
    fields: list[tuple[str, Any, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


class ApplyError(Exception):
    """A resource could not be made as declared. What came before it is done; the next run goes on from there."""


def compare(resource: Resource, clients: Clients) -> Change:
    """What has to happen to ``resource``."""
    actual = resource.read(clients)
    if actual is None:
        return Change(resource.address, "create")
    changed = list(differences(resource.desired(clients), actual))
    return Change(resource.address, "change", changed) if changed else Change(resource.address, "unchanged")


def plan(rows: Iterable[Resource], clients: Clients) -> list[Change]:
    """Read everything that exists and say what would happen. Changes nothing."""
    return [compare(resource, clients) for resource in rows]


def apply(
    rows: Sequence[Resource], clients: Clients, report: Callable[[Change], None] = lambda _: None
) -> list[Change]:
    """Make every resource as declared, in order.

    Each one is compared anew at its turn, since a value such as a function's URL is only known by then.

    Args:
        report: called after each resource.

    Raises:
        ApplyError: names the resource and the cause.
    """
    done = []
    for resource in rows:
        try:
            change = compare(resource, clients)
            if change.action == "create":
                resource.create(clients)
            elif change.action == "change":
                resource.update(clients, list(dict.fromkeys(path.split(".")[0] for path, _, _ in change.fields)))
        except Exception as error:
            raise ApplyError(f"{resource.address}: {type(error).__name__}: {error}") from error
        done.append(change)
        report(change)
    return done


def destroy(
    rows: Sequence[Resource], clients: Clients, report: Callable[[Change], None] = lambda _: None
) -> list[Change]:
    """Take down what ``apply`` made, in reverse order. What keeps data stays.

    Raises:
        ApplyError: names the resource and the cause.
    """
    done = []
    for resource in reversed(rows):
        try:
            if resource.keeps_data:
                change = Change(resource.address, "keep")
            elif resource.read(clients) is None:
                continue
            else:
                resource.delete(clients)
                change = Change(resource.address, "delete")
        except Exception as error:
            raise ApplyError(f"{resource.address}: {type(error).__name__}: {error}") from error
        done.append(change)
        report(change)
    return done
