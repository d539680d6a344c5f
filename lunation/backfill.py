"""History in files: uploaded, then filed by the archive pipeline as a bounded job."""

import re
import uuid
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from lunation.clients import Clients
from lunation.deploy.accounts import account
from lunation.deploy.dataflow import complaints, launch, running_jobs, wait_for
from lunation.deploy.names import ARCHIVE_JOB, archive_bucket, build_bucket, template_image, template_spec
from lunation.settings import Settings
from schemas.storage_uri import SCHEME


class BackfillError(ValueError):
    """History could not be filed; the text says what and why."""


def backfill(
    settings: Settings, clients: Clients, *, records: Sequence[str], labels: Sequence[str], seconds: float = 3600
) -> str:
    """File records and labels from NDJSON files into the archive. Running it again changes nothing.

    Args:
        records: paths or patterns on this machine, or ``gs://`` patterns.
        labels: the same for labels.
        seconds: how long to wait for the job.

    Returns:
        The Dataflow job's id.

    Raises:
        BackfillError: a pattern matches nothing, nothing is deployed, or the job failed.
    """
    target = clients.target
    # One that starts has no labels yet.
    deployed = next((job for job in running_jobs(clients, ARCHIVE_JOB) if "source" in job.labels), None)
    if deployed is None:
        raise BackfillError(f"the archive job does not run in project {target.project}: run `lunation deploy` first")
    nonce = uuid.uuid4().hex[:8]
    parameters = {
        "dead_letters_topic": f"projects/{target.project}/topics/dead-letters",
        "archive_bucket": archive_bucket(target),
        "use_case": settings.use_case,
    }
    for topic, patterns in (("records", records), ("labels", labels)):
        if patterns:
            sources = [
                _in_bucket(clients, pattern, f"backfill/{nonce}/{topic}/{number}")
                for number, pattern in enumerate(patterns)
            ]
            parameters[f"backfill_{topic}"] = ",".join(sources)
    job = launch(
        clients,
        f"lunation-backfill-{nonce}",
        f"gs://{build_bucket(target)}/{template_spec(deployed.labels['source'])}",
        parameters,
        labels={"system": "lunation"},
        service_account=account(target.project, "archive"),
        image=template_image(target, deployed.labels["source"]),
    )
    state = wait_for(clients, job, {"JOB_STATE_DONE"}, seconds)
    if state != "JOB_STATE_DONE":
        raise BackfillError(f"job {job} ended as {state}: {complaints(clients, job)}")
    return job


def _in_bucket(clients: Clients, pattern: str, prefix: str) -> str:
    if pattern.startswith(SCHEME):
        return pattern
    files = [pattern] if Path(pattern).is_file() else sorted(file for file in glob(pattern) if Path(file).is_file())
    if not files and Path(pattern).is_dir():
        raise BackfillError(f"{pattern} is a folder: name the files in it, such as '{Path(pattern) / '*.json'}'")
    if not files:
        raise BackfillError(f"{pattern}: no such file")
    bucket = clients.storage.bucket(build_bucket(clients.target))
    for number, file in enumerate(files):  # files of one name from several folders stay apart
        name = f"{prefix}/{number:06d}-{_as_text(Path(file).name)}"
        try:
            bucket.blob(name).upload_from_filename(file, content_type="application/x-ndjson")
        except OSError as error:
            raise BackfillError(f"{file} cannot be read: {error.strerror or error}") from None
    return f"gs://{bucket.name}/{prefix}/*"


def _as_text(name: str) -> str:
    """A file's name as an object may have it: text, and on one line
    (https://cloud.google.com/storage/docs/objects#naming)."""
    return re.sub(r"[\r\n]", "_", name.encode(errors="backslashreplace").decode())
