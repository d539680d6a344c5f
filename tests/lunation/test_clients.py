"""Whose calls are counted where: a person's by the target's own project, whatever gcloud put into the credentials."""

import json
from pathlib import Path
from typing import Any

import google.auth.transport.requests
import pytest
from google.auth import impersonated_credentials
from google.auth.transport import grpc as auth_grpc
from google.oauth2 import credentials as personal
from google.oauth2 import service_account

from lunation import clients as module
from lunation.clients import Clients
from lunation.settings import Target

PERSON = {
    "type": "authorized_user",
    "client_id": "x.apps.googleusercontent.com",
    "client_secret": "x",
    "refresh_token": "x",
    "quota_project_id": "of-another-day",
}


def headers(credentials: Any) -> dict[str, str]:
    """What goes out with a call over HTTP."""
    credentials.token, credentials.expiry = "token", None
    found: dict[str, str] = {}
    credentials.apply(found)
    return found


@pytest.fixture
def signed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What ``gcloud auth application-default login`` leaves, with the quota project of an earlier day."""
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(PERSON))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    for variable in (
        "GOOGLE_CLOUD_QUOTA_PROJECT",
        "PUBSUB_EMULATOR_HOST",
        "DATASTORE_EMULATOR_HOST",
        "STORAGE_EMULATOR_HOST",
    ):
        monkeypatch.delenv(variable, raising=False)
    return path


@pytest.mark.usefixtures("signed_in")
def test_a_persons_calls_are_counted_by_the_targets_project() -> None:
    """Over HTTP and over gRPC, in every client: each is given these credentials."""
    made = Clients(Target(project="my-project"))
    assert isinstance(made.credentials, personal.Credentials)
    assert headers(made.credentials)["x-goog-user-project"] == "my-project"
    sent: list[Any] = []
    plugin = auth_grpc.AuthMetadataPlugin(made.credentials, google.auth.transport.requests.Request())
    made.credentials.token = "token"
    plugin(type("Context", (), {"service_url": "", "method_name": ""})(), lambda metadata, error: sent.extend(metadata))
    assert ("x-goog-user-project", "my-project") in sent
    for client in (made.storage, made.datastore):
        assert client._credentials.quota_project_id == "my-project"  # noqa: SLF001  # a client tells nobody its credentials
    for transport in (made.functions.transport, made.projects.transport, made.publisher.transport):
        assert transport._credentials.quota_project_id == "my-project"  # noqa: SLF001  # a client tells nobody its credentials


@pytest.mark.usefixtures("signed_in")
def test_a_service_accounts_calls_are_counted_where_they_are_without_a_word() -> None:
    """It would need a permission more, which the account that may only look has not; the person behind an impersonated
    one needs none on the project."""
    account = "lunation-deployer@my-project.iam.gserviceaccount.com"
    made = Clients(Target(project="my-project", impersonate=account)).credentials
    assert isinstance(made, impersonated_credentials.Credentials)
    assert "x-goog-user-project" not in headers(made)
    assert made._source_credentials.quota_project_id == "of-another-day"  # noqa: SLF001  # nor do credentials tell their source


def test_a_key_or_a_machines_account_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in CI."""
    source = service_account.Credentials(
        None, "planner@p.iam.gserviceaccount.com", "https://oauth2.googleapis.com/token"
    )
    monkeypatch.setattr(module.google.auth, "default", lambda scopes: (source, "p"))
    assert Clients(Target(project="my-project")).credentials is source
