"""What needs something that was made just now is refused in the service's words, until the clock has moved."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core import exceptions
from google.cloud.functions_v2 import types as functions
from google.iam.v1 import iam_policy_pb2

from lunation.clients import Clients
from lunation.deploy.access import Access, BucketPolicy, Grant, project_policy, topic_policy
from lunation.deploy.accounts import CustomRole, ServiceAccount
from lunation.deploy.apis import Api
from lunation.deploy.plan import apply
from rehearsal.agents import AGENTS
from rehearsal.delays import Delays
from rehearsal.not_yet import DELAYS
from rehearsal.project import NUMBER, Project
from rehearsal.stage import Stage
from tests.rehearsal_support import LOCATION, PROJECT, Kept, clients_of
from tests.support import ServerProcess

BUILDER = f"lunation-build@{PROJECT}.iam.gserviceaccount.com"


@pytest.fixture
def project() -> Project:
    """An empty one, with a clock that stands still."""
    return Project(PROJECT)


def only(project: Project, *names: str) -> Delays:
    """The judge of a part of the table."""
    chosen = [delay for delay in DELAYS if delay.name in names]
    assert len(chosen) == len(names)
    return Delays(project, chosen)


@pytest.fixture
def staged(project: Project, tmp_path: Path) -> Iterator[Callable[..., Clients]]:
    """Clients behind these judges."""
    stages: list[Stage] = []

    def start(judge: Delays, *services: str, **instead: Any) -> Clients:
        stage = Stage(project, judges=[judge])
        stages.append(stage)
        stage.__enter__()
        return clients_of(stage, tmp_path, services, instead)

    yield start
    for stage in stages:
        stage.__exit__(None, None, None)


def grant(clients: Clients, role: str, member: str) -> None:
    """Give a role on the project, whatever else there is."""
    policy = clients.projects.get_iam_policy(request={"resource": f"projects/{PROJECT}"})
    policy.bindings.add(role=role, members=[member])
    request = iam_policy_pb2.SetIamPolicyRequest(resource=f"projects/{PROJECT}", policy=policy)
    clients.projects.set_iam_policy(request=request)


def test_each_row_of_the_table_says_where_it_is_documented() -> None:
    """By a page or a thread; one that has none says that it has not."""
    for delay in DELAYS:
        assert re.match(r"https://\S+", delay.source) if delay.sure else "seen by" in delay.source, delay
        assert 0 < delay.seconds <= 300
    assert len({delay.name for delay in DELAYS}) == len(DELAYS)


def test_an_api_is_off_until_a_minute_after_it_was_turned_on(project: Project, staged: Callable[..., Clients]) -> None:
    """In the form by which clients tell it from a missing permission."""
    delays = only(project, "api")
    clients = staged(delays, "serviceusage", "iam")
    account = ServiceAccount("push", "pushes")

    def refused() -> None:
        with pytest.raises(exceptions.PermissionDenied, match="has not been used in project") as error:
            account.create(clients)
        assert error.value.reason == "SERVICE_DISABLED"
        assert error.value.metadata["service"] == "iam.googleapis.com"

    refused()
    Api("iam.googleapis.com").create(clients)
    refused()
    project.clock.sleep(59)
    refused()
    project.clock.sleep(2)
    account.create(clients)
    assert delays.refused_then_made == 1
    assert delays.still_refused == []


@pytest.mark.parametrize("name", ["account", "role", "agent"])
def test_what_a_policy_names_is_known_a_minute_after_it_was_made(
    name: str, project: Project, staged: Callable[..., Clients]
) -> None:
    """Accounts, custom roles and Google's agents; before they are there at all, too."""
    delays = only(project, name)
    clients = staged(delays, "resourcemanager", "iam", "serviceusage")
    role, member = "roles/viewer", "user:ann@example.com"
    words = "does not exist"
    if name == "account":
        member = f"serviceAccount:{BUILDER}"
    elif name == "role":
        role, words = f"projects/{PROJECT}/roles/x", "does not exist in the resource's hierarchy"
    else:
        member = f"serviceAccount:{AGENTS['pubsub'].email}"

    def make() -> None:
        if name == "account":
            ServiceAccount("build", "builds").create(clients)
        elif name == "role":
            CustomRole("x", ("storage.objects.get",), "x").create(clients)
        else:
            generate_identity(clients, "pubsub.googleapis.com")

    for step in (make, lambda: project.clock.sleep(59), lambda: project.clock.sleep(2)):
        with pytest.raises(exceptions.InvalidArgument, match=words):
            grant(clients, role, member)
        step()
    grant(clients, role, member)
    assert delays.refused_then_made == 1


