"""Buckets whose names somebody else has, or that can still be had back; staged files with other bytes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.cloud.exceptions import Conflict

from laptop.errors import ServiceError
from lunation.deploy.plan import ApplyError, compare, plan
from lunation.deploy.storage import Bucket, StagedFile
from rehearsal.judge import Judge
from rehearsal.recorder import Call
from tests.lunation.google import PROJECT, Google, google
from tests.support import ServerProcess

NAME = f"{PROJECT}-archive"
FORBIDDEN = (
    "lunation-deployer@example-production.iam.gserviceaccount.com does not have storage.buckets.get access to the "
    "Google Cloud Storage bucket. Permission 'storage.buckets.get' denied on resource (or it may not exist)."
)
TAKEN = (
    "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please "
    "select a different name and try again."
)


class Names(Judge):
    """Whose a bucket is, and what was deleted."""

    def __init__(self) -> None:
        self.forbidden = self.taken = False
        self.number = ""
        self.deleted: list[dict[str, str]] = []

    def before(self, call: Call) -> None:
        """Refuse in Cloud Storage's words."""
        if self.forbidden and call.method == "storage.buckets.get":
            raise ServiceError("PERMISSION_DENIED", FORBIDDEN)
        if self.taken and call.method == "storage.buckets.insert":
            raise ServiceError("ALREADY_EXISTS", TAKEN)

    def after_storage(self, call: Call, status: int, body: bytes) -> bytes:
        """The project's number, and what is soft-deleted."""
        if call.method == "storage.buckets.get" and status == 200 and self.number:
            return json.dumps({**json.loads(body), "projectNumber": self.number}).encode()
        if call.method == "storage.buckets.list" and "softdeleted=true" in str(call.request).lower():
            return json.dumps({"kind": "storage#buckets", "items": self.deleted}).encode()
        return body


@pytest.fixture
def names() -> Names:
    """Who has what."""
    return Names()


@pytest.fixture
def cloud(
    names: Names, serve: Callable[[str], ServerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Google]:
    """A project without buckets."""
    server = serve("storage")
    with google(tmp_path, monkeypatch, [names], laptop={"storage": {"http": server.http, "grpc": server.grpc}}) as made:
        yield made


def test_a_bucket_of_ours_is_as_declared(cloud: Google, names: Names) -> None:
    """With the number of our own project, and a place that is spelt in capitals."""
    Bucket(NAME, versioned=True).create(cloud.clients)
    names.number = "123456789012"
    assert compare(Bucket(NAME, versioned=True), cloud.clients).action == "unchanged"


def test_a_name_that_somebody_else_has_stops_the_plan(cloud: Google, names: Names) -> None:
    """Cloud Storage does not tell whose it is; the plan says what to do, and nothing was made."""
    names.forbidden = True
    with pytest.raises(ApplyError) as told:
        plan([Bucket(NAME)], cloud.clients)
    text = str(told.value)
    assert text.startswith(f"bucket/{NAME}: gs://{NAME} is there, and user:you@example.com may not look at it.")
    assert f"deploy to a project of another id than {PROJECT}" in text
    assert "roles/storage.admin is missing" in text
    assert [call.method for call in cloud.stage.notes.calls] == ["storage.buckets.get"]


def test_a_bucket_of_another_project_stops_the_plan(cloud: Google, names: Names) -> None:
    """Whoever deploys may look at it, and it is not this project's: nothing is put into it."""
    Bucket(NAME).create(cloud.clients)
    names.number = "987"
    with pytest.raises(ApplyError, match=r"belongs to another project, number 987\. The names of buckets are shared"):
        plan([Bucket(NAME)], cloud.clients)


def test_a_name_that_cannot_be_had_is_told_with_its_fix(cloud: Google, names: Names) -> None:
    """It is free to look at, and taken: of a domain, or of somebody who was quicker."""
    names.taken = True
    with pytest.raises(Conflict, match=rf"gs://{NAME} cannot be had\. .*another id than {PROJECT}.*not available"):
        Bucket(NAME).create(cloud.clients)


def test_a_bucket_whose_answer_got_lost_is_ours(cloud: Google) -> None:
    """The client asks again, and is told that it is there."""
    Bucket(NAME).create(cloud.clients)
    Bucket(NAME).create(cloud.clients)
    assert compare(Bucket(NAME), cloud.clients).action == "unchanged"


def test_a_bucket_that_can_be_had_back_is_told_before_a_new_one_hinders_that(cloud: Google, names: Names) -> None:
    """The plan says how; other buckets of a like name do not count."""
    assert compare(Bucket(NAME), cloud.clients).summary == "in us-central1, keeps current objects"
    names.deleted = [
        {"name": name, "generation": generation, "softDeleteTime": f"2026-11-{day}T08:00:00.000000Z"}
        for name, generation, day in ((NAME, "12", "20"), (NAME, "34", "28"), (f"{NAME}-old", "56", "29"))
    ]
    change = compare(Bucket(NAME), cloud.clients)
    assert change.action == "create"
    assert "was deleted at 2026-11-28 08:00 UTC" in change.summary
    assert change.summary.endswith(f"gcloud storage buckets restore gs://{NAME}#34")


def test_labels_of_others_stay(cloud: Google) -> None:
    """What was put right is put right, and nothing else."""
    Bucket(NAME).create(cloud.clients)
    made = cloud.clients.storage.get_bucket(NAME)
    made.labels = {"system": "theirs", "cost-centre": "42"}
    made.patch()
    Bucket(NAME).update(cloud.clients, ["labels"])
    assert cloud.clients.storage.get_bucket(NAME).labels == {"system": "lunation", "cost-centre": "42"}


def test_other_bytes_of_the_same_size_are_a_change(cloud: Google) -> None:
    """Somebody put another file in a staged one's place: its name says otherwise, so it is uploaded again."""
    Bucket(NAME).create(cloud.clients)
    row = StagedFile(NAME, "classify/0a1b2c3d4e5f.zip", b"the release")
    row.create(cloud.clients)
    assert compare(row, cloud.clients).action == "unchanged"
    bucket = cloud.clients.storage.bucket(NAME)
    bucket.blob(row.name).upload_from_string(b"other bytes")
    assert [path for path, _, _ in compare(row, cloud.clients).fields] == ["md5"]
    row.update(cloud.clients, ["md5"])
    assert bucket.blob(row.name).download_as_bytes() == b"the release"
    assert compare(row, cloud.clients).action == "unchanged"
