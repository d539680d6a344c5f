"""Buckets, and the staged files in the build bucket."""

from typing import Any

from google.cloud.exceptions import Conflict, NotFound

from lunation.clients import Clients
from lunation.deploy.resource import SYSTEM, Resource, State
from lunation.deploy.staging import Artefact

DAY = 24 * 3600


class Bucket(Resource):
    """A bucket with uniform access, closed to the public, whose deleted objects can be had back for a week.

    Args:
        name: globally unique.
        versioned: keep what is overwritten or deleted, for 30 days.
        scratch: prefixes whose objects are deleted after a week.
        keeps_data: destroy leaves it alone.
    """

    kind = "bucket"
    about = "where objects are kept"
    service = "storage"
    api = "storage.googleapis.com"
    managed_with = "roles/storage.admin"
    fixed = frozenset({"location"})

    def __init__(
        self, name: str, *, versioned: bool = False, scratch: tuple[str, ...] = (), keeps_data: bool = True
    ) -> None:
        super().__init__(name)
        self.keeps_data = keeps_data
        self._versioned = versioned
        self._scratch = scratch

    def desired(self, clients: Clients) -> State:
        """Location, access and lifecycle."""
        rules: list[State] = [{"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}}]
        if self._versioned:
            rules.append({"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 30}})
        if self._scratch:
            condition = {"age": 7, "matchesPrefix": list(self._scratch)}
            rules.append({"action": {"type": "Delete"}, "condition": condition})
        return {
            "location": clients.target.region.upper(),
            "uniform_access": True,
            "public_access_prevention": "enforced",
            "versioning": self._versioned,
            "soft_delete_days": 7,
            "lifecycle": rules,
            "labels": SYSTEM,
        }

    def read(self, clients: Clients) -> State | None:
        """As it is."""
        bucket = clients.storage.lookup_bucket(self.name)
        if bucket is None:
            return None
        return {
            "location": bucket.location,
            "uniform_access": bucket.iam_configuration.uniform_bucket_level_access_enabled,
            "public_access_prevention": bucket.iam_configuration.public_access_prevention,
            "versioning": bool(bucket.versioning_enabled),
            "soft_delete_days": int(bucket.soft_delete_policy.retention_duration_seconds or 0) // DAY,
            "lifecycle": [dict(rule) for rule in bucket.lifecycle_rules],
            "labels": dict(bucket.labels),
        }

    def create(self, clients: Clients) -> None:
        """Create the bucket."""
        bucket = clients.storage.bucket(self.name)
        self._declare(bucket, clients)
        clients.storage.create_bucket(bucket, location=clients.target.region)

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
        bucket.labels = wanted["labels"]


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
        """Its size."""
        return {"bytes": len(self._content)}

    def summary(self, clients: Clients) -> str:
        """How large it is."""
        return f"{len(self._content):,} bytes to gs://{self._bucket}"

    def read(self, clients: Clients) -> State | None:
        """Its size, if both bucket and object are there."""
        blob = clients.storage.bucket(self._bucket).blob(self.name)
        try:
            blob.reload()
        except NotFound:
            return None
        return {"bytes": blob.size}

    def create(self, clients: Clients) -> None:
        """Upload it."""
        blob = clients.storage.bucket(self._bucket).blob(self.name)
        blob.upload_from_string(self._content, content_type="application/octet-stream")

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Upload it again: an upload that was cut short left another size."""
        self.create(clients)

    def delete(self, clients: Clients) -> None:
        """Delete it."""
        clients.storage.bucket(self._bucket).blob(self.name).delete()
