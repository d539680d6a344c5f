"""The whole life of a deployment to Google's, on this machine."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from lunation.deploy import artefacts
from rehearsal.life import Report, rehearse, rehearse_kills
from tests.support import ROOT

REPORTED = {
    "resources", "created", "second_plan_changes", "edit_plan_changes", "killed_after", "after_crash_created",
    "cells_tried", "killed_and_resumed", "later_cells_tried", "killed_later_and_resumed", "strangers_changed",
    "destroyed", "data_deleted", "invalid_requests", "discovery_violations", "missing_permissions",
    "superfluous_permissions", "front_door_faults", "deployer_missing_permissions",
    "deployer_superfluous_permissions", "unknown_permissions", "denied_when_used", "seconds", "refused_then_made",
    "unseen_states", "found_after_weeks",
}  # fmt: skip


LUNATION = """
import sys
from pathlib import Path
from lunation.deploy import artefacts
artefacts.BUILD = Path(sys.argv.pop(1))
from lunation.cli import app
app(prog_name="lunation")
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """``lunation``, staging into a folder of its own: other tests stage at the same time."""
    monkeypatch.setattr(artefacts, "BUILD", tmp_path / "build")
    for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(variable, "")  # the clients set them; they are put back afterwards
    return sys.executable, "-c", LUNATION, str(tmp_path / "build-of-runs")


def test_a_deployment_lives_as_it_is_meant_to(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Deploy, plan, edit, work, drift, crash, destroy, wait: nothing twice, nothing lost, nothing of anybody else's
    touched, no request that Google would refuse, no unit with a permission too few or too many, and nothing that goes
    wrong by itself unseen."""
    said: list[str] = []
    report = rehearse(tmp_path / "rehearsal", said.append, command)
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


def test_a_deployment_that_is_killed_goes_on(tmp_path: Path, command: tuple[str, ...]) -> None:
    """At the functions and the subscriptions, before their calls and after them: made, changed, replaced, still being
    built, deleted. `nox -s rehearse` does so at the other kinds, too, and with `-- --all` at every row."""
    report, said, told = Report(), [], []
    kinds = ("function", "subscription")
    rehearse_kills(
        tmp_path / "killed", report, said.append, lambda _, what: told.append(what), kinds=kinds, command=command
    )
    assert report.details == []
    assert report.killed_and_resumed == report.cells_tried == 3
    assert report.killed_later_and_resumed == report.later_cells_tried > 4
    assert report.invalid_requests == report.strangers_changed == 0
    assert len(said) == 4, "each way is told"
    for what in ("function/ingest-fast, killed before its call", "subscription/records-archive, killed after its call"):
        assert what in told
    assert told.count("to the end") == 4


def test_what_is_not_as_it_should_be_is_named() -> None:
    """By count and by what it should be; a cell that was not resumed is enough."""
    well = {"resources": 9, "created": 9, "edit_plan_changes": 2, "refused_then_made": 1, "after_crash_created": 1,
            "cells_tried": 18, "killed_and_resumed": 18}  # fmt: skip
    assert Report(**well).as_it_should_be
    assert Report(**{**well, "killed_and_resumed": 17}).wrong == {"killed_and_resumed": "18"}
    assert Report(**{**well, "later_cells_tried": 1}).wrong == {"killed_later_and_resumed": "1"}
    assert Report(**{**well, "created": 8}).wrong == {"created": "9"}
    for name in Report.MUST_BE_ZERO:
        assert Report(**{**well, name: 1}).wrong == {name: "0"}


def test_every_count_says_what_it_means() -> None:
    """Beside it, in the table that the command prints."""
    assert [one.name for one in dataclasses.fields(Report)] == list(Report.meanings())
    assert Report.meanings()["resources"] == "Rows of the table."


def test_the_help_has_examples() -> None:
    """Of each option."""
    done = subprocess.run(
        [sys.executable, "-m", "rehearsal", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for words in ("nox -s rehearse -- --json rehearsal.json", "nox -s rehearse -- --all", "-- --kind function"):
        assert words in done.stdout


def test_a_kind_that_no_row_is_of_is_refused_before_anything_is_done() -> None:
    """Or nothing would be killed, and all would be well."""
    done = subprocess.run(
        [sys.executable, "-m", "rehearsal", "--kind", "functoin"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    for words in ("no row is of kind functoin", "there are: access, alert", "subscription"):
        assert words in " ".join(done.stderr.replace("│", " ").split())
    assert "·" not in done.stdout
