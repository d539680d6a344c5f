"""The command says what it wants, and fails in one line."""

import os
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("command", ["plan", "deploy", "destroy", "query", "models", "runs", "retrain", "backfill"])
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


def test_an_unknown_option_is_refused() -> None:
    """Exit code 2, as every command line does."""
    assert lunation("query", "--lable", "late").returncode == 2