def generate_identity(clients: Clients, api: str) -> None:
    """As a deployer asks for it."""
    base = clients.target.addresses()["serviceusage"]["http"]
    answer = requests.post(f"{base}/v1beta1/projects/{PROJECT}/services/{api}:generateServiceIdentity", timeout=10)
    answer.raise_for_status()


def test_a_role_that_is_deleted_is_in_no_policy(project: Project, staged: Callable[..., Clients]) -> None:
    """Nobody can be bound to it, though its name is taken."""
    clients = staged(only(project, "role"), "resourcemanager", "iam")
    role = CustomRole("x", ("storage.objects.get",), "x")
    role.create(clients)
    role.delete(clients)
    project.clock.sleep(3600)
    with pytest.raises(exceptions.InvalidArgument, match="hierarchy"):
        grant(clients, f"projects/{PROJECT}/roles/x", "user:ann@example.com")


def test_google_writes_the_projects_policy_meanwhile(project: Project, staged: Callable[..., Clients]) -> None:
    """The first write fails, whoever reads again goes on, and what Google has granted stays."""
    delays = only(project, "project policy")
    clients = staged(delays, "resourcemanager")
    with pytest.raises(exceptions.Aborted, match="There were concurrent policy changes"):
        grant(clients, "roles/viewer", "user:ann@example.com")
    project.clock.sleep(2)
    grant(clients, "roles/viewer", "user:ann@example.com")
    policy = clients.projects.get_iam_policy(request={"resource": f"projects/{PROJECT}"})
    members = {member for binding in policy.bindings for member in binding.members}
    assert members == {"user:ann@example.com", f"serviceAccount:{NUMBER}@cloudbuild.gserviceaccount.com"}
    assert delays.refused_then_made == 1


def test_a_deployment_that_waits_by_the_clock_takes_no_time(project: Project, staged: Callable[..., Clients]) -> None:
    """An API, an account and a role that names it, one after the other: minutes pass, and nobody sleeps."""
    delays = only(project, "api", "account")
    clients = staged(delays, "serviceusage", "iam", "resourcemanager")
    rows = [
        Api("iam.googleapis.com"),
        Api("cloudresourcemanager.googleapis.com"),
        ServiceAccount("build", "builds"),
        Access(project_policy(), Grant("roles/logging.logWriter", f"serviceAccount:{BUILDER}", "logs")),
    ]
    done = apply(rows, clients, wait=project.clock.sleep)
    assert [change.action for change in done] == ["create"] * 4
    assert project.clock.now > 60
    assert delays.refused_then_made > 0
    assert delays.still_refused == []


def test_what_was_waited_for_makes_nothing_else_known(project: Project, tmp_path: Path) -> None:
    """Where that is asked for: an account that is an hour old is not known before somebody needed it; a day after it
    was made it is."""
    delays = Delays(project, [delay for delay in DELAYS if delay.name == "account"], from_first_use=True)
    with Stage(project, judges=[delays]) as stage:
        clients = clients_of(stage, tmp_path, ("resourcemanager", "iam"))
        for unit in ("build", "push", "archive"):
            ServiceAccount(unit, unit).create(clients)
        members = [f"serviceAccount:lunation-{unit}@{PROJECT}.iam.gserviceaccount.com" for unit in ("build", "push")]
        project.clock.sleep(3600)
        for seconds in (0, 59, 2):
            project.clock.sleep(seconds)
            if seconds == 2:
                grant(clients, "roles/viewer", members[0])
                continue
            with pytest.raises(exceptions.InvalidArgument, match="lunation-build"):
                grant(clients, "roles/viewer", members[0])
        with pytest.raises(exceptions.InvalidArgument, match="lunation-push"):
            grant(clients, "roles/editor", members[1])
        project.clock.sleep(24 * 3600)
        grant(clients, "roles/viewer", f"serviceAccount:lunation-archive@{PROJECT}.iam.gserviceaccount.com")


