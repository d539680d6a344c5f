"""Buckets, and the staged files in the build bucket."""

import base64
import hashlib
from typing import Any

from google.cloud.exceptions import Conflict, Forbidden, NotFound

from lunation.clients import Clients
from lunation.deploy.artefacts import Artefact
from lunation.deploy.errors import api_is_off
from lunation.deploy.resource import SYSTEM, Resource, State

DAY = 24 * 3600


class Bucket(Resource):
    """A bucket with uniform access, closed to the public, whose deleted objects can be had back for a week.

    Args:
        name: globally unique.
        versioned: keep what is overwritten or deleted, for 30 days.
        keeps_data: destroy leaves it alone.
    """

    kind = "bucket"
    about = "where objects are kept"
    service = "storage"
    api = "storage.googleapis.com"
    managed_with = "roles/storage.admin"
    fixed = frozenset({"location"})

    def __init__(self, name: str, *, versioned: bool = False, keeps_data: bool = True) -> None:
        super().__init__(name)
        self.keeps_data = keeps_data
        self._versioned = versioned

    def desired(self, clients: Clients) -> State:
        """Location, access and lifecycle. No rule deletes by age what is current: a running job needs what it staged
        for as long as it runs (:mod:`lunation.deploy.job_files`)."""
        rules: list[State] = [{"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}}]
        if self._versioned:
            rules.append({"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 30}})
        return {
            "location": clients.target.region.upper(),
            "uniform_access": True,
            "public_access_prevention": "enforced",
            "versioning": self._versioned,
            "soft_delete_days": 7,
            "lifecycle": rules,
            "labels": SYSTEM,
        }

    def summary(self, clients: Clients) -> str:
        """What it is for, and whether one of its name can still be had back."""
        kept = "current objects and, for 30 days, older ones" if self._versioned else "current objects"
        deleted = [one for one in clients.storage.list_buckets(prefix=self.name, soft_deleted=True)
                   if one.name == self.name and one.soft_delete_time is not None]  # fmt: skip
        if not deleted:
            return f"in {clients.target.region}, keeps {kept}"
        # "If you or anyone else creates a bucket with the same name as a soft-deleted bucket, you cannot restore" it:
        # https://cloud.google.com/storage/docs/use-soft-deleted-buckets
        last = max(deleted, key=lambda one: one.soft_delete_time)
        return (
            f"a bucket of this name was deleted at {last.soft_delete_time:%Y-%m-%d %H:%M} UTC and can be had back, as "
            f"long as no new one is made: gcloud storage buckets restore gs://{self.name}#{last.generation}"
        )

    def read(self, clients: Clients) -> State | None:
        """As it is.

        Raises:
            ValueError: the name is somebody else's.
        """
        bucket = self._find(clients)
        if bucket is None:
            return None
        return {
            "location": bucket.location.upper(),
            "uniform_access": bucket.iam_configuration.uniform_bucket_level_access_enabled,
            "public_access_prevention": bucket.iam_configuration.public_access_prevention,
            "versioning": bool(bucket.versioning_enabled),
            "soft_delete_days": int(bucket.soft_delete_policy.retention_duration_seconds or 0) // DAY,
            "lifecycle": [dict(rule) for rule in bucket.lifecycle_rules],
            "labels": dict(bucket.labels),
        }

    def _find(self, clients: Clients) -> Any:
        """The bucket, if it is there and ours.

        A bucket that is not there is answered with 404; one that the caller may not look at with 403.
        """
        try:
            bucket = clients.storage.lookup_bucket(self.name)
        except Forbidden as error:
            if api_is_off(error):
                raise
            raise ValueError(
                f"gs://{self.name} is there, and {clients.principal} may not look at it. {self._taken(clients)} If it "
                f"is this project's own, roles/storage.admin is missing: gcloud storage buckets list "
                f"--project={clients.project} ({error})"
            ) from error
        # 0: a service that counts no projects.
        if bucket is not None and bucket.project_number and str(bucket.project_number) != clients.project_number:
            raise ValueError(
                f"gs://{self.name} belongs to another project, number {bucket.project_number}. {self._taken(clients)}"
            )
        return bucket

    def _taken(self, clients: Clients) -> str:
        return (
            "The names of buckets are shared by all of Google's customers, and ours begin with the project's id: if "
            f"somebody else has this one, deploy to a project of another id than {clients.project}."
        )

    def create(self, clients: Clients) -> None:
        """Create the bucket.

        Raises:
            google.cloud.exceptions.Conflict: the name is somebody else's, or is not free yet after a deletion.
        """
        bucket = clients.storage.bucket(self.name)
        self._declare(bucket, clients)
        try:
            clients.storage.create_bucket(bucket, location=clients.target.region)
        except Conflict as error:
            # The client asks again when an answer got lost, and is told that the bucket is there.
            if self._find(clients) is None:
                raise Conflict(f"gs://{self.name} cannot be had. {self._taken(clients)} ({error.message})") from error

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Patch it, unless somebody else changed it in between."""
        bucket = clients.storage.get_bucket(self.name)
        self._declare(bucket, clients)
        bucket.patch(if_metageneration_match=bucket.metageneration)

    def delete(self, clients: Clients) -> None:
        """Delete the bucket with all its objects, older versions included."""
        bucket = clients.storage.get_bucket(self.name)
        bucket.delete_blobs(list(clients.storage.list_blobs(self.name)), on_error=lambda _: None)
        try:
            bucket.delete()
        except Conflict:  # versions that are not current are left
            bucket.delete_blobs(list(clients.storage.list_blobs(self.name, versions=True)), preserve_generation=True)
            bucket.delete()

    def _declare(self, bucket: Any, clients: Clients) -> None:
        wanted = self.desired(clients)
        bucket.iam_configuration.uniform_bucket_level_access_enabled = wanted["uniform_access"]
        bucket.iam_configuration.public_access_prevention = wanted["public_access_prevention"]
        bucket.versioning_enabled = wanted["versioning"]
        bucket.soft_delete_policy.retention_duration_seconds = wanted["soft_delete_days"] * DAY
        bucket.lifecycle_rules = wanted["lifecycle"]
        bucket.labels = {**bucket.labels, **wanted["labels"]}


class StagedFile(Resource):
    """A file in the build bucket. Its name holds its hash, so it is there or not, and never changes."""

    kind = "file"
    about = "what is shipped; its hash is part of its name"
    service = "storage"
    api = "storage.googleapis.com"
    managed_with = "roles/storage.admin"

    def __init__(self, bucket: str, object_name: str, content: bytes) -> None:
        super().__init__(object_name)
        self.within = f"{Bucket.kind}/{bucket}"
        self._bucket = bucket
        self._content = content

    @classmethod
    def of(cls, bucket: str, artefact: Artefact) -> "StagedFile":
        """The file of a staged artefact."""
        return cls(bucket, artefact.object_name, artefact.path.read_bytes())

    def desired(self, clients: Clients) -> State:
        """Its size, and the hash of its bytes as Cloud Storage tells it: an object of one part always has one."""
        digest = hashlib.md5(self._content, usedforsecurity=False).digest()
        return {"bytes": len(self._content), "md5": base64.b64encode(digest).decode()}

    def summary(self, clients: Clients) -> str:
        """How large it is."""
        return f"{len(self._content):,} bytes to gs://{self._bucket}"

    def read(self, clients: Clients) -> State | None:
        """Its size and hash, if both bucket and object are there."""
        blob = clients.storage.bucket(self._bucket).blob(self.name)
        try:
            blob.reload()
        except NotFound:
            return None
        return {"bytes": blob.size, "md5": blob.md5_hash}

    def create(self, clients: Clients) -> None:
        """Upload it."""
        blob = clients.storage.bucket(self._bucket).blob(self.name)
        blob.upload_from_string(self._content, content_type="application/octet-stream")

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Upload it again: somebody put other bytes in its place."""
        self.create(clients)

    def delete(self, clients: Clients) -> None:
        """Delete it."""
        clients.storage.bucket(self._bucket).blob(self.name).delete()
