"""A custom role is there whatever became of one of its name, and stays when the rest is taken down."""

from pathlib import Path
from typing import Any

from laptop.errors import ServiceError, not_found
from lunation.deploy.access import Access, Grant, project_policy
from lunation.deploy.accounts import CustomRole, ServiceAccount
from lunation.deploy.plan import apply, destroy, plan
from lunation.deploy.settling import MADE
from rehearsal.clock import Clock
from rehearsal.judge import Judge
from rehearsal.recorder import Call
from tests.lunation.rehearsed import PROJECT, rehearsed

DAY = 24 * 3600
BUILD = f"serviceAccount:lunation-build@{PROJECT}.iam.gserviceaccount.com"


class Deleted(Judge):
    """Roles that were deleted: had back for seven days; gone for thirty more, with their ids taken.

    https://cloud.google.com/iam/docs/creating-custom-roles#deleting-custom-role; the words of
    https://github.com/terraform-google-modules/terraform-google-bastion-host/issues/14.

    Args:
        clock: by which that is so.
        role_ids: those that were deleted when it began.
    """

    def __init__(self, clock: Clock, *role_ids: str) -> None:
        self._clock = clock
        self._role_ids = role_ids

    def before(self, call: Call) -> None:
        """Refuse what comes too late for one thing and too early for the other."""
        request: Any = call.request
        verb = call.method.rsplit(".", 1)[1]
        if not 7 * DAY <= self._clock.now < 37 * DAY:
            return
        if verb in ("GetRole", "UndeleteRole", "UpdateRole") and request.name.rsplit("/", 1)[1] in self._role_ids:
            raise not_found(request.name)
        if verb == "CreateRole" and request.role_id in self._role_ids:
            words = f"You can't create a role_id ({request.role_id}) which has been marked for deletion."
            raise ServiceError("FAILED_PRECONDITION", words)


def table() -> list[Any]:
    """A unit with a role, made anew, as each command makes it."""
    role = CustomRole("lunationBuild", ("storage.objects.get",), "builds")
    return [ServiceAccount("build", "builds"), role, Access(project_policy(), Grant(role, BUILD, "why"))]


def granted(stage: Any) -> list[str]:
    """The roles that the project's policy names."""
    return [one.role.rsplit("/", 1)[1] for one in stage.project.policy(f"projects/{PROJECT}").bindings]


def test_a_role_whose_id_is_taken_gets_another(tmp_path: Path) -> None:
    """Deleted ten days ago, by hand or by an earlier release: the next deployment succeeds, its grants name the new id,
    and the one after it changes nothing."""
    clock = Clock()
    with rehearsed(tmp_path, Deleted(clock, "lunationBuild")) as (stage, clients):
        apply(table(), clients)
        clients.iam.delete_role(request={"name": f"projects/{PROJECT}/roles/lunationBuild"})
        stage.project.policies.clear()  # after seven days, "the binding is permanently removed"
        clock.sleep(10 * DAY)
        planned = plan(table(), clients)
        assert [change.action for change in planned] == ["unchanged", "create", "create"]
        done = apply(table(), clients, planned=planned)
        assert [change.action for change in done] == ["unchanged", "create", "create"]
        assert granted(stage) == ["lunationBuild_2"]
        assert [change.action for change in plan(table(), clients)] == ["unchanged"] * 3
        clients.iam.delete_role(request={"name": f"projects/{PROJECT}/roles/lunationBuild_2"})
        apply(table(), clients)
        assert granted(stage) == ["lunationBuild_2"], "deleted a moment ago, it is had back"


def test_a_grant_of_a_role_whose_id_is_dead_is_replaced(tmp_path: Path) -> None:
    """Should a policy still name it, which gives nobody anything."""
    clock = Clock()
    with rehearsed(tmp_path, Deleted(clock, "lunationBuild")) as (stage, clients):
        apply(table(), clients)
        clients.iam.delete_role(request={"name": f"projects/{PROJECT}/roles/lunationBuild"})
        clock.sleep(10 * DAY)
        assert [change.action for change in apply(table(), clients)] == ["unchanged", "create", "change"]
        assert granted(stage) == ["lunationBuild_2"]


