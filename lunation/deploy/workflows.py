"""The workflow and the job that starts it every week."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

from google.cloud import scheduler_v1, workflows_v1

from lunation.clients import Clients
from lunation.deploy.artefacts import Artefact
from lunation.deploy.resource import SYSTEM, Resource, State, if_found, message_of, state_of


class Workflow(Resource):
    """A workflow, deployed byte for byte.

    Args:
        name: its id.
        source: the YAML.
        service_account: what it runs as.
        variables: gives its environment variables, from the values it has now (empty at first).
    """

    kind = "workflow"
    about = "one training cycle: claim, train, move the pointer"
    service = "workflows"
    api = "workflows.googleapis.com"
    managed_with = "roles/workflows.editor"
    exact = frozenset({"user_env_vars"})
    told = frozenset({"state"})

    def __init__(
        self,
        name: str,
        source: Artefact,
        *,
        service_account: str,
        variables: Callable[[Clients, dict[str, str]], dict[str, str]],
    ) -> None:
        super().__init__(name)
        self._source = source
        self._service_account = service_account
        self._variables = variables

    def path(self, clients: Clients) -> str:
        """Full resource name."""
        return f"{clients.location}/workflows/{self.name}"

    def desired(self, clients: Clients) -> State:
        """Source, variables and what is kept of an execution."""
        current = self.read(clients) or {}
        return {
            "source_contents": self._source.path.read_text(),
            "service_account": f"projects/{clients.project}/serviceAccounts/{self._service_account}",
            "user_env_vars": self._variables(clients, current.get("user_env_vars", {})),
            "call_log_level": "LOG_ERRORS_ONLY",
            "execution_history_level": "EXECUTION_HISTORY_DETAILED",
            "labels": {**SYSTEM, "source": self._source.label},
            "state": "ACTIVE",
        }

    def summary(self, clients: Clients) -> str:
        """Whose source, and as whom."""
        return f"{self._source.path.name} as {self._service_account}, every step is kept"

    def read(self, clients: Clients) -> State | None:
        """As it is."""
        found = if_found(lambda: clients.workflows.get_workflow(name=self.path(clients)))
        return None if found is None else state_of(found)

    def create(self, clients: Clients) -> None:
        """Create it; a mistake in the source is refused here."""
        request = {"parent": clients.location, "workflow_id": self.name, "workflow": self._message(clients)}
        clients.workflows.create_workflow(request=request).result()

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Make a new revision: of all that is declared, if the service says that this one cannot run."""
        fields = list(self.sent(clients)) if "state" in changed else changed
        request = {"workflow": self._message(clients), "update_mask": {"paths": fields}}
        clients.workflows.update_workflow(request=request).result()

    def delete(self, clients: Clients) -> None:
        """Delete it with its executions."""
        clients.workflows.delete_workflow(name=self.path(clients)).result()

    @classmethod
    def ours(cls, clients: Clients) -> Iterator[Resource]:
        """The workflows with our label."""
        for found in clients.workflows.list_workflows(parent=clients.location):
            if found.labels.get("system") == SYSTEM["system"]:
                yield cls.named(found.name.rsplit("/", 1)[1])

    def _message(self, clients: Clients) -> Any:
        return message_of(workflows_v1.types.Workflow, {"name": self.path(clients), **self.sent(clients)})


RETRIES = 5
"""The most that there may be. https://cloud.google.com/scheduler/docs/configuring/retry-jobs"""


class SchedulerJob(Resource):
    """A job that starts executions of a workflow.

    Without a retry policy an attempt that fails is the week's only one. Retries are for an answer that is no 2xx, or
    none at all; more than one attempt may come through, so the workflow has to see to it that it works once.

    Args:
        name: its id.
        cron: when, in UTC.
        workflow: what it starts.
        argument: the execution's argument.
        service_account: whose OAuth token it sends.
    """

    kind = "scheduler-job"
    about = "what starts the workflow every week"
    service = "scheduler"
    api = "cloudscheduler.googleapis.com"
    managed_with = "roles/cloudscheduler.admin"
    told = frozenset({"state"})
    needed_by_none = True

    def __init__(
        self, name: str, *, cron: str, workflow: Workflow, argument: dict[str, Any], service_account: str
    ) -> None:
        super().__init__(name)
        self._cron = cron
        self._workflow = workflow
        self._argument = argument
        self._service_account = service_account

    def path(self, clients: Clients) -> str:
        """Full resource name."""
        return f"{clients.location}/jobs/{self.name}"

    def desired(self, clients: Clients) -> State:
        """Schedule and target. The argument is JSON inside JSON, as Executions wants it."""
        body = json.dumps({"argument": json.dumps(self._argument)})
        return {
            "schedule": self._cron,
            "time_zone": "Etc/UTC",
            "http_target": {
                "uri": f"{clients.url('workflows')}/v1/{self._workflow.path(clients)}/executions",
                "http_method": "POST",
                "headers": {"Content-Type": "application/json"},
                "body": base64.b64encode(body.encode()).decode(),
                "oauth_token": {"service_account_email": self._service_account},
            },
            # After 5, 10, 20, 40 and 60 minutes.
            "retry_config": {
                "retry_count": RETRIES,
                "min_backoff_duration": "300s",
                "max_backoff_duration": "3600s",
                "max_doublings": 4,
            },
            "state": "ENABLED",
        }

    def read(self, clients: Clients) -> State | None:
        """As it is."""
        found = if_found(lambda: clients.scheduler.get_job(name=self.path(clients)))
        return None if found is None else state_of(found)

    def create(self, clients: Clients) -> None:
        """Create it."""
        clients.scheduler.create_job(parent=clients.location, job=self._message(clients))

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Change it; start it again, if somebody has paused it.

        A change that failed leaves a job that may not run, until one succeeds:
        https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs/patch.
        """
        fields = list(self.sent(clients)) if "state" in changed else changed
        request = {"job": self._message(clients), "update_mask": {"paths": fields}}
        job = clients.scheduler.update_job(request=request)
        if job.state == scheduler_v1.Job.State.PAUSED:
            clients.scheduler.resume_job(name=self.path(clients))

    def delete(self, clients: Clients) -> None:
        """Delete it."""
        clients.scheduler.delete_job(name=self.path(clients))

    def summary(self, clients: Clients) -> str:
        """When it starts what."""
        return f"{self._cron} UTC starts {self._workflow.address} as {self._service_account}"

    def _message(self, clients: Clients) -> Any:
        return message_of(scheduler_v1.types.Job, {"name": self.path(clients), **self.sent(clients)})
