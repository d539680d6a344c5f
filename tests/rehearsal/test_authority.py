"""Permissions are judged when they are used: by the policies up to that call, over the protocols, by real clients."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core import exceptions
from google.cloud.dataflow_v1beta3 import types as dataflow
from google.cloud.dataproc_v1 import types as dataproc
from google.cloud.functions_v2 import types as functions
from google.cloud.iam_admin_v1 import types as iam
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.pubsub_v1 import types as pubsub
from google.type import expr_pb2

from laptop.errors import ServiceError
from lunation.clients import Clients
from lunation.deploy.access import Access, BucketPolicy, Condition, Grant, account_policy, project_policy, topic_policy
from lunation.deploy.accounts import CustomRole, ServiceAccount, account
from lunation.deploy.apis import Api
from lunation.deploy.images import Image, Repository
from lunation.deploy.monitoring import AlertPolicy, logged
from lunation.deploy.pubsub import Topic
from lunation.deploy.storage import Bucket, StagedFile
from lunation.settings import Target, load
from rehearsal.agents import AGENTS
from rehearsal.authority import Authority, Denial, holds, summary
from rehearsal.documented import done_by_hand
from rehearsal.project import Project
from rehearsal.recorder import Call
from rehearsal.stage import Stage
from tests.support import ServerProcess

P = "example-production"
PLACE = f"projects/{P}"
BUILD = account(P, "build")
MEMORY = ("iam", "serviceusage", "resourcemanager", "artifactregistry", "cloudbuild", "monitoring")


class Rehearsed:
    """A project with a judge, and clients for whoever calls."""

    def __init__(self, authority: Authority, stage: Stage, folder: Path, services: tuple[str, ...]) -> None:
        self.authority = authority
        self.stage = stage
        self._folder = folder
        self._services = services

    def clients(self, caller: str = "deployer") -> Clients:
        """Those of one caller; ``owner`` may do everything."""
        path = self._folder / f"{caller}.json"
        path.write_text(json.dumps(self.stage.admit(caller, self._services)))
        made = Clients(self.target.model_copy(update={"endpoints": path, "sample": False}))
        # These find their service by a variable, which the next caller's clients set to another address.
        _ = ["storage" in self._services and made.storage, "pubsub" in self._services and made.publisher]
        return made

    @property
    def target(self) -> Target:
        """The project that is rehearsed."""
        return load().target("production")

    def denied(self) -> list[str]:
        """What was denied, in words."""
        return list(map(str, self.authority.denied))


Rehearse = Callable[..., Rehearsed]


@pytest.fixture
def rehearse(tmp_path: Path, serve: Callable[..., ServerProcess]) -> Iterator[Rehearse]:
    """Begin a project; the laptop's servers named are behind it."""
    stages: list[Stage] = []

    def begin(*laptop: str, **how: Any) -> Rehearsed:
        servers = {name: serve(name) for name in laptop}
        addresses = {name: {"http": one.http, "grpc": one.grpc} for name, one in servers.items()}
        project = done_by_hand(Project(P))
        authority = Authority(project, **how)
        stage = Stage(project, addresses, [authority])
        stage.__enter__()
        stages.append(stage)
        return Rehearsed(authority, stage, tmp_path, (*MEMORY, *laptop))

    yield begin
    for stage in stages:
        stage.__exit__(None, None, None)


def test_a_caller_may_do_what_its_roles_give_it_and_nothing_else(rehearse: Rehearse) -> None:
    """The deployer's and the planner's are those that the documents name. A refusal has Google's words, and the
    permission as a machine reads it; an alert on log entries needs one more than Monitoring's roles have."""
    rehearsed = rehearse()
    ServiceAccount("train", "trains").create(rehearsed.clients())
    planner = rehearsed.clients("planner")
    alert = AlertPolicy("stale", condition=logged('jsonPayload.message = "x"'), advice="Look.", channel=None)
    for permission, role in (
        ("monitoring.alertPolicies.create", "roles/monitoring.alertPolicyEditor"),
        ("logging.notificationRules.create", "roles/logging.configWriter"),
    ):
        with pytest.raises(exceptions.Forbidden) as told:
            alert.create(planner)
        assert told.value.message == f"Permission '{permission}' denied on resource '{PLACE}' (or it may not exist)."
        assert told.value.reason == "IAM_PERMISSION_DENIED"
        assert told.value.metadata["permission"] == permission
        _grant(rehearsed.authority, PLACE, role, _member("planner"))
    alert.create(planner)
    assert [(one.permission, one.method) for one in rehearsed.authority.denied] == [
        ("monitoring.alertPolicies.create", "AlertPolicyService.CreateAlertPolicy"),
        ("logging.notificationRules.create", "AlertPolicyService.CreateAlertPolicy"),
    ]


