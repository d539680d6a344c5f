"""What a nox session does with Ctrl-C, and with an environment that was moved."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support import ROOT, eventually

NOXFILE = f"""
import importlib.util, sys
import nox
spec = importlib.util.spec_from_file_location("ours", {str(ROOT / "noxfile.py")!r})
ours = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ours)
ours.environment = lambda session: sys.executable

@nox.session(venv_backend="none")
def slow(session):
    ours.module(session, "slow")
"""
SLOW = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
try:
    print("begun", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(2)
    print("ended in order", flush=True)
    raise SystemExit(130)
"""


def test_ctrl_c_leaves_a_session_the_time_to_end_in_order(tmp_path: Path) -> None:
    """Nox itself would give it half a second: the demo's servers would be killed, and nobody be told."""
    (tmp_path / "noxfile.py").write_text(NOXFILE)
    (tmp_path / "slow.py").write_text(SLOW)
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import nox.__main__ as n; n.main()"
    )
    with (tmp_path / "out").open("wb") as out:
        session = subprocess.Popen(
            [sys.executable, "-c", program, "-s", "slow"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        eventually(lambda: "begun" in (tmp_path / "out").read_text(), 30)
        os.killpg(session.pid, signal.SIGINT)  # as a terminal sends it
        session.wait(30)
    finally:
        if session.poll() is None:
            os.killpg(session.pid, signal.SIGKILL)
            session.wait()
    assert "ended in order" in (tmp_path / "out").read_text()
    assert session.returncode != 0


def test_the_command_of_a_clone_that_was_moved_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first line names the interpreter where it was; one that lies where it did is left alone."""
    spec = importlib.util.spec_from_file_location("ours", ROOT / "noxfile.py")
    assert spec is not None
    assert spec.loader is not None
    ours = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ours)
    made: list[Path] = []

    def make(_session: object, python: Path) -> bool:
        made.append(python)
        return True

    def install(_session: object, python: Path) -> None:
        python.parent.mkdir(parents=True)
        python.touch()

    monkeypatch.setattr(ours, "install", install)
    monkeypatch.setattr(ours, "install_command", make)
    session = SimpleNamespace(log=lambda _: None, run=lambda *_, **__: None)
    for place, times in (("one", 1), ("one", 1), ("two", 2), ("two", 2)):
        if place == "two" and (tmp_path / "one").exists():
            (tmp_path / "one").rename(tmp_path / "two")
        monkeypatch.setattr(ours, "ENVIRONMENT", tmp_path / place)
        ours.environment(session)
        assert len(made) == times
