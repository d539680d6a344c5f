"""Google's service agents: the accounts as which its services act in a project, and when they come to be.

https://cloud.google.com/iam/docs/service-agents lists them. Most are made, and given their role on the project, when
their service is first used; none is there before. One can be had earlier by ``generateServiceIdentity``, which needs no
permission. One that was asked for so gets no role by itself: whoever asked has to grant it
(https://cloud.google.com/iam/docs/create-service-agents).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rehearsal.project import NUMBER
from rehearsal.recorder import Call

ENABLE = "google.api.serviceusage.v1.ServiceUsage.EnableService"
FUNCTIONS = "google.cloud.functions.v2.FunctionService"


@dataclass(frozen=True)
class Agent:
    """One of them.

    Args:
        domain: what stands behind the ``@`` of its address.
        role: what Google gives it on the project, when it comes to be by being used.
        made_by: the methods that use it first.
        with_api: whether it is there as soon as its API is on.
    """

    domain: str
    role: str
    made_by: tuple[str, ...] = ()
    with_api: bool = False

    @property
    def email(self) -> str:
        """Its address in the rehearsal's project."""
        return f"service-{NUMBER}@{self.domain}.iam.gserviceaccount.com"


AGENTS: dict[str, Agent] = {
    "artifactregistry": Agent(
        "gcp-sa-artifactregistry",
        "roles/artifactregistry.serviceAgent",
        ("google.devtools.artifactregistry.v1.ArtifactRegistry.CreateRepository",),
    ),
    # Cloud Build's comes with its API (https://cloud.google.com/build/docs/cloud-build-service-account).
    "cloudbuild": Agent(
        "gcp-sa-cloudbuild",
        "roles/cloudbuild.serviceAgent",
        ("google.devtools.cloudbuild.v1.CloudBuild.CreateBuild", f"{FUNCTIONS}.CreateFunction"),
        with_api=True,
    ),
    "cloudfunctions": Agent("gcf-admin-robot", "roles/cloudfunctions.serviceAgent", (f"{FUNCTIONS}.CreateFunction",)),
    "cloudscheduler": Agent(
        "gcp-sa-cloudscheduler",
        "roles/cloudscheduler.serviceAgent",
        ("google.cloud.scheduler.v1.CloudScheduler.CreateJob",),
    ),
    # "When you first use Dataflow, the service assigns this role for you"
    # (https://cloud.google.com/dataflow/docs/guides/templates/run-flex-templates).
    "dataflow": Agent(
        "dataflow-service-producer-prod",
        "roles/dataflow.serviceAgent",
        (
            "google.dataflow.v1beta3.FlexTemplatesService.LaunchFlexTemplate",
            "google.dataflow.v1beta3.JobsV1Beta3.CreateJob",
        ),
    ),
    "dataproc": Agent(
        "dataproc-accounts",
        "roles/dataproc.serviceAgent",
        ("google.cloud.dataproc.v1.WorkflowTemplateService.InstantiateWorkflowTemplate",),
    ),
    # No topic, subscription or switched-on API is said to make this one: it is asked for, or there is none
    # (https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions has `gcloud beta services identity create`).
    "pubsub": Agent("gcp-sa-pubsub", "roles/pubsub.serviceAgent"),
    "run": Agent("serverless-robot-prod", "roles/run.serviceAgent", (f"{FUNCTIONS}.CreateFunction",)),
    "workflows": Agent(
        "gcp-sa-workflows", "roles/workflows.serviceAgent", ("google.cloud.workflows.v1.Workflows.CreateWorkflow",)
    ),
}
"""By the first part of their API's name."""

_ASKED_FOR = re.compile(r"services/([a-z]+)\.googleapis\.com")


def made_by(call: Call) -> Iterator[Agent]:
    """Those that come to be with ``call``, if they are not there yet."""
    enabled = call.request.name if call.method == ENABLE else ""  # type: ignore[union-attr]
    for service, agent in AGENTS.items():
        if call.method in agent.made_by or (agent.with_api and enabled.endswith(f"/{service}.googleapis.com")):
            yield agent


def asked_for(call: Call) -> Agent | None:
    """The one that ``call`` asks for by ``generateServiceIdentity``; None if it does not."""
    if not call.method.lower().endswith("generateserviceidentity"):
        return None
    named = _ASKED_FOR.search(str(call.request))
    return AGENTS.get(named.group(1)) if named else None
