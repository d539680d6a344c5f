"""What an error of Google's means for a deployment: which resource, what is missing, and the command that mends it."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from google.api_core.exceptions import (
    Aborted,
    Forbidden,
    GoogleAPICallError,
    InvalidArgument,
    NotFound,
    PreconditionFailed,
    RetryError,
    TooManyRequests,
    Unauthenticated,
)
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError

from lunation.clients import Clients
from lunation.deploy.resource import Resource

T = TypeVar("T")
_PERMISSION = re.compile(r"\b([a-z]+(?:\.[a-zA-Z]+){2,})\b")
_CONSTRAINT = re.compile(r"constraints/[A-Za-z0-9.]+")
_NEW_ACCOUNT = re.compile(r"[Ss]ervice account \S+ (does not exist|was not found)|serviceAccounts\.actAs")
_DISABLED = re.compile(r"has not been used in project|is disabled|SERVICE_DISABLED|accessNotConfigured")


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


def settling(error: Exception) -> bool:
    """Whether a call failed because what was made a moment ago is not known everywhere yet."""
    if api_is_off(error):
        return True
    return isinstance(error, InvalidArgument | NotFound | Forbidden) and bool(_NEW_ACCOUNT.search(str(error)))


def explain(error: Exception, resource: Resource, clients: Clients) -> str:
    """One line for a person: the resource, the cause, the fix."""
    return f"{resource.address}: {_cause(error, resource, clients)}"


def _cause(error: Exception, resource: Resource, clients: Clients) -> str:
    project = clients.project
    text = str(getattr(error, "message", "") or error)
    if isinstance(error, DefaultCredentialsError):
        return "there are no credentials on this machine. Sign in: gcloud auth application-default login"
    if isinstance(error, RefreshError | Unauthenticated):
        return _credentials(text, clients)
    if isinstance(error, GoogleAuthError):
        return f"{type(error).__name__}: {text}"
    constraint = _CONSTRAINT.search(text) or _CONSTRAINT.search(str(getattr(error, "details", "")))
    if constraint:
        name = constraint.group().removeprefix("constraints/")
        return (
            f"an organisation policy forbids it ({constraint.group()}): {text}. See it: gcloud org-policies describe "
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


def _forbidden(error: Exception, text: str, resource: Resource, clients: Clients) -> str:
    permission = _metadata(error).get("permission") or next(iter(_PERMISSION.findall(text)), "")
    role = resource.managed_with
    missing = f"permission {permission} is" if permission else "a permission is"
    acting = "iam.serviceAccounts.actAs" in permission or "iam.serviceaccounts.actAs" in text
    if acting:
        role = "roles/iam.serviceAccountUser"
    return (
        f"{missing} missing, or there is no project {clients.project}: {text}. {role} gives it: gcloud projects "
        f"add-iam-policy-binding {clients.project} --member={clients.principal} --role={role}"
    )


def _credentials(text: str, clients: Clients) -> str:
    account = clients.target.impersonate
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
