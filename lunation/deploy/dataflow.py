"""The streaming archive job on Dataflow."""

import time
from collections.abc import Iterator
from typing import Any

from google.cloud.dataflow_v1beta3 import types

from lunation.clients import Clients
from lunation.deploy.resource import SYSTEM, Resource, State, fingerprint

ACTIVE = {"JOB_STATE_RUNNING", "JOB_STATE_PENDING", "JOB_STATE_QUEUED"}


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
                    "temp_location": f"gs://{clients.project}-build/dataflow/temp",
                    "staging_location": f"gs://{clients.project}-build/dataflow/staging",
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
        if state in states or state in {"JOB_STATE_FAILED", "JOB_STATE_CANCELLED"}:
            return state
        if time.monotonic() > deadline:
            raise TimeoutError(f"Dataflow job {job_id} is {state} after {seconds:.0f} s, expected {', '.join(states)}")
        time.sleep(0.5)


def job_state(clients: Clients, job_id: str) -> str:
    """The state a job is in, by its name in the API."""
    request = {"project_id": clients.project, "location": clients.target.region, "job_id": job_id}
    return types.JobState(clients.dataflow_jobs.get_job(request=request).current_state).name


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

    def desired(self, clients: Clients) -> State:
        """Its labels; the job does not tell its parameters, so they are hashed into one."""
        return {
            "labels": {
                **self._labels,
                "parameters": fingerprint({**self._parameters, "max_workers": self._max_workers}),
            }
        }

    def summary(self, clients: Clients) -> str:
        """What it runs, and as whom."""
        return f"streams {self._spec} as {self._service_account}"

    def read(self, clients: Clients) -> State | None:
        """The active job of this name."""
        job = self._find(clients)
        return None if job is None else {"labels": dict(job.labels)}

    def create(self, clients: Clients) -> None:
        """Launch it and wait until it runs."""
        self._launch(clients, update=False)

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Replace it by ``update``: what was read and not yet written is handed over."""
        self._launch(clients, update=True)

    def delete(self, clients: Clients) -> None:
        """Drain it: what it has read is written, then it ends."""
        job = self._find(clients)
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

    def _launch(self, clients: Clients, *, update: bool) -> None:
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
        state = wait_for(clients, job_id, {"JOB_STATE_RUNNING"}, 600)
        if state != "JOB_STATE_RUNNING":
            raise RuntimeError(f"{self.address}: the job is {state}; its log tells why (job {job_id})")

    @classmethod
    def ours(cls, clients: Clients) -> Iterator[Resource]:
        """The running jobs with our label."""
        for job in running_jobs(clients):
            if job.type_ == types.JobType.JOB_TYPE_STREAMING:
                yield cls.named(job.name)

    def _find(self, clients: Clients) -> Any:
        return next((job for job in running_jobs(clients, self.name)), None)


def running_jobs(clients: Clients, name: str | None = None) -> Iterator[Any]:
    """The jobs that run, with all that the service tells of them: those with our label, or the one of this name."""
    request = {"project_id": clients.project, "location": clients.target.region}
    for job in clients.dataflow_jobs.list_jobs(request={**request, "filter": "ACTIVE"}):
        ours = job.name == name if name is not None else job.labels.get("system") == SYSTEM["system"]
        if ours and types.JobState(job.current_state).name in ACTIVE:
            yield clients.dataflow_jobs.get_job(request={**request, "job_id": job.id, "view": "JOB_VIEW_ALL"})