def test_a_build_that_may_not_read_its_source_is_refused_until_it_may(rehearse: Rehearse) -> None:
    """The build before the access to its bucket, as a first deployment would try it; then in the right order."""
    rehearsed = rehearse("storage")
    clients = rehearsed.clients()
    repository = Repository("lunation")
    image = Image("archive:1", repository=repository, source=(f"{P}-build", "a.zip"), build_account=BUILD)
    ServiceAccount("build", "builds").create(clients)
    Bucket(f"{P}-build").create(clients)
    StagedFile(f"{P}-build", "a.zip", b"zip").create(clients)
    repository.create(clients)
    CustomRole("lunationBuild", ("logging.logEntries.create",), "logs").create(clients)
    CustomRole("lunationObjectReader", ("storage.objects.get",), "reads").create(clients)
    Access(project_policy(), Grant(f"{PLACE}/roles/lunationBuild", _member("build"), "logs")).create(clients)
    writer = Grant("roles/artifactregistry.writer", _member("build"), "pushes")
    Access(_repository(), writer).create(clients)
    with pytest.raises(exceptions.InvalidArgument) as told:
        image.create(clients)
    assert told.value.message == (
        f"could not resolve source: googleapi: Error 403: {BUILD} does not have storage.objects.get access to the "
        "Google Cloud Storage object. Permission 'storage.objects.get' denied on resource (or it may not exist)., "
        "forbidden"
    )
    bucket = f"projects/_/buckets/{P}-build"
    assert rehearsed.denied() == [f"{BUILD} lacks storage.objects.get on {bucket} (CloudBuild.CreateBuild)"]
    reader = Grant(f"{PLACE}/roles/lunationObjectReader", _member("build"), "reads the source")
    Access(BucketPolicy(f"{P}-build"), reader).create(clients)
    image.create(clients)
    assert len(rehearsed.authority.denied) == 1


def test_a_role_with_a_permission_that_google_does_not_know_is_refused(rehearse: Rehearse) -> None:
    """As CreateRole and UpdateRole refuse it. An old name is still one; one for folders is none in a project's role."""
    rehearsed = rehearse()
    clients = rehearsed.clients()
    with pytest.raises(exceptions.InvalidArgument, match=r"^400 Permission telemetry\.metrics\.write is not valid\.$"):
        CustomRole("lunationX", ("storage.objects.get", "telemetry.metrics.write"), "x").create(clients)
    with pytest.raises(exceptions.InvalidArgument, match=r"Permission resourcemanager\.projects\.list is not valid"):
        CustomRole("lunationX", ("resourcemanager.projects.list",), "x").create(clients)
    CustomRole("lunationX", ("datastore.indexes.list", "monitoring.timeSeries.create"), "x").create(clients)
    with pytest.raises(exceptions.InvalidArgument, match=r"Permission storage\.objects\.fetch is not valid"):
        CustomRole("lunationX", ("storage.objects.fetch",), "x").update(clients, ["included_permissions"])
    assert rehearsed.authority.unknown == {
        "telemetry.metrics.write": ["lunationX"],
        "resourcemanager.projects.list": ["lunationX"],
        "storage.objects.fetch": ["lunationX"],
    }


def test_a_service_agent_that_nobody_has_made_is_in_no_policy(rehearse: Rehearse) -> None:
    """Pub/Sub's is there when it was asked for, and not before."""
    rehearsed = rehearse("pubsub")
    clients = rehearsed.clients()
    Topic("dead-letters").create(clients)
    agent = AGENTS["pubsub"].email
    access = Access(topic_policy("dead-letters"), Grant("roles/pubsub.publisher", f"serviceAccount:{agent}", "x"))
    with pytest.raises(exceptions.InvalidArgument, match=rf"^400 Service account {agent} does not exist\.$"):
        access.create(clients)
    assert rehearsed.denied() == [
        f"{agent} does not exist, for nobody has made it: IAMPolicy.SetIamPolicy on {PLACE}/topics/dead-letters"
    ]
    rehearsed.authority.before(_asked_for("pubsub"))
    access.create(clients)


