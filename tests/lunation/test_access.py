"""A policy is made as declared, and what is not ours in it is left alone."""

from types import SimpleNamespace
from typing import Any

import pytest
from google.api_core.exceptions import Aborted, NotFound
from google.iam.v1 import policy_pb2

from lunation.deploy.access import Access, Condition, Grant, Policy, lines
from lunation.deploy.plan import apply, plan
from tests.lunation.test_plan import Thing

CLIENTS: Any = SimpleNamespace(project="p", target=SimpleNamespace(impersonate=None))
OURS = "serviceAccount:lunation-classify@p.iam.gserviceaccount.com"
THEIRS = "serviceAccount:other@p.iam.gserviceaccount.com"


class InMemory(Policy):
    """A policy, and the etag that it has now. With ``of``, it is there as long as that very thing is."""

    def __init__(self, *, exclusive: bool = True, of: dict[str, Any] | None = None) -> None:
        super().__init__("thing/one", "", "", "")
        self.exclusive = exclusive
        self.of = of
        self.thing: Any = None
        self.policy = policy_pb2.Policy(etag=b"0")

    def get(self, clients: Any) -> policy_pb2.Policy:
        if self.of is not None and self.of.get("one") is not self.thing:
            self.policy, self.thing = policy_pb2.Policy(etag=b"0"), self.of.get("one")
        if self.of is not None and self.thing is None:
            raise NotFound("one")
        return policy_pb2.Policy.FromString(self.policy.SerializeToString())

    def set(self, clients: Any, policy: policy_pb2.Policy) -> None:
        if policy.etag != self.policy.etag:
            raise Aborted("etag")
        self.policy = policy_pb2.Policy.FromString(policy.SerializeToString())
        self.policy.etag = str(int(policy.etag) + 1).encode()

    def has(self) -> dict[str, list[str]]:
        """Members by role."""
        return {binding.role: list(binding.members) for binding in self.policy.bindings}


def test_what_is_too_much_on_our_own_resource_is_taken_away() -> None:
    """A role that is not declared and a member that is not; what Cloud Storage puts in by itself stays."""
    policy = InMemory()
    policy.policy.bindings.add(role="roles/a", members=[THEIRS])
    policy.policy.bindings.add(role="roles/b", members=[THEIRS, "projectOwner:p"])
    access = Access(policy, Grant("roles/a", OURS, "why"))
    (change,) = plan([access], CLIENTS)
    assert lines(change.fields) == [("+", "roles/a", OURS), ("-", "roles/a", THEIRS), ("-", "roles/b", THEIRS)]
    apply([access], CLIENTS)
    assert policy.has() == {"roles/a": [OURS], "roles/b": ["projectOwner:p"]}
    assert [one.action for one in plan([access], CLIENTS)] == ["unchanged"]


def test_on_the_project_only_our_own_accounts_are_held_to_what_is_declared() -> None:
    """Others' roles are neither shown nor touched; one of ours too many is."""
    policy = InMemory(exclusive=False)
    policy.policy.bindings.add(role="roles/owner", members=["user:me@example.com", OURS])
    policy.policy.bindings.add(role="roles/a", members=[THEIRS])
    access = Access(policy, Grant("roles/a", OURS, "why"))
    (change,) = plan([access], CLIENTS)
    assert lines(change.fields) == [("+", "roles/a", OURS), ("-", "roles/owner", OURS)]
    apply([access], CLIENTS)
    assert policy.has() == {"roles/a": sorted([OURS, THEIRS]), "roles/owner": ["user:me@example.com"]}
    access.delete(CLIENTS)
    assert policy.has() == {"roles/a": [THEIRS], "roles/owner": ["user:me@example.com"]}


def test_a_condition_is_kept_and_told_apart() -> None:
    """The same role with and without a condition are two grants; somebody else's condition stays as it is."""
    policy = InMemory(exclusive=False)
    theirs = policy.policy.bindings.add(role="roles/a", members=[THEIRS])
    theirs.condition.title, theirs.condition.expression = "office hours", "request.time.getHours() < 18"
    access = Access(
        policy,
        Grant("roles/a", OURS, "why"),
        Grant("roles/a", OURS, "why", Condition("builds", "resource.name == 'x'")),
    )
    apply([access], CLIENTS)
    found = {binding.condition.title: (binding.condition.expression, list(binding.members))
             for binding in policy.policy.bindings}  # fmt: skip
    assert found == {
        "": ("", [OURS]),
        "builds": ("resource.name == 'x'", [OURS]),
        "office hours": ("request.time.getHours() < 18", [THEIRS]),
    }
    assert policy.policy.version == 3
    assert [one.action for one in plan([access], CLIENTS)] == ["unchanged"]


def test_a_policy_that_changes_meanwhile_is_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written carries the etag of what was read."""
    policy = InMemory()
    before = policy.get(CLIENTS)
    policy.set(CLIENTS, policy_pb2.Policy(etag=b"0"))
    monkeypatch.setattr(policy, "get", lambda clients: before)
    with pytest.raises(Aborted):
        Access(policy, Grant("roles/a", OURS, "why")).create(CLIENTS)


def test_what_takes_another_ones_place_gets_its_grants_anew() -> None:
    """A plan says so, and can be applied as it was read."""
    there: dict[str, Any] = {}
    access = Access(InMemory(of=there), Grant("roles/a", OURS, "why"))
    apply([Thing("one", {"place": "here"}, there), access], CLIENTS)
    rows = [Thing("one", {"place": "there"}, there), access]
    planned = plan(rows, CLIENTS)
    assert [change.action for change in planned] == ["replace", "create"]
    apply(rows, CLIENTS, planned=planned)
    assert [change.action for change in plan(rows, CLIENTS)] == ["unchanged", "unchanged"]
