"""A project that is not there, and a region without a service, are told before anything is changed."""

import json
from pathlib import Path

import pytest
from google.cloud.location import locations_pb2
from google.protobuf.message import Message
from typer.testing import CliRunner

from laptop.errors import ServiceError
from lunation.cli import app
from lunation.clients import Clients
from lunation.deploy.apis import Api
from lunation.deploy.place import PlaceError, check_project
from lunation.deploy.plan import ApplyError, apply, plan
from rehearsal.judge import Judge
from rehearsal.recorder import Call
from tests.lunation.rehearsed import PROJECT, Refuses, rehearsed
from tests.lunation.test_settling import OFF

DENIED = ServiceError(
    "PERMISSION_DENIED",
    "Permission 'resourcemanager.projects.get' denied on resource '//cloudresourcemanager.googleapis.com/projects/"
    f"{PROJECT}' (or it may not exist).",
)
NOT_USABLE = ServiceError(
    "PERMISSION_DENIED",
    f"Caller does not have required permission to use project {PROJECT}. Grant the caller the "
    "roles/serviceusage.serviceUsageConsumer role",
)


@pytest.mark.parametrize("error", [DENIED, NOT_USABLE])
def test_a_project_that_is_not_there_is_told_with_what_to_do(tmp_path: Path, error: ServiceError) -> None:
    """Or that is somebody else's: Google does not say which, and which project's quota it was."""
    said = rf"project {PROJECT} is not there, or .* may not see it.*lunation.toml"
    with rehearsed(tmp_path, Refuses("GetProject", error)) as (_, clients), pytest.raises(PlaceError, match=said):
        check_project(clients)


def test_a_new_project_whose_apis_are_off_is_one(tmp_path: Path) -> None:
    """The deployment switches them on."""
    with rehearsed(tmp_path, judge := Refuses("GetProject", OFF)) as (_, clients):
        check_project(clients)
    assert judge.refused == 1


@pytest.mark.parametrize("command", ["plan", "deploy", "destroy"])
def test_every_command_looks_at_the_project_first(tmp_path: Path, command: str) -> None:
    """One call, one line, exit code 1."""
    with rehearsed(tmp_path, Refuses("GetProject", DENIED)) as (stage, clients):
        variables = {
            "LUNATION_TARGETS__PRODUCTION__ENDPOINTS": str(clients.target.endpoints),
            "LUNATION_TARGETS__PRODUCTION__SAMPLE": "false",
        }
        yes = [] if command == "plan" else ["--yes"]
        result = CliRunner().invoke(app, [command, "--target", "production", *yes], env=variables)
        assert [call.method.rsplit(".", 1)[1] for call in stage.notes.calls] == ["GetProject"]
    assert result.exit_code == 1
    assert f"project {PROJECT} is not there" in result.stderr


class Elsewhere(Judge):
    """Lets a service be in two regions only."""

    def after(self, call: Call, answer: Message) -> Message:
        """Its regions."""
        if not call.method.endswith("ListLocations"):
            return answer
        regions = ("europe-west9", "us-east5")
        return locations_pb2.ListLocationsResponse(
            locations=[locations_pb2.Location(name=f"projects/p/locations/{one}", location_id=one) for one in regions]
        )


def test_a_region_without_a_service_is_told_with_those_that_have_it(tmp_path: Path) -> None:
    """Where its API is on already, before anything is changed; else before anything but the API is."""

    def workflows(clients: Clients) -> object:
        return clients.workflows

    rows = [Api("pubsub.googleapis.com"), Api("workflows.googleapis.com", workflows)]
    said = r"workflows.googleapis.com is not in region us-central1. It is in europe-west9, us-east5. .*`region`"
    with rehearsed(tmp_path, Elsewhere()) as (stage, clients):
        with pytest.raises(ApplyError, match=said):
            apply(rows, clients)
        before = len(stage.project.things)
        with pytest.raises(ApplyError, match=said):
            plan(rows, clients)
        there = clients.target.model_copy(update={"region": "us-east5"})
        assert [change.action for change in plan(rows, Clients(there))] == ["unchanged", "unchanged"]
        assert len(stage.project.things) == before
    assert json.dumps(sorted(stage.project.things)).count("services/") == 2
