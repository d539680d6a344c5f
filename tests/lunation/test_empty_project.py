"""The project that a plan of an example asks: nothing is in it, and nothing can be made."""

from collections.abc import Iterator

import pytest
from google.api_core.exceptions import MethodNotImplemented, NotFound
from google.cloud import storage
from google.cloud.resourcemanager_v3 import Project
from google.cloud.service_usage_v1 import State

from lunation.clients import Clients
from lunation.deploy.empty_project import SERVICES, empty_project
from lunation.settings import load
from rehearsal.stage import CLIENTS

LOCATION = "projects/example-production/locations/us-central1"
LOOKED_AT_BY_DOCTOR = {"cloudbilling", "compute", "logging", "orgpolicy"}
"""What no plan asks, and no command about an example."""


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    """The deployer's clients of an example."""
    for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(variable, "")
    with empty_project(load().target("production")) as target:
        yield Clients(target)


def test_the_project_itself_is_there_and_its_apis_are_off(clients: Clients) -> None:
    """As one that was just made."""
    found = clients.projects.get_project(name="projects/example-production")
    assert (found.project_id, found.state) == ("example-production", Project.State.ACTIVE)
    assert clients.project_number.isdigit()
    name = "projects/example-production/services/pubsub.googleapis.com"
    service = clients.service_usage.get_service(request={"name": name})
    assert (service.name, service.state) == (name, State.DISABLED)


def test_what_is_asked_by_name_is_not_there(clients: Clients) -> None:
    """Over gRPC, over REST, and in Cloud Storage, where a policy or the objects of no bucket are not there either."""
    with pytest.raises(NotFound, match="nothing is there"):
        clients.subscriber.get_subscription(subscription="projects/example-production/subscriptions/s")
    with pytest.raises(NotFound, match="nothing is there"):
        clients.functions.get_function(name=f"{LOCATION}/functions/classify")
    assert clients.storage.lookup_bucket("b") is None
    for look in (storage.Bucket.get_iam_policy, lambda bucket: list(bucket.list_blobs())):
        with pytest.raises(NotFound):
            look(clients.storage.bucket("b"))


def test_every_list_is_empty(clients: Clients) -> None:
    """Over gRPC, over REST, and of buckets."""
    assert list(clients.publisher.list_topics(project="projects/example-production")) == []
    assert list(clients.functions.list_functions(parent=LOCATION)) == []
    assert list(clients.workflows.list_workflows(parent=LOCATION)) == []
    assert list(clients.storage.list_buckets()) == []


def test_nothing_can_be_made_in_it(clients: Clients) -> None:
    """A mistake of the deployer's is told, and not answered as if something had been made."""
    with pytest.raises(MethodNotImplemented, match="nothing is made"):
        clients.publisher.create_topic(name="projects/example-production/topics/t")
    with pytest.raises(MethodNotImplemented, match="nothing is made"):
        clients.scheduler.create_job(parent=LOCATION, job={})


def test_it_has_every_service_that_a_project_has() -> None:
    """A plan of a target without a service shows nothing of it."""
    assert {*SERVICES} == {*CLIENTS} - LOOKED_AT_BY_DOCTOR