def build_image(clients: Clients) -> None:
    """An image from a zip in the build bucket."""
    source = {"storage_source": {"bucket": f"{PROJECT}-build", "object_": "1.zip"}}
    build = {
        "source": source,
        "steps": [{"name": "gcr.io/cloud-builders/docker"}],
        "service_account": f"projects/{PROJECT}/serviceAccounts/{BUILDER}",
    }
    request = {"parent": LOCATION, "project_id": PROJECT, "build": build}
    clients.cloud_build.create_build(request=request).result(timeout=20)


def test_a_build_reads_its_source_two_minutes_after_it_may(
    serve: Callable[..., ServerProcess], project: Project, tmp_path: Path
) -> None:
    """Never, if it may not; and what its account may elsewhere is no help."""
    server = serve("storage")
    delays = only(project, "image")
    with Stage(project, {"storage": {"http": server.http, "grpc": ""}}, [delays]) as stage:
        clients = clients_of(stage, tmp_path, ("storage", "cloudbuild", "iam", "resourcemanager"))
        ServiceAccount("build", "builds").create(clients)
        clients.storage.create_bucket(f"{PROJECT}-build")
        grant(clients, "roles/logging.logWriter", f"serviceAccount:{BUILDER}")
        project.clock.sleep(3600)
        for step in (
            lambda: Access(
                BucketPolicy(f"{PROJECT}-build"), Grant("roles/storage.objectViewer", f"serviceAccount:{BUILDER}", "")
            ).create(clients),
            lambda: project.clock.sleep(119),
            lambda: project.clock.sleep(2),
        ):
            with pytest.raises(exceptions.InvalidArgument, match="could not resolve source: googleapi: Error 403"):
                build_image(clients)
            step()
        build_image(clients)
    assert delays.refused_then_made == 1


def test_a_function_that_could_not_be_built_is_there_and_failed(
    project: Project, staged: Callable[..., Clients]
) -> None:
    """Its operation ends with an error, a second creation is refused by nobody, and an update mends it."""
    delays = only(project, "function build")
    clients = staged(delays, "functions", "resourcemanager", "iam", functions=Kept().answer)
    ServiceAccount("build", "builds").create(clients)
    grant(clients, "roles/artifactregistry.writer", f"serviceAccount:{BUILDER}")
    function = {
        "name": f"{LOCATION}/functions/f",
        "build_config": {
            "runtime": "python311",
            "service_account": f"projects/{PROJECT}/serviceAccounts/{BUILDER}",
        },
    }
    request = {"parent": LOCATION, "function_id": "f", "function": function}
    with pytest.raises(exceptions.GoogleAPICallError, match=r"Access to bucket gcf-v2-sources-\d+-us-central1 denied"):
        clients.functions.create_function(request=request).result(timeout=20)
    read = clients.functions.get_function(name=function["name"])
    (listed,) = clients.functions.list_functions(parent=LOCATION)
    assert read.state == listed.state == functions.Function.State.FAILED
    project.clock.sleep(121)
    clients.functions.update_function(request={"function": function}).result(timeout=20)
    assert clients.functions.get_function(name=function["name"]).state != functions.Function.State.FAILED
    assert delays.refused_then_made == 1


def launch(clients: Clients) -> str:
    """The state of a job that was just launched."""
    environment = {"service_account_email": f"lunation-archive@{PROJECT}.iam.gserviceaccount.com"}
    parameter = {"job_name": "j", "container_spec_gcs_path": "gs://b/s.json", "environment": environment}
    where = {"project_id": PROJECT, "location": "us-central1"}
    job = clients.flex_templates.launch_flex_template(request={**where, "launch_parameter": parameter}).job
    return clients.dataflow_jobs.get_job(request={**where, "job_id": job.id}).current_state.name


def test_a_job_fails_whose_workers_may_do_their_work_only_since_now(
    project: Project, staged: Callable[..., Clients]
) -> None:
    """It is launched and fails, and says of what; launched again after two minutes, it runs."""
    delays = only(project, "job")
    clients = staged(delays, "dataflow", "resourcemanager", "iam")
    ServiceAccount("archive", "files").create(clients)
    grant(clients, "roles/dataflow.worker", f"serviceAccount:lunation-archive@{PROJECT}.iam.gserviceaccount.com")
    assert launch(clients) == "JOB_STATE_FAILED"
    where = {"project_id": PROJECT, "location": "us-central1"}
    (failed,) = clients.dataflow_jobs.list_jobs(request=where)
    (said,) = clients.dataflow_messages.list_job_messages(request={**where, "job_id": failed.id})
    assert "Permission 'storage.objects.get' denied" in said.message_text
    project.clock.sleep(121)
    assert launch(clients) == "JOB_STATE_RUNNING"
    assert delays.refused_then_made == 1