def test_a_service_agent_has_its_role_when_it_was_made_by_use_and_not_when_it_was_asked_for() -> None:
    """So whoever asks for one has to grant it the role that it would have had."""
    launch = dataflow.LaunchFlexTemplateRequest.pb()(project_id=P, location="us-central1")
    launches = Call("owner", "google.dataflow.v1beta3.FlexTemplatesService.LaunchFlexTemplate", launch)
    machines = ("compute.instances.create", PLACE)
    agent = AGENTS["dataflow"]
    used = Authority(Project(P), refuses=False)
    used.before(launches)
    assert used.allows(agent.email, *machines)
    asked = Authority(Project(P), refuses=False)
    asked.before(_asked_for("dataflow"))
    asked.before(launches)
    assert not asked.allows(agent.email, *machines)
    assert Denial(agent.email, *machines, "FlexTemplatesService.LaunchFlexTemplate") in asked.denied
    _grant(asked, PLACE, agent.role, f"serviceAccount:{agent.email}")
    assert asked.allows(agent.email, *machines)


def test_cloud_build_s_agent_comes_with_its_api(rehearse: Rehearse) -> None:
    """And has its role, where everybody sees it."""
    rehearsed = rehearse()
    clients = rehearsed.clients()
    Api("pubsub.googleapis.com").create(clients)
    agent = AGENTS["cloudbuild"]
    assert not rehearsed.authority.allows(agent.email, "cloudbuild.builds.update", PLACE)
    Api("cloudbuild.googleapis.com").create(clients)
    assert rehearsed.authority.allows(agent.email, "cloudbuild.builds.update", PLACE)
    (binding,) = [one for one in project_policy().get(clients).bindings if one.role == agent.role]
    assert binding.members == [f"serviceAccount:{agent.email}"]


def test_a_planner_that_lost_its_roles_is_denied_what_it_reads(rehearse: Rehearse) -> None:
    """It may look, and only that; when a deployment takes its roles away, the next plan in CI says so."""
    rehearsed = rehearse("storage")
    deployer, planner = rehearsed.clients(), rehearsed.clients("planner")
    Bucket(f"{P}-build").create(deployer)
    StagedFile(f"{P}-build", "a.zip", b"zip").create(deployer)
    ServiceAccount("train", "trains").create(deployer)

    def look() -> None:
        ServiceAccount("train", "trains").read(planner)
        Bucket(f"{P}-build").read(planner)
        Access(BucketPolicy(f"{P}-build")).read(planner)
        StagedFile(f"{P}-build", "a.zip", b"zip").read(planner)  # the bucket's own policy lets the project's viewers in

    look()
    with pytest.raises(exceptions.Forbidden, match=r"iam\.serviceAccounts\.create"):
        ServiceAccount("push", "pushes").create(planner)
    place = rehearsed.stage.project.policies[PLACE]
    kept = [one for one in place.bindings if "lunation-planner" not in str(one.members)]
    rehearsed.stage.project.policies[PLACE] = policy_pb2.Policy(version=1, etag=b"x", bindings=kept)
    with pytest.raises(exceptions.Forbidden, match=r"Permission 'iam\.serviceAccounts\.get' denied"):
        look()


def test_a_new_bucket_s_policy_is_kept_with_what_google_put_into_it(rehearse: Rehearse) -> None:
    """Our grants come beside those of the project's owners, editors and viewers."""
    rehearsed = rehearse("storage")
    clients = rehearsed.clients()
    ServiceAccount("train", "trains").create(clients)
    Bucket(f"{P}-models").create(clients)
    access = Access(BucketPolicy(f"{P}-models"), Grant("roles/storage.objectViewer", _member("train"), "x"))
    assert access.read(clients) is None
    access.create(clients)
    roles = {one.role: list(one.members) for one in BucketPolicy(f"{P}-models").get(clients).bindings}
    assert roles["roles/storage.legacyObjectReader"] == [f"projectViewer:{P}"]
    assert roles["roles/storage.objectViewer"] == [_member("train")]
    assert access.read(clients) == {"roles/storage.objectViewer": [_member("train")]}


