"""The names of what is deployed, for the rows and for whoever asks for it afterwards."""

from lunation.deploy.images import Image, image_uri
from lunation.settings import Target

REPOSITORY = "lunation"
"""The Artifact Registry repository with every image."""
ARCHIVE_JOB = "lunation-archive"
"""The Dataflow job that files every message."""
TEMPLATE = "lunation-train"
"""The Dataproc workflow template that trains."""
WORKFLOW = "retrain"
"""The workflow that runs a training cycle."""
SCHEDULER_JOB = "lunation-retrain"
"""The Cloud Scheduler job that starts the workflow once a week."""
CLASSIFY_HTTP = "classify-http"
"""The function that classifies on request, and its unit."""


def archive_bucket(target: Target) -> str:
    """The bucket with every record and label, and the Parquet that Spark makes of them."""
    return f"{target.project}-archive"


def models_bucket(target: Target) -> str:
    """The bucket with the models."""
    return f"{target.project}-models"


def build_bucket(target: Target) -> str:
    """The bucket with what is deployed."""
    return f"{target.project}-build"


def template_spec(source: str) -> str:
    """Name of the build bucket's object that tells Dataflow what the archive pipeline's template is.

    Args:
        source: the label of the template's content.
    """
    return f"dataflow/{source}.json"


def template_image(target: Target, source: str) -> str:
    """The archive pipeline's image; empty on a laptop, which has no container engine.

    Args:
        source: the label of the template's content.
    """
    return image_uri(target, REPOSITORY, f"archive:{source}") if target.serves(Image.service) else ""
