"""One training cycle, from the claim to the pointer. When one is due is in ``test_rhythm.py``, what it outlasts in
``test_outages.py``."""

import hashlib
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.cloud.workflows.executions_v1 import Execution

from lunation import query
from schemas import RunState
from tests.support import eventually
from tests.workflows.retrain_support import BUCKET, WEEK, Loop


def test_a_promoted_model_moves_the_pointer_and_closes_the_run(loop: Loop) -> None:
    """The first model makes generation 1, the next one 2 with its history; each run's row tells all of it."""
    first = loop.answer()
    assert first["outcome"] == "PROMOTE"
    assert loop.pointer is not None
    assert loop.pointer.generation == 1
    assert loop.pointer.model_version == first["model_version"]
    assert loop.pointer.uri == f"gs://{BUCKET}/models/{first['model_version']}"
    second = loop.answer({"force": True})
    assert loop.dataproc.parameters[0]["CHAMPION"] == "none"
    assert loop.dataproc.parameters[1]["CHAMPION"] == f"models/{first['model_version']}"
    assert loop.dataproc.tokens == {"Bearer"}
    pointer = loop.pointer
    assert pointer is not None
    assert (pointer.generation, pointer.model_version) == (2, second["model_version"])
    manifest = loop.clients.storage.bucket(BUCKET).blob(f"models/{pointer.model_version}/manifest.json")
    assert pointer.manifest_sha256 == hashlib.sha256(manifest.download_as_bytes()).hexdigest()
    moves = query.promotions(loop.clients.datastore, loop.use_case)
    assert [(move.generation, move.previous_version, move.reason) for move in moves] == [
        (2, first["model_version"], "a good one"),
        (1, None, "a good one"),
    ]
    newest, oldest = loop.claims()
    assert [run.state for run in (newest, oldest)] == [RunState.SUCCEEDED, RunState.SUCCEEDED]
    assert (oldest.cycle, oldest.generation, oldest.verdict) == (f"{loop.use_case}:{WEEK}", 1, "PROMOTE")
    assert newest.reasons == ["a good one", "another"]
    assert newest.finished_at is not None


@pytest.mark.parametrize("verdict", ["HOLD", "REJECT"])
def test_a_model_that_is_not_trusted_leaves_the_pointer(loop: Loop, verdict: str) -> None:
    """The run succeeds with its verdict and reasons; what serves stays."""
    loop.answer()
    before = loop.pointer
    loop.dataproc.verdict = verdict
    assert loop.answer({"force": True})["outcome"] == verdict
    assert loop.pointer == before
    newest = loop.claims()[0]
    assert (newest.state, newest.verdict, newest.generation) == (RunState.SUCCEEDED, verdict, None)
    assert newest.reasons == ["a good one", "another"]


def test_a_cycle_runs_once_however_often_it_is_started(loop: Loop) -> None:
    """Of five executions at the same time one trains; the others see its claim. Later nothing is due."""
    loop.deploy()
    gate = threading.Event()
    loop.dataproc.also = lambda: gate.wait(20)
    with ThreadPoolExecutor(5) as pool:
        running = [pool.submit(loop.answer) for _ in range(5)]
        eventually(lambda: sum(one.done() for one in running) == 4, 30, "four of five see the claim")
        gate.set()
        outcomes = sorted(one.result()["outcome"] for one in running)
    assert outcomes == ["PROMOTE", "RUNNING", "RUNNING", "RUNNING", "RUNNING"]
    assert loop.answer()["outcome"] == "NOT_DUE"
    assert len(loop.dataproc.parameters) == 1
    assert loop.pointer is not None
    assert loop.pointer.generation == 1


def test_an_early_cycle_runs_once_in_a_week(loop: Loop) -> None:
    """Whoever looks at live quality, and however often: one training a week; the regular cycle is another one."""
    loop.first_cycle_week = WEEK + 2
    assert loop.answer({"early": True})["cycle"] == f"{loop.use_case}:early:{WEEK}"
    assert loop.answer({"early": True})["outcome"] == "DONE"
    assert loop.answer({"early": False})["outcome"] == "NOT_DUE"
    assert len(loop.dataproc.parameters) == 1