def test_an_account_that_was_deleted_has_nothing_and_its_namesake_neither(rehearse: Rehearse) -> None:
    """What was granted to it is granted to nobody, until it is granted anew."""
    rehearsed = rehearse()
    clients = rehearsed.clients()
    trains = ServiceAccount("train", "trains")
    trains.create(clients)
    access = Access(project_policy(), Grant("roles/logging.logWriter", _member("train"), "logs"))
    access.create(clients)
    who = (account(P, "train"), "logging.logEntries.create", PLACE)
    assert rehearsed.authority.allows(*who)
    trains.delete(clients)
    assert not rehearsed.authority.allows(*who)
    trains.create(clients)
    assert not rehearsed.authority.allows(*who)
    access.create(clients)
    assert rehearsed.authority.allows(*who)


def test_a_grant_with_a_condition_holds_where_the_condition_does(rehearse: Rehearse) -> None:
    """Objects of the buckets whose names begin so, and no others."""
    rehearsed = rehearse()
    clients = rehearsed.clients()
    ServiceAccount("build", "builds").create(clients)
    CustomRole("lunationObjectReader", ("storage.objects.get",), "reads").create(clients)
    staged = Condition("sources", 'resource.name.startsWith("projects/_/buckets/gcf-v2-sources-")')
    grant = Grant(f"{PLACE}/roles/lunationObjectReader", _member("build"), "reads a function's source", staged)
    Access(project_policy(), grant).create(clients)
    for bucket, allowed in (("gcf-v2-sources-1-us-central1", True), (f"{P}-models", False)):
        resource = f"projects/_/buckets/{bucket}/objects/x"
        assert rehearsed.authority.allows(BUILD, "storage.objects.get", resource) is allowed


def test_a_condition_that_cannot_be_judged_is_refused_by_name() -> None:
    """Rather than taken for true or false. What is read: what a name is, or begins with, joined by an or."""
    either = expr_pb2.Expr(
        expression='resource.name == "projects/p/topics/t" || resource.name.startsWith("projects/q/")'
    )
    assert holds(either, "projects/p/topics/t")
    assert holds(either, "projects/q/topics/u")
    assert not holds(either, "projects/p/topics/u")
    with pytest.raises(ServiceError, match=r"office hours: rehearsal/authority\.py reads resource\.name only, and not"):
        holds(expr_pb2.Expr(title="office hours", expression="request.time.getHours() < 17"), "projects/p")


def test_a_policy_names_roles_that_there_are(rehearse: Rehearse) -> None:
    """A custom role that was not made, or was deleted, is refused in IAM's words."""
    rehearsed = rehearse()
    clients = rehearsed.clients()
    ServiceAccount("train", "trains").create(clients)
    role = CustomRole("lunationTrain", ("logging.logEntries.create",), "logs")
    access = Access(project_policy(), Grant(f"{PLACE}/roles/lunationTrain", _member("train"), "logs"))
    with pytest.raises(
        exceptions.InvalidArgument, match=r"Role .*/lunationTrain does not exist in the resource's hier"
    ):
        access.create(clients)
    role.create(clients)
    access.create(clients)
    assert rehearsed.authority.allows(account(P, "train"), "logging.logEntries.create", PLACE)
    role.delete(clients)
    assert not rehearsed.authority.allows(account(P, "train"), "logging.logEntries.create", PLACE)


