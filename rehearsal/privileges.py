"""Least privilege: what each account was seen to need, against what it is given, in both directions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lunation.deploy.accounts import account
from lunation.deploy.deployer import PERMISSIONS
from lunation.deploy.stack import UNITS
from rehearsal.authority import Authority, holds
from rehearsal.needs import Need, needs
from rehearsal.predefined import ROLES
from rehearsal.recorder import Call

INCIDENTAL = frozenset({"resourcemanager.projects.get", "resourcemanager.projects.list"})
"""What nearly every role carries: nobody is given a role for these."""


@dataclass(frozen=True)
class Used:
    """What an account needed.

    Args:
        account: its address.
        need: what, and on what.
    """

    account: str
    need: Need


def units(calls: Iterable[Call], authority: Authority) -> tuple[list[str], list[str]]:
    """What the units lack, and what they are given and were not seen to need; a line each.

    A permission of a custom role is looked for by itself. A predefined role is taken as a whole: one permission of it
    that is needed is enough.

    Raises:
        rehearsal.needs.UnknownMethodError: a method of which nobody has written down what it needs.
    """
    ours = {account(authority.project.project, unit): unit for unit in UNITS}
    used = [one for one in _used(calls, authority) if one.account in ours]
    missing = {
        f"{ours[one.account]}: {one.need.permission} on {_short(one.need.resource)}"
        for one in used
        if one.need.must and not authority.allows(one.account, one.need.permission, one.need.resource)
    }
    superfluous = set()
    for place, binding in authority.grants():
        for member in binding.members:
            who = member.removeprefix("serviceAccount:")
            if who not in ours:
                continue
            there = {
                one.need.permission
                for one in used
                if one.account == who
                and (
                    f"{one.need.resource}/".startswith(f"{place}/") or place == f"projects/{authority.project.project}"
                )
                and holds(binding.condition, one.need.resource)
            }
            given = authority.gives(binding.role)
            if binding.role in ROLES:
                if not given & there:
                    superfluous.add(f"{ours[who]}: {binding.role} on {_short(place)}")
            else:
                superfluous |= {f"{ours[who]}: {one} on {_short(place)}" for one in given - there}
    return sorted(missing), sorted(superfluous)


def deployer(calls: Iterable[Call], authority: Authority, roles: Sequence[str]) -> tuple[list[str], list[str]]:
    """The permissions that the deployment needed and the documented roles do not give, and the documented roles of
    which it needed nothing; a line each.

    A predefined role holds far more than anybody needs, so what is too much is counted in roles.

    Args:
        calls: all that were recorded.
        roles: the documented ones.
    """
    who = authority.accounts["deployer"]
    needed: dict[str, str] = {}
    for call in calls:
        if call.caller == "deployer":
            for need in needs(call, authority.known, authority.project.project):
                if not need.account and need.must:
                    needed.setdefault(need.permission, ".".join(call.method.split(".")[-2:]))
    given = frozenset().union(*(ROLES.get(role, frozenset()) for role in roles))
    missing = [f"{permission} ({method})" for permission, method in sorted(needed.items()) if permission not in given]
    missing += [f"{one}, for which `lunation doctor` does not ask" for one in sorted(needed.keys() - PERMISSIONS)]
    wanted = needed.keys() - INCIDENTAL
    superfluous = [role for role in roles if not ROLES.get(role, frozenset()) & wanted]
    return [f"{who}: {one}" for one in missing], [f"{who}: {one}" for one in superfluous]


def _used(calls: Iterable[Call], authority: Authority) -> set[Used]:
    found = set()
    for call in calls:
        caller = authority.accounts.get(call.caller, "")
        found |= {
            Used(need.account or caller, need) for need in needs(call, authority.known, authority.project.project)
        }
    return found


def _short(resource: str) -> str:
    """The last two parts of a name; the bucket of an object."""
    parts = resource.partition("/objects/")[0].split("/")
    return "/".join(parts[-2:]) if len(parts) > 2 else "project"
