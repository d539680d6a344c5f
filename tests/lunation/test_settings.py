"""Settings are checked before anything is called, all mistakes at once."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lunation.deploy import staging
from lunation.deploy.dataproc import WorkflowTemplate
from lunation.deploy.table import resources
from lunation.settings import SettingsError, load
from schemas.check_limits import CheckLimits

GOOD = """
default_target = "laptop"
[targets.laptop]
project = "local-dev"
"""


def file(tmp_path: Path, text: str) -> Path:
    """A settings file with this text."""
    path = tmp_path / "lunation.toml"
    path.write_text(text)
    return path


def test_the_settings_of_the_repository_are_valid() -> None:
    """lunation.toml, as it is cloned."""
    assert load().target().project == "local-dev"


def test_every_mistake_is_named_with_its_place(tmp_path: Path) -> None:
    """All of them at once, whether of a value's form or of what it names."""
    text = 'use_case = "ships"' + GOOD.replace('= "laptop"', '= "nowhere"')
    text += '[targets.other]\nproject = "local-dev"\n'
    text += '[schedule]\ncron = "often"\n[archive]\nwindow_seconds = 0\n[records]\nttl_dyas = 3\n'
    with pytest.raises(SettingsError) as caught:
        load(file(tmp_path, text))
    for place in (
        "schedule.cron",
        "archive.window_seconds",
        "records.ttl_dyas",
        "'ships' is none of flights",
        "no [targets.nowhere]",
        "local-dev is already the project of laptop",
    ):
        assert place in str(caught.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("default_target = ", "cannot be read"),
        (GOOD + 'use_case = "ships"', "use_case"),
        ('default_target = "nowhere"', "nowhere"),
        (GOOD.replace("local-dev", "Local Dev!"), "targets.laptop.project"),
        (GOOD.replace("[targets", "nonsense = 1\n[targets"), "nonsense"),
    ],
)
def test_a_bad_file_is_refused_with_the_cause(tmp_path: Path, text: str, word: str) -> None:
    """Broken TOML, an unknown name, an impossible project id."""
    if text.endswith('"ships"'):
        text = 'use_case = "ships"\n' + GOOD
    with pytest.raises(SettingsError, match=word):
        load(file(tmp_path, text))


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LUNATION_ARCHIVE__WINDOW_SECONDS overrides one value."""
    monkeypatch.setenv("LUNATION_ARCHIVE__WINDOW_SECONDS", "5")
    assert load(file(tmp_path, GOOD)).archive.window_seconds == 5


def test_a_target_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    """So that a typo explains itself."""
    with pytest.raises(SettingsError, match="laptop"):
        load(file(tmp_path, GOOD)).target("lpatop")


def test_servers_that_were_never_started_are_an_error_with_the_fix(tmp_path: Path) -> None:
    """The text says how to start them."""
    settings = load(file(tmp_path, GOOD + f'endpoints = "{tmp_path}/nowhere.json"\n'))
    with pytest.raises(SettingsError, match="nox -s up"):
        settings.target().addresses()


def test_the_limits_of_the_data_checks_reach_the_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[checks] comes to all three jobs as one argument; what is left out has its default, and a typo is refused."""
    monkeypatch.setattr(staging, "BUILD", tmp_path / "build")
    settings = load(file(tmp_path, GOOD + "[checks]\nunseen = 0.3\n"))
    (template,) = [row for row in resources(settings, settings.target()) if isinstance(row, WorkflowTemplate)]
    clients: Any = SimpleNamespace(url=lambda service: f"https://{service}.googleapis.com")
    for job in template.desired(clients)["jobs"]:
        arguments = job["pyspark_job"]["args"]
        limits = CheckLimits.model_validate_json(arguments[arguments.index("--checks") + 1])
        assert limits == CheckLimits(unseen=0.3)
    with pytest.raises(SettingsError, match=r"checks\.unsene"):
        load(file(tmp_path, GOOD + "[checks]\nunsene = 0.3\n"))
