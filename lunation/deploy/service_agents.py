"""Google's service agents: the accounts by which its services act in a project."""

import time
from typing import Any

from google.api_core.exceptions import from_http_response

from lunation.clients import Clients
from lunation.deploy.access import ACCOUNT, project_policy
from lunation.deploy.errors import unless_off
from lunation.deploy.resource import UNKNOWN, Resource, State

SECONDS = 300


class ServiceAgent(Resource):
    """A service's agent, with the role that it works by on the project.

    An agent comes into being when its service is used, and until then a policy that names it, or a call that lets the
    service act, is refused. So it is asked for. One that was asked for gets its usual role from nobody
    (https://cloud.google.com/iam/docs/create-service-agents), and one that came by itself has it: the binding on the
    project is what is looked at, and made. Nothing takes it away again, for the project's other users need it, too.

    Args:
        service: the API, such as ``pubsub.googleapis.com``.
        agent: the part of its address behind ``service-NUMBER@``.
        role: that Google gives it as a rule (https://cloud.google.com/iam/docs/service-agents).
    """

    kind = "service-agent"
    about = "the account by which one of Google's services acts in the project"
    service = "serviceusage"
    api = "cloudresourcemanager.googleapis.com"
    managed_with = "roles/resourcemanager.projectIamAdmin"
    stays = "its service needs it, whoever uses that in the project"

    def __init__(self, service: str, agent: str, role: str) -> None:
        super().__init__(service)
        self._agent = agent
        self._role = role

    def member(self, clients: Clients) -> str:
        """It, as an IAM member. Its name holds the project's number."""
        number = unless_off(lambda: clients.project_number, UNKNOWN)
        return f"{ACCOUNT}service-{number}@{self._agent}.iam.gserviceaccount.com"

    def desired(self, clients: Clients) -> State:
        """Its role."""
        return {"role": self._role}

    def summary(self, clients: Clients) -> str:
        """Who has which role."""
        return f"{self.member(clients).removeprefix(ACCOUNT)} with {self._role}"

    def read(self, clients: Clients) -> State | None:
        """Its role, if it has it; no service tells whether an agent is there."""
        return {"role": self._role} if self._binding(project_policy().get(clients), self.member(clients)) else None

    def create(self, clients: Clients) -> None:
        """Ask for it, then give it its role."""
        self._ask(clients)
        member = self.member(clients)
        policy = project_policy().get(clients)
        if self._binding(policy, member):
            return
        found = (one for one in policy.bindings if one.role == self._role and not one.HasField("condition"))
        binding = next(found, None) or policy.bindings.add(role=self._role)
        binding.members.append(member)
        policy.version = 3
        project_policy().set(clients, policy)

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Never called: it has its role, or not."""
        self.create(clients)

    def delete(self, clients: Clients) -> None:
        """Never called: it stays, and there is no such method."""
        raise ValueError(f"{self.address}: a service agent cannot be deleted")

    def _binding(self, policy: Any, member: str) -> bool:
        return any(
            binding.role == self._role and member in binding.members and not binding.HasField("condition")
            for binding in policy.bindings
        )

    def _ask(self, clients: Clients) -> None:
        """https://cloud.google.com/service-usage/docs/reference/rest/v1beta1/services/generateServiceIdentity.

        It takes no permission, answers the same for an agent that is there, and no client package has it: Google's
        ends at v1.
        """
        base, session = clients.own_url("serviceusage"), clients.session("serviceusage")
        url = f"{base}/v1beta1/projects/{clients.project}/services/{self.name}:generateServiceIdentity"
        operation = _answer(session.post(url, json={}, timeout=60))
        deadline = time.monotonic() + SECONDS
        while not operation.get("done"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.address}: was asked for, and is not there after {SECONDS} s")
            time.sleep(1)
            operation = _answer(session.get(f"{base}/v1beta1/{operation['name']}", timeout=60))
        if "error" in operation:
            raise ValueError(f"{self.address}: {operation['error'].get('message', operation['error'])}")


def _answer(response: Any) -> dict[str, Any]:
    if not response.ok:
        raise from_http_response(response)
    found: dict[str, Any] = response.json()
    return found


AGENTS = {
    "pubsub.googleapis.com": ("gcp-sa-pubsub", "roles/pubsub.serviceAgent"),  # signs the pushes' tokens
    "workflows.googleapis.com": ("gcp-sa-workflows", "roles/workflows.serviceAgent"),  # without it, no workflow
    "cloudfunctions.googleapis.com": ("gcf-admin-robot", "roles/cloudfunctions.serviceAgent"),
    "run.googleapis.com": ("serverless-robot-prod", "roles/run.serviceAgent"),  # pulls the functions' images
    "dataflow.googleapis.com": ("dataflow-service-producer-prod", "roles/dataflow.serviceAgent"),
    "dataproc.googleapis.com": ("dataproc-accounts", "roles/dataproc.serviceAgent"),
    "cloudscheduler.googleapis.com": ("gcp-sa-cloudscheduler", "roles/cloudscheduler.serviceAgent"),
}
"""By API. Cloud Build's agent cannot be asked for, it comes with the API, and Artifact Registry's has no work here: it
decrypts with a customer's keys. Names, roles and which can be asked for are those of Google's own set-up of projects,
``modules/project/service-agents.yaml`` in GoogleCloudPlatform/cloud-foundation-fabric, of 2026-07-21."""
