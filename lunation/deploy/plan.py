"""What a deployment would change, and doing it."""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

from google.api_core.exceptions import Conflict, GoogleAPICallError

from lunation.clients import Clients
from lunation.deploy.access import Access
from lunation.deploy.errors import explain, unless_off
from lunation.deploy.resource import UNKNOWN, Resource
from lunation.deploy.settling import LONGEST, NAME_FREE, PAUSES, POLICIES, NotYet, NotYetError, settling

Wait = Callable[[float], None]
"""Lets seconds pass."""
Say = Callable[[str], None]
"""Tells a person what is waited for, or could not be cleared up."""
Action = Literal["create", "change", "replace", "unchanged", "delete", "keep"]


@dataclass(frozen=True)
class Change:
    """What happens to one resource.

    Args:
        address: ``kind/name``.
        action: what happens.
        fields: ``(path, now, then)`` of what differs, for ``change`` and ``replace``.
        summary: what it will be, for ``create``.
        owner: the unit.
    """

    address: str
    action: Action
    fields: list[tuple[str, Any, Any]] = field(default_factory=list)
    summary: str = ""
    owner: str = ""

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Change":
        """Back from :meth:`to_json`."""
        fields = [(path, now, then) for path, now, then in document.get("fields", [])]
        return cls(**{**document, "fields": fields})


class ApplyError(Exception):
    """A resource could not be made as declared. What came before it is done; the next run goes on from there."""


class OutdatedError(ApplyError):
    """What there is, or what is declared, is no longer what the plan was made of."""


def compare(resource: Resource, clients: Clients, *, apis_on: bool = False) -> Change:
    """What has to happen to ``resource``.

    Args:
        apis_on: its API was switched on; if it answers that it is off, that is an error, and no sign that nothing is
            there.

    Raises:
        ApplyError: it cannot become what is declared without losing data.
    """
    actual = resource.read(clients) if apis_on else unless_off(lambda: resource.read(clients), None)
    if actual is None:
        summary = unless_off(lambda: resource.summary(clients), UNKNOWN)
        return Change(resource.address, "create", summary=summary, owner=resource.owner)
    fields = resource.differences(clients, actual)
    if not fields:
        return Change(resource.address, "unchanged", owner=resource.owner)
    moved = sorted({path for path, _, _ in fields} & resource.fixed)
    if moved and resource.keeps_data:
        path, now, then = next(one for one in fields if one[0] in resource.fixed)
        raise ApplyError(
            f"{resource.address}: {path} is {now!r} and cannot become {then!r}: that would take another resource in "
            f"its place, and this one keeps data. Declare {path} as it is, or move the data yourself"
        )
    if moved:
        lost = f"with it go {resource.holds}" if resource.holds else ""
        return Change(resource.address, "replace", fields, summary=lost, owner=resource.owner)
    return Change(resource.address, "change", fields, owner=resource.owner)


def plan(rows: Iterable[Resource], clients: Clients) -> list[Change]:
    """Read everything that exists and say what would happen. Changes nothing.

    What an earlier deployment made and the table no longer has comes last, as ``delete``.

    Raises:
        ApplyError: something cannot be read, or not become what is declared.
    """
    rows = list(rows)
    changes: list[Change] = []
    replaced: set[str] = set()
    for resource in rows:
        with _explained(resource, clients):
            change = compare(resource, clients)
            if resource.within in replaced and change.action != "create":
                # What is put in another one's place begins empty, and without a policy.
                change = Change(resource.address, "create", summary=resource.summary(clients), owner=resource.owner)
        changes.append(change)
        if change.action == "replace":
            replaced.add(change.address)
    return [*changes, *(_deleted(row) for row in left_over(rows, clients))]


def _deleted(resource: Resource) -> Change:
    return Change(resource.address, "delete", summary=f"with it go {resource.holds}" if resource.holds else "")


def left_over(rows: Sequence[Resource], clients: Clients) -> list[Resource]:
    """What an earlier deployment made and the table no longer has, in the order in which it can be deleted."""
    known = {row.address for row in rows}
    found: list[Resource] = []
    kinds = list(dict.fromkeys(type(row) for row in rows if not isinstance(row, Access)))
    for kind in reversed(kinds):
        if kind.ours.__func__ is Resource.ours.__func__:  # type: ignore[attr-defined]
            continue
        with _explained(next(row for row in rows if type(row) is kind), clients):
            nothing: list[Resource] = []
            ours = unless_off(partial(_ours, kind, clients), nothing)
        found += [row for row in ours if row.address not in known]
    return found


