"""The trial of a model before anything points to it: in a process of its own, by the code that would serve it."""

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import psutil
import pytest

from functions.classify.trial import Folder, Row, Trial, TrialError, synthetic_records
from lunation.deploy import artefacts
from schemas import use_case
from tests.functions.doubles import models

CASE = use_case("flights")
INPUTS = len(CASE.features.model_fields)


def tried(files: dict[str, bytes], rows: list[Row] | None = None, **limits: Any) -> str | None:
    """What the trial says of a folder."""
    pointer = models.pointer(files, 1)
    with Trial(**limits) as trial:
        return trial.refusal(CASE, Folder(pointer.model_version, pointer.manifest_sha256, files), rows or [])


def golden(value: float, **features: Any) -> dict[str, Any]:
    return {"features": models.FEATURES | features, "probability": value}


def test_a_model_that_answers_everything_passes() -> None:
    """Also with rows of the window, of which one is no more taken by the class."""
    old = models.FEATURES | {"weekday": 99.0}
    rows: list[Row] = [(models.FEATURES, 0.25), (models.FEATURES | {"carrier": "new"}, 0.25), (old, 0.9)]
    assert tried(models.folder(CASE), rows) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": b"no graph"}, "onnxruntime does not load model.onnx"),
        ({"golden": [golden(0.5)]}, "golden row 0 gives 0.25, Spark gave 0.5"),
        ({"golden": [golden(0.25, distance="far")]}, "golden.json cannot be read: distance"),
        ({"files": []}, "manifest.json lists no model.onnx"),
        ({"categories": {}}, "no categories for input carrier"),
    ],
)
def test_what_an_instance_refuses_the_trial_refuses(changes: Mapping[str, Any], reason: str) -> None:
    """By the same words: it is the same code."""
    refusal = tried(models.folder(CASE, **changes))
    assert refusal is not None
    assert reason in refusal


@pytest.mark.parametrize("odd", [float("nan"), 1.5, -0.1])
def test_a_row_that_gets_no_probability_is_named(odd: float) -> None:
    """The golden rows are right, and a record that a publisher may send is answered by what is no probability."""
    place = list(CASE.features.model_fields).index("temp")
    refusal = tried(models.folder(CASE, model=models.odd_graph(INPUTS, place, 1e300, odd)))
    assert refusal is not None
    assert refusal.startswith("a golden row with temp = 1.7e+308: ")
    assert refusal.endswith(f"answered {odd}, which is no probability")


def test_a_row_of_the_window_that_is_answered_otherwise_is_named() -> None:
    """What is served has to be what was judged."""
    refusal = tried(models.folder(CASE), [(models.FEATURES, 0.25), (models.FEATURES, 0.25 + 2e-9)])
    assert refusal == "row 1 of the window: it answers 0.25, and not 0.250000002 as it was judged by"


@pytest.mark.parametrize("above", [-1.0, 3.5], ids=["while it is loaded", "at one of the rows"])
def test_what_never_ends_is_ended(above: float) -> None:
    """Within its time, and its process is gone then. (The first input is the carrier; one never seen has place 4.)"""
    assert next(iter(CASE.features.model_fields)) == "carrier"
    refusal = tried(models.folder(CASE, model=models.endless_graph(INPUTS, above)), seconds=2.0)
    assert refusal is not None
    assert "within 2 s" in refusal
    assert [child for child in psutil.Process().children() if "functions.classify.trial" in child.cmdline()] == []


def test_what_does_not_fit_into_an_instance_is_refused() -> None:
    """Its memory is limited to what an instance has left for a model."""
    files = models.folder(CASE, model=models.table_graph(CASE, 0.25, 200))
    refusal = tried(files, memory=200 * 2**20)
    assert refusal is not None
    assert "200 MiB of memory" in refusal
    assert tried(files, memory=800 * 2**20) is None


def test_a_process_that_does_not_start_says_nothing_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours is no verdict."""
    monkeypatch.setattr(sys, "path", ["/nowhere"])
    with pytest.raises(TrialError, match=r"did not start .*No module named"):
        tried(models.folder(CASE))


def test_rows_are_made_of_what_the_class_takes() -> None:
    """Every optional value missing, words never seen, and numbers at the bounds and near the ends of all numbers."""
    rows = dict(synthetic_records(CASE, models.FEATURES))
    assert rows["a golden row with temp = None"].temp is None  # type: ignore[attr-defined]
    assert rows["a golden row with carrier = ' '"].carrier == " "  # type: ignore[attr-defined]
    assert rows["a golden row with carrier = 'xxxxxxxx'"].carrier == 8 * "x"  # type: ignore[attr-defined]
    assert rows["a golden row with temp = 1.7e+308"].temp == 1.7e308  # type: ignore[attr-defined]
    weekdays = {row.weekday for row in rows.values()}  # type: ignore[attr-defined]
    assert (min(weekdays), max(weekdays)) == (0, 6)
    bare = rows["a golden row with nothing that may be missing"].model_dump()
    optional = {name for name, field in CASE.features.model_fields.items() if not field.is_required()}
    assert {name for name, value in bare.items() if value is None} == optional


def test_the_jobs_of_spark_find_it_in_their_zip(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster has the staged zip and the packages: nothing else is on the path, of the trial's process either."""
    monkeypatch.setattr(artefacts, "BUILD", tmp_path / "build")
    package = {one.path.name: one for one in artefacts.stage_spark()}["lunation_spark.zip"].path
    files = models.folder(CASE)
    pointer = models.pointer(files, 1)
    program = (
        "import pickle, sys; sys.path.insert(0, sys.argv[1]); from functions.classify.trial import Folder, Trial\n"
        "from schemas import use_case\n"
        "version, sha256, files = pickle.load(sys.stdin.buffer)\n"
        "with Trial() as trial:\n"
        "    print(trial.refusal(use_case('flights'), Folder(version, sha256, files)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(package)],
        input=pickle.dumps((pointer.model_version, pointer.manifest_sha256, files)),
        capture_output=True,
        timeout=120,
        check=False,
        cwd="/",
        env={"PATH": os.environ["PATH"]},
    )
    assert done.stdout.decode().strip() == "None", done.stderr.decode()
