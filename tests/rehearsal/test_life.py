"""The whole life of a deployment to Google's, on this machine."""

from pathlib import Path

import pytest

from lunation.deploy import staging
from rehearsal.life import rehearse

REPORTED = {
    "resources", "created", "second_plan_changes", "edit_plan_changes", "after_crash_created", "destroyed",
    "data_deleted", "invalid_requests", "missing_permissions", "superfluous_permissions", "front_door_faults",
    "deployer_missing_permissions", "deployer_superfluous_permissions", "unknown_permissions", "denied_when_used",
    "seconds", "refused_then_made", "unseen_states", "found_after_weeks",
}  # fmt: skip


def test_a_deployment_lives_as_it_is_meant_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deploy, plan, edit, work, drift, crash, destroy, wait: nothing twice, nothing lost, no request that Google would
    refuse, no unit with a permission too few or too many, and nothing that goes wrong by itself unseen."""
    monkeypatch.setattr(staging, "BUILD", tmp_path / "build")
    for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(variable, "")  # the clients set them; they are put back afterwards
    said: list[str] = []
    report = rehearse(tmp_path / "rehearsal", said.append)
    assert report.details == []
    assert report.as_it_should_be
    assert report.resources == report.created > 100
    assert report.edit_plan_changes == 2
    assert report.drift_plan_changes == 6, "four functions, the workflow and the scheduler job were changed by hand"
    assert report.killed_after > 0
    assert report.after_crash_created > 0
    assert report.destroyed > 80
    assert report.to_json().keys() >= REPORTED
    assert report.refused_then_made > 3, "what needs something that was just made is refused at first"
    assert len(said) == 7, "each step is told"
