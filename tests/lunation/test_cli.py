"""The command says what it wants, and fails in one line."""

import errno
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from google.api_core.exceptions import NotFound, ServiceUnavailable
from pydantic import ValidationError

from lunation.commands.session import explain
from lunation.settings import SettingsError
from schemas import ModelPointer
from tests.support import ROOT


def lunation(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "lunation", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", "TERM": "dumb", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", [
    "plan", "deploy", "destroy", "query", "models", "served-at", "runs", "promote", "rollback", "shadow", "canary",
    "compare", "verify", "replay",
    "report", "diff", "quality", "retrain", "backfill", "send", "releases", "stage", "urls", "doctor", "smoke",
])  # fmt: skip
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    """``--help`` has a sentence and an example."""
    done = lunation(command, "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["plan", "--target", "nowhere"], {}, "no target 'nowhere'"),
        (["models"], {"LUNATION_SCHEDULE__CRON": "often"}, "schedule.cron"),
        (["models"], {"LUNATION_TARGETS__LAPTOP__ENDPOINTS": "/nowhere/endpoints.json"}, "nox -s up"),
        (["backfill"], {}, "nothing to read"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(arguments: list[str], environment: dict, words: str) -> None:
    """No traceback; the line says what is wrong."""
    done = lunation(*arguments, **environment)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ["endpoints.json cannot be read", "nox -s up"]),
        (
            '{"datastore": {"http": "http://127.0.0.1:1", "grpc": "127.0.0.1:1"}}',
            ["datastore does not answer at 127.0"],
        ),
    ],
)
def test_servers_that_are_not_there_are_one_line(tmp_path: Path, content: str, words: list[str]) -> None:
    """A broken list of them, or one that does not answer: what it is, why, and how to start them."""
    endpoints = tmp_path / "endpoints.json"
    endpoints.write_text(content)
    done = lunation("runs", LUNATION_TARGETS__LAPTOP__ENDPOINTS=str(endpoints))
    assert_one_line(done, *words)


def test_mistakes_in_the_settings_are_one_line() -> None:
    """All of them, each with its place."""
    done = lunation("models", LUNATION_SCHEDULE__CRON="often", LUNATION_ARCHIVE__WINDOW_SECONDS="0")
    assert_one_line(done, "schedule.cron", "archive.window_seconds", "lunation.toml cannot be used")


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """The file, the cause, and what to do; not a stack."""
    done = lunation("plan", "--target", "production", "--out", str(tmp_path / "no" / "plan.json"))
    assert_one_line(done, "no/plan.json: No such file or directory. Is its path right?")


@pytest.mark.parametrize("inside", [True, False])
def test_a_mistake_of_the_program_is_one_line(inside: bool) -> None:
    """In the middle of a command or outside; how to see the stack is said, and then it is there."""
    where = "lunation.clients.Clients.executions" if inside else "lunation.commands.training.session"
    code = f"""
import sys
from unittest.mock import patch
from lunation import cli
sys.argv = ["lunation", "runs"]
with patch("{where}", property(lambda _: 1 / 0) if {inside} else lambda _: 1 / 0), \\
     patch("lunation.commands.session._check_reachable"), patch("lunation.settings.Target.addresses", dict):
    cli.main()
"""
    run = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    done = run([sys.executable, "-c", code])
    assert_one_line(done, "ZeroDivisionError: division by zero", "python -X dev -m lunation")
    if not inside:
        assert "Traceback" in run([sys.executable, "-X", "dev", "-c", code]).stderr


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """It failed, and said why in one line."""
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: Permission denied. Take a folder"),
        (OSError(errno.EROFS, "Read-only file system", "/x/y"), "/x/y: Read-only file system. Take a folder"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device. Make room"),
        (OSError(errno.EADDRINUSE, "Address already in use"), "Address already in use. End the program that has"),
        (ServiceUnavailable("no server"), "ServiceUnavailable: no server: try again in a while"),
        (NotFound("topic records"), "topic records. Is it deployed? `lunation plan`"),
        (SettingsError("it cannot be used:\n  a: b\n  c: d"), "it cannot be used: a: b; c: d"),
    ],
)
def test_a_failure_is_the_thing_the_cause_and_the_fix(error: Exception, words: str) -> None:
    """In one line, whatever it was."""
    assert words in explain(error)
    assert "\n" not in explain(error)


def test_a_stored_document_that_cannot_be_read_is_one_line() -> None:
    """The kind and the field, instead of pydantic's lines."""
    with pytest.raises(ValidationError) as refused:
        ModelPointer.model_validate({"use_case": "flights", "generation": "many"})
    told = explain(refused.value)
    assert told.startswith("ModelPointer cannot be read: ")
    assert "generation: " in told
    assert "\n" not in told


@pytest.mark.parametrize("below", ["", "spark", "lunation/commands"])
def test_the_command_finds_its_project_from_any_folder_of_it(below: str) -> None:
    """The sources beside the settings run, whatever a folder's own files are called."""
    done = launched(ROOT / below, "runs", "--help")
    assert done.returncode == 0, done.stderr
    assert "Show the trainings" in done.stdout


def test_a_copy_of_the_project_runs_its_own_sources(tmp_path: Path) -> None:
    """One environment serves several: the nearest settings win."""
    package = tmp_path / "other" / "lunation"
    package.mkdir(parents=True)
    (tmp_path / "other" / "lunation.toml").touch()
    (package / "cli.py").write_text("def main():\n    print('another project')\n")
    assert launched(package, "runs").stdout == "another project\n"


def test_outside_of_any_project_the_command_says_so(tmp_path: Path) -> None:
    """In one line, with what to do."""
    assert_one_line(launched(tmp_path, "runs"), f"no lunation.toml in {tmp_path}", "go into the project")


def test_the_sources_are_on_nobody_s_path(tmp_path: Path) -> None:
    """The environment knows the launcher alone: what runs from a staged folder finds what was staged, and no more."""
    code = "import importlib.util as u; print([n for n in ('lunation', 'schemas', 'spark', 'demo') if u.find_spec(n)])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def launched(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the console script in a folder: the launcher, from a place where no sources are."""
    code = (
        "import importlib.util as u, sys; s = u.spec_from_file_location('lunation_launch', sys.argv.pop(1)); "
        "m = u.module_from_spec(s); s.loader.exec_module(m); m.main()"
    )
    return subprocess.run(
        [sys.executable, "-P", "-c", code, str(ROOT / "lunation" / "launch.py"), *arguments],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_shell_completes_the_commands() -> None:
    """As typer does it, when the command is the console script."""
    words = {"_LUNATION_COMPLETE": "complete_bash", "COMP_WORDS": "lunation re", "COMP_CWORD": "1"}
    assert lunation(**words).stdout.split() == ["releases", "replay", "report", "retrain"]


def test_an_unknown_option_is_refused() -> None:
    """Exit code 2, as every command line does."""
    assert lunation("query", "--lable", "late").returncode == 2