def test_a_run_is_repeated_by_its_model_version(loop: Loop) -> None:
    """The jobs get its folder; every other run gets none."""
    first = loop.answer()
    loop.dataproc.verdict = "HOLD"
    assert loop.answer({"like": first["model_version"]})["outcome"] == "HOLD"
    assert [one["LIKE"] for one in loop.dataproc.parameters] == ["none", f"models/{first['model_version']}"]


@pytest.mark.parametrize("left", ["gone", "failed"])
def test_a_claim_whose_holder_is_no_more_is_taken_over(loop: Loop, left: str) -> None:
    """An execution that vanished, or failed, does not block its cycle."""
    if left == "gone":
        loop.deploy()
        loop.claim(f"{loop.name}/executions/00000000-0000-0000-0000-000000000000")
    else:
        loop.dataproc.error = "a job failed"
        assert loop.run().state == Execution.State.FAILED
        loop.dataproc.error = None
    assert loop.answer()["outcome"] == "PROMOTE"
    (run,) = loop.claims()
    assert (run.state, run.generation, run.cause) == (RunState.SUCCEEDED, 1, None)


def test_a_failed_training_is_recorded_with_its_cause(loop: Loop) -> None:
    """The operation is done and has an error: the run FAILED with it, the old model stays, the execution fails."""
    loop.answer()
    before = loop.pointer
    loop.dataproc.error = "Job train-x failed: no labels between 2013-01-01 and 2013-01-28"
    done = loop.run({"force": True})
    assert done.state == Execution.State.FAILED
    assert "no labels" in done.error.payload
    newest = loop.claims()[0]
    assert (newest.state, newest.cause) == (RunState.FAILED, loop.dataproc.error)
    assert newest.finished_at is not None
    assert loop.pointer == before


LOG = "Job train-x (train) failed: exit code 1. The end of its output:\n" + "26/11/30 07:13:11 WARN Utils: …\n" * 200


def test_the_cause_is_what_the_job_that_failed_has_left(loop: Loop) -> None:
    """In its run's folder in the archive's bucket: so say the run's row and what the execution raises, not a log."""
    said = "train failed: 31 rows; a category of 40 values needs 41. " + "Let the archive grow. " * 60
    loop.dataproc.error, loop.dataproc.left = LOG, json.dumps({"cause": said}).encode()
    done = loop.run()
    assert done.state == Execution.State.FAILED
    (run,) = loop.claims()
    assert run.cause == said
    assert json.loads(done.error.payload)["message"] == run.cause


@pytest.mark.parametrize("left", [None, b"no JSON", b'{"cause": 7}', b"[]", b'{"other": "x"}'])
def test_without_a_cause_of_the_job_the_clusters_first_line_is_told(loop: Loop, left: bytes | None) -> None:
    """Nothing is left, or nothing that can be read: the operation's own words, without the log that follows them."""
    loop.dataproc.error, loop.dataproc.left = LOG, left
    assert loop.run().state == Execution.State.FAILED
    (run,) = loop.claims()
    assert run.cause == "Job train-x (train) failed: exit code 1. The end of its output:"
    loop.dataproc.error = "x" * 5000
    loop.run()
    assert loop.claims()[0].cause == "x" * 400


def test_a_manifest_larger_than_a_workflow_may_hold_is_promoted(loop: Loop) -> None:
    """Three categories of a thousand words of 200 characters: over 600 KB, of which the workflow reads none."""
    loop.dataproc.long_words = 3000
    answer = loop.answer()
    assert answer["outcome"] == "PROMOTE"
    blob = loop.clients.storage.bucket(BUCKET).blob(f"models/{answer['model_version']}/manifest.json")
    content = blob.download_as_bytes()
    assert len(content) > 600_000
    assert loop.pointer is not None
    assert loop.pointer.manifest_sha256 == hashlib.sha256(content).hexdigest()


def test_a_run_without_a_verdict_fails_and_says_so(loop: Loop) -> None:
    """What the jobs leave last is not there: no model, whatever the cluster says."""
    loop.dataproc.writes_verdict = False
    assert loop.run().state == Execution.State.FAILED
    (run,) = loop.claims()
    assert run.state == RunState.FAILED
    assert "404" in (run.cause or "")
    assert loop.pointer is None