def _ours(kind: type[Resource], clients: Clients) -> list[Resource]:
    return list(kind.ours(clients))


def check(planned: Sequence[Change], now: Sequence[Change]) -> None:
    """Hold a plan that was made before against what would be done now.

    What the plan does and is done already, since a run of it was cut short, is in order.

    Raises:
        OutdatedError: names what differs.
    """
    before = {change.address: change for change in planned}
    for change in now:
        if change.action in ("unchanged", "keep"):
            continue
        expected = before.pop(change.address, None)
        if expected is not None and (expected.action, change.action) == ("replace", "create"):
            continue  # cut short between the two halves of it
        if expected is None or expected.action != change.action:
            was = "was not in it" if expected is None else f"was to be {expected.action}"
            raise OutdatedError(
                f"{change.address} {was} when the plan was made, and is now to be {change.action}. Make a new plan"
            )
        if change.action in ("change", "replace") and not _same(expected.fields, change.fields):
            paths = ", ".join(path for path, _, _ in change.fields)
            raise OutdatedError(
                f"{change.address}: {paths}: was changed since the plan was made. Look at it, and make a new plan"
            )


def _same(planned: Sequence[tuple[str, Any, Any]], now: Sequence[tuple[str, Any, Any]]) -> bool:
    expected = {path: (was, then) for path, was, then in planned}
    for path, was, then in now:
        if path not in expected:
            return False
        before, after = expected[path]
        if before != was or (after != then and UNKNOWN not in str(after)):
            return False
    return True


def apply(
    rows: Sequence[Resource],
    clients: Clients,
    report: Callable[[Change], None] = lambda _: None,
    planned: Sequence[Change] | None = None,
    *,
    wait: Wait = time.sleep,
    say: Say = lambda _: None,
) -> list[Change]:
    """Make every resource as declared, in order, then delete what is no longer declared.

    Each one is compared anew at its turn, since a value such as a function's URL is only known by then. A refusal that
    passes by itself (:mod:`lunation.deploy.settling`) is waited out, for ten minutes at most. The first failure ends
    it, unless nothing needs the resource: then the others are made first. What is left behind by what was replaced is
    cleared up last.

    Args:
        report: called after each resource.
        planned: do this and nothing else; None: whatever is needed.
        wait: lets time pass between two attempts.
        say: called before each pause, with what is waited for; and with what could not be cleared up.

    Raises:
        ApplyError: names the resource and the cause.
        OutdatedError: at a resource's turn something else would have to be done than was planned.
    """
    expected = None if planned is None else {change.address: change for change in planned}
    done: list[Change] = []
    failures: list[str] = []
    for resource in rows:
        try:
            with _explained(resource, clients):
                change = _make(resource, clients, expected, wait, say)
        except OutdatedError:
            raise
        except ApplyError as error:
            if not resource.needed_by_none:
                raise ApplyError("; ".join([*failures, str(error)])) from error
            failures.append(str(error))
            continue
        done.append(change)
        report(change)
    if failures:
        raise ApplyError("; ".join(failures))
    for resource in left_over(rows, clients):
        change = _deleted(resource)
        if expected is not None and resource.address not in expected:
            continue
        with _explained(resource, clients):
            _patiently(partial(resource.delete, clients), resource, clients, wait, say)
        done.append(change)
        report(change)
    clear_up(rows, clients, say)
    return done


def clear_up(rows: Iterable[Resource], clients: Clients, say: Say = lambda _: None) -> None:
    """Let each row delete what those before it left behind. One that fails is told and does no harm: all is made, and
    the next deployment tries again."""
    for resource in rows:
        try:
            resource.clear_up(clients)
        except Exception as error:  # whatever it is, the deployment is done
            say(f"{explain(error, resource, clients)}. What is left to clear up stays until the next deployment")


