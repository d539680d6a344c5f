"""The command itself: what is wrong is told at once, and Ctrl-C leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import typer
from typer.testing import CliRunner

import demo.__main__ as command
from demo.narrator import Narrator
from demo.report import Report
from demo.story import Scale, StoryError
from laptop.supervisor import Supervisor
from schemas import USE_CASES
from tests.support import ROOT, eventually
from tests.use_cases.parcels import PARCELS


def run(*arguments: str) -> tuple[int, str]:
    """The command's exit code and what it printed."""
    result = CliRunner().invoke(command.app, arguments)
    return result.exit_code, result.output


def test_a_report_that_cannot_be_written_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after two minutes of work; and a file that could be written is not touched yet."""

    def tell(*_: object) -> None:
        raise StoryError("it began")

    monkeypatch.setattr(command, "tell", tell)
    monkeypatch.setattr(command, "STATE", tmp_path)
    (tmp_path / "logs").mkdir()
    for path, cause in (
        (tmp_path / "none" / "report.json", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        code, printed = run("--report", str(path))
        assert code == 2
        assert cause in " ".join(printed.replace("│", " ").split())
    fresh, old = tmp_path / "report.json", tmp_path / "old.json"
    old.write_text("{}")
    for path in (fresh, old):
        code, printed = run("--report", str(path))
        assert code == 1
        assert "error: it began" in printed
        assert f"The logs are in {tmp_path / 'logs'}" in printed
    assert not fresh.exists()
    assert old.read_text() == "{}"


def test_a_state_that_is_in_use_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`nox -s up` in another terminal keeps what it serves; the demo says who has it."""
    monkeypatch.setattr(command, "STATE", tmp_path)
    with Supervisor(tmp_path, only=[]):
        (tmp_path / "kept").touch()
        code, printed = run()
    assert code == 1
    assert f"run already, under process {os.getpid()}" in " ".join(printed.split())
    assert (tmp_path / "kept").exists()
    assert "Cut the history" not in printed, "it is told at once"


def test_too_little_history_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At step 1, with exit code 1, and what an earlier run left is where it was."""
    monkeypatch.setenv("LUNATION_USE_CASE", "weather")
    monkeypatch.setattr(command, "STATE", tmp_path / "state")
    (tmp_path / "state" / "storage").mkdir(parents=True)
    code, printed = run("--sample", "40", "--yes")
    assert code == 1
    assert "error: the history of use case weather, from 2013-01-01 to 2013-03-28, is too little" in printed
    assert "of them have a label, the gate needs 1,000" in printed
    assert "Start the servers" not in printed
    assert (tmp_path / "state" / "storage").exists()


def test_a_use_case_without_a_data_set_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to add and where; what an earlier run left is where it was."""
    monkeypatch.setitem(USE_CASES, PARCELS.name, PARCELS)
    monkeypatch.setenv("LUNATION_USE_CASE", PARCELS.name)
    monkeypatch.setattr(command, "STATE", tmp_path / "state")
    (tmp_path / "state" / "storage").mkdir(parents=True)
    code, printed = run("--yes")
    assert code == 1
    assert "error: use case parcels has no data set to replay" in printed
    assert "DATA_SETS in datasets/__init__.py" in printed
    assert "Traceback" not in printed
    assert (tmp_path / "state" / "storage").exists()


@pytest.mark.parametrize("answer", ["y", "n", None])
def test_an_old_state_is_deleted_only_if_a_person_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str | None
) -> None:
    """On a terminal it asks; without one it is kept aside, and told; --yes is the answer beforehand."""
    monkeypatch.setattr(command, "STATE", tmp_path / "state")
    (tmp_path / "state" / "storage").mkdir(parents=True)
    asked = []

    def confirm(text: str) -> bool:
        asked.append(text)
        return answer == "y"

    def tell(_state: Path, _scale: Scale, _narrator: Narrator, make_room: Callable[[], None]) -> Report:
        make_room()
        raise StoryError("it began")

    monkeypatch.setattr(command, "tell", tell)
    monkeypatch.setattr(typer, "confirm", confirm)
    monkeypatch.setattr(command, "_on_a_terminal", lambda: answer is not None)
    _, printed = run()
    assert ("is kept in" in printed) == (answer != "y")
    assert len(list(tmp_path.glob("state-*/storage"))) == (answer != "y")
    assert len(asked) == (answer is not None)
    assert all("Delete it? (no keeps it aside)" in text for text in asked)
    (tmp_path / "state" / "storage").mkdir(parents=True, exist_ok=True)
    run("--yes")
    assert len(asked) == (answer is not None)
    assert (tmp_path / "state" / "storage").exists(), "until the servers start"


