"""What is known of Google's permissions and roles holds together, and is compared with what Google says."""

import json
from pathlib import Path

import pytest

from lunation.deploy.access import Access
from lunation.deploy.table import resources
from lunation.settings import load
from rehearsal import documented, predefined
from rehearsal.predefined import PERMISSIONS, ROLES, current, differences


def test_every_role_that_is_granted_or_documented_is_known() -> None:
    """What the table grants, what a kind is managed with, and what the documents have granted by hand."""
    settings = load()
    rows = resources(settings, settings.target("production"))
    granted = {grant.role for row in rows if isinstance(row, Access) for grant in row.grants}
    by_hand = {role for account in documented.WHERE for role in documented.roles(account)}
    named = {*granted, *by_hand, *(row.managed_with for row in rows)}
    assert {role for role in named if isinstance(role, str) and role.startswith("roles/")} <= ROLES.keys()


def test_every_role_gives_something() -> None:
    """A pattern that fits no name is a mistake in it."""
    assert [role for role, permissions in ROLES.items() if not permissions] == []


def test_a_renamed_permission_is_the_same_one() -> None:
    """Custom roles may have the old name; the roles have the new one."""
    assert current("datastore.indexes.list") == "datastore.schemas.list"
    assert current("datastore.entities.get") == "datastore.entities.get"
    assert "datastore.schemas.list" in ROLES["roles/datastore.indexAdmin"]


def test_what_metrics_are_written_with_is_a_permission_of_monitoring() -> None:
    """The roles know no ``telemetry.metrics.write``: roles/telemetry.metricsWriter is made of another one."""
    assert "telemetry.metrics.write" not in PERMISSIONS
    assert ROLES["roles/telemetry.metricsWriter"] == {"monitoring.timeSeries.create"}


def test_what_google_says_otherwise_is_told_name_by_name() -> None:
    """A permission or a role that is gone, a role that gives less or more. A name that we do not use is no matter."""
    now = {role: set(permissions) for role, permissions in ROLES.items()}
    assert list(differences(now)) == []
    for permissions in now.values():
        permissions.discard("pubsub.schemas.validate")
    del now["roles/run.invoker"]
    now["roles/pubsub.publisher"] = {"pubsub.topics.get", "pubsub.messageTransforms.validate"}
    found = list(differences(now))
    assert "pubsub.schemas.validate: no role holds it" in found
    assert "roles/run.invoker: it is not there" in found
    assert "roles/pubsub.publisher: no longer gives pubsub.topics.publish" in found
    assert "roles/pubsub.publisher: gives pubsub.topics.get, too" in found
    assert not any("messageTransforms" in line for line in found)


def test_it_is_compared_with_a_folder_of_descriptions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As gcloud writes them; the exit code tells whether something is otherwise."""
    for role, permissions in ROLES.items():
        document = {"name": role, "includedPermissions": sorted(permissions)}
        (tmp_path / f"{role.rsplit('/', 1)[1]}.json").write_text(json.dumps(document))
    assert predefined.main([str(tmp_path)]) == 0
    assert predefined.DATE in capsys.readouterr().out
    (tmp_path / "run.invoker.json").write_text(json.dumps({"name": "roles/run.invoker"}))
    assert predefined.main([str(tmp_path)]) == 1
    assert "roles/run.invoker: no longer gives run.routes.invoke" in capsys.readouterr().out