def _make(resource: Resource, clients: Clients, expected: dict[str, Change] | None, wait: Wait, say: Say) -> Change:
    """Make one resource as declared, if that was planned. Each attempt begins by looking what there is."""
    planned = None if expected is None else expected.get(resource.address)
    first: list[Change] = []
    # Planned as a replacement and not there, it was deleted by a run that was cut short.
    deleted = False

    def attempt() -> None:
        nonlocal deleted
        change = compare(resource, clients, apis_on=True)
        # What a failed attempt left half done is our own; a policy is written as a whole, and by others, too.
        if expected is not None and change.action != "unchanged" and (not first or resource.kind in POLICIES):
            check([planned] if planned is not None else [], [change])
        first.append(change)
        if change.action == "change":
            resource.update(clients, _top_level(change.fields))
        elif change.action == "replace" and not deleted:
            resource.delete(clients)
        deleted = deleted or change.action == "replace" or (planned is not None and planned.action == "replace")
        if change.action in ("create", "replace"):
            resource.create(clients)

    def name_taken(error: Exception) -> NotYet | None:
        return NAME_FREE if deleted and isinstance(error, Conflict) else None

    _patiently(attempt, resource, clients, wait, say, name_taken)
    return first[0]


def destroy(
    rows: Sequence[Resource],
    clients: Clients,
    report: Callable[[Change], None] = lambda _: None,
    named: Collection[str] = (),
    *,
    wait: Wait = time.sleep,
    say: Say = lambda _: None,
) -> list[Change]:
    """Take down what ``apply`` made, in reverse order, after what an earlier deployment made and the table no longer
    has. What keeps data stays, unless its address is in ``named``.

    Args:
        wait: lets time pass between two attempts at the same thing.
        say: called before each pause, with what is waited for.

    Raises:
        ApplyError: names the resource and the cause, or a name that is none.
    """
    data = {row.address for row in rows if row.keeps_data}
    unknown = sorted(set(named) - data)
    if unknown:
        raise ApplyError(f"{', '.join(unknown)}: no such data; there are: {', '.join(sorted(data))}")
    kept = {row.address for row in rows if row.keeps_data} - set(named)
    done = []
    for resource in [*left_over(rows, clients), *reversed(rows)]:
        with _explained(resource, clients):
            # A deployment that broke off early has APIs that are still off.
            if unless_off(partial(resource.read, clients), None) is None:
                continue
            if resource.address in kept or resource.stays:
                change = Change(resource.address, "keep", summary=resource.stays or "it keeps data")
            else:
                _patiently(partial(resource.delete, clients), resource, clients, wait, say)
                change = Change(resource.address, "delete", owner=resource.owner)
        done.append(change)
        report(change)
    return done


def _patiently(
    attempt: Callable[[], None],
    resource: Resource,
    clients: Clients,
    wait: Wait,
    say: Say,
    passes: Callable[[Exception], NotYet | None] = lambda _: None,
) -> None:
    """Do ``attempt``; again for some minutes, while it fails with what will pass.

    Raises:
        ApplyError: it has not passed after :data:`LONGEST` seconds.
    """
    waited, pauses, before = 0.0, iter(PAUSES), None
    while True:
        try:
            return attempt()
        except (GoogleAPICallError, NotYetError) as error:
            reason = passes(error) or settling(error, resource, clients)
            if reason is None:
                raise
            if waited >= LONGEST:
                raise ApplyError(
                    f"{explain(error, resource, clients)}. That should pass when {reason.awaits}, and has not in "
                    f"{LONGEST // 60} minutes"
                ) from error
            if reason != before:
                pauses, before = iter(PAUSES), reason
            pause = min(next(pauses, PAUSES[-1]), LONGEST - waited)
            say(f"{resource.address} waits until {reason.awaits}, {LONGEST // 60} minutes at most")
            wait(pause)
            waited += pause


def _top_level(fields: Iterable[tuple[str, Any, Any]]) -> list[str]:
    return list(dict.fromkeys(path.split(".")[0].partition("[")[0] for path, _, _ in fields))


class _explained:
    """Turns what goes wrong with a resource into an error that names it, the cause and the fix."""

    def __init__(self, resource: Resource, clients: Clients) -> None:
        self._resource = resource
        self._clients = clients

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, ApplyError):
            raise ApplyError(explain(error, self._resource, self._clients)) from error
