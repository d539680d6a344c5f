"""Google's service agents: the accounts by which its services act in a project."""

import time
from typing import Any

from google.api_core.exceptions import from_http_response
from google.iam.v1 import policy_pb2

from lunation.clients import Clients
from lunation.deploy.access import ACCOUNT, project_policy
from lunation.deploy.errors import unless_off
from lunation.deploy.resource import UNKNOWN, Resource, State

PUBSUB = "pubsub.googleapis.com"
AGENTS = {
    PUBSUB: ("gcp-sa-pubsub", "roles/pubsub.serviceAgent"),  # signs the pushes' tokens
    "workflows.googleapis.com": ("gcp-sa-workflows", "roles/workflows.serviceAgent"),  # without it, no workflow
    "cloudfunctions.googleapis.com": ("gcf-admin-robot", "roles/cloudfunctions.serviceAgent"),
    "run.googleapis.com": ("serverless-robot-prod", "roles/run.serviceAgent"),  # pulls the functions' images
    "dataflow.googleapis.com": ("dataflow-service-producer-prod", "roles/dataflow.serviceAgent"),
    "dataproc.googleapis.com": ("dataproc-accounts", "roles/dataproc.serviceAgent"),
    "cloudscheduler.googleapis.com": ("gcp-sa-cloudscheduler", "roles/cloudscheduler.serviceAgent"),
}
"""By API, the part of the agent's address behind ``service-NUMBER@``, and the role that Google gives it as a rule
(https://cloud.google.com/iam/docs/service-agents). Which can be asked for is what Google's own set-up of projects asks
for, ``modules/project/service-agents.yaml`` in GoogleCloudPlatform/cloud-foundation-fabric, of 2026-07-21: Cloud
Build's cannot, it comes with the API. Artifact Registry's has no work here, it decrypts with a customer's keys."""
SECONDS = 300


def agent(clients: Clients, api: str) -> str:
    """The agent of an API, as an IAM member. Its name holds the project's number."""
    number = unless_off(lambda: clients.project_number, UNKNOWN)
    return f"{ACCOUNT}service-{number}@{AGENTS[api][0]}.iam.gserviceaccount.com"


class ServiceAgents(Resource):
    """The agents of the services that a deployment uses, each with the role that it works by on the project.

    An agent comes into being when its service is used, and until then a policy that names it, or a call that lets the
    service act, is refused. So it is asked for. One that was asked for gets its usual role from nobody
    (https://cloud.google.com/iam/docs/create-service-agents), and one that came by itself has it: the binding on the
    project is what is looked at, and made. Nothing takes it away again, for the project's other users need it, too.
    """

    kind = "service-agents"
    about = "the accounts by which Google's services act in the project"
    service = "serviceusage"
    api = "cloudresourcemanager.googleapis.com"
    managed_with = "roles/resourcemanager.projectIamAdmin"
    stays = "their services need them, whoever uses those in the project"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._asked: set[str] = set()

    def desired(self, clients: Clients) -> State:
        """Their roles."""
        return {api: role for api, (_, role) in AGENTS.items()}

    def summary(self, clients: Clients) -> str:
        """Whose."""
        return f"of {', '.join(api.partition('.')[0] for api in AGENTS)}, each with the role that it works by"

    def read(self, clients: Clients) -> State | None:
        """The roles that they have; no service tells whether an agent is there."""
        policy = project_policy().get(clients)
        found = {api: role for api, (_, role) in AGENTS.items() if agent(clients, api) in _holders(policy, role)}
        return found or None

    def create(self, clients: Clients) -> None:
        """Ask for all that have not theirs, then give it to them: asked for together, they come together."""
        missing = self.desired(clients).items() - (self.read(clients) or {}).items()
        for api, _ in sorted(missing):
            if api not in self._asked:
                self._ask(clients, api)
                self._asked.add(api)
        policy = project_policy().get(clients)
        for api, role in sorted(missing):
            found = (one for one in policy.bindings if one.role == role and not one.HasField("condition"))
            binding = next(found, None) or policy.bindings.add(role=role)
            binding.members.append(agent(clients, api))
        policy.version = 3
        project_policy().set(clients, policy)

    def update(self, clients: Clients, changed: list[str]) -> None:
        """The same for those of which that changed."""
        self.create(clients)

    def delete(self, clients: Clients) -> None:
        """Never called: they stay, and there is no such method."""
        raise ValueError(f"{self.address}: a service agent cannot be deleted")

    def _ask(self, clients: Clients, api: str) -> None:
        """https://cloud.google.com/service-usage/docs/reference/rest/v1beta1/services/generateServiceIdentity.

        It takes no permission, answers the same for an agent that is there, and no client package has it: Google's
        ends at v1.
        """
        base, session = clients.own_url("serviceusage"), clients.session("serviceusage")
        url = f"{base}/v1beta1/projects/{clients.project}/services/{api}:generateServiceIdentity"
        operation = _answer(session.post(url, timeout=60))
        deadline = time.monotonic() + SECONDS
        while not operation.get("done"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the agent of {api} was asked for, and is not there after {SECONDS} s")
            time.sleep(0.5)
            operation = _answer(session.get(f"{base}/v1beta1/{operation['name']}", timeout=60))
        if "error" in operation:
            raise ValueError(f"the agent of {api}: {operation['error'].get('message', operation['error'])}")


def _holders(policy: policy_pb2.Policy, role: str) -> set[str]:
    return {
        member
        for binding in policy.bindings
        if binding.role == role and not binding.HasField("condition")
        for member in binding.members
    }


def _answer(response: Any) -> dict[str, Any]:
    if not response.ok:
        raise from_http_response(response)
    found: dict[str, Any] = response.json()
    return found
