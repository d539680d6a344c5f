"""Promises of how a driver runs: nothing waits that need not, and what fails on the way is not hidden."""

import sys
import threading

import pytest

from spark.driver import run
from spark.job import JobFailedError
from tests.spark.test_job import line

SECONDS = 20.0


def test_the_session_starts_while_the_work_is_imported(monkeypatch, folders):
    """Each waits for the other here, so one after the other they would never end; then the work has both."""
    both = threading.Barrier(2)
    got = []

    def start(name):
        both.wait(SECONDS)
        return f"session of {name}"

    def load():
        both.wait(SECONDS)
        return lambda session, storage, job: got.append((session, storage, job.run_id)), folders

    monkeypatch.setattr("spark.driver.start", start)
    assert run("train", "", load, line()) == 0
    assert got == [("session of train run-1", folders, "run-1")]


def test_work_that_cannot_be_imported_fails_with_its_trace(monkeypatch, folders):
    """A package that a cluster lacks: the import's own error, and threads take their usual turns again."""
    usual = sys.getswitchinterval()

    def load():
        raise ModuleNotFoundError("No module named 'onnx'")

    monkeypatch.setattr("spark.driver.start", lambda name: None)
    monkeypatch.setattr("google.cloud.storage.Client", lambda: folders)
    with pytest.raises(ModuleNotFoundError, match="onnx"):
        run("train", "", load, line())
    assert sys.getswitchinterval() == usual


def test_work_that_fails_ends_with_1(monkeypatch, folders, capsys):
    """As every driver says it: one line with cause and fix."""

    def work(session, storage, job):
        raise JobFailedError("the thing, the cause; the fix")

    monkeypatch.setattr("spark.driver.start", lambda name: None)
    assert run("train", "", lambda: (work, folders), line()) == 1
    assert "FAILED: the thing, the cause; the fix" in capsys.readouterr().err
