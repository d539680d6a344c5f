"""What passes by itself is waited out, whichever run made what it waits for; what does not is told at once."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.api_core import exceptions
from google.iam.v1 import policy_pb2
from google.rpc import error_details_pb2

from laptop.errors import ServiceError
from lunation.deploy.access import Access, Grant, account_policy, project_policy, repository_policy
from lunation.deploy.accounts import CustomRole, ServiceAccount
from lunation.deploy.apis import Api
from lunation.deploy.images import Image, Repository
from lunation.deploy.plan import ApplyError, OutdatedError, apply, destroy, plan
from lunation.deploy.settling import API_ON, GRANTED, LONGEST, MADE, NOT_YET, PERMISSION_KNOWN, NotYetError, settling
from rehearsal.clock import Clock
from rehearsal.judge import Judge
from rehearsal.project import Project
from rehearsal.recorder import Call
from tests.lunation.rehearsed import PROJECT, Refuses, rehearsed, until
from tests.lunation.test_plan import Thing

BUILD = f"serviceAccount:lunation-build@{PROJECT}.iam.gserviceaccount.com"
OFF = ServiceError(
    "PERMISSION_DENIED",
    "Identity and Access Management (IAM) API has not been used in project 123456789012 before or it is disabled. "
    "Enable it by visiting https://console.developers.google.com/apis/api/iam.googleapis.com/overview then retry. If "
    "you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry.",
    error_details_pb2.ErrorInfo(
        reason="SERVICE_DISABLED", domain="googleapis.com", metadata={"service": "iam.googleapis.com"}
    ),
)
LACKS = ServiceError(
    "PERMISSION_DENIED",
    f"Permission 'iam.roles.create' denied on resource (or it may not exist): projects/{PROJECT}",
    error_details_pb2.ErrorInfo(
        reason="IAM_PERMISSION_DENIED", domain="iam.googleapis.com", metadata={"permission": "iam.roles.create"}
    ),
)

REAL = [
    (
        "access",
        exceptions.BadRequest,
        "Service account service-1@gcp-sa-pubsub.iam.gserviceaccount.com does not exist.",
    ),
    ("access", exceptions.InvalidArgument, "Service account lunation-build@p.iam.gserviceaccount.com does not exist."),
    ("function", exceptions.NotFound, "Service account lunation-x@p.iam.gserviceaccount.com was not found."),
    ("access", exceptions.InvalidArgument, "Role (projects/p/roles/x) does not exist in the resource's hierarchy."),
    ("workflow", exceptions.FailedPrecondition, "Workflows service agent does not exist"),
    (
        "access",
        exceptions.Aborted,
        "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff.",
    ),
    ("access", exceptions.PreconditionFailed, "At least one of the pre-conditions you specified did not hold."),
    ("file", exceptions.NotFound, "The specified bucket does not exist."),
    (
        "topic",
        exceptions.InvalidArgument,
        "The topic projects/p/topics/t cannot be created or updated due to an organization policy specified at the "
        "project or organization level. If the topic's project was recently created, you may need to wait a few "
        "minutes for the project's organization policy to be properly initialized, and then retry this operation.",
    ),
    ("api", exceptions.BadRequest, "Another activation or deactivation is in progress on the service."),
    (
        "database",
        exceptions.FailedPrecondition,
        "Database ID '(default)' is not available in project 'p'. Please retry in 256 seconds.",
    ),
    ("index", exceptions.Aborted, "Please retry, underlying data changed"),
    ("index", exceptions.Conflict, "Aborted due to cross-transaction contention. This occurs when …"),
    ("alert", exceptions.Conflict, "Too many concurrent edits to the project configuration. Please try again."),
    ("scheduler-job", exceptions.Aborted, "sync mutate calls cannot be queued"),
    ("function", exceptions.Aborted, "unable to queue the operation"),
    (
        "function",
        exceptions.Conflict,
        "An operation on function f in region r is already in progress. operationInProgress",
    ),
    (
        "image",
        exceptions.InvalidArgument,
        "could not resolve source: googleapi: Error 403: lunation-build@p.iam.gserviceaccount.com does not have "
        "storage.objects.get access to the Google Cloud Storage object. Permission 'storage.objects.get' denied on "
        "resource (or it may not exist)., forbidden",
    ),
    (
        "function",
        exceptions.InvalidArgument,
        "Build failed with status: FAILURE and message: Access to bucket gcf-v2-sources-1-r denied. You must grant "
        "Storage Object Viewer permission to lunation-build@p.iam.gserviceaccount.com.",
    ),
    (
        "function",
        exceptions.InvalidArgument,
        "Build failed with status: FAILURE. Could not build the function due to a missing permission on the build "
        "service account.",
    ),
    (
        "function",
        exceptions.PermissionDenied,
        "Google Cloud Run Service Agent service-1@serverless-robot-prod.iam.gserviceaccount.com must have permission "
        "to read the image. If you just enabled the Cloud Run API, the permissions might take a few minutes to "
        "propagate.",
    ),
]
"""What people met, word for word; each at a row of that kind."""


def row(kind: str) -> Any:
    """A row of a kind."""
    thing = Thing("one", {}, {})
    thing.kind = kind  # type: ignore[misc]
    return thing


@pytest.mark.parametrize(("kind", "error", "text"), REAL)
def test_googles_own_words_for_not_yet_are_known(
    kind: str, error: type[exceptions.GoogleAPICallError], text: str
) -> None:
    """Each as it was met, whether it came over gRPC or REST."""
    clients: Any = SimpleNamespace(target=SimpleNamespace(serves=lambda service: False))
    found = settling(error(text), row(kind), clients)
    assert found in NOT_YET


def test_every_not_yet_is_one_that_somebody_met() -> None:
    """It says where, what is waited for, and one of the texts above is of it."""
    clients: Any = SimpleNamespace(target=SimpleNamespace(serves=lambda service: False))
    met = {settling(error(text), row(kind), clients) for kind, error, text in REAL}
    assert met == set(NOT_YET)
    for one in (*NOT_YET, API_ON, MADE, PERMISSION_KNOWN):
        assert "https://" in one.source, one
        assert one.awaits, one


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("role", exceptions.InvalidArgument("Permission telemetry.metrics.write is not valid.")),
        ("bucket", exceptions.Conflict("The requested bucket name is not available.")),
        ("function", exceptions.FailedPrecondition("Constraint constraints/iam.allowedPolicyMemberDomains violated")),
        ("access", exceptions.PermissionDenied("service account lunation-x@p.iam.gserviceaccount.com is disabled")),
        (
            "access",
            exceptions.PreconditionFailed(
                "One or more users named in the policy do not belong to a permitted customer."
            ),
        ),
        ("topic", exceptions.Forbidden("Caller does not have required permission to use project p.")),
        ("topic", ValueError("Service account x does not exist")),
    ],
)
def test_what_does_not_pass_is_not_waited_for(kind: str, error: Exception) -> None:
    """A mistake, a name that somebody else has, a policy of the organisation, an account that somebody disabled."""
    clients: Any = SimpleNamespace(target=SimpleNamespace(serves=lambda service: False))
    assert settling(error, row(kind), clients) is None


def test_an_api_that_an_earlier_run_switched_on_is_waited_for(tmp_path: Path) -> None:
    """A run that was cut short after it switched an API on is taken up again before all of Google knows."""
    clock = Clock()
    said: list[str] = []
    judge = Refuses("CreateRole", OFF, until(clock, 60))
    lists = Refuses("ListRoles", OFF, until(clock, 30))
    with rehearsed(tmp_path, judge, lists) as (_, clients):
        apply([Api("iam.googleapis.com")], clients)
        done = apply(
            [Api("iam.googleapis.com"), CustomRole("lunationX", ("storage.objects.get",), "x")],
            clients,
            wait=clock.sleep,
            say=said.append,
        )
    assert [change.action for change in done] == ["unchanged", "create"]
    assert judge.refused > 0
    assert lists.refused > 0
    assert 60 <= clock.now < 120
    assert set(said) == {f"role/lunationX waits until {API_ON.awaits}, 10 minutes at most"}


def test_an_api_that_nobody_switched_on_is_told_at_once(tmp_path: Path) -> None:
    """The project says that it is off, so there is nothing to wait for."""
    clock = Clock()
    with (
        rehearsed(tmp_path, Refuses("CreateRole", OFF)) as (_, clients),
        pytest.raises(ApplyError, match=r"role/lunationX: the API iam.googleapis.com is off.*gcloud services enable"),
    ):
        apply([CustomRole("lunationX", (), "x")], clients, wait=clock.sleep)
    assert clock.now == 0


def test_a_permission_that_whoever_deploys_lacks_is_told_at_once(tmp_path: Path) -> None:
    """With the role that gives it; nobody waits ten minutes for what nobody granted."""
    clock = Clock()
    with rehearsed(tmp_path, Refuses("CreateRole", LACKS)) as (stage, clients):
        stage.project.lacks = {"iam.roles.create"}
        with pytest.raises(ApplyError, match=r"permission iam.roles.create is missing.*roles/iam.roleAdmin gives it"):
            apply([CustomRole("lunationX", (), "x")], clients, wait=clock.sleep)
    assert clock.now == 0


def test_a_permission_that_was_just_granted_is_waited_for(tmp_path: Path) -> None:
    """The project says that whoever deploys has it: the service does not know yet."""
    clock = Clock()
    with rehearsed(tmp_path, Refuses("CreateRole", LACKS, until(clock, 420))) as (_, clients):
        (change,) = apply([CustomRole("lunationX", (), "x")], clients, wait=clock.sleep)
    assert change.action == "create"
    assert clock.now >= 420, "seven minutes, the longest that IAM names"


def test_each_thing_that_is_waited_for_begins_with_short_pauses() -> None:
    """A policy that somebody else changed is read anew at once, however long something else was waited for before."""
    waited: list[float] = []
    there: dict[str, Any] = {}

    refusals: list[Exception] = [exceptions.BadRequest("Service account x@y does not exist.")] * 6
    refusals.append(exceptions.Aborted("There were concurrent policy changes."))

    class Slow(Thing):
        kind = "access"

        def create(self, clients: Any) -> None:
            if refusals:
                raise refusals.pop(0)
            super().create(clients)

    clients: Any = SimpleNamespace(project="p")
    apply([Slow("one", {}, there)], clients, wait=waited.append)
    assert waited == [2, 5, 10, 20, 30, 60, 2]


def test_what_a_row_sees_under_way_is_waited_for() -> None:
    """As a job that failed because its account may not read its files yet, or an index that is being built."""
    waited: list[float] = []
    said: list[str] = []
    there: dict[str, Any] = {}

    class Job(Thing):
        tries = 0

        def create(self, clients: Any) -> None:
            self.tries += 1
            if self.tries < 3:
                raise NotYetError("job 1 ended as JOB_STATE_FAILED: 403")
            super().create(clients)

    clients: Any = SimpleNamespace(project="p")
    done = apply([Job("one", {}, there)], clients, wait=waited.append, say=said.append)
    assert [change.action for change in done] == ["create"]
    assert waited == [2, 5]
    assert set(said) == {f"thing/one waits until {GRANTED.awaits}, 10 minutes at most"}


def test_waiting_ends(tmp_path: Path) -> None:
    """After ten minutes, with the error, what should have passed, and for how long it has not."""
    clock = Clock()
    with (
        rehearsed(tmp_path, Refuses("CreateRole", LACKS)) as (_, clients),
        pytest.raises(
            ApplyError,
            match=rf"iam.roles.create.*should pass when {PERMISSION_KNOWN.awaits}, and has not in 10 minutes",
        ),
    ):
        apply([CustomRole("lunationX", (), "x")], clients, wait=clock.sleep)
    assert clock.now == LONGEST


def test_a_role_that_is_not_known_yet_is_waited_for(tmp_path: Path) -> None:
    """By a run that did not make it."""
    clock = Clock()
    words = f"Role (projects/{PROJECT}/roles/lunationX) does not exist in the resource's hierarchy."
    judge = Refuses("SetIamPolicy", ServiceError("INVALID_ARGUMENT", words), until(clock, 60))
    role = CustomRole("lunationX", ("storage.objects.get",), "x")
    rows = [ServiceAccount("build", "builds"), role, Access(project_policy(), Grant(role, BUILD, "why"))]
    with rehearsed(tmp_path, judge) as (_, clients):
        apply(rows[:2], clients)
        assert [change.action for change in apply(rows, clients, wait=clock.sleep)] == [
            "unchanged",
            "unchanged",
            "create",
        ]
        assert [change.action for change in plan(rows, clients)] == ["unchanged"] * 3
    assert clock.now >= 60


def test_a_source_that_cloud_build_may_not_read_yet_is_waited_for(tmp_path: Path) -> None:
    """The grant was made long before, and takes minutes all the same."""
    clock = Clock()
    words = next(text for kind, _, text in REAL if kind == "image")
    repository = Repository("lunation")
    image = Image(
        "archive:0123456789ab",
        repository=repository,
        source=("example-production-build", "dataflow/0123456789ab.zip"),
        build_account=BUILD.partition(":")[2],
    )
    rows = [ServiceAccount("build", "builds"), repository, image]
    with rehearsed(tmp_path, Refuses("CreateBuild", ServiceError("INVALID_ARGUMENT", words), until(clock, 200))) as (
        _,
        clients,
    ):
        assert [change.action for change in apply(rows, clients, wait=clock.sleep)] == ["create"] * 3
    assert clock.now >= 200


class Stranger(Judge):
    """Writes a policy between the moment in which a deployment reads it and the one in which it writes it, once."""

    def __init__(self) -> None:
        self._reads = 0
        self._project: Project | None = None

    def comes(self, project: Project) -> None:
        """From now on: after the second read, which is the one that what is written is made from."""
        self._project, self._reads = project, 2

    def after(self, call: Call, answer: Any) -> Any:
        """Write it after it was read."""
        if self._project is not None and call.method.endswith("GetIamPolicy"):
            self._reads -= 1
            if self._reads == 0:
                resource = call.request.resource  # type: ignore[union-attr]
                policy = policy_pb2.Policy()
                policy.CopyFrom(self._project.policy(resource))
                policy.bindings.add(role="roles/owner", members=["user:me@example.com"])
                self._project.set_policy(resource, policy)
                self._project = None
        return answer


def test_a_policy_that_somebody_changes_at_the_same_time_is_read_and_changed_anew(tmp_path: Path) -> None:
    """Google's own grants, when an API is switched on, come just then. Both changes are there in the end."""
    clock, stranger = Clock(), Stranger()
    rows = [ServiceAccount("build", "builds"), Access(project_policy(), Grant("roles/a", BUILD, "why"))]
    with rehearsed(tmp_path, stranger) as (stage, clients):
        apply(rows[:1], clients)
        planned = plan(rows, clients)
        stranger.comes(stage.project)
        apply(rows, clients, planned=planned, wait=clock.sleep)
        found = {one.role: list(one.members) for one in stage.project.policy(f"projects/{PROJECT}").bindings}
    assert found == {"roles/a": [BUILD], "roles/owner": ["user:me@example.com"]}
    assert 0 < clock.now <= 10