def test_what_follows_from_a_call_is_noted_and_refuses_nobody() -> None:
    """A message is published, though the agent that pushes it may not sign a token, or is not there at all."""
    project = _with(account(P, "push"))
    authority = Authority(project)
    topic = f"{PLACE}/topics/records"
    subscription = pubsub.Subscription.pb(
        pubsub.Subscription(
            name=f"{PLACE}/subscriptions/s",
            topic=topic,
            push_config={"push_endpoint": "https://f", "oidc_token": {"service_account_email": account(P, "push")}},
        )
    )
    authority.after(Call("owner", "google.pubsub.v1.Subscriber.CreateSubscription", subscription), subscription)
    publish = Call("owner", "google.pubsub.v1.Publisher.Publish", pubsub.PublishRequest.pb()(topic=topic))
    authority.before(publish)
    agent = AGENTS["pubsub"].email
    push = f"{PLACE}/serviceAccounts/{account(P, 'push')}"
    assert list(authority.denied) == [Denial(agent, "", push, "Publisher.Publish")]
    authority.before(_asked_for("pubsub"))
    authority.before(publish)
    lacking = Denial(agent, "iam.serviceAccounts.getOpenIdToken", push, "Publisher.Publish")
    assert list(authority.denied)[1:] == [lacking]
    _grant(authority, push, "roles/iam.serviceAccountOpenIdTokenCreator", f"serviceAccount:{agent}")
    authority.denied.clear()
    authority.before(publish)
    assert not authority.denied


def test_each_service_refuses_in_its_own_words_what_an_account_of_ours_lacks() -> None:
    """A function's build fails once its source has been put away; Dataproc looks before it makes a cluster."""
    authority = Authority(_with(BUILD, account(P, "train")))
    built = {"build_config": {"service_account": f"{PLACE}/serviceAccounts/{BUILD}"}}
    parent = f"{PLACE}/locations/us-central1"
    function = functions.CreateFunctionRequest(parent=parent, function_id="f", function=built)
    request = functions.CreateFunctionRequest.pb(function)
    with pytest.raises(ServiceError) as told:
        authority.before(Call("owner", "google.cloud.functions.v2.FunctionService.CreateFunction", request))
    assert str(told.value) == (
        "Build failed with status: FAILURE and message: failed to Fetch: Access to bucket gcf-v2-sources-123456789012-"
        f"us-central1 denied. You must grant Storage Object Viewer permission to {BUILD}."
    )
    name = f"{PLACE}/regions/us-central1/workflowTemplates/t"
    config = {"gce_cluster_config": {"service_account": account(P, "train")}}
    placement = {"managed_cluster": {"cluster_name": "c", "config": config}}
    template = dataproc.WorkflowTemplate.pb(dataproc.WorkflowTemplate(name=name, placement=placement))
    service = "google.cloud.dataproc.v1.WorkflowTemplateService"
    authority.after(Call("owner", f"{service}.CreateWorkflowTemplate", template), template)
    starts = dataproc.InstantiateWorkflowTemplateRequest.pb()(name=name)
    with pytest.raises(ServiceError) as told:
        authority.before(Call("owner", f"{service}.InstantiateWorkflowTemplate", starts))
    who = account(P, "train")
    assert str(told.value) == f"Service account '{who}' is missing required permissions: [dataproc.agents.create]."


def test_a_judge_that_only_notes_lets_everything_pass(rehearse: Rehearse) -> None:
    """One run then tells all there is: what would be refused is noted, each thing once."""
    rehearsed = rehearse(refuses=False)
    clients = rehearsed.clients()
    CustomRole("lunationX", ("telemetry.metrics.write",), "x").create(clients)
    ServiceAccount("push", "pushes").create(clients)
    agent = f"serviceAccount:{AGENTS['pubsub'].email}"
    access = Access(account_policy("push"), Grant("roles/iam.serviceAccountOpenIdTokenCreator", agent, "signs"))
    access.create(clients)
    access.create(clients)
    assert rehearsed.authority.unknown == {"telemetry.metrics.write": ["lunationX"]}
    assert len(rehearsed.authority.denied) == 1


def test_a_method_that_nobody_has_thought_of_is_refused_by_name(rehearse: Rehearse) -> None:
    """Also by a judge that only notes: it could not tell what it let pass."""
    rehearsed = rehearse(refuses=False)
    with pytest.raises(exceptions.MethodNotImplemented, match=r"IAM\.LintPolicy: rehearsal/needs\.py does not say"):
        rehearsed.clients().iam.lint_policy(request=iam.LintPolicyRequest(full_resource_name="//x"))


