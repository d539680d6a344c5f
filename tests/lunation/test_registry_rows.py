"""The registry of images: what the service adds is no change, and what runs is never cleaned up."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lunation.deploy.images import Repository
from lunation.deploy.plan import compare
from lunation.deploy.table import resources
from lunation.settings import load
from tests.lunation.google import Google, Rewriting, google


def as_google_does(repository: Any) -> None:
    """Normalised durations are those that were sent; the rest is added (Repository.yaml of magic-modules)."""
    repository.mode = 1
    repository.registry_uri = "us-central1-docker.pkg.dev/example-production/lunation"
    repository.size_bytes = 1 << 30
    for policy in repository.cleanup_policies.values():
        if policy.HasField("condition") and not policy.condition.tag_state:
            policy.condition.tag_state = 3


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """With reads as Google gives them."""
    with google(tmp_path, monkeypatch, [Rewriting(GetRepository=as_google_does)]) as made:
        yield made


def kept(repository: Any) -> Any:
    """The policy that keeps the archive's image."""
    return repository.cleanup_policies["keep-archive"]


def test_the_image_of_the_running_job_is_kept_whatever_its_age(cloud: Google) -> None:
    """A worker that is replaced pulls it again. After a roll-back it may be none of the last ten."""
    rows = resources(load(), cloud.clients.target)
    (repository,) = [row for row in rows if isinstance(row, Repository)]
    (image,) = [row for row in rows if row.kind == "image"]
    repository.create(cloud.clients)
    (request,) = cloud.asked("CreateRepository")
    policy = kept(request.repository)
    package, _, tag = image.name.partition(":")
    assert (policy.action, list(policy.condition.package_name_prefixes)) == (2, [package])
    assert list(policy.condition.tag_prefixes) == [tag]
    assert compare(repository, cloud.clients).action == "unchanged"


def test_another_release_keeps_another_image(cloud: Google) -> None:
    """And lets go of the one before."""
    Repository("lunation", running=("archive:0a1b",)).create(cloud.clients)
    row = Repository("lunation", running=("archive:2c3d",))
    path = "cleanup_policies.keep-archive.condition.tag_prefixes"
    assert compare(row, cloud.clients).fields == [(path, ["0a1b"], ["2c3d"])]
    row.update(cloud.clients, ["cleanup_policies"])
    assert compare(row, cloud.clients).action == "unchanged"


def test_a_clean_up_that_only_pretends_and_a_strange_policy_are_changes(cloud: Google) -> None:
    """The first fills the registry; the second may take what runs."""
    row = Repository("lunation")
    row.create(cloud.clients)
    (thing,) = [one for name, one in cloud.project.things.items() if name.endswith("/repositories/lunation")]
    thing.cleanup_policy_dry_run = True
    thing.cleanup_policies["all"].id = "all"
    paths = {path for path, _, _ in compare(row, cloud.clients).fields}
    assert paths == {"cleanup_policy_dry_run", "cleanup_policies.all"}
