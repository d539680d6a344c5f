"""What the deployment's commands say before there is a project, a credential or a server."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from laptop.errors import ServiceError
from lunation.cli import app
from lunation.deploy import artefacts, empty_project
from lunation.settings import Target
from rehearsal.judge import Judge
from rehearsal.project import Project
from rehearsal.recorder import Call
from rehearsal.stage import Stage


@pytest.fixture(autouse=True)
def _nothing_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own to stage in; no credentials; the clients' variables are put back."""
    monkeypatch.setattr(artefacts, "BUILD", tmp_path / "build")
    for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def lunation(*arguments: str, code: int = 0, **settings: str) -> Result:
    """The command; its exit code is checked."""
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "TERM": "dumb", **settings})
    assert result.exit_code == code, result.output
    return result


def test_a_deployment_without_a_project_says_what_to_set_and_shows_what_it_would_be() -> None:
    """No account, no network: the plan of an example target, with access and cost."""
    said = lunation("deploy").stdout
    for words in (
        "In lunation.toml",
        "+ function/classify",
        "Who may do what",
        "What it costs",
        "to create, 0 to change",
    ):
        assert words in said


def test_the_plan_of_an_example_is_whole_and_for_programs_too(tmp_path: Path) -> None:
    """Exit code 2, since there is something to do; access and cost beside the changes; the same in a file."""
    file = tmp_path / "plan.json"
    document = json.loads(lunation("plan", "--target", "production", "--json", "--out", str(file), code=2).stdout)
    assert json.loads(file.read_text()) == document
    assert (document["target"], document["project"]) == ("production", "example-production")
    assert {change["action"] for change in document["changes"]} == {"create"}
    assert len(document["changes"]) > 100
    assert {"sign", "resource", "role", "member"} == document["access"][0].keys()
    assert document["cost"]["usd_a_month"] > 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["deploy", "--target", "production", "--yes"], "delete its line `sample = true`"),
        (["destroy", "--target", "production", "--yes"], "there is nothing to take down"),
        (
            ["deploy", "--target", "production", "--release", "0c1f5e9a2b7d"],
            "there is no release 0c1f5e9a2b7d: example-",
        ),
        (["deploy", "--target", "production", "--release", "0c1f5e9a2b7d", "--from", "staging"], "example-staging is"),
        (["releases", "--target", "staging"], "staging: example-staging is an example. In lunation.toml"),
        (["retrain", "--target", "production", "--force"], "production: example-production is an example"),
        (["stage", "nonsense"], "no artefact 'nonsense'; there are: ingest_fast.zip"),
        (["deploy", "--from", "staging", "--target", "production"], "Say which: --release ID"),
        (["deploy", "--from", "staging"], "Say which: --release ID, from `lunation releases --target staging`"),
        (["plan", "--from", "staging"], "Say which: --release ID"),
        (["deploy", "--from", "staging", "--release", "0c1f5e9a2b7d"], "release 0c1f5e9a2b7d has nowhere to go"),
    ],
)
def test_what_cannot_be_done_is_said_with_what_can(arguments: list[str], words: str) -> None:
    """An example is never deployed to, whatever is agreed to beforehand, and no command asks Google about it."""
    assert words in lunation(*arguments, code=1).stderr


def test_a_project_without_credentials_says_how_to_sign_in() -> None:
    """One line, with the command."""
    said = lunation("plan", "--target", "production", code=1, LUNATION_TARGETS__PRODUCTION__SAMPLE="false").stderr
    assert "Sign in: gcloud auth application-default login" in said


class EveryApiOff(Judge):
    """Refuses every call but those that tell which APIs are on, and those of Cloud Storage, which always is."""

    def before(self, call: Call) -> None:
        if not call.method.startswith(("google.api.serviceusage.", "storage.")):
            why = "Cloud X API has not been used in project 1 before or it is disabled."
            raise ServiceError("PERMISSION_DENIED", why)


def test_a_project_with_every_api_off_can_be_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new one is: each call is refused until its API is on, and the plan says what will be made all the same."""

    @contextmanager
    def new_project(target: Target) -> Iterator[Target]:
        with Stage(Project(target.project), judges=[EveryApiOff()]) as stage:
            yield target.model_copy(update={"endpoints": stage.write(tmp_path / "endpoints.json")})

    monkeypatch.setattr(empty_project, "empty_project", new_project)
    document = json.loads(lunation("plan", "--target", "production", "--json", code=2).stdout)
    assert {change["action"] for change in document["changes"]} == {"create"}
    assert any("(known after apply)@gcp-sa-pubsub" in one["member"] for one in document["access"])


def test_several_projects_are_asked_for_by_name_and_one_is_taken() -> None:
    """A deployment never guesses which of two projects is meant."""
    both = {f"LUNATION_TARGETS__{name}__SAMPLE": "false" for name in ("STAGING", "PRODUCTION")}
    assert "say which, for example --target production" in lunation("deploy", code=1, **both).stderr
    one = {"LUNATION_TARGETS__STAGING__SAMPLE": "false"}
    assert "gcloud auth application-default login" in lunation("deploy", code=1, **one).stderr
