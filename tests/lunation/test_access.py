"""A policy is made as declared, and what is not ours in it is left alone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.api_core.exceptions import Aborted, NotFound
from google.iam.v1 import policy_pb2

from laptop.errors import ServiceError
from lunation.deploy.access import Access, Condition, Grant, Policy, lines, project_policy
from lunation.deploy.accounts import ServiceAccount
from lunation.deploy.plan import apply, plan
from rehearsal.judge import Judge
from rehearsal.recorder import Call
from tests.lunation.rehearsed import PROJECT, rehearsed
from tests.lunation.test_plan import Thing

CLIENTS: Any = SimpleNamespace(
    project="p",
    target=SimpleNamespace(impersonate=None),
    iam=SimpleNamespace(list_service_accounts=lambda name: []),
)
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
    assert policy.has() == {"roles/a": [THEIRS, OURS], "roles/owner": ["user:me@example.com"]}
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


def test_a_condition_that_somebody_changed_is_put_right() -> None:
    """It has the title still: its expression is shown, and replaced by the declared one."""
    policy = InMemory(exclusive=False)
    access = Access(policy, Grant("roles/a", OURS, "why", Condition("builds", "resource.name == 'x'")))
    apply([access], CLIENTS)
    policy.policy.bindings[0].condition.expression = "true"
    (change,) = plan([access], CLIENTS)
    assert set(lines(change.fields)) == {("+", "roles/a [builds]", OURS), ("-", "roles/a [builds: true]", OURS)}
    apply([access], CLIENTS)
    (binding,) = policy.policy.bindings
    assert (binding.condition.expression, list(binding.members)) == ("resource.name == 'x'", [OURS])


def test_what_is_not_ours_stays_byte_for_byte() -> None:
    """Order, conditions of one title, what is audited: a policy is changed in place."""
    policy = InMemory(exclusive=False)
    for month in ("6", "7"):  # the same role and title, and two conditions
        binding = policy.policy.bindings.add(role="roles/a", members=[THEIRS, f"user:m{month}@example.com"])
        binding.condition.title, binding.condition.expression = "summer", f"request.time.getMonth() == {month}"
        binding.condition.description = "the interns"
    policy.policy.bindings.add(role="roles/owner", members=["user:z@example.com", OURS, "user:a@example.com"])
    policy.policy.audit_configs.add(service="allServices")
    policy.policy.version = 3
    before = policy.get(CLIENTS)
    access = Access(policy, Grant("roles/a", OURS, "why"))
    apply([access], CLIENTS)
    assert policy.has()["roles/owner"] == ["user:z@example.com", "user:a@example.com"]
    access.delete(CLIENTS)
    after = policy.get(CLIENTS)
    before.bindings[2].members.remove(OURS)
    before.etag = after.etag
    assert after == before


class OneOfAName(Judge):
    """Refuses a policy that names somebody who was deleted beside a new one of the same name.

    https://github.com/GoogleCloudPlatform/k8s-config-connector/issues/279
    """

    def before(self, call: Call) -> None:
        """Refuse it, in Google's words."""
        if not call.method.endswith("SetIamPolicy"):
            return
        members = {member for binding in call.request.policy.bindings for member in binding.members}  # type: ignore[union-attr]
        for deleted in members:
            alive = deleted.removeprefix("deleted:").partition("?uid=")[0]
            if alive != deleted and alive in members:
                raise ServiceError(
                    "INVALID_ARGUMENT", f"Inconsistent representation of deleted member: '{deleted}' and '{alive}'"
                )


def test_on_the_project_only_the_tables_accounts_and_what_carries_our_mark_are_ours(tmp_path: Path) -> None:
    """An account of a like name that somebody made by hand keeps its roles, as docs/ci has one made for planning; what
    an earlier release's unit had goes; and so does what is left of an account of ours that was deleted by hand."""

    def email(name: str) -> str:
        return f"lunation-{name}@{PROJECT}.iam.gserviceaccount.com"

    def member(name: str) -> str:
        return f"serviceAccount:{email(name)}"

    resource = f"projects/{PROJECT}"
    theirs = {"roles/viewer": [member("planner")], "roles/editor": [member("of-a-colleague"), "user:me@example.com"]}
    deleted = f"deleted:{member('classify')}?uid=123456789012345678901"
    gone = "deleted:serviceAccount:other@p.iam.gserviceaccount.com?uid=1"
    rows = [
        ServiceAccount("classify", "classifies"),
        Access(project_policy(), Grant("roles/a", member("classify"), "why")),
    ]
    with rehearsed(tmp_path, OneOfAName()) as (stage, clients):
        ServiceAccount("replayer", "replayed, in an earlier release").create(clients)
        for name in ("planner", "of-a-colleague"):
            request = {"name": resource, "account_id": f"lunation-{name}", "service_account": {"display_name": ""}}
            clients.iam.create_service_account(request=request)
        before = policy_pb2.Policy(etag=stage.project.policy(resource).etag)
        for role, members in theirs.items():
            before.bindings.add(role=role, members=members)
        before.bindings.add(role="roles/a", members=[deleted, gone])
        before.bindings.add(role="roles/b", members=[member("replayer")])
        stage.project.set_policy(resource, before)
        apply(rows, clients)
        after = {one.role: list(one.members) for one in stage.project.policy(resource).bindings}
        assert after == {**theirs, "roles/a": [gone, member("classify")]}
        accounts = {one.email for one in clients.iam.list_service_accounts(name=resource)}
        assert accounts == {email(name) for name in ("classify", "planner", "of-a-colleague")}
        assert [change.action for change in plan(rows, clients)] == ["unchanged", "unchanged"]


def test_a_unit_that_is_granted_nothing_on_the_project_has_nothing_there() -> None:
    """Even if its account was deleted, so that nothing tells it by its mark: the policy knows the units by name."""
    left = "deleted:serviceAccount:lunation-push@p.iam.gserviceaccount.com?uid=1"
    policy = InMemory(exclusive=False)
    policy.units = tuple(project_policy(["push"]).units)
    policy.policy.bindings.add(role="roles/b", members=[left, THEIRS])
    apply([Access(policy, Grant("roles/a", OURS, "why"))], CLIENTS)
    assert policy.has() == {"roles/b": [THEIRS], "roles/a": [OURS]}


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
