"""What is not known everywhere at once: which calls are refused after which creation, for how long, in which words.

Google gives times for some of it ("60 seconds or more"), and none for most: where it gives none, it is what a
provider's own tests sleep, or what was measured.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.rpc import error_details_pb2

from laptop.errors import ServiceError, invalid
from rehearsal.agents import AGENTS
from rehearsal.policy_writes import written
from rehearsal.project import NUMBER
from rehearsal.recorder import Call

if TYPE_CHECKING:
    from rehearsal.delays import Delays

ALWAYS_ON = "serviceusage.googleapis.com"
"""The API that turns the others on."""
_APIS = {
    "google.pubsub.v1.": "pubsub",
    "google.datastore.": "datastore",
    "storage.": "storage",
    "google.cloud.workflows.v1.": "workflows",
    "google.cloud.workflows.executions.": "workflowexecutions",
    "google.cloud.dataproc.": "dataproc",
    "google.cloud.scheduler.": "cloudscheduler",
    "google.cloud.functions.": "cloudfunctions",
    "google.cloud.run.": "run",
    "google.dataflow.": "dataflow",
    "google.cloud.resourcemanager.": "cloudresourcemanager",
    "google.iam.admin.": "iam",
    "google.firestore.": "firestore",
    "google.devtools.artifactregistry.": "artifactregistry",
    "google.devtools.cloudbuild.": "cloudbuild",
    "google.monitoring.": "monitoring",
}
Refusals = Iterator[tuple[float, ServiceError]]
"""How many seconds what a call needs has been there (none: it is not), and what is answered while that is too few."""


@dataclass(frozen=True)
class Delay:
    """One thing that is not known everywhere at once.

    Args:
        name: short.
        after: what was made.
        refused: what is refused then.
        seconds: for how long.
        source: where words and time come from.
        looks: what of a call it depends on.
        sure: False: the words were seen, and no page of Google's says so.
    """

    name: str
    after: str
    refused: str
    seconds: float
    source: str
    looks: Callable[[Call, "Delays"], Refusals]
    sure: bool = True


# --- what is looked at


def _api(call: Call, delays: "Delays") -> Refusals:
    api = _api_of(call)
    if api is None or api == ALWAYS_ON:
        return
    on = f"projects/{delays.project.project}/services/{api}" in delays.project.things
    info = error_details_pb2.ErrorInfo(
        reason="SERVICE_DISABLED",
        domain="googleapis.com",
        metadata={"service": api, "consumer": f"projects/{NUMBER}"},
    )
    words = (
        f"{api} has not been used in project {NUMBER} before or it is disabled. Enable it by visiting "
        f"https://console.developers.google.com/apis/api/{api}/overview?project={NUMBER} then retry. If you enabled "
        "this API recently, wait a few minutes for the action to propagate to our systems and retry."
    )
    yield delays.age(f"api/{api}") if on else 0.0, ServiceError("PERMISSION_DENIED", words, info)


def _api_of(call: Call) -> str | None:
    """The API that a call belongs to; None for what is part of several (operations)."""
    method = call.method
    if method.startswith("google.iam.v1.IAMPolicy."):  # Pub/Sub's
        return "pubsub.googleapis.com"
    return next((f"{api}.googleapis.com" for prefix, api in _APIS.items() if method.startswith(prefix)), None)


def _account(call: Call, delays: "Delays") -> Refusals:
    own = f"@{delays.project.project}.iam.gserviceaccount.com"
    for _, bindings in written(call):
        for member in sorted({member for _, member in bindings}):
            email = member.removeprefix("serviceAccount:")
            if member.startswith("serviceAccount:") and email.endswith(own):
                there = delays.project.uid(email) is not None
                yield delays.age(f"account/{email}") if there else 0.0, _no_account(email)


def _agent(call: Call, delays: "Delays") -> Refusals:
    for _, bindings in written(call):
        for member in sorted({member for _, member in bindings}):
            email = member.removeprefix("serviceAccount:")
            if re.fullmatch(rf"service-{NUMBER}@[a-z0-9-]+\.iam\.gserviceaccount\.com", email):
                there = email in delays.project.agents
                yield delays.age(f"account/{email}") if there else 0.0, _no_account(email)


def _no_account(email: str) -> ServiceError:
    return invalid(f"Service account {email} does not exist.")


def _role(call: Call, delays: "Delays") -> Refusals:
    for _, bindings in written(call):
        for role in sorted({role for role, _ in bindings}):
            if role.startswith("projects/"):
                found = delays.project.things.get(role)
                there = found is not None and not found.deleted
                words = f"Role ({role}) does not exist in the resource's hierarchy."
                yield delays.age(f"role/{role}") if there else 0.0, invalid(words)


def _workflow(call: Call, delays: "Delays") -> Refusals:
    if not call.method.endswith("Workflows.CreateWorkflow"):
        return
    agent = AGENTS["workflows"].email
    delays.project.agents.add(agent)
    delays.sees(f"account/{agent}")  # the first workflow makes it, if nobody asked for it before
    yield delays.age(f"account/{agent}"), ServiceError("FAILED_PRECONDITION", "Workflows service agent does not exist")


def _first_topic(call: Call, delays: "Delays") -> Refusals:
    if not call.method.endswith("Publisher.CreateTopic"):
        return
    delays.sees("first topic")
    request: Any = call.request
    yield (
        delays.age("first topic"),
        invalid(
            f"The topic {request.name} cannot be created or updated due to an organization policy specified at the "
            "project or organization level. If the topic's project was recently created, you may need to wait a few "
            "minutes for the project's organization policy to be properly initialized, and then retry this operation."
        ),
    )


def _policy_of_the_project(call: Call, delays: "Delays") -> Refusals:
    """Turning an API on gives Google's own accounts roles, at the same time as somebody else writes the policy."""
    resource = f"projects/{delays.project.project}"
    if not any(written_to == resource for written_to, _ in written(call)):
        return
    if "google's own grant" not in delays.since:
        delays.sees("google's own grant")
        policy = type(delays.project.policy(resource))()
        policy.CopyFrom(delays.project.policy(resource))
        policy.bindings.add(
            role="roles/cloudbuild.builds.builder", members=[f"serviceAccount:{NUMBER}@cloudbuild.gserviceaccount.com"]
        )
        delays.project.set_policy(resource, policy)
    yield (
        delays.age("google's own grant"),
        ServiceError(
            "ABORTED",
            "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff.",
        ),
    )


