"""The stand-in for a project at Google's answers as it would, and the rows of the table use it as they would Google."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api_core import exceptions

from lunation.clients import Clients
from lunation.deploy.accounts import CustomRole, ServiceAccount
from lunation.deploy.images import Image, Repository
from lunation.deploy.plan import compare
from lunation.settings import load
from rehearsal.project import Project
from rehearsal.stage import Stage

SERVICES = ("iam", "artifactregistry", "cloudbuild")


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
