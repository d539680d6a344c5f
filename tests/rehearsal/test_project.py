"""The stand-in for a project at Google's answers as it would, and the rows of the table use it as they would Google."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from google.api_core import exceptions

from lunation.clients import Clients
from lunation.deploy.accounts import CustomRole, ServiceAccount
from lunation.deploy.images import Image, Repository
from lunation.deploy.plan import compare
from lunation.settings import load
from rehearsal.agents import AGENTS
from rehearsal.project import NUMBER, Project
from rehearsal.stage import Stage

PROJECT = "example-production"


@pytest.fixture
def stage() -> Iterator[Stage]:
    """An empty project, and recorders before it."""
    with Stage(Project("example-production")) as made:
        yield made


@pytest.fixture
def clients(stage: Stage, tmp_path: Path) -> Clients:
    """The deployer's."""
    path = stage.write(tmp_path / "endpoints.json")
    return Clients(load().target("production").model_copy(update={"endpoints": path, "sample": False}))


def test_an_image_of_another_project_is_copied_not_built_anew(stage: Stage, clients: Clients) -> None:
    """Production runs the bytes that staging ran."""
    ServiceAccount("build", "builds").create(clients)
    repository = Repository("lunation")
    repository.create(clients)
    theirs = "us-central1-docker.pkg.dev/example-staging/lunation/archive:0123456789ab"
    image = Image(
        "archive:0123456789ab",
        repository=repository,
        source=("example-production-build", "dataflow/0123456789ab.zip"),
        build_account="lunation-build@example-production.iam.gserviceaccount.com",
        copied_from=theirs,
    )
    assert compare(image, clients).action == "create"
    image.create(clients)
    assert compare(image, clients).action == "unchanged"
    (build,) = [call.request.build for call in stage.notes.calls if call.method.endswith("CreateBuild")]  # type: ignore[union-attr]
    assert [list(step.args) for step in build.steps] == [["pull", theirs], ["tag", theirs, image.uri(clients.target)]]
    assert stage.notes.invalid == []


def test_a_role_that_was_deleted_is_had_back(clients: Clients) -> None:
    """Its id stays taken for weeks, so a later deployment undeletes it, with what it is to give now."""
    CustomRole("lunationX", ("storage.objects.get",), "x").create(clients)
    CustomRole("lunationX", (), "x").delete(clients)
    role = CustomRole("lunationX", ("storage.objects.list",), "x")
    assert compare(role, clients).action == "create"
    role.create(clients)
    assert compare(role, clients).action == "unchanged"


def test_a_change_by_somebody_else_is_not_overwritten(clients: Clients) -> None:
    """The etag of what was read no longer fits."""
    role = CustomRole("lunationX", ("storage.objects.get",), "x")
    role.create(clients)
    stale = clients.iam.get_role(request={"name": role.path(clients)})
    clients.iam.update_role(
        request={"name": stale.name, "role": {"title": "mine"}, "update_mask": {"paths": ["title"]}}
    )
    with pytest.raises(exceptions.Aborted, match="etag"):
        clients.iam.update_role(request={"name": stale.name, "role": stale, "update_mask": {"paths": ["title"]}})


def test_a_call_that_is_not_rehearsed_is_refused_by_name(clients: Clients) -> None:
    """Nothing is answered in silence."""
    with pytest.raises(exceptions.MethodNotImplemented, match=r"QueryTestablePermissions: the rehearsal does not"):
        clients.iam.query_testable_permissions(request={"full_resource_name": "x"})


def test_a_service_agent_is_there_once_it_was_asked_for(stage: Stage, clients: Clients) -> None:
    """By the one call that makes it, over HTTP; its operation is done when it is looked at."""
    base = clients.target.addresses()["serviceusage"]["http"]
    assert stage.project.agents == set()
    path = f"/v1beta1/projects/{PROJECT}/services/pubsub.googleapis.com:generateServiceIdentity"
    started = requests.post(base + path, timeout=10).json()
    assert not started.get("done")
    for version in ("v1", "v1beta1"):
        done = requests.get(f"{base}/{version}/{started['name']}", timeout=10).json()
        assert done["done"]
        assert done["response"]["email"] == f"service-{NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com"
    assert stage.project.agents == {AGENTS["pubsub"].email}
    unknown = requests.post(base + path.replace("pubsub", "nobody"), timeout=10)
    assert (unknown.status_code, "nobody.googleapis.com" in unknown.text) == (400, True)
    theirs = requests.post(base + path.replace(PROJECT, "example-other"), timeout=10)
    assert theirs.status_code == 403
    (call, *_) = stage.notes.of("deployer")
    assert call.method == "serviceusage.services.generateServiceIdentity"


def test_a_project_with_each_defect_can_be_had(stage: Stage, clients: Clients) -> None:
    """One that is not there, one that is being deleted, one on which something is not allowed."""
    name = f"projects/{PROJECT}"
    assert clients.projects.get_project(name=name).state.name == "ACTIVE"
    stage.project.state = "DELETE_REQUESTED"
    assert clients.projects.get_project(name=name).state.name == "DELETE_REQUESTED"
    stage.project.exists = False
    with pytest.raises(exceptions.PermissionDenied, match=r"or it may not exist"):
        clients.projects.get_project(name=name)
    stage.project.lacks = {"pubsub.topics.create"}
    asked = ["pubsub.topics.create", "pubsub.topics.get"]
    answer = clients.projects.test_iam_permissions(request={"resource": name, "permissions": asked})
    assert list(answer.permissions) == ["pubsub.topics.get"]
    services = [f"{name}/services/{api}.googleapis.com" for api in ("pubsub", "run")]
    clients.service_usage.enable_service(request={"name": services[1]}).result(timeout=10)
    found = clients.service_usage.batch_get_services(request={"parent": name, "names": services}).services
    assert [one.state.name for one in found] == ["DISABLED", "ENABLED"]


def test_a_field_that_nobody_configured_is_there_wherever_the_database_is(clients: Clients) -> None:
    """It has no time to live; without the database there is none."""
    name = f"projects/{PROJECT}/databases/(default)/collectionGroups/Record/fields/expire_at"
    with pytest.raises(exceptions.NotFound):
        clients.firestore_admin.get_field(name=name)
    clients.firestore_admin.create_database(
        parent=f"projects/{PROJECT}", database={"type_": "DATASTORE_MODE"}, database_id="(default)"
    )
    assert "ttl_config" not in clients.firestore_admin.get_field(name=name)
    clients.firestore_admin.update_field(request={"field": {"name": name, "ttl_config": {}}})
    assert "ttl_config" in clients.firestore_admin.get_field(name=name)
    clients.firestore_admin.delete_database(name=f"projects/{PROJECT}/databases/(default)")
    with pytest.raises(exceptions.NotFound):
        clients.firestore_admin.get_field(name=name)