def test_a_place_that_cannot_be_written_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, with what to do, without a stack: where no folder can be made, and where the disk is full."""
    full = tmp_path / "full"
    full.mkdir()
    (full / "endpoints.new").symlink_to("/dev/full")  # what is written first
    for place, says in (
        (Path("/dev/full/state"), "/dev/full/state cannot be written (Not a directory): work in a copy of the project"),
        (full, f"the disk, or your share of it, is full at {full}: make room there and begin again"),
    ):
        monkeypatch.setattr(command, "STATE", place)
        code, printed = run("--yes")
        assert code == 1
        assert printed.startswith(f"error: {says}")
        assert "Traceback" not in printed
    assert "Cut the history" not in printed


def test_settings_that_cannot_be_used_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A use case that is misspelt, among them."""
    monkeypatch.setenv("LUNATION_USE_CASE", "wether")
    code, printed = run()
    assert code == 1
    assert "use_case: Value error, 'wether' is none of" in printed


def test_a_state_is_made_anew(tmp_path: Path) -> None:
    """All of it, but for the lock that is held."""
    (tmp_path / "storage" / "bucket").mkdir(parents=True)
    (tmp_path / "endpoints.json").write_text("{}")
    (tmp_path / "link").symlink_to(ROOT)
    with Supervisor(tmp_path, only=[], anew=True):
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "endpoints.json",
            "logs",
            "secret",
            "supervisor.lock",
        ]
    assert (ROOT / "noxfile.py").exists()


@pytest.mark.system
def test_ctrl_c_in_mid_story_leaves_no_process(tmp_path: Path) -> None:
    """Servers, functions, jobs: what runs is named; whatever was started is gone, however deep, and the exit code says
    so. A second Ctrl-C, of somebody who cannot wait, changes nothing of it."""
    program = (
        "import signal, sys; from pathlib import Path; import demo.__main__ as command\n"
        # A shell that runs the tests in its background has Ctrl-C ignored by all of them.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from lunation.deploy import artefacts\n"
        "command.STATE, artefacts.BUILD = Path(sys.argv[1]) / 'state', Path(sys.argv[1]) / 'build'\n"
        "command.app(['--sample', '20'])"
    )
    with (tmp_path / "out").open("wb") as out:
        story = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )

    def printed() -> str:
        return (tmp_path / "out").read_text()

    started: set[psutil.Process] = set()

    def begun() -> bool:
        assert story.poll() is None, printed()
        started.update(psutil.Process(story.pid).children(recursive=True))
        return "Cycle 1" in printed() and any("spark" in " ".join(_command(one)).lower() for one in started)

    try:
        eventually(begun, 90, "Spark is at work")
        os.killpg(story.pid, signal.SIGINT)  # as a terminal sends it
        eventually(lambda: "stopping: " in printed(), 10)
        os.killpg(story.pid, signal.SIGINT)
        code = story.wait(60)
    finally:
        if story.poll() is None:
            story.kill()
            story.wait()
    assert code == 130, "as a shell would have it"
    said = printed().splitlines()
    named = next(line for line in said if line.startswith("    stopping: "))
    for what in ("8 servers", "archive job", "function", "Spark process"):
        assert what in named, named
    assert re.fullmatch(r"    \d+ processes have ended", said[-2]), said[-2]
    assert said[-1] == "stopped; everything that was started has ended"
    assert len(started) > 10
    eventually(lambda: not [one for one in started if one.is_running() and one.status() != psutil.STATUS_ZOMBIE], 20)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