def _image(call: Call, delays: "Delays") -> Refusals:
    if not call.method.endswith("CloudBuild.CreateBuild"):
        return
    request: Any = call.request
    account = request.build.service_account.rsplit("/", 1)[-1]
    bucket = request.build.source.storage_source.bucket
    if account and bucket:
        yield (
            delays.granted(f"serviceAccount:{account}", f"bucket/{bucket}"),
            invalid(
                f"could not resolve source: googleapi: Error 403: {account} does not have storage.objects.get access "
                "to the Google Cloud Storage object. Permission 'storage.objects.get' denied on resource (or it may "
                "not exist)., forbidden"
            ),
        )


def _index(call: Call, delays: "Delays") -> Refusals:
    if call.method.endswith("DatastoreAdmin.CreateIndex"):
        ages = [delays.age(fact) for fact in delays.since if fact.startswith("field/")]
        yield min(ages, default=float("inf")), ServiceError("ABORTED", "Please retry, underlying data changed")


def _database(call: Call, delays: "Delays") -> Refusals:
    if not call.method.endswith("FirestoreAdmin.CreateDatabase"):
        return
    request: Any = call.request
    project = delays.project
    gone = project.days_deleted(f"{request.parent}/databases/{request.database_id}") * 24 * 3600
    yield (
        gone,
        ServiceError(
            "FAILED_PRECONDITION",
            f"Database ID '{request.database_id}' is not available in project '{project.project}'. Please retry in "
            f"{max(0, 300 - gone):.0f} seconds.",
        ),
    )


