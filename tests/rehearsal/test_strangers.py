"""Other people's things in a rehearsed project are compared byte for byte; each that is not as it was is told."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.iam.v1 import policy_pb2

from laptop.supervisor import Supervisor
from lunation.clients import Clients
from lunation.settings import load
from rehearsal.project import Project
from rehearsal.stage import LAPTOP
from rehearsal.strangers import Strangers

TARGET = load().target("production")
PROJECT = f"projects/{TARGET.project}"


class Place:
    """A project in which they are, and clients that anybody may use."""

    def __init__(self, folder: Path, servers: Supervisor) -> None:
        self.project = Project(TARGET.project)
        self.strangers = Strangers(self.project, TARGET, servers)
        self.clients = Clients(TARGET.model_copy(update={"endpoints": folder / "endpoints.json", "sample": False}))
        self.strangers.move_in()

    def grant(self, change: Callable[[policy_pb2.Policy], None]) -> None:
        """Change the project's policy."""
        policy = policy_pb2.Policy()
        policy.CopyFrom(self.project.policy(PROJECT))
        change(policy)
        self.project.set_policy(PROJECT, policy)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """They have moved in."""
    folder = tmp_path_factory.mktemp("strangers")
    with pytest.MonkeyPatch.context() as patch, Supervisor(folder, LAPTOP) as servers:
        for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
            patch.setenv(variable, "")  # the clients set them; they are put back afterwards
        servers.wait_ready()
        yield Place(folder, servers)


def test_what_is_as_it_was_or_new_or_has_another_etag_is_not_told(place: Place) -> None:
    """A deployment adds to a project, and a service gives etags as it likes."""
    role = place.project.get(f"{PROJECT}/roles/auditor")
    role.etag = b"another"
    place.clients.publisher.create_topic(request={"name": f"{PROJECT}/topics/new"})
    place.grant(lambda policy: policy.bindings.add(role="roles/viewer", members=["user:new@example.com"]))
    assert place.strangers.changed("deployment") == []


def _patch_workflow(clients: Clients) -> None:
    workflow = clients.workflows.get_workflow(name=f"{clients.location}/workflows/orders")
    workflow.labels["system"] = "lunation"
    request = {"workflow": workflow, "update_mask": {"paths": ["labels"]}}
    clients.workflows.update_workflow(request=request).result()


TOUCHED: dict[str, Callable[[Place], Any]] = {
    "Topic ": lambda place: place.clients.publisher.delete_topic(topic=f"{PROJECT}/topics/orders"),
    "Workflow ": lambda place: _patch_workflow(place.clients),
    "Object gs://": lambda place: place.clients.storage.bucket(f"{TARGET.project}-orders").blob(
        "archive/2026.csv").upload_from_string("4,5,6\n"),
    "Entity ('Order', '1')": lambda place: place.clients.datastore.delete(place.clients.datastore.key("Order", "1")),
    "AlertPolicy ": lambda place: place.project.remove(f"{PROJECT}/alertPolicies/901"),
    f"access to {PROJECT}: roles/storage.objectViewer user:grace@example.com temporary": lambda place: place.grant(
        lambda policy: policy.bindings.remove(next(one for one in policy.bindings if one.condition.title))),
    f"access to {PROJECT}: roles/iam.securityReviewer serviceAccount:lunation-planner": lambda place: place.grant(
        lambda policy: policy.bindings.remove(next(one for one in policy.bindings if "Reviewer" in one.role))),
}  # fmt: skip


@pytest.mark.parametrize("name", TOUCHED)
def test_whoever_is_touched_is_told_by_name_and_once(place: Place, name: str) -> None:
    """Deleted or changed, kept by the laptop or by the project, a thing or a member with its condition."""
    assert place.strangers.changed("nothing") == []
    TOUCHED[name](place)
    told = place.strangers.changed("edit")
    assert told
    assert any(line.startswith(f"stranger: {name}") for line in told), told
    assert all(line.endswith("after the edit") for line in told)
    assert place.strangers.changed("end") == []


def test_a_policy_that_is_set_keeps_what_is_logged_of_its_use(place: Place) -> None:
    """Without an update mask, a request replaces the bindings alone."""
    place.grant(lambda policy: policy.ClearField("audit_configs"))
    assert [one.service for one in place.project.policy(PROJECT).audit_configs] == ["allServices"]
