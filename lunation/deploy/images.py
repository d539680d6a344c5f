"""The container image of the archive pipeline's template: built by Cloud Build from the staged zip."""

from itertools import islice

from lunation.clients import Clients
from lunation.deploy.resource import SYSTEM, Resource, State, if_found, message_of, state_of
from lunation.deploy.settling import UNDER_WAY, NotYetError
from lunation.settings import Target

BUILDER = "gcr.io/cloud-builders/docker"
UNFINISHED = ("PENDING", "QUEUED", "WORKING")
"""States of a build that can still push its image."""
NEWEST = 50
"""Builds that are looked at: one takes minutes, and the list begins with the newest."""


class Repository(Resource):
    """An Artifact Registry repository for container images.

    Old ones are deleted, but the last ten of each, and those that run: a Dataflow worker that is replaced pulls its
    image again, however old that is (after a roll-back it may be none of the last ten).

    Args:
        name: its id.
        running: ``<package>:<tag>`` of what runs now.
    """

    kind = "repository"
    about = "container images of the functions and of the archive pipeline"
    service = "artifactregistry"
    api = "artifactregistry.googleapis.com"
    managed_with = "roles/artifactregistry.admin"
    fixed = frozenset({"format_"})
    exact = frozenset({"cleanup_policies"})

    def __init__(self, name: str, *, running: tuple[str, ...] = ()) -> None:
        super().__init__(name)
        self._running = running

    def path(self, target: Target) -> str:
        """Full resource name."""
        return f"{target.location}/repositories/{self.name}"

    def desired(self, clients: Clients) -> State:
        """Format and clean-up. What a policy keeps, no other deletes:
        https://cloud.google.com/artifact-registry/docs/repositories/cleanup-policy-overview"""
        running = {
            f"keep-{package}": {
                "id": f"keep-{package}",
                "action": "KEEP",
                "condition": {"tag_state": "TAGGED", "tag_prefixes": [tag], "package_name_prefixes": [package]},
            }
            for package, _, tag in (image.partition(":") for image in self._running)
        }
        return {
            "format_": "DOCKER",
            "labels": SYSTEM,
            "cleanup_policy_dry_run": False,
            "cleanup_policies": {
                **running,
                "keep-last": {
                    "id": "keep-last",
                    "action": "KEEP",
                    "most_recent_versions": {"keep_count": 10},
                },
                "drop-old": {
                    "id": "drop-old",
                    "action": "DELETE",
                    "condition": {"tag_state": "ANY", "older_than": "7776000s"},
                },
            },
        }

    def summary(self, clients: Clients) -> str:
        """What it holds."""
        return "Docker images; what runs and the last ten of each stay, others for 90 days"

    def read(self, clients: Clients) -> State | None:
        """As it is."""
        found = if_found(lambda: clients.artifact_registry.get_repository(name=self.path(clients.target)))
        return None if found is None else state_of(found)

    def create(self, clients: Clients) -> None:
        """Create it and wait."""
        from google.cloud.artifactregistry_v1.types import Repository as Message

        clients.artifact_registry.create_repository(
            parent=clients.location,
            repository=message_of(Message, self.desired(clients)),
            repository_id=self.name,
        ).result(timeout=300)

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Set the fields that changed. The answer is the repository, not an operation."""
        from google.cloud.artifactregistry_v1.types import Repository as Message

        wanted = message_of(Message, {"name": self.path(clients.target), **self.desired(clients)})
        clients.artifact_registry.update_repository(request={"repository": wanted, "update_mask": {"paths": changed}})

    def delete(self, clients: Clients) -> None:
        """Delete it with its images: they can be built again from what is in the build bucket."""
        clients.artifact_registry.delete_repository(name=self.path(clients.target)).result(timeout=300)


def image_uri(target: Target, repository: str, name: str) -> str:
    """Where an image called ``<package>:<tag>`` lies."""
    return f"{target.region}-docker.pkg.dev/{target.project}/{repository}/{name}"


class Image(Resource):
    """An image built from a zip in the build bucket. Its tag is the zip's hash, so it is there or not.

    Args:
        name: ``<package>:<tag>``.
        repository: where it goes.
        source: ``(bucket, object)`` of the zip, with a Dockerfile at its root.
        build_account: what builds it.
        copied_from: the image of another project that runs these very bytes already: it is copied, not built anew.
    """

    kind = "image"
    about = "the archive pipeline's Flex Template"
    service = "cloudbuild"
    api = "cloudbuild.googleapis.com"
    managed_with = "roles/cloudbuild.builds.editor"

    def __init__(
        self,
        name: str,
        *,
        repository: Repository,
        source: tuple[str, str],
        build_account: str,
        copied_from: str | None = None,
    ) -> None:
        super().__init__(name)
        self.within = repository.address
        self._copied_from = copied_from
        self._repository = repository
        self._source = source
        self._build_account = build_account

    def uri(self, target: Target) -> str:
        """What a container engine pulls."""
        return image_uri(target, self._repository.name, self.name)

    def desired(self, clients: Clients) -> State:
        """Its tag."""
        return {"tag": self.name.partition(":")[2]}

    def summary(self, clients: Clients) -> str:
        """What it is built from."""
        if self._copied_from is not None:
            return f"copied from {self._copied_from} as {self._build_account}"
        return f"built by Cloud Build from gs://{'/'.join(self._source)} as {self._build_account}"

    def read(self, clients: Clients) -> State | None:
        """The tag, if it was pushed."""
        package, _, tag = self.name.partition(":")
        path = f"{self._repository.path(clients.target)}/packages/{package}/tags/{tag}"
        found = if_found(lambda: clients.artifact_registry.get_tag(request={"name": path}))
        return None if found is None else {"tag": tag}

    def create(self, clients: Clients) -> None:
        """Build it and wait; the build's log is in Cloud Logging.

        Raises:
            NotYetError: a run that was cut off has begun to build it, and Cloud Build goes on with that.
        """
        bucket, name = self._source
        uri = self.uri(clients.target)
        if self._is_built(clients):
            raise NotYetError(f"a build of {uri} is under way", UNDER_WAY)
        if self.read(clients) is not None:  # it has ended since it was looked for
            return
        if self._copied_from is None:
            steps = [{"name": BUILDER, "args": ["build", "--tag", uri, "."]}]
        else:
            steps = [
                {"name": BUILDER, "args": ["pull", self._copied_from]},
                {"name": BUILDER, "args": ["tag", self._copied_from, uri]},
            ]
        build = {
            "source": {"storage_source": {"bucket": bucket, "object_": name}},
            "steps": steps,
            "images": [self.uri(clients.target)],
            "service_account": f"projects/{clients.project}/serviceAccounts/{self._build_account}",
            "options": {"logging": "CLOUD_LOGGING_ONLY"},
            "timeout": {"seconds": 1800},
            "tags": ["lunation"],
        }
        request = {
            "parent": clients.location,
            "project_id": clients.project,
            "build": build,
        }
        clients.cloud_build.create_build(request=request).result(timeout=1800)

    def _is_built(self, clients: Clients) -> bool:
        request = {"parent": clients.location, "project_id": clients.project, "page_size": NEWEST}
        newest = islice(clients.cloud_build.list_builds(request=request), NEWEST)
        return any(self.uri(clients.target) in build.images and build.status.name in UNFINISHED for build in newest)

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Never called: another content has another tag."""
        raise ValueError(f"{self.address}: an image is never changed")

    def delete(self, clients: Clients) -> None:
        """It goes with the repository; only its tag is taken away here."""
        package, _, tag = self.name.partition(":")
        path = f"{self._repository.path(clients.target)}/packages/{package}/tags/{tag}"
        clients.artifact_registry.delete_tag(request={"name": path})