def test_a_pointer_that_was_moved_meanwhile_is_left_alone(loop: Loop) -> None:
    """A person rolled back while the training ran: the new model was compared with another one, so theirs stays."""
    loop.answer()

    loop.dataproc.also = lambda: loop.change_pointer(generation=7, model_version="2013-01-01/by-hand")
    assert loop.run({"force": True}).state == Execution.State.FAILED
    assert loop.pointer is not None
    assert (loop.pointer.generation, loop.pointer.model_version) == (7, "2013-01-01/by-hand")
    assert [move.generation for move in query.promotions(loop.clients.datastore, loop.use_case)] == [1]
    assert loop.claims()[0].state == RunState.FAILED
    assert "the pointer has moved to 2013-01-01/by-hand since" in (loop.claims()[0].cause or "")


def test_candidates_that_were_set_meanwhile_do_not_stop_a_promotion(loop: Loop) -> None:
    """The shadow goes on beside the new model, the canary ends, the generation follows the person's; the history row
    holds the pointer as it stands."""
    first = loop.answer()
    candidate = {"model_version": "2013-01-01/candidate", "uri": "gs://b/models/c", "manifest_sha256": "0" * 64}

    canary = {**candidate, "share": 0.5}
    loop.dataproc.also = lambda: loop.change_pointer(generation=3, shadow=candidate, canary=canary)
    second = loop.answer({"force": True})
    assert (second["outcome"], second["generation"]) == ("PROMOTE", 4)
    pointer = loop.pointer
    assert pointer is not None
    assert (pointer.generation, pointer.model_version) == (4, second["model_version"])
    assert pointer.shadow is not None
    assert pointer.shadow.model_dump() == candidate
    assert pointer.canary is None
    row = query.promotions(loop.clients.datastore, loop.use_case)[0]
    assert (row.generation, row.previous_version) == (4, first["model_version"])
    assert (row.shadow, row.canary) == (pointer.shadow, None)


def test_an_answer_that_is_lost_does_not_move_the_pointer_twice(loop: Loop) -> None:
    """The commit was done and its answer lost: the workflow looks, sees its own move, and goes on."""
    rpc = "google.datastore.v1.Datastore.Commit"
    loop.deploy()
    loop.dataproc.also = lambda: loop.servers["datastore"].fault(rpc=rpc, when="after")
    assert loop.answer()["outcome"] == "PROMOTE"
    assert [fault["fired"] for fault in loop.servers["datastore"].faults()] == [1]
    assert loop.pointer is not None
    assert loop.pointer.generation == 1
    assert len(query.promotions(loop.clients.datastore, loop.use_case)) == 1


def test_a_claim_whose_answer_is_lost_is_known_as_ours(loop: Loop) -> None:
    """The insert was done and its answer lost: the run goes on, instead of waiting for itself."""
    loop.deploy()
    loop.servers["datastore"].fault(rpc="google.datastore.v1.Datastore.Commit", when="after")
    assert loop.answer()["outcome"] == "PROMOTE"
    assert [fault["fired"] for fault in loop.servers["datastore"].faults()] == [1]
    assert len(loop.claims()) == 1


def test_a_cluster_that_cannot_be_had_at_once_is_asked_for_again(loop: Loop) -> None:
    """503 is retried; one run is started."""
    loop.dataproc.refusals = 1
    assert loop.answer()["outcome"] == "PROMOTE"
    assert loop.dataproc.refusals == 0
    assert len(loop.dataproc.parameters) == 1


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("force", "the argument is a string"),
        ([True], "the argument is a list"),
        (12, "the argument is a integer"),
        ({"froce": True}, "froce"),
        ({"force": "yes"}, "force as a string"),
        ({"force": 1}, "force as a integer"),
        ({"early": "no"}, "early as a string"),
        ({"like": 7}, "like as a integer"),
        ({"like": "../../x"}, "like ../../x"),
    ],
)
def test_an_argument_that_cannot_be_meant_is_refused(loop: Loop, argument: Any, words: str) -> None:
    """Clearly, before anything is claimed."""
    done = loop.run(argument)
    assert done.state == Execution.State.FAILED
    assert words in done.error.payload
    assert re.search("ValueError", done.error.payload)
    assert loop.claims() == []
