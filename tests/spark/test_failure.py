"""Promises of a job that fails: its cause and fix are where the workflow looks, whatever it is, and in few words."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from google.cloud import storage
from py4j.protocol import Py4JNetworkError

from spark import failure, objects
from spark.driver import run
from spark.job import JobFailedError, parse
from tests.spark.conftest import FolderStorage
from tests.spark.test_job import line
from tests.support import ServerProcess

JOB = parse("train", "", line())
JAVA = """An error occurred while calling o211.parquet.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 3.0 failed 1 times
\tat org.apache.spark.scheduler.DAGScheduler.failJobAndIndependentStages(DAGScheduler.scala:2856)
Caused by: java.lang.IllegalStateException: the first
\tat org.apache.spark.Some.method(Some.scala:1)
Caused by: java.io.IOException: the last words
\tat java.base/java.lang.Thread.run(Thread.java:829)
"""
WORKER = """Job aborted due to stage failure: Task 0 in stage 1.0 failed 1 times, most recent failure: Lost task 0.0
org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "/opt/pyspark/worker.py", line 1247, in main
    process()
  File "/opt/spark/reading.py", line 80, in _judged
    rows.append(1)
ValueError: what the worker said
  and more of it

\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handlePythonException(PythonRunner.scala:572)
Caused by: java.io.IOException: not this
"""


def cause(folders: FolderStorage) -> str:
    """What the file says."""
    content = objects.read(folders, JOB.failure)
    assert content is not None
    document = json.loads(content)
    assert list(document) == ["cause"]
    return str(document["cause"])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Exception(JAVA), "java.io.IOException: the last words"),
        (Exception(WORKER), "ValueError: what the worker said"),
        (ModuleNotFoundError("No module named 'onnx'"), "ModuleNotFoundError: No module named 'onnx'"),
        (ValueError("one line\nand another"), "ValueError: one line"),
        (KeyError(), "KeyError"),
    ],
    ids=["Java's", "a worker's", "Python's", "two lines", "nothing"],
)
def test_the_last_words_are_told(folders: FolderStorage, error: Exception, words: str) -> None:
    """Not the first thousand characters of a stack."""
    assert failure.left(folders, JOB, error) is error
    assert cause(folders) == words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Exception(JAVA.replace("the last words", "No space left on device")), "the disk is full, .*free some space"),
        (OSError(28, "No space left on device"), "the disk is full"),
        (Exception(JAVA + "Caused by: java.lang.OutOfMemoryError: Java heap space"), "out of memory; .*larger machine"),
        (MemoryError(), "out of memory"),
        (Exception(WORKER.replace("ValueError: what the worker said", "MemoryError")), "out of memory"),
        (Exception(JAVA.replace("the first", "Python worker exited unexpectedly (crashed)")), "want of memory: Python"),
        (
            Exception(
                JAVA.replace(
                    "the last words",
                    "Container killed by YARN for exceeding physical memory limits. 5.6 GB of"
                    " 5.5 GB physical memory used.",
                )
            ),
            "memoryOverhead",
        ),
        (Py4JNetworkError("Answer from Java side is empty"), "Java ended in the middle of the work"),
    ],
)
def test_what_is_known_has_a_fix(folders: FolderStorage, error: Exception, words: str) -> None:
    """A full disk and want of memory, said by Java or by Python, also as the cause of something else."""
    for raised in (error, _because(error)):
        known = failure.left(folders, JOB, raised)
        assert isinstance(known, JobFailedError)
        assert cause(folders) == str(known)
        assert re.search(words, str(known))


def _because(error: Exception) -> Exception:
    try:
        raise RuntimeError("could not go on") from error
    except RuntimeError as raised:
        return raised


def test_the_file_is_small_and_whole(folders: FolderStorage) -> None:
    """However much is said, in whatever letters: at most 2 KB of JSON that can be read."""
    for text in ("x" * 5000, "\u4e2d" * 5000, "\x00\u2028" * 3000, "\ud800" * 10):
        failure.left(folders, JOB, JobFailedError(text))
        content = objects.read(folders, JOB.failure)
        assert content is not None
        assert 20 < len(content) <= 2048
        assert json.loads(content)["cause"][:5]


def driver(folders: FolderStorage | None, work: Callable[[], Any]) -> Callable[[], int]:
    """A driver whose work is ``work``."""
    return lambda: run("train", "", lambda: (lambda session, client, job: work(), folders), line())


def fails(text: str) -> Any:
    raise JobFailedError(text)


def test_the_newest_failure_is_told_and_a_success_tells_none(
    folders: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is started again with its id: an older cause is not told for a newer one, nor for what went well."""
    monkeypatch.setattr("spark.driver.start", lambda name: None)
    assert driver(folders, lambda: fails("the first"))() == 1
    assert cause(folders) == "the first"
    assert driver(folders, lambda: fails("the second"))() == 1
    assert cause(folders) == "the second"
    assert driver(folders, lambda: None)() == 0
    assert objects.read(folders, JOB.failure) is None


def test_a_session_that_does_not_start_is_told(
    serve: Callable[..., ServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cause is in the bucket before there was any client."""
    server = serve("storage")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.http)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "local-dev")
    client = storage.Client(project="local-dev")
    client.create_bucket("acme-archive")

    def start(name: str) -> None:
        raise RuntimeError("Java gateway process exited before sending its port number")

    monkeypatch.setattr("spark.driver.start", start)
    with pytest.raises(RuntimeError, match="Java gateway"):
        driver(None, lambda: None)()
    content = objects.read(client, JOB.failure)
    assert content is not None
    assert json.loads(content) == {"cause": "RuntimeError: Java gateway process exited before sending its port number"}


def test_a_failure_that_cannot_be_written_hides_nothing(
    folders: FolderStorage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The job's own failure is what it ends with."""
    monkeypatch.setattr("spark.driver.start", lambda name: None)
    monkeypatch.setattr(folders, "bucket", lambda name: fails("no bucket"))
    monkeypatch.setattr(failure, "clear", lambda storage, job: None)
    assert driver(folders, lambda: fails("the job's own"))() == 1
    told = capsys.readouterr().err
    assert "FAILED: the job's own" in told
    assert f"{JOB.failure} cannot be written: JobFailedError: no bucket" in told


def test_each_run_has_its_own() -> None:
    """Beside what passes between its jobs."""
    assert JOB.failure == f"{JOB.work}/failure.json"
    assert replace(JOB, run_id="run-2").failure != JOB.failure