def test_a_role_that_nobody_declares_any_more_goes_under_whichever_id(tmp_path: Path) -> None:
    """And one that is declared is not taken for a left-over because of its number."""
    clock = Clock()
    with rehearsed(tmp_path, Deleted(clock, "lunationBuild", "lunationGone")) as (_, clients):
        clock.sleep(10 * DAY)
        CustomRole("lunationGone", ("storage.objects.get",), "was of use").create(clients)
        apply(table(), clients)
        left = [one.name.rsplit("/", 1)[1] for one in clients.iam.list_roles(request={"parent": f"projects/{PROJECT}"})]
    assert left == ["lunationBuild_2"]


class Unseen(Judge):
    """A thing is there at once, and who looks for it is told so only after a while: reads are eventually consistent
    (https://cloud.google.com/iam/docs/overview#consistency).

    Args:
        clock: by which that is so.
        seconds: for how long.
        kind: as the methods call it.
    """

    def __init__(self, clock: Clock, seconds: float, kind: str) -> None:
        self._clock = clock
        self._seconds = seconds
        self._kind = kind

    def before(self, call: Call) -> None:
        """Nothing of that name."""
        if self._clock.now < self._seconds and call.method.endswith(f".Get{self._kind}"):
            raise not_found(call.request.name)  # type: ignore[union-attr]

    def after(self, call: Call, answer: Any) -> Any:
        """None in the list."""
        hidden = self._clock.now < self._seconds and call.method.endswith(f".List{self._kind}s")
        return type(answer)() if hidden else answer


def test_an_account_that_a_killed_run_made_is_waited_for(tmp_path: Path) -> None:
    """The next run does not see it yet, and cannot make it."""
    clock, said = Clock(), list[str]()
    with rehearsed(tmp_path, Unseen(clock, 60, "ServiceAccount")) as (_, clients):
        table()[0].create(clients)
        apply(table()[:1], clients, wait=clock.sleep, say=said.append)
        assert [change.action for change in plan(table()[:1], clients)] == ["unchanged"]
    assert set(said) == {f"service-account/lunation-build waits until {MADE.awaits}, 10 minutes at most"}
    assert clock.now >= 60


def test_a_role_that_a_killed_run_made_is_waited_for(tmp_path: Path) -> None:
    """The next run does not see it yet, and cannot make it under its id: it makes no second one under another."""
    clock = Clock()
    with rehearsed(tmp_path, Unseen(clock, 60, "Role")) as (stage, clients):
        for row in table()[:2]:
            row.create(clients)
        apply(table(), clients, wait=clock.sleep)
        assert granted(stage) == ["lunationBuild"]
        roles = clients.iam.list_roles(request={"parent": f"projects/{PROJECT}"})
        assert [one.name.rsplit("/", 1)[1] for one in roles] == ["lunationBuild"]
        assert [change.action for change in plan(table(), clients)] == ["unchanged"] * 3
    assert clock.now >= 60


def test_somebody_elses_role_of_a_like_name_is_left_alone(tmp_path: Path) -> None:
    """It lacks our mark; one that has the very id that would be next is passed over."""
    theirs = {"title": "Their own", "included_permissions": ["storage.objects.list"], "stage": "GA"}
    clock = Clock()
    with rehearsed(tmp_path, Deleted(clock, "lunationBuild")) as (stage, clients):
        clock.sleep(10 * DAY)
        for role_id in ("lunationDashboards", "lunationBuild_2"):
            request = {"parent": f"projects/{PROJECT}", "role_id": role_id, "role": theirs}
            clients.iam.create_role(request=request)
        before = [clients.iam.get_role(request={"name": f"projects/{PROJECT}/roles/{one}"}) for one in
                  ("lunationDashboards", "lunationBuild_2")]  # fmt: skip
        apply(table(), clients)
        assert granted(stage) == ["lunationBuild_3"]
        assert [change.action for change in plan(table(), clients)] == ["unchanged"] * 3
        assert before == [clients.iam.get_role(request={"name": one.name}) for one in before]


def test_roles_stay_when_a_deployment_is_taken_down(tmp_path: Path) -> None:
    """The list of what remains says why; after any time, the next deployment finds them."""
    with rehearsed(tmp_path) as (_, clients):
        apply(table(), clients)
        kept = [change for change in destroy(table(), clients) if change.action == "keep"]
        assert [change.address for change in kept] == ["role/lunationBuild"]
        assert "37 days" in kept[0].summary
        assert [change.action for change in apply(table(), clients)] == ["create", "unchanged", "create"]
