"""Google's "not yet": what a service answers while something that was just made or granted is not known everywhere.

IAM is eventually consistent: a change takes two minutes as a rule, and seven or more at times
(https://cloud.google.com/iam/docs/access-change-propagation). An answer of the table below is waited out, whichever run
made what it waits for; every other refusal is told at once.
"""

import re
from dataclasses import dataclass

from google.api_core.exceptions import GoogleAPICallError

from lunation.clients import Clients
from lunation.deploy.errors import admits_no_outsiders, api_is_off, permission_lacked, project_denied
from lunation.deploy.resource import Resource

PAUSES = (2, 5, 10, 20, 30, 60)
"""Seconds between the attempts at one resource, from the first on for each thing that is waited for."""
LONGEST = 600
"""Seconds that one resource is waited for: IAM names seven minutes."""
POLICIES = ("access", "service-agents")
"""The kinds of rows that change a policy."""
MAGIC = "https://github.com/GoogleCloudPlatform/magic-modules/blob/main/mmv1/third_party/terraform"
PREDICATES = f"{MAGIC}/transport/error_retry_predicates.go"
"""What Terraform's provider tries again."""
PROPAGATION = "https://cloud.google.com/iam/docs/access-change-propagation"


@dataclass(frozen=True)
class NotYet:
    """An answer that passes.

    Args:
        awaits: what is waited for, in half a sentence.
        source: where Google documents it, or somebody met it.
        status: of HTTP, one of these; empty: any.
        words: a pattern that its text has.
        kinds: of the rows that it passes for; empty: any.
    """

    awaits: str
    source: str
    status: tuple[int, ...] = ()
    words: str = ""
    kinds: tuple[str, ...] = ()

    def is_told_by(self, error: GoogleAPICallError, resource: Resource) -> bool:
        """Whether this is what ``error`` says of ``resource``."""
        return (
            (not self.status or error.code in self.status)
            and (not self.kinds or resource.kind in self.kinds)
            and re.search(self.words, str(error), re.IGNORECASE | re.DOTALL) is not None
        )


API_ON = NotYet(
    "an API that was switched on is known everywhere",
    f"{MAGIC}/website/docs/guides/google_project_service.html.markdown",
)
MADE = NotYet("what was just made is known everywhere", "https://cloud.google.com/iam/docs/overview#consistency")
GRANTED = NotYet("what its account was granted is known everywhere", PROPAGATION)
UNDER_WAY = NotYet("what is under way with it ends", "the states that each service's reference names")
PERMISSION_KNOWN = NotYet("a permission that whoever deploys has is known everywhere", PROPAGATION)
NAME_FREE = NotYet("the name of what was just deleted is free", f"{PREDICATES}, IsCloudRunCreationConflict", (409,))

