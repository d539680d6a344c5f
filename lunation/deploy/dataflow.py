"""The streaming archive job on Dataflow."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from google.api_core.exceptions import GoogleAPICallError
from google.cloud.dataflow_v1beta3 import types

from lunation.clients import Clients
from lunation.deploy.job_files import STAGING, TEMP, sweep
from lunation.deploy.resource import SYSTEM, Resource, State, fingerprint
from lunation.deploy.settling import UNDER_WAY, NotYetError

RUNNING = "JOB_STATE_RUNNING"
STARTING = {"JOB_STATE_UNKNOWN", "JOB_STATE_STOPPED", "JOB_STATE_QUEUED", "JOB_STATE_PENDING"}
"""What becomes RUNNING or FAILED by itself. A launcher's machine queues the job, which has no labels yet then."""
ENDING = {"JOB_STATE_DRAINING", "JOB_STATE_CANCELLING", "JOB_STATE_RESOURCE_CLEANING_UP"}
ENDED = {"JOB_STATE_DONE", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_UPDATED", "JOB_STATE_DRAINED"}
START_SECONDS = 900
RELAUNCH_SECONDS = 900.0
"""For how long a job is launched again that failed for want of a permission: a grant takes minutes to reach Dataflow,
and so does a launch. The tests of Terraform's provider sleep for 300 s between the two (wait_bind_iam_roles in
https://github.com/GoogleCloudPlatform/magic-modules, resource_dataflow_flex_template_job_test.go.tmpl)."""
_DENIED = re.compile(
    # Said by the services themselves, https://cloud.google.com/dataflow/docs/guides/troubleshoot-permissions
    r"PERMISSION_DENIED|[Pp]ermission '?[\w.]+'? denied|does not have .{0,60}\b(access|permission)|"
    r"[Mm]issing permission|Access Denied|\b403\b|cannot act as service account|"
    # and by Dataflow, of files that the worker's account may not read: professional-services#218 and
    # python-docs-samples#4894 of https://github.com/GoogleCloudPlatform, data-science-on-gcp#151
    r"is inaccessible|Unable to open (template )?file",
)


def launch(
    clients: Clients,
    name: str,
    spec: str,
    parameters: dict[str, str],
    *,
    labels: dict[str, str] | None = None,
    service_account: str = "",
    image: str = "",
    max_workers: int = 1,
    streaming: bool = False,
    update: bool = False,
) -> str:
    """Launch a job from a Flex Template and answer its id.

    Args:
        name: the job's name, unique among the running ones.
        spec: ``gs://`` path of the template's container spec.
        parameters: the template's parameters.
        image: what the workers run: the template's own image, or they miss our packages. Empty where a template
            is none.
        max_workers: as many as there are may be at a time.
        streaming: state is kept by the service, not on the workers.
        update: replace the running job of this name, without losing what it has read.
    """
    response = clients.flex_templates.launch_flex_template(
        request={
            "project_id": clients.project,
            "location": clients.target.region,
            "launch_parameter": {
                "job_name": name,
                "container_spec_gcs_path": spec,
                "parameters": parameters,
                "environment": {
                    "additional_user_labels": labels or {},
                    "service_account_email": service_account,
                    "sdk_container_image": image,
                    "max_workers": max_workers,
                    "enable_streaming_engine": streaming,
                    "ip_configuration": "WORKER_IP_PRIVATE",
                    "temp_location": f"gs://{_build_bucket(clients)}/{TEMP}",
                    "staging_location": f"gs://{_build_bucket(clients)}/{STAGING}",
                },
                "update": update,
            },
        }
    )
    return str(response.job.id)


def wait_for(clients: Clients, job_id: str, states: set[str], seconds: float) -> str:
    """Wait until a job is in one of ``states`` or has ended; answers the state.

    Raises:
        TimeoutError: neither happened within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        state = job_state(clients, job_id)
        if state in states or state in ENDED:
            return state
        if time.monotonic() > deadline:
            raise TimeoutError(f"Dataflow job {job_id} is {state} after {seconds:.0f} s, expected {', '.join(states)}")
        time.sleep(0.5)


def job_state(clients: Clients, job_id: str) -> str:
    """The state a job is in, by its name in the API."""
    request = {"project_id": clients.project, "location": clients.target.region, "job_id": job_id}
    return types.JobState(clients.dataflow_jobs.get_job(request=request).current_state).name


def complaints(clients: Clients, job_id: str) -> str:
    """Why a job failed: the errors that Dataflow keeps with it, and where there is more."""
    request = {
        "project_id": clients.project,
        "location": clients.target.region,
        "job_id": job_id,
        "minimum_importance": types.JobMessageImportance.JOB_MESSAGE_ERROR,
    }
    try:
        messages = [one.message_text for one in clients.dataflow_messages.list_job_messages(request=request)]
    except GoogleAPICallError as error:
        messages = [f"its messages cannot be read ({error.message})"]
    said = "; ".join(dict.fromkeys(messages)) or "it left no message"
    return (
        f'{said}. All that it logged: gcloud logging read \'resource.type="dataflow_step" AND '
        f'resource.labels.job_id="{job_id}"\' --project={clients.project}'
    )


class StreamingJob(Resource):
    """A job that runs until it is drained. Labels tell which template and parameters it runs.

    Args:
        name: the job's name.
        spec: ``gs://`` path of the container spec.
        parameters: the template's parameters.
        labels: what tells one version from another.
        service_account: what its workers run as.
        max_workers: as many as there are may be at a time.
    """

    kind = "dataflow-job"
    about = "the pipeline that files every message"
    service = "dataflow"
    api = "dataflow.googleapis.com"
    managed_with = "roles/dataflow.developer"
    told = frozenset({"state"})

    def __init__(
        self,
        name: str,
        *,
        spec: str,
        parameters: dict[str, str],
        labels: dict[str, str],
        service_account: str,
        image: str = "",
        max_workers: int = 1,
    ) -> None:
        super().__init__(name)
        self._spec = spec
        self._parameters = parameters
        self._labels = labels
        self._service_account = service_account
        self.image = image
        self._max_workers = max_workers
        self._denied_since: float | None = None
        """When it was launched first and had not the permissions that it needs."""

    def desired(self, clients: Clients) -> State:
        """Its labels, and that it runs; the job does not tell its parameters, so they are hashed into one label."""
        return {
            "labels": {
                **self._labels,
                "parameters": fingerprint({**self._parameters, "max_workers": self._max_workers}),
            },
            "state": RUNNING,
        }

    def summary(self, clients: Clients) -> str:
        """What it runs, and as whom."""
        return f"streams {self._spec} as {self._service_account}"

    def read(self, clients: Clients) -> State | None:
        """The job of this name that has not ended. One that failed is no longer there, and is launched again."""
        job = self._find(clients)
        return None if job is None else {"labels": dict(job.labels), "state": _state(job)}

    def create(self, clients: Clients) -> None:
        """Launch it and wait until it runs."""
        self._launch(clients, update=False)

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Replace it by ``update``: what was read and not yet written is handed over.

        Raises:
            NotYetError: it starts, which may be all that was missing; or it ends, and another is launched after that.
            RuntimeError: somebody paused it.
        """
        job = self._settled(clients)
        if job is None:
            self._launch(clients, update=False)
        elif _state(job) != RUNNING:
            raise RuntimeError(f"somebody brought job {job.id} into the state {_state(job)}: let it run, or drain it")
        elif "labels" in changed:
            self._launch(clients, update=True)

    def delete(self, clients: Clients) -> None:
        """Drain it: what it has read is written, then it ends."""
        job = self._settled(clients)
        if job is None:
            return
        clients.dataflow_jobs.update_job(
            request={
                "project_id": clients.project,
                "location": clients.target.region,
                "job_id": job.id,
                "job": {"requested_state": types.JobState.JOB_STATE_DRAINED},
            }
        )
        wait_for(clients, job.id, {"JOB_STATE_DRAINED"}, 900)

    def clear_up(self, clients: Clients) -> None:
        """Delete the files of jobs that have ended."""
        sweep(clients, _build_bucket(clients), datetime.now(UTC))

    def _launch(self, clients: Clients, *, update: bool) -> None:
        """Launch it, and wait until it runs.

        Raises:
            NotYetError: it failed for want of a permission, which it may have by now.
            RuntimeError: it failed.
        """
        job_id = launch(
            clients,
            self.name,
            self._spec,
            self._parameters,
            labels=self.desired(clients)["labels"],
            service_account=self._service_account,
            image=self.image,
            max_workers=self._max_workers,
            streaming=True,
            update=update,
        )
        state = wait_for(clients, job_id, {RUNNING}, START_SECONDS)
        if state != RUNNING:
            why = f"job {job_id} ended as {state}: {complaints(clients, job_id)}"
            self._denied_since = self._denied_since or time.monotonic()
            if _DENIED.search(why) and time.monotonic() - self._denied_since < RELAUNCH_SECONDS:
                raise NotYetError(why)
            raise RuntimeError(why)

    def _settled(self, clients: Clients) -> Any:
        """The job, if it neither starts nor ends; None if there is none."""
        job = self._find(clients)
        if job is not None and _state(job) in STARTING | ENDING:
            raise NotYetError(f"job {job.id} is {_state(job)}", UNDER_WAY)
        return job

    @classmethod
    def ours(cls, clients: Clients) -> Iterator[Resource]:
        """The running jobs with our label."""
        for job in running_jobs(clients):
            if job.type_ == types.JobType.JOB_TYPE_STREAMING:
                yield cls.named(job.name)

    def _find(self, clients: Clients) -> Any:
        """The youngest that has not ended: while one replaces another there are two."""
        oldest = datetime.min.replace(tzinfo=UTC)
        return max(_unfinished(clients, self.name), key=lambda job: job.create_time or oldest, default=None)


def running_jobs(clients: Clients, name: str | None = None) -> Iterator[Any]:
    """The jobs that run or start, with all that the service tells of them: those with our label, or the one of this
    name."""
    for job in _unfinished(clients, name):
        ours = name is not None or job.labels.get("system") == SYSTEM["system"]
        if ours and _state(job) in STARTING | {RUNNING}:
            yield job


def _unfinished(clients: Clients, name: str | None = None) -> Iterator[Any]:
    """The jobs that have not ended: all, or those of one name. A list of jobs tells no labels."""
    request = {"project_id": clients.project, "location": clients.target.region}
    for job in clients.dataflow_jobs.list_jobs(request={**request, "filter": "ACTIVE"}):
        if name in (None, job.name) and _state(job) not in ENDED:
            yield clients.dataflow_jobs.get_job(request={**request, "job_id": job.id, "view": "JOB_VIEW_ALL"})


def _state(job: Any) -> str:
    return types.JobState(job.current_state).name


def _build_bucket(clients: Clients) -> str:
    return f"{clients.project}-build"