@pytest.mark.parametrize("awaited", [False, True])
def test_an_index_waits_for_the_change_of_a_field(
    awaited: bool, project: Project, staged: Callable[..., Clients]
) -> None:
    """Until its time is over. Whoever waits for the operation lets that pass, and the field is then in force."""
    delays = only(project, "index")
    clients = staged(delays, "firestore", "datastore", datastore=_Indexes().answer)
    clients.firestore_admin.create_database(
        parent=f"projects/{PROJECT}", database={"type_": "DATASTORE_MODE"}, database_id="(default)"
    )
    name = f"projects/{PROJECT}/databases/(default)/collectionGroups/Record/fields/expire_at"
    operation = clients.firestore_admin.update_field(request={"field": {"name": name, "ttl_config": {}}})
    assert clients.firestore_admin.get_field(name=name).ttl_config.state.name == "CREATING"
    index = {"kind": "Record", "ancestor": "NONE", "properties": [{"name": "a", "direction": "ASCENDING"}]}
    request = {"project_id": PROJECT, "index": index}
    with pytest.raises(exceptions.Conflict, match="Please retry, underlying data changed"):
        clients.datastore_admin.create_index(request=request)
    if awaited:
        operation.result(timeout=20)
    else:
        project.clock.sleep(61)
    clients.datastore_admin.create_index(request=request)
    assert clients.firestore_admin.get_field(name=name).ttl_config.state.name == "ACTIVE"
    assert delays.refused_then_made == 1


class _Indexes:
    """Takes every index."""

    async def answer(self, rpc: Any, request: Any) -> Any:
        return rpc.response(name="operations/1")


def test_the_first_topic_and_the_first_workflow_are_too_early(project: Project, staged: Callable[..., Clients]) -> None:
    """The organisation's policy is not known yet; the agent of Workflows is made by the first who asks."""
    delays = only(project, "topic", "workflow")
    clients = staged(delays, "pubsub", "workflows", pubsub=Kept().answer, workflows=Kept().answer)
    topic = {"name": f"projects/{PROJECT}/topics/t"}
    with pytest.raises(exceptions.InvalidArgument, match="retry this operation"):
        clients.publisher.create_topic(request=topic)
    workflow = {"parent": LOCATION, "workflow_id": "w", "workflow": {"source_contents": "x"}}
    with pytest.raises(exceptions.BadRequest, match="Workflows service agent does not exist"):
        clients.workflows.create_workflow(request=workflow)
    project.clock.sleep(61)
    clients.publisher.create_topic(request=topic)
    clients.workflows.create_workflow(request=workflow)
    assert delays.refused_then_made == 2


def test_a_database_id_is_free_five_minutes_after_it_was_deleted(
    project: Project, staged: Callable[..., Clients]
) -> None:
    """The refusal says how long it still is."""
    clients = staged(only(project, "database"), "firestore")
    request = {"parent": f"projects/{PROJECT}", "database": {"type_": "DATASTORE_MODE"}, "database_id": "(default)"}
    clients.firestore_admin.create_database(request=request).result(timeout=20)
    clients.firestore_admin.delete_database(name=f"projects/{PROJECT}/databases/(default)").result(timeout=20)
    project.clock.sleep(100)
    with pytest.raises(exceptions.FailedPrecondition, match="Please retry in 200 seconds"):
        clients.firestore_admin.create_database(request=request)
    project.clock.sleep(201)
    clients.firestore_admin.create_database(request=request).result(timeout=20)


def test_pubsubs_policies_belong_to_pubsub(project: Project, staged: Callable[..., Clients]) -> None:
    """They go through an interface that several services share."""
    clients = staged(only(project, "api"), "pubsub", pubsub=Kept().answer)
    with pytest.raises(exceptions.PermissionDenied, match=r"pubsub\.googleapis\.com has not been used"):
        topic_policy("t").get(clients)
