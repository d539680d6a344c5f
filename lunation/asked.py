"""Asks the deployed classifier which model it serves, and what keeps it from following the pointer."""

from dataclasses import dataclass
from typing import Any

import requests
from google.api_core.exceptions import GoogleAPICallError, PermissionDenied, RetryError
from google.auth.exceptions import GoogleAuthError
from pydantic_core import from_json

from lunation.clients import Clients
from lunation.deploy.accounts import account
from lunation.deploy.names import CLASSIFY_HTTP
from lunation.deploy.resource import if_found

PATH = "/v1/model"
SECONDS = 60.0
"""A cold start, and the longest wait of an instance for a model."""
CALLER = "caller"


@dataclass(frozen=True)
class Asked:
    """What one instance said of itself. The pushed function's instances load the same model by the same code."""

    report: dict[str, Any] | None
    """Its answer to ``GET /v1/model`` (docs/api.md); None if there is none."""
    troubles: tuple[str, ...] = ()
    """Why the pointer is not followed, as the instance says: a model that it names does not load, or it cannot be read
    itself."""
    unanswered: str | None = None
    """Why nobody answered; then nothing is known."""


def ask(clients: Clients) -> Asked:
    """Ask as the account of callers, which may call the function. Never raises for want of an answer."""
    if not clients.target.serves("functions"):
        return _unknown("the target has no functions")
    url = ""
    try:
        name = f"{clients.location}/functions/{CLASSIFY_HTTP}"
        found = if_found(lambda: clients.functions.get_function(name=name))
        url = found.service_config.uri if found is not None else ""
        if not url:
            return _unknown(f"{CLASSIFY_HTTP} is not deployed to {clients.project}")
        token = _token(clients, url)
        answer = requests.get(url + PATH, headers={"Authorization": f"Bearer {token}"}, timeout=SECONDS)
    except PermissionDenied as error:
        if not url:
            return _unknown(f"{CLASSIFY_HTTP} may not be looked at: {error.message}")
        caller = account(clients.project, CALLER)
        return _unknown(
            f"{error.message}. To ask, you need a token of {caller}: gcloud iam service-accounts "
            f"add-iam-policy-binding {caller} --project={clients.project} --member={clients.principal} "
            "--role=roles/iam.serviceAccountOpenIdTokenCreator"
        )
    except (GoogleAPICallError, RetryError, GoogleAuthError, requests.RequestException) as error:
        return _unknown(f"{type(error).__name__}: {error}")
    return _read(answer)


def _read(answer: requests.Response) -> Asked:
    try:
        said = from_json(answer.content)
    except ValueError:
        said = None
    if answer.status_code == requests.codes.ok and isinstance(said, dict):
        candidates = {role: said[role] for role in ("canary", "shadow") if isinstance(said.get(role), dict)}
        told = {"": _text(said, "trouble")} | {
            f"{role} {_text(one, 'model_version')}: ": _text(one, "trouble") for role, one in candidates.items()
        }
        return Asked(said, tuple(whose + trouble for whose, trouble in told.items() if trouble is not None))
    detail = _text(said, "detail") if isinstance(said, dict) else None
    if answer.status_code == requests.codes.unavailable and detail is not None:  # it has no model at all
        return Asked(None, (detail,))
    return _unknown(f"{answer.url} answered {answer.status_code} {answer.reason}")


def _text(said: dict[str, Any], name: str) -> str | None:
    value = said.get(name)
    return value if isinstance(value, str) else None


def _unknown(why: str) -> Asked:
    return Asked(None, unanswered=why)


def _token(clients: Clients, url: str) -> str:
    """https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateIdToken"""
    found = clients.iam_credentials.generate_id_token(
        name=f"projects/-/serviceAccounts/{account(clients.project, CALLER)}", audience=url, include_email=True
    )
    token: str = found.token
    return token