NOT_YET = (
    NotYet(
        "a service account is known everywhere",
        f"{PREDICATES}, IamServiceAccountNotFound; https://github.com/firebase/firebase-tools/pull/11043",
        (400, 404),
        r"service account \S+ (does not exist|was not found|not found)",
    ),
    NotYet(
        "a custom role is known everywhere",
        "https://github.com/GoogleCloudPlatform/pubsec-declarative-toolkit/issues/608",
        (400,),
        r"role \S+ does not exist in the resource's hierarchy",
    ),
    NotYet(
        "a service agent is made",
        f"https://cloud.google.com/iam/docs/create-service-agents; {PREDICATES}, IsAppEngineRetryableError",
        (400, 404),
        r"service agent( \S+)? does not exist|unable to retrieve p4sa",
    ),
    NotYet(
        "nobody else changes the policy at the same time: it is read anew",
        "https://cloud.google.com/iam/docs/policies#etag",
        (409, 412),
        kinds=POLICIES,
    ),
    NotYet(
        "a new bucket is known everywhere",
        f"{MAGIC}/services/storage/resource_storage_bucket.go.tmpl",
        (404,),
        r"specified bucket does not exist",
        ("access", "file"),
    ),
    NotYet(
        "the project's organisation policies are known to Pub/Sub",
        "https://github.com/hashicorp/terraform-provider-google/issues/4349",
        (400,),
        r"retry this operation",
    ),
    NotYet(
        "another change of an API ends",
        f"{PREDICATES}, ServiceUsageServiceBeingActivated and ServiceUsageInternalError160009",
        words=r"another activation or deactivation is in progress|encountered internal error.*160009",
        kinds=("api",),
    ),
    NotYet(
        "the id of a database that was deleted is free",
        "https://cloud.google.com/datastore/docs/manage-databases#delete_a_database",
        (400, 409),
        r"database id \S+ is not available.*retry in",
        ("database",),
    ),
    NotYet(
        "a change of the database's fields or indexes ends",
        f"{PREDICATES}, FirestoreIndex409Retry, FirestoreField409RetryUnderlyingDataChanged and "
        "DatastoreIndex409Contention",
        (409,),
        r"underlying data changed|cross-transaction contention|too much contention",
    ),
    NotYet(
        "another change in Monitoring ends",
        f"{PREDICATES}, IsMonitoringConcurrentEditError",
        (409,),
        r"too many concurrent edits|could not fulfill the request",
    ),
    NotYet(
        "another change in Cloud Scheduler ends",
        f"{PREDICATES}, Is409SyncMutateCannotBeQueuedError",
        (409,),
        r"sync mutate calls cannot be queued",
    ),
    NotYet(
        "an operation on it ends",
        "https://github.com/hashicorp/terraform-provider-google/issues/3279",
        (409,),
        r"unable to queue the operation|operation (is )?(already )?in progress|operationInProgress",
    ),
    NotYet(
        "Cloud Build may read the source",
        "https://github.com/DefangLabs/pulumi-defang/issues/115",
        (400, 403),
        r"could not resolve source.*storage\.objects\.(get|list)",
    ),
    NotYet(
        "the build's account may read its source, and push what it builds",
        "https://github.com/hashicorp/terraform-provider-google/issues/20571; "
        "https://github.com/GoogleCloudPlatform/bigquery-dlp-remote-function/issues/70",
        words=r"does not have storage\.objects\.(get|list) access|must grant storage object viewer permission to"
        r"|failed to retrieve function source code|missing permission on the build service account",
        kinds=("image", "function"),
    ),
    NotYet(
        "Cloud Run may read the image",
        "https://cloud.google.com/run/docs/deploying#other-projects",
        words=r"must have permission to read the image|might take a few minutes (to propagate|before all)",
    ),
)


class NotYetError(RuntimeError):
    """What a resource sees by itself: something is under way with it, or what it launched has failed, for want of a
    permission that was granted. Whoever applies it waits, and begins with it anew.

    Args:
        message: what there is now.
        awaits: what is waited for.
    """

    def __init__(self, message: str, awaits: NotYet = GRANTED) -> None:
        super().__init__(message)
        self.awaits = awaits


def settling(error: Exception, resource: Resource, clients: Clients) -> NotYet | None:
    """What ``error`` waits for; None if waiting helps nobody.

    Whether an API is on, and whether whoever deploys has a permission, is asked where that is kept: if it is so, a
    service that says otherwise does not know yet; if it is not, the error is told at once.
    """
    if isinstance(error, NotYetError):
        return error.awaits
    if not isinstance(error, GoogleAPICallError) or project_denied(error) or admits_no_outsiders(error):
        return None
    if api_is_off(error):
        return API_ON if _is_on(clients, str((error.metadata or {}).get("service") or resource.api)) else None
    found = next((one for one in NOT_YET if one.is_told_by(error, resource)), None)
    permission = permission_lacked(error)
    if found is None and permission and _has(clients, permission):
        return PERMISSION_KNOWN
    return found


def _is_on(clients: Clients, api: str) -> bool:
    if not clients.target.serves("serviceusage"):
        return False
    try:
        found = clients.service_usage.get_service(request={"name": f"projects/{clients.project}/services/{api}"})
    except GoogleAPICallError:
        return False
    return bool(found.state.name == "ENABLED")


def _has(clients: Clients, permission: str) -> bool:
    """Whether whoever deploys has ``permission``, by a role on the project or above it."""
    if not clients.target.serves("resourcemanager"):
        return False
    request = {"resource": f"projects/{clients.project}", "permissions": [permission]}
    try:
        answer = clients.projects.test_iam_permissions(request=request)
    except GoogleAPICallError:  # one of single resources, of which a project knows nothing
        return False
    return permission in answer.permissions
