"""A function's row against a service that answers as Google's does: in states, and with a source of its own."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud.functions_v2 import types

from lunation.deploy.artefacts import Artefact
from lunation.deploy.functions import Function
from lunation.deploy.plan import compare
from lunation.deploy.settling import UNDER_WAY, NotYetError
from lunation.settings import FunctionSize
from tests.lunation.google import PROJECT, Functions, Google, Rewriting, google

NAME = f"projects/{PROJECT}/locations/us-central1/functions/classify"
State: Any = types.Function.State
SOURCE_BUCKET = "gcf-v2-sources-123456789012-us-central1"


def as_google_does(function: Any) -> None:
    """The source is a copy of Google's own (magic-modules, cloudfunctions2_function_source_bucket.go.tmpl), and what
    was not declared is filled in (Function.yaml, default_from_api)."""
    source = function.build_config.source.storage_source
    source.bucket, source.object_, source.generation = SOURCE_BUCKET, "classify/function-source.zip", 1795608508969260
    function.build_config.build = "projects/123456789012/locations/us-central1/builds/0a1b"
    function.build_config.source_provenance.resolved_storage_source.CopyFrom(source)
    function.service_config.available_cpu = "1000m"
    function.service_config.all_traffic_on_latest_revision = True
    function.labels["goog-terraform-provisioned"] = "true"


@pytest.fixture
def service() -> Functions:
    """What answers."""
    return Functions()


@pytest.fixture
def cloud(service: Functions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """With reads as Google gives them."""
    judges = [Rewriting(GetFunction=as_google_does)]
    with google(tmp_path, monkeypatch, judges, {"functions": service.answer}) as made:
        yield made


@pytest.fixture
def row(tmp_path: Path) -> Callable[..., Function]:
    """The row for a source."""

    def made(content: bytes = b"one", memory: str = "512Mi") -> Function:
        path, digest = tmp_path / "classify.zip", hashlib.sha256(content).hexdigest()
        path.write_bytes(content)
        return Function(
            "classify",
            entry_point="classify_push",
            source=Artefact(path, f"classify/{digest[:12]}.zip", digest),
            bucket=f"{PROJECT}-build",
            size=FunctionSize(memory=memory, cpu="1", max_instances=20, concurrency=80),
            service_account=f"lunation-classify@{PROJECT}.iam.gserviceaccount.com",
            build_account=f"lunation-build@{PROJECT}.iam.gserviceaccount.com",
            repository=f"projects/{PROJECT}/locations/us-central1/repositories/lunation",
            environment=lambda _: {"USE_CASE": "flights", "LOG_EXECUTION_ID": "false"},
        )

    return made


def test_what_the_service_rewrites_is_no_change(cloud: Google, row: Callable[..., Function]) -> None:
    """A function that was just deployed needs no other deployment, though its source reads back as Google's copy."""
    row().create(cloud.clients)
    source = cloud.clients.functions.get_function(name=NAME).build_config.source.storage_source
    assert source.bucket == SOURCE_BUCKET
    assert compare(row(), cloud.clients).action == "unchanged"


def test_another_source_is_built(cloud: Google, row: Callable[..., Function]) -> None:
    """Its label alone tells the source, and a change of it sends the source."""
    row().create(cloud.clients)
    other = row(b"two")
    change = compare(other, cloud.clients)
    assert [path for path, _, _ in change.fields] == ["labels.source"]
    other.update(cloud.clients, ["labels"])
    (request,) = cloud.asked("UpdateFunction")
    assert "build_config" in request.update_mask.paths
    digest = hashlib.sha256(b"two").hexdigest()[:12]
    assert request.function.build_config.source.storage_source.object_ == f"classify/{digest}.zip"
    assert compare(row(b"two"), cloud.clients).action == "unchanged"


def test_another_size_builds_nothing(cloud: Google, row: Callable[..., Function]) -> None:
    """Only what differs is sent: with the build, Google would build the function anew."""
    row().create(cloud.clients)
    row(memory="1Gi").update(cloud.clients, ["service_config"])
    (request,) = cloud.asked("UpdateFunction")
    assert list(request.update_mask.paths) == ["service_config"]


@pytest.mark.parametrize("state", ["FAILED", "UNKNOWN"])
def test_a_function_that_does_not_serve_is_deployed_again(
    cloud: Google, service: Functions, row: Callable[..., Function], state: str
) -> None:
    """The plan shows its state; the deployment sends all that is declared, and never a state."""
    row().create(cloud.clients)
    service.things[NAME].state = State[state]
    change = compare(row(), cloud.clients)
    assert (change.action, change.fields) == ("change", [("state", state, "ACTIVE")])
    row().update(cloud.clients, ["state"])
    (request,) = cloud.asked("UpdateFunction")
    assert set(request.update_mask.paths) == {"build_config", "service_config", "labels"}
    assert request.function.state == 0
    assert compare(row(), cloud.clients).action == "unchanged"


@pytest.mark.parametrize("state", ["DEPLOYING", "DELETING"])
def test_what_is_under_way_is_waited_for(
    cloud: Google, service: Functions, row: Callable[..., Function], state: str
) -> None:
    """A run that was killed left it so: it is not sent twice, and is all that was missing once it is over."""
    row().create(cloud.clients)
    service.things[NAME].state = State[state]
    assert compare(row(), cloud.clients).fields == [("state", state, "ACTIVE")]
    for attempt in (lambda: row().update(cloud.clients, ["state"]), lambda: row().delete(cloud.clients)):
        with pytest.raises(NotYetError, match=f"the function is {state}") as told:
            attempt()
        assert told.value.awaits is UNDER_WAY
    assert cloud.asked("UpdateFunction") == cloud.asked("DeleteFunction") == []
    service.things[NAME].state = State.ACTIVE
    assert compare(row(), cloud.clients).action == "unchanged"


def test_a_function_that_went_meanwhile_is_made(
    cloud: Google, service: Functions, row: Callable[..., Function]
) -> None:
    """Its deletion was under way when the plan was made."""
    row().update(cloud.clients, ["state"])
    assert service.things[NAME].state == State.ACTIVE