def test_what_somebody_grants_on_a_resource_of_ours_meanwhile_is_not_taken_away_unseen(tmp_path: Path) -> None:
    """It was not in the plan, so the deployment stops there."""
    clock, stranger = Clock(), Stranger()
    repository = Repository("lunation")
    rows = [
        ServiceAccount("build", "builds"),
        repository,
        Access(repository_policy("lunation"), Grant("roles/a", BUILD, "why")),
    ]
    with rehearsed(tmp_path, stranger) as (stage, clients):
        apply(rows[:2], clients)
        planned = plan(rows, clients)
        stranger.comes(stage.project)
        with pytest.raises(OutdatedError, match="access/repository/lunation"):
            apply(rows, clients, planned=planned, wait=clock.sleep)
        assert "roles/owner" in str(stage.project.policy(repository.path(clients.target)))


def test_taking_down_waits_as_well(tmp_path: Path) -> None:
    """A policy that changes at the same time is read anew there, too."""
    clock = Clock()
    rows = [ServiceAccount("push", "is called"), Access(account_policy("push"), Grant("roles/a", BUILD, "why"))]
    conflict = ServiceError("ABORTED", next(text for _, error, text in REAL if error is exceptions.Aborted))
    with rehearsed(tmp_path, judge := Refuses("SetIamPolicy", conflict, until(clock, 0))) as (_, clients):
        apply([ServiceAccount("build", "builds"), *rows], clients)
        judge._while = until(clock, 10)
        done = destroy(rows, clients, wait=clock.sleep)
    assert [change.action for change in done] == ["delete", "delete", "delete"]
    assert clock.now >= 10