def _nothing(_: Call, __: "Delays") -> Refusals:
    """It fails afterwards."""
    yield from ()


MAGIC = "https://github.com/GoogleCloudPlatform/magic-modules/blob/main/mmv1"
PROPAGATION = "https://cloud.google.com/iam/docs/access-change-propagation"
GRANT_SECONDS = 120
"""PROPAGATION: "typically within 2 minutes, potentially 7 minutes or longer"; the provider's tests sleep as long before
a cluster of Dataproc (services/dataproc/resource_dataproc_cluster_test.go, "Wait for IAM propagation")."""

DATABASE = Delay(
    "database",
    "the database of that id was deleted",
    "a new one",
    300,
    "seen by many who made one again: Error 400, about five minutes; no page of Google's says so",
    _database,
    sure=False,
)
DELAYS = (
    # The first, for nothing else that a policy may be refused for tells of a change at the same time.
    Delay(
        "project policy",
        "an API was turned on, and Google grants roles to its own accounts",
        "a policy of the project that was read before",
        1,
        f"https://github.com/DataBiosphere/leonardo/pull/737, {MAGIC}/third_party/terraform/tpgiamresource/iam.go.tmpl",
        _policy_of_the_project,
    ),
    Delay(
        "api",
        "an API was turned on; or it is off",
        "all calls of it",
        60,
        f"{MAGIC}/third_party/terraform/website/docs/guides/google_project_service.html.markdown",
        _api,
    ),
    Delay(
        "account",
        "a service account was made; or it is not there",
        "a policy that names it",
        60,
        'https://cloud.google.com/iam/docs/service-accounts-create ("60 seconds or more"), the words in '
        "IamServiceAccountNotFound of " + f"{MAGIC}/third_party/terraform/transport/error_retry_predicates.go",
        _account,
    ),
    Delay(
        "agent",
        "Google's service agent was asked for; or nobody has",
        "a policy that names it",
        60,
        "https://github.com/Liscor/terraform_dataform_ga4_pipeline/issues/1, "
        "https://cloud.google.com/iam/docs/create-service-agents",
        _agent,
    ),
    Delay(
        "role",
        "a custom role was made or had back; or it is not there",
        "a policy that names it",
        60,
        f"{PROPAGATION}, the words in https://github.com/hashicorp/terraform-provider-google/pull/6923",
        _role,
    ),
    Delay(
        "workflow",
        "the agent of Workflows was asked for, by the first workflow if by nobody else",
        "a workflow",
        60,
        "seen by those who deploy a first workflow: a second attempt succeeds",
        _workflow,
        sure=False,
    ),
    Delay(
        "topic",
        "the project was made, and its organisation's policy is not known yet",
        "the first topic",
        10,
        "https://github.com/hashicorp/terraform-provider-google/issues/4349",
        _first_topic,
    ),
    Delay(
        "image",
        "the build's account was given access to the source; or it was not",
        "the build",
        GRANT_SECONDS,
        "https://github.com/DefangLabs/pulumi-defang/issues/456",
        _image,
    ),
    Delay(
        "function build",
        "the build's account was given something",
        "the build of a function: it fails, and the function is there, FAILED",
        GRANT_SECONDS,
        "https://github.com/hashicorp/terraform-provider-google/issues/20571, "
        f"{MAGIC}/templates/terraform/samples/services/cloudfunctions2/cloudfunctions2_basic_builder.tf.tmpl",
        _nothing,
    ),
    Delay(
        "job",
        "the workers' account was given something",
        "the job of Dataflow: it is launched, and fails",
        GRANT_SECONDS,
        PROPAGATION,
        _nothing,
    ),
    Delay(
        "index",
        "a field's time to live was set, and nobody waited for that",
        "an index",
        60,
        "https://github.com/hashicorp/terraform-provider-google/issues/16664",
        _index,
    ),
    DATABASE,
)
