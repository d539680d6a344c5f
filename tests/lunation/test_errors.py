"""What Google refuses is told with the resource, the cause and the command that mends it."""

from types import SimpleNamespace
from typing import Any

import pytest
from google.api_core import exceptions
from google.auth.exceptions import DefaultCredentialsError, RefreshError
from google.rpc import error_details_pb2

from lunation.deploy import plan
from lunation.deploy.deployer import PERMISSIONS
from lunation.deploy.errors import explain, permission_lacked
from tests.lunation.test_plan import Thing

CLIENTS: Any = SimpleNamespace(
    project="my-project", principal="user:me@example.com", target=SimpleNamespace(impersonate=None)
)


def told(error: Exception, impersonate: str | None = None) -> str:
    """The line that is printed."""
    thing = Thing("one", {}, {})
    thing.api, thing.managed_with = "pubsub.googleapis.com", "roles/pubsub.admin"  # type: ignore[misc]
    target = SimpleNamespace(impersonate=impersonate)
    clients: Any = SimpleNamespace(**{**vars(CLIENTS), "target": target})
    return explain(error, thing, clients)


def info(kind: type[exceptions.GoogleAPICallError], text: str, reason: str, **metadata: str) -> Exception:
    """An error with Google's ErrorInfo."""
    detail = error_details_pb2.ErrorInfo(reason=reason, domain="googleapis.com", metadata=metadata)
    return kind(text, error_info=detail)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            info(
                exceptions.PermissionDenied,
                "denied",
                "IAM_PERMISSION_DENIED",
                permission="pubsub.topics.create",
            ),
            ["thing/one", "pubsub.topics.create", "--member=user:me@example.com --role=roles/pubsub.admin"],
        ),
        (
            exceptions.Forbidden("User does not have storage.buckets.create access to the project."),
            ["permission storage.buckets.create is missing", "gcloud projects add-iam-policy-binding my-project"],
        ),
        (
            exceptions.PermissionDenied("Permission 'iam.serviceAccounts.actAs' denied on service account x"),
            ["iam.serviceAccounts.actAs", "--role=roles/iam.serviceAccountUser"],
        ),
        (
            exceptions.Forbidden(
                "(1234): Current user cannot act as service account x@p.iam.gserviceaccount.com. Enforced by Org "
                "Policy constraint constraints/dataflow.enforceComputeDefaultServiceAccountCheck."
            ),
            ["iam.serviceAccounts.actAs", "--role=roles/iam.serviceAccountUser"],
        ),
        (
            exceptions.Forbidden(
                "lunation-deployer@p.iam.gserviceaccount.com does not have storage.buckets.create access to it."
            ),
            ["permission storage.buckets.create is missing", "--role=roles/storage.admin"],
        ),
        (
            info(
                exceptions.PermissionDenied,
                "denied",
                "IAM_PERMISSION_DENIED",
                permission="logging.notificationRules.create",
            ),
            ["logging.notificationRules.create", "--role=roles/logging.configWriter"],
        ),
        (
            info(
                exceptions.PermissionDenied,
                "Caller does not have required permission to use project my-project. Grant the caller the "
                "roles/serviceusage.serviceUsageConsumer role, or a custom role with the serviceusage.services.use "
                "permission, by visiting the console and then retry. Propagation of the new permission may take a few "
                "minutes.",
                "USER_PROJECT_DENIED",
            ),
            [
                "project my-project is not there, or user:me@example.com may not",
                "roles/serviceusage.serviceUsageConsumer",
            ],
        ),
        (
            info(exceptions.PermissionDenied, "off", "SERVICE_DISABLED", service="run.googleapis.com"),
            ["API run.googleapis.com is off", "gcloud services enable run.googleapis.com --project=my-project"],
        ),
        (
            exceptions.Forbidden("Cloud Pub/Sub API has not been used in project 1 before or it is disabled."),
            ["gcloud services enable pubsub.googleapis.com"],
        ),
        (
            info(exceptions.ResourceExhausted, "no more", "RATE_LIMIT_EXCEEDED", quota_limit="CPUS-per-project-region"),
            ["CPUS-per-project-region", "goes on from here", "iam-admin/quotas?project=my-project"],
        ),
        (
            exceptions.FailedPrecondition("Constraint constraints/iam.disableServiceAccountCreation violated"),
            ["organisation policy", "gcloud org-policies describe iam.disableServiceAccountCreation"],
        ),
        (exceptions.Aborted("etag"), ["somebody else changed it at the same time", "Plan again"]),
        (
            exceptions.PreconditionFailed(
                "One or more users named in the policy do not belong to a permitted customer, perhaps due to an "
                "organization policy."
            ),
            [
                "organisation policy forbids it (constraints/iam.allowedPolicyMemberDomains)",
                "gcloud org-policies describe iam.allowedPolicyMemberDomains",
                "an exception is its administrator's to give",
            ],
        ),
        (exceptions.PreconditionFailed("metageneration"), ["somebody else changed it at the same time"]),
        (DefaultCredentialsError("none"), ["gcloud auth application-default login"]),
        (exceptions.NotFound("no such thing"), ["thing/one: NotFound: no such thing"]),
    ],
)
def test_a_refusal_names_the_cause_and_the_command(error: Exception, words: list[str]) -> None:
    """Permission, API, quota, organisation policy, a change by somebody else, credentials."""
    line = told(error)
    assert line.startswith("thing/one: ")
    for word in words:
        assert word in line, line


@pytest.mark.parametrize(
    "host",
    [
        "us-central1-docker.pkg.dev",
        "us-central1-docker.pkg.dev/my-project/lunation/archive:0a1b",
        "docker.pkg.dev",
        "https://us.gcr.io/v2/",
        "storage.googleapis.com:443",
        "ingest-abc-uc.a.run.app",
        "lunation-build@my-project.iam.gserviceaccount.com",
    ],
)
def test_a_host_is_taken_for_no_permission(host: str) -> None:
    """Wherever it stands; what is missing is told as far as it is known, and the permission beside it is found."""
    assert permission_lacked(exceptions.Forbidden(f"{host} refuses: denied for '{host}'. Ask {host}.")) == ""
    named = exceptions.Forbidden(f"{host}: needs artifactregistry.repositories.downloadArtifacts.")
    assert permission_lacked(named) == "artifactregistry.repositories.downloadArtifacts"


def test_every_permission_that_is_used_is_known_in_a_sentence() -> None:
    """None looks like a host."""
    found = [permission_lacked(exceptions.Forbidden(f"Needs {one}.")) for one in PERMISSIONS]
    assert found == list(PERMISSIONS)


def test_an_account_that_cannot_be_impersonated_is_told_with_who_may_allow_it() -> None:
    """The role is on the account, not on the project."""
    account = "lunation-deployer@my-project.iam.gserviceaccount.com"
    line = told(RefreshError("no"), account)
    assert f"cannot act as {account}" in line
    assert "roles/iam.serviceAccountTokenCreator" in line


def disabled(*_: Any) -> Any:
    """What a service answers whose API is off."""
    raise info(exceptions.PermissionDenied, "off", "SERVICE_DISABLED", service="pubsub.googleapis.com")


def test_an_api_that_is_off_has_nothing_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan for a new project says what will be made, instead of failing at the first service."""
    thing = Thing("one", {}, {})
    monkeypatch.setattr(thing, "read", disabled)
    monkeypatch.setattr(thing, "summary", disabled)
    (change,) = plan.plan([thing], CLIENTS)
    assert (change.action, change.summary) == ("create", "(known after apply)")
