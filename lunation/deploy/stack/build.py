"""What is shipped: the bucket and the repository that take it, and who builds from it."""

from lunation.deploy.access import BucketPolicy, Condition, repository_policy
from lunation.deploy.images import Image, Repository
from lunation.deploy.names import REPOSITORY, build_bucket
from lunation.deploy.resource import Resource, owned
from lunation.deploy.stack.deployment import Deployment
from lunation.deploy.stack.unit import Permit, Unit
from lunation.deploy.storage import Bucket, StagedFile
from lunation.settings import Target


def _permits(target: Target) -> dict[str, Permit]:
    # Cloud Functions hands a source to its build through a bucket that it makes itself.
    sources = Condition("sources-of-functions", 'resource.name.startsWith("projects/_/buckets/gcf-v2-sources-")')
    return {
        "project": Permit("lunationSourceReader", "reads a function's source", sources),
        f"bucket/{build_bucket(target)}": Permit("lunationSourceReader", "reads the source"),
        f"repository/{REPOSITORY}": Permit("roles/artifactregistry.writer", "pushes what it built"),
    }


UNIT = Unit(
    "build",
    "builds the functions and the archive's image",
    platform=("logging.logEntries.create",),
    permits=_permits,
)


def _image_name(deployment: Deployment) -> str:
    return f"archive:{deployment.release.artefacts.dataflow.label}"


def _repository(deployment: Deployment) -> Repository:
    return Repository(REPOSITORY, running=(_image_name(deployment),))


def shipped(deployment: Deployment) -> tuple[Resource, ...]:
    """The bucket and the repository, each with who may do what there, and every artefact of the release."""
    bucket, release = deployment.build_bucket, deployment.release
    return owned(
        UNIT.name,
        Bucket(bucket, keeps_data=False),
        deployment.grants.on(BucketPolicy(bucket), first=UNIT.name),
        _repository(deployment),
        deployment.grants.on(repository_policy(REPOSITORY), first=UNIT.name),
        *(StagedFile.of(bucket, one) for one in release.artefacts.all()),
        StagedFile(bucket, release.object_name, release.to_bytes()),
    )


def image(deployment: Deployment) -> tuple[Resource, ...]:
    """The archive pipeline's image, built by Cloud Build."""
    made = Image(
        _image_name(deployment),
        repository=_repository(deployment),
        source=(deployment.build_bucket, deployment.release.artefacts.dataflow.object_name),
        build_account=deployment.runs_as(UNIT.name),
        copied_from=deployment.release.image,
    )
    return owned(UNIT.name, made)
