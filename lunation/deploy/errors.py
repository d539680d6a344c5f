"""What an error of Google's means for a deployment: which resource, what is missing, and the command that mends it."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from google.api_core.exceptions import (
    Aborted,
    Forbidden,
    GoogleAPICallError,
    PreconditionFailed,
    RetryError,
    TooManyRequests,
    Unauthenticated,
)
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError

from lunation.clients import Clients
from lunation.deploy.deployer import PERMISSIONS
from lunation.deploy.resource import Resource

T = TypeVar("T")
_PERMISSION = re.compile(r"(?<![-\w@./])([a-z]+(?:\.[a-zA-Z]+){2,})(?![-\w@/]|:\d|\.\w)")
"""Whole words: no end of a host, of an account's address, or of a path."""
_HOST = re.compile(r"\.(com|dev|io|net|org|app|cloud|goog)$")
"""What a host ends with, and no permission (https://cloud.google.com/iam/docs/roles-permissions)."""
_CONSTRAINT = re.compile(r"constraints/[A-Za-z0-9.]+")
_OUTSIDERS = re.compile(r"do not belong to a permitted customer|is not in permitted organization")
"""Said of a policy, by most with 400, and the constraint in the details
(https://cloud.google.com/knowledge/kb/organization-policy-violation-when-setting-iam-policy-000004666). Cloud Storage
has the same words (https://github.com/googleapis/java-storage/pull/2444), and 412 for what is not fulfilled."""
ACTING = "iam.serviceAccounts.actAs"
_ACTING = re.compile(r"iam\.service[aA]ccounts\.actAs|(cannot|not authorized to) act as service account")
"""Dataflow and Dataproc say it in words of their own: https://cloud.google.com/iam/docs/service-accounts-actas."""
_NO_PROJECT = re.compile(r"USER_PROJECT_DENIED|CONSUMER_INVALID|permission to use project|User project specified")
"""What is said of a project that is not there, or that one may not use, where it is the one whose quota is used."""
_DISABLED = re.compile(r"has not been used in project|\bAPI\b.{0,80} is disabled|SERVICE_DISABLED|accessNotConfigured")


def api_is_off(error: Exception) -> bool:
    """Whether a call failed only because its API is not switched on."""
    return isinstance(error, GoogleAPICallError) and (
        _reason(error) == "SERVICE_DISABLED" or bool(_DISABLED.search(str(error)))
    )


def unless_off(look: Callable[[], T], nothing: T) -> T:
    """What ``look`` returns; ``nothing``, if the API is not on yet: then there is nothing of it either."""
    try:
        return look()
    except GoogleAPICallError as error:
        if api_is_off(error):
            return nothing
        raise


def permission_lacked(error: Exception) -> str:
    """The permission for want of which a call was refused, as the error names it; empty if it is about none."""
    text = str(error)
    if not isinstance(error, GoogleAPICallError) or not (isinstance(error, Forbidden) or _ACTING.search(text)):
        return ""
    if _ACTING.search(text):
        return ACTING
    named = (one for one in _PERMISSION.findall(text) if not _HOST.search(one))
    return _metadata(error).get("permission") or next(named, "")


def project_denied(error: Exception) -> bool:
    """Whether a call failed because there is no such project, or none that one may call services for."""
    return isinstance(error, GoogleAPICallError) and bool(_NO_PROJECT.search(f"{_reason(error)} {error}"))


def admits_no_outsiders(error: Exception) -> bool:
    """Whether a policy was refused since it names members whom the organisation admits nowhere."""
    return isinstance(error, GoogleAPICallError) and bool(_OUTSIDERS.search(str(error)))


def explain(error: Exception, resource: Resource, clients: Clients) -> str:
    """One line for a person: the resource, the cause, the fix."""
    return f"{resource.address}: {_cause(error, resource, clients)}"


def _cause(error: Exception, resource: Resource, clients: Clients) -> str:
    project = clients.project
    text = str(getattr(error, "message", "") or error)
    if isinstance(error, GoogleAuthError | Unauthenticated):
        return credentials_cause(error, clients)
    if project_denied(error):
        return (
            f"project {project} is not there, or {clients.principal} may not call services for it "
            f"(serviceusage.services.use): {text}. Is the id in lunation.toml right? Then: gcloud projects "
            f"add-iam-policy-binding {project} --member={clients.principal} "
            "--role=roles/serviceusage.serviceUsageConsumer"
        )
    if permission_lacked(error) == ACTING:  # Dataflow names a policy of the organisation where a role is missing
        return _forbidden(error, text, resource, clients)
    constraint = _constraint(error, text)
    if constraint:
        name = constraint.removeprefix("constraints/")
        return (
            f"an organisation policy forbids it ({constraint}): {text}. See it: gcloud org-policies describe "
            f"{name} --project={project} --effective; an exception is its administrator's to give"
        )
    if api_is_off(error):
        api = _metadata(error).get("service") or resource.api
        return (
            f"the API {api} is off in project {project}. Switch it on: gcloud services enable {api} --project={project}"
        )
    if isinstance(error, TooManyRequests):
        limit = _metadata(error).get("quota_limit") or "a quota"
        return (
            f"{limit} of {resource.api} is used up: {text}. Deploy again later, it goes on from here; or ask for more: "
            f"https://console.cloud.google.com/iam-admin/quotas?project={project}"
        )
    if isinstance(error, Forbidden):
        return _forbidden(error, text, resource, clients)
    if isinstance(error, Aborted | PreconditionFailed):
        return f"somebody else changed it at the same time: {text}. Plan again, and look at what they did"
    if isinstance(error, RetryError | GoogleAPICallError):
        return f"{type(error).__name__}: {text}"
    return text if isinstance(error, ValueError | TimeoutError | RuntimeError) else f"{type(error).__name__}: {text}"


def _constraint(error: Exception, text: str) -> str:
    if admits_no_outsiders(error):
        return "constraints/iam.allowedPolicyMemberDomains"
    found = _CONSTRAINT.search(text) or _CONSTRAINT.search(str(getattr(error, "details", "")))
    return found.group() if found else ""


def _forbidden(error: Exception, text: str, resource: Resource, clients: Clients) -> str:
    permission = permission_lacked(error)
    role = PERMISSIONS.get(permission, resource.managed_with)
    missing = f"permission {permission} is" if permission else "a permission is"
    return (
        f"{missing} missing, or there is no project {clients.project}: {text}. {role} gives it: gcloud projects "
        f"add-iam-policy-binding {clients.project} --member={clients.principal} --role={role}"
    )


def credentials_cause(error: GoogleAuthError | Unauthenticated, clients: Clients) -> str:
    """What is wrong with the credentials, and how to sign in."""
    text, account = str(getattr(error, "message", "") or error), clients.target.impersonate
    if isinstance(error, DefaultCredentialsError):
        return "there are no credentials on this machine. Sign in: gcloud auth application-default login"
    if not isinstance(error, RefreshError | Unauthenticated):
        return f"{type(error).__name__}: {text}"
    if account is not None:
        return (
            f"cannot act as {account}: {text}. Whoever deploys needs roles/iam.serviceAccountTokenCreator on it: "
            f"gcloud iam service-accounts add-iam-policy-binding {account} --project={clients.project} "
            "--member=user:YOUR_ACCOUNT --role=roles/iam.serviceAccountTokenCreator"
        )
    return f"the credentials are not valid: {text}. Sign in again: gcloud auth application-default login"


def _reason(error: Any) -> str:
    return str(getattr(error, "reason", None) or "")


def _metadata(error: Any) -> dict[str, str]:
    return dict(getattr(error, "metadata", None) or {})
