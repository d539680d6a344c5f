"""The command says what it wants, and fails in one line."""

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from lunation import runs
from lunation.commands.printing import TABLE_WIDTH, print_table
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
    "report", "diff", "quality", "retrain", "backfill", "releases", "stage", "urls", "doctor", "smoke",
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


def test_a_table_keeps_its_ids_whole_however_narrow_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Ids stay on one line, so they can be copied and searched for; sentences are wrapped; markup in them is text."""
    print_table(
        "Rows", ["id", "number", "reason"], [["i" * 60, 1, "[bold]word[/] " * 20], [None, 2, ""]], prose=["reason"]
    )
    printed = capsys.readouterr().out
    assert "i" * 60 in printed
    assert printed.count("[bold]word[/]") == 20
    assert max(len(line) for line in printed.splitlines()) <= TABLE_WIDTH


def test_an_execution_is_found_by_the_beginning_of_its_id_or_by_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tables show, a command takes; what means two executions, or none, is refused by name."""
    names = [f"projects/p/locations/l/workflows/retrain/executions/{one}" for one in (
        "374bcb15-6283-4aad-af16-7f9e632b838e", "374bdd00-6283-4aad-af16-7f9e632b838e")]  # fmt: skip
    monkeypatch.setattr(runs, "executions", lambda clients, limit: [SimpleNamespace(name=name) for name in names])
    clients: Any = None
    assert runs.find(clients, "374bcb15") == names[0]
    assert runs.find(clients, "20261125-070249-374bdd00") == names[1]
    assert [runs.short_id(name) for name in names] == ["374bcb15", "374bdd00"]
    assert runs.short_id("an operator") == "an operator"
    with pytest.raises(runs.NoSuchRun, match="2 executions begin with '374b'"):
        runs.find(clients, "374b")
    with pytest.raises(runs.NoSuchRun, match="'beef'"):
        runs.find(clients, "beef")


def test_an_unknown_option_is_refused() -> None:
    """Exit code 2, as every command line does."""
    assert lunation("query", "--lable", "late").returncode == 2
