"""The files of Dataflow jobs in the build bucket, and taking away those of jobs that have ended.

Beam stages a job's files under ``<staging>/<job name>.<seconds>/`` and keeps temporary ones under
``<temp>/<job name>.<seconds>/`` (``Job.__init__`` in apache_beam/runners/dataflow/internal/apiclient.py). A template's
launcher writes to ``<staging>/template_launches/<job id>/``, as Google's answers show
(https://github.com/GoogleCloudPlatform/k8s-config-connector, _http.log of streamingdataflowflextemplatejob).

A worker that starts in the place of another reads them again, ``pipeline.pb`` first, however old the job is. So no rule
of the bucket may delete them by age: https://github.com/apache/beam/issues/18123 and …/18209.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from google.cloud.dataflow_v1beta3 import types

from lunation.clients import Clients
from lunation.deploy.resource import state_of

STAGING, TEMP = "dataflow/staging", "dataflow/temp"
MARGIN = timedelta(days=1)
"""Between the first file of a job and the job itself. Minutes, in truth."""
_OF_JOB = re.compile(r"(?P<name>[a-z](?:[-a-z0-9]*[a-z0-9])?)\.\d+\.\d+/")
_OF_LAUNCH = re.compile(r"template_launches/(?P<id>[^/]+)/")


class UnseenJobsError(RuntimeError):
    """There may be jobs that nobody sees just now; the text says where."""


@dataclass(frozen=True)
class Alive:
    """A job that has not ended.

    Args:
        id: its id.
        name: its name, which the jobs before it may have had, too.
        since: when it was made; None if the service does not tell.
        places: ``gs://`` prefixes that its options name.
    """

    id: str
    name: str
    since: datetime | None
    places: tuple[str, ...]


def sweep(clients: Clients, bucket: str, now: datetime) -> list[str]:
    """Delete what ended jobs left in ``bucket``; answers the names of the objects.

    Deleted is only what lies in a folder that is named as above, is older by a day than every living job of that name,
    and is in no place that a living job's options name. Anything else stays.

    Raises:
        UnseenJobsError: a region did not say which jobs it has. Nothing is deleted.
    """
    alive = list(_alive(clients))
    left = [
        blob
        for place in (STAGING, TEMP)
        for blob in clients.storage.list_blobs(bucket, prefix=f"{place}/")
        if _is_left(blob.name.removeprefix(f"{place}/"), f"gs://{bucket}/{blob.name}", blob.time_created, alive, now)
    ]
    clients.storage.bucket(bucket).delete_blobs(left, on_error=lambda _: None)
    return [blob.name for blob in left]


def _is_left(path: str, uri: str, made: datetime, alive: list[Alive], now: datetime) -> bool:
    launch, of_job = _OF_LAUNCH.match(path), _OF_JOB.match(path)
    if any(uri.startswith(place) for job in alive for place in job.places):
        return False
    if launch is not None:
        return launch["id"] not in {job.id for job in alive} and made < now - MARGIN
    if of_job is None:
        return False
    since = [job.since for job in alive if job.name == of_job["name"]]
    return all(one is not None and made < one - MARGIN for one in since) and made < now - MARGIN


def _alive(clients: Clients) -> Iterator[Alive]:
    """The jobs of the project that have not ended, in whatever region: any may stage in this bucket.

    A region that does not respond fails no call: its jobs are missing, and ``failed_location`` names it
    (https://cloud.google.com/dataflow/docs/reference/rest/v1b3/ListJobsResponse).

    Raises:
        UnseenJobsError: there is one.
    """
    wanted = {"project_id": clients.project, "filter": types.ListJobsRequest.Filter.ACTIVE}
    for page in clients.dataflow_jobs.aggregated_list_jobs(request=wanted).pages:
        if page.failed_location:
            regions = ", ".join(one.name for one in page.failed_location)
            raise UnseenJobsError(f"Dataflow does not tell which jobs run in {regions}: their files may be in use")
        for job in page.jobs:
            one = {"project_id": clients.project, "location": job.location, "job_id": job.id, "view": "JOB_VIEW_ALL"}
            found = state_of(clients.dataflow_jobs.get_job(request=one))
            yield Alive(job.id, job.name, job.create_time, tuple(_places(found)))


def _places(job: dict[str, Any]) -> Iterator[str]:
    """What the job's options say of its files: Python spells them in one way, Java in the other."""
    environment = job.get("environment", {})
    options = environment.get("sdk_pipeline_options", {}).get("options", {})
    for key in ("staging_location", "stagingLocation", "temp_location", "tempLocation"):
        if options.get(key):
            yield f"{str(options[key]).rstrip('/')}/"
    for key in ("pipelineUrl", "template_location", "templateLocation"):
        if options.get(key):
            yield f"{str(options[key]).rpartition('/')[0]}/"
