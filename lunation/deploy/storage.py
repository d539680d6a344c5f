"""Buckets, and the staged files in the build bucket."""

from google.cloud.exceptions import NotFound

from lunation.clients import Clients
from lunation.deploy.resource import Resource, State
from lunation.deploy.staging import Artefact


class Bucket(Resource):
    """A bucket with uniform access, closed to the public.

    Args:
        name: globally unique.
        versioned: keep what is overwritten or deleted.
        delete_after_days: for scratch data; None keeps everything.
        keeps_data: destroy leaves it alone.
    """

    kind = "bucket"

    def __init__(
        self, name: str, *, versioned: bool = False, delete_after_days: int | None = None, keeps_data: bool = True
    ) -> None:
        super().__init__(name)
        self.keeps_data = keeps_data
        self._versioned = versioned
        self._delete_after_days = delete_after_days

    def desired(self, clients: Clients) -> State:
        """Location, access and lifecycle."""
        rules = []
        if self._delete_after_days is not None:
            rules.append({"action": {"type": "Delete"}, "condition": {"age": self._delete_after_days}})
        return {
            "location": clients.target.region.upper(),
            "uniform_access": True,
            "public_access_prevention": "enforced",
            "versioning": self._versioned,
            "lifecycle": rules,
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
            "lifecycle": [dict(rule) for rule in bucket.lifecycle_rules],
        }

    def create(self, clients: Clients) -> None:
        """Create the bucket."""
        bucket = clients.storage.bucket(self.name)
        self._declare(bucket, clients)
        clients.storage.create_bucket(bucket, location=clients.target.region)

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Patch it. A bucket cannot move, so another location is refused."""
        if "location" in changed:
            raise ValueError(f"{self.address}: a bucket cannot move to {clients.target.region}; name another region")
        bucket = clients.storage.get_bucket(self.name)
        self._declare(bucket, clients)
        bucket.patch()

    def delete(self, clients: Clients) -> None:
        """Delete the bucket with all its objects."""
        bucket = clients.storage.get_bucket(self.name)
        bucket.delete_blobs(list(clients.storage.list_blobs(self.name)), on_error=lambda _: None)
        bucket.delete()

    def _declare(self, bucket: object, clients: Clients) -> None:
        wanted = self.desired(clients)
        bucket.iam_configuration.uniform_bucket_level_access_enabled = wanted["uniform_access"]  # type: ignore[attr-defined]
        bucket.iam_configuration.public_access_prevention = wanted["public_access_prevention"]  # type: ignore[attr-defined]
        bucket.versioning_enabled = wanted["versioning"]  # type: ignore[attr-defined]
        bucket.lifecycle_rules = wanted["lifecycle"]  # type: ignore[attr-defined]


class StagedFile(Resource):
    """A file in the build bucket. Its name holds its hash, so it is there or not, and never changes."""

    kind = "file"

    def __init__(self, bucket: str, object_name: str, content: bytes) -> None:
        super().__init__(object_name)
        self._bucket = bucket
        self._content = content

    @classmethod
    def of(cls, bucket: str, artefact: Artefact) -> "StagedFile":
        """The file of a staged artefact."""
        return cls(bucket, artefact.object_name, artefact.path.read_bytes())

    def desired(self, clients: Clients) -> State:
        """Its size."""
        return {"bytes": len(self._content)}

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