def test_metrics_are_taken_from_who_may_write_them(rehearse: Rehearse) -> None:
    """Over OpenTelemetry's protocol, which is no gRPC and no API of Google's making."""
    rehearsed = rehearse()
    owner = rehearsed.clients("owner")
    ServiceAccount("classify", "classifies").create(owner)
    address = rehearsed.stage.admit("classify", ("telemetry",))["telemetry"]["http"]
    answer = requests.post(f"{address}/v1/metrics", data=b"", timeout=10)
    assert answer.status_code == 403
    assert b"Permission 'monitoring.timeSeries.create' denied on resource" in answer.content
    Access(project_policy(), Grant("roles/telemetry.metricsWriter", _member("classify"), "x")).create(owner)
    assert requests.post(f"{address}/v1/metrics", data=b"", timeout=10).status_code == 200


def test_of_much_that_was_denied_the_first_is_told() -> None:
    """A planner without its roles would fill pages."""
    many = [
        Denial("p@p", "pubsub.topics.get", f"projects/p/topics/{index}", "Publisher.GetTopic") for index in range(9)
    ]
    lines = list(summary([Denial("q@p", "run.routes.invoke", "f", "functions.invoke"), *many]))
    assert lines[0] == "q@p lacks run.routes.invoke on f (functions.invoke)"
    assert lines[1:] == [*map(str, many[:3]), "p@p, and 6 more of the kind"]


def test_a_unit_lacks_what_its_resource_does_not_give_it(rehearse: Rehearse) -> None:
    """A grant on one topic is none on another, nor on the project."""
    rehearsed = rehearse("pubsub")
    clients, submit = rehearsed.clients(), rehearsed.clients("submit")
    ServiceAccount("submit", "submits").create(clients)
    for name in ("records", "labels"):
        Topic(name).create(clients)
    Access(topic_policy("records"), Grant("roles/pubsub.publisher", _member("submit"), "publishes")).create(clients)
    message = [pubsub.PubsubMessage(data=b"x")]
    submit.publisher.api.publish(topic=f"{PLACE}/topics/records", messages=message)
    with pytest.raises(exceptions.PermissionDenied, match=r"Permission 'pubsub\.topics\.publish' denied on resource"):
        submit.publisher.api.publish(topic=f"{PLACE}/topics/labels", messages=message)


# --- helpers


def _member(unit: str) -> str:
    return f"serviceAccount:{account(P, unit)}"


def _repository() -> Any:
    from lunation.deploy.access import repository_policy

    return repository_policy("lunation")


def _with(*emails: str) -> Project:
    """A project with accounts in it, and nothing else."""
    project = Project(P)
    for email in emails:
        name = f"{PLACE}/serviceAccounts/{email}"
        project.put(name, iam.ServiceAccount.pb()(name=name, email=email))
    return project


def _asked_for(service: str) -> Call:
    path = f"/v1beta1/{PLACE}/services/{service}.googleapis.com:generateServiceIdentity"
    return Call("deployer", "google.api.serviceusage.v1beta1.ServiceUsage.GenerateServiceIdentity", path)


def _grant(authority: Authority, resource: str, role: str, member: str) -> None:
    """Add to a resource's policy by a call, as whoever owns the project would."""
    policy = policy_pb2.Policy(version=1)
    if resource == PLACE:
        policy.etag = authority.project.policy(PLACE).etag
    for place, binding in authority.grants():
        if place == resource:
            policy.bindings.add().CopyFrom(binding)
    policy.bindings.add(role=role, members=[member])
    request = iam_policy_pb2.SetIamPolicyRequest(resource=resource, policy=policy)
    call = Call("owner", "google.iam.admin.v1.IAM.SetIamPolicy", request)
    authority.before(call)
    authority.after(call, authority.project.set_policy(resource, policy) if resource == PLACE else policy)


def test_who_asks_which_permissions_it_has_is_told_by_its_roles(rehearse: Rehearse) -> None:
    """A deployment asks that when it is refused: one that it lacks is never waited for."""
    rehearsed = rehearse()
    asked = ["storage.buckets.create", "storage.buckets.list", "no.such.permission"]
    for caller, has in (("deployer", asked[:2]), ("planner", asked[1:2])):
        answer = rehearsed.clients(caller).projects.test_iam_permissions(resource=PLACE, permissions=asked)
        assert sorted(answer.permissions) == has
