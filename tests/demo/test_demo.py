"""The command itself: what is wrong is told at once, and Ctrl-C leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

import demo.__main__ as command
from demo.story import StoryError
from laptop.supervisor import Supervisor
from tests.support import ROOT, eventually


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
        assert str(command.STATE / "logs") in printed
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


def test_a_state_is_made_anew(tmp_path: Path) -> None:
    """All of it, but for the lock that is held."""
    (tmp_path / "storage" / "bucket").mkdir(parents=True)
    (tmp_path / "endpoints.json").write_text("{}")
    (tmp_path / "link").symlink_to(ROOT)
    with Supervisor(tmp_path, only=[], anew=True):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["endpoints.json", "logs", "supervisor.lock"]
    assert (ROOT / "noxfile.py").exists()


@pytest.mark.system
def test_ctrl_c_in_mid_story_leaves_no_process(tmp_path: Path) -> None:
    """Servers, functions, jobs: whatever was started is gone, however deep, and the exit code says so."""
    program = (
        "import signal, sys; from pathlib import Path; import demo.__main__ as command\n"
        # A shell that runs the tests in its background has Ctrl-C ignored by all of them.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from lunation.deploy import staging\n"
        "command.STATE, staging.BUILD = Path(sys.argv[1]) / 'state', Path(sys.argv[1]) / 'build'\n"
        "command.app(['--sample', '1000'])"
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
        code = story.wait(60)
    finally:
        if story.poll() is None:
            story.kill()
            story.wait()
    assert code == 130, "as a shell would have it"
    assert printed().endswith("stopped; everything that was started has ended\n")
    assert len(started) > 10
    eventually(lambda: not [one for one in started if one.is_running() and one.status() != psutil.STATUS_ZOMBIE], 20)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
