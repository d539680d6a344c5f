"""What a training cycle outlasts, and what it says when it does not."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from lunation import query
from schemas import RunState
from tests.workflows.retrain_support import WEEK, Answer, Loop

COMMIT, LOOKUP = "google.datastore.v1.Datastore.Commit", "google.datastore.v1.Datastore.Lookup"
TEN_MINUTES = 600
FAILURES = 15
"""So many calls in a row that fail take up ten minutes: the pauses are 1, 2, 4, 8, 16, 32 and then 60 seconds."""


def at_the_claim(loop: Loop, code: str) -> None:
    """The first commits fail."""
    loop.servers["datastore"].fault(rpc=COMMIT, code=code, times=FAILURES)


def at_the_lookups(loop: Loop, code: str) -> None:
    """The first lookups fail."""
    loop.servers["datastore"].fault(rpc=LOOKUP, code=code, times=FAILURES)


def at_the_start(loop: Loop, code: str) -> None:
    """Dataproc takes no run."""
    assert code == "UNAVAILABLE"
    loop.dataproc.refusals = FAILURES


def at_the_poll(loop: Loop, code: str) -> None:
    """Dataproc does not tell how its operation stands."""
    status = {"UNAVAILABLE": 503, "INTERNAL": 500, "RESOURCE_EXHAUSTED": 429}[code]
    left = iter(range(FAILURES))
    loop.dataproc.instead = lambda: Answer(status, b"{}") if next(left, None) is not None else None


def at_the_manifest(loop: Loop, code: str) -> None:
    """The bucket cannot be read once the jobs are done."""
    loop.dataproc.also = lambda: loop.servers["storage"].fault(rpc="storage.objects.get", code=code, times=FAILURES)


def at_the_move(loop: Loop, code: str) -> None:
    """The commits after the jobs fail; the first of them moves the pointer."""
    loop.dataproc.also = lambda: loop.servers["datastore"].fault(rpc=COMMIT, code=code, times=FAILURES)


def at_the_close(loop: Loop, code: str) -> None:
    """The same, when there is no move: the first of them closes the run."""
    loop.dataproc.verdict = "HOLD"
    at_the_move(loop, code)


@pytest.mark.parametrize(
    ("where", "code"),
    [
        (at_the_claim, "UNAVAILABLE"),
        (at_the_claim, "ABORTED"),
        (at_the_claim, "INTERNAL"),
        (at_the_lookups, "INTERNAL"),
        (at_the_start, "UNAVAILABLE"),
        (at_the_poll, "UNAVAILABLE"),
        (at_the_poll, "INTERNAL"),
        (at_the_poll, "RESOURCE_EXHAUSTED"),
        (at_the_manifest, "INTERNAL"),
        (at_the_move, "UNAVAILABLE"),
        (at_the_move, "ABORTED"),
        (at_the_move, "INTERNAL"),
        (at_the_close, "UNAVAILABLE"),
        (at_the_close, "ABORTED"),
        (at_the_close, "INTERNAL"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__.removeprefix("at_the_"),
)
def test_ten_minutes_of_failures_do_not_end_a_cycle(loop: Loop, where: Callable[[Loop, str], None], code: str) -> None:
    """Wherever they come, and also 500, which the default policies of Workflows do not repeat."""
    where(loop, code)
    lived = loop.at()
    assert lived.failure is None
    assert lived.paused > TEN_MINUTES
    (run,) = loop.claims()
    assert run.state == RunState.SUCCEEDED
    assert len(loop.dataproc.parameters) == 1
    moves = query.promotions(loop.clients.datastore, loop.use_case)
    assert len(moves) == (0 if run.verdict == "HOLD" else 1)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "ABORTED", "INTERNAL"])
@pytest.mark.parametrize("where", ["claim", "move"])
def test_one_failure_at_the_claim_or_the_move_does_not_end_a_cycle(loop: Loop, where: str, code: str) -> None:
    """On the Workflows server itself, in real time."""

    def fail() -> None:
        loop.servers["datastore"].fault(rpc=COMMIT, code=code)

    loop.deploy()
    if where == "claim":
        fail()
    else:
        loop.dataproc.also = fail
    assert loop.answer()["outcome"] == "PROMOTE"
    assert [fault["fired"] for fault in loop.servers["datastore"].faults()] == [1]
    assert loop.pointer is not None
    assert loop.pointer.generation == 1


def test_only_fields_of_the_operation_itself_are_asked_for(loop: Loop) -> None:
    """Its metadata is an Any: which fields that has, no selection can know."""
    loop.at()
    assert set(loop.dataproc.selections) == {"fields=done,error"}


def test_an_outage_that_does_not_end_fails_the_run_and_tells_what_still_runs(loop: Loop) -> None:
    """After a quarter of an hour. The cluster goes on, and whoever reads the cause has to know."""
    loop.dataproc.instead = lambda: Answer(503, b'{"error": {"message": "out of order"}}')
    lived = loop.at()
    assert 900 <= lived.paused < 1000
    (run,) = loop.claims()
    assert run.state == RunState.FAILED
    assert run.cause == lived.failure["message"]
    assert (
        "error code 503. out of order. The Dataproc workflow projects/local-dev/regions/us-central1/operations/one"
        in (run.cause or "")
    )
    assert "may still run" in (run.cause or "")


def test_a_start_that_is_refused_to_the_end_tells_what_may_run_all_the_same(loop: Loop) -> None:
    """The answer may have been lost, and not the request."""
    loop.dataproc.refusals = 1000
    loop.at()
    (run,) = loop.claims()
    assert "not now. The Dataproc workflow with request id" in (run.cause or "")
    assert "may have been started all the same" in (run.cause or "")


def test_what_will_not_pass_is_not_repeated(loop: Loop) -> None:
    """No permission, no such operation: at once, instead of after a quarter of an hour."""
    loop.dataproc.instead = lambda: Answer(403, b'{"error": {"message": "dataproc.operations.get is missing"}}')
    lived = loop.at()
    assert lived.paused == 0
    assert "dataproc.operations.get is missing" in (loop.claims()[0].cause or "")


def test_a_job_that_failed_is_not_said_to_run_still(loop: Loop) -> None:
    """Its operation is done."""
    loop.dataproc.error = "Job train-x failed"
    loop.at()
    assert loop.claims()[0].cause == "Job train-x failed"


def test_a_training_of_more_than_four_hours_is_given_up(loop: Loop) -> None:
    """With few polls: each is paid for, and there is a limit of steps."""
    loop.dataproc.instead = lambda: Answer(200, b"{}")
    lived = loop.at()
    assert "took longer than four hours, and may still run" in lived.failure["message"]
    assert 14400 < lived.paused < 14430
    assert len(loop.dataproc.selections) < 1200


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Answer(400, b"<html>Bad Gateway, says a proxy</html>", "text/html; charset=UTF-8"), "says a proxy"),
        (Answer(400, b"octets that are text", "application/octet-stream"), "octets that are text"),
        (Answer(400, b"\xff\xfe\x00\x01", "application/octet-stream"), "code 400. \ufffd\ufffd\x00\x01"),
        (Answer(400, b"", "application/json"), "error code 400"),
        (Answer(400, b"", "text/plain"), "error code 400"),
        (Answer(400, json.dumps({"error": "invalid_grant"}).encode()), "invalid_grant"),
        (Answer(400, json.dumps({"error": {"message": {"a": "map"}}}).encode()), '{"a":"map"}'),
        (Answer(400, b'["a list"]'), "a list"),
        (Answer(400, b"<" + b"x" * 5000, "text/plain"), "<xxx"),
    ],
    ids=["text", "bytes", "no text", "no body", "empty text", "an error in words", "an odd message", "a list", "long"],
)
def test_a_failure_is_recorded_whatever_its_body_is(loop: Loop, said: Answer, words: str) -> None:
    """The run is FAILED with what was said, as far as that can be read; it never stays RUNNING."""
    loop.dataproc.instead = lambda: said
    lived = loop.at()
    (run,) = loop.claims()
    assert run.state == RunState.FAILED
    assert words in (run.cause or "")
    assert len(run.cause or "") <= 1000
    assert lived.failure["message"] == run.cause
    assert "HttpError" in lived.failure["tags"]


def test_a_failed_run_is_recorded_although_that_takes_minutes(loop: Loop) -> None:
    """Else its row would stay RUNNING, with no cause."""
    loop.dataproc.error = "a job failed"
    at_the_move(loop, "UNAVAILABLE")
    lived = loop.at()
    assert lived.paused > TEN_MINUTES
    (run,) = loop.claims()
    assert (run.state, run.cause) == (RunState.FAILED, "a job failed")


def test_a_candidate_that_is_set_while_the_move_is_tried_goes_on(loop: Loop) -> None:
    """Each attempt looks anew: the commit is of the pointer as it stands then."""
    loop.at(WEEK)
    candidate = {"model_version": "2013-01-01/candidate", "uri": "gs://b/models/c", "manifest_sha256": "0" * 64}
    loop.dataproc.also = lambda: loop.servers["datastore"].fault(rpc=COMMIT, code="ABORTED")
    lived = loop.at(WEEK + 4, on_pause=lambda _: loop.change_pointer(generation=2, shadow=candidate))
    assert (lived.result["outcome"], lived.result["generation"]) == ("PROMOTE", 3)
    assert loop.pointer is not None
    assert loop.pointer.shadow is not None
    assert loop.pointer.shadow.model_dump() == candidate


def test_a_pointer_that_a_person_moves_while_the_move_is_tried_is_left_alone(loop: Loop) -> None:
    """The new model was compared with another one."""
    loop.at(WEEK)
    loop.dataproc.also = lambda: loop.servers["datastore"].fault(rpc=COMMIT, code="UNAVAILABLE")
    by_hand = {"generation": 2, "model_version": "2013-01-01/by-hand"}
    lived = loop.at(WEEK + 4, on_pause=lambda _: loop.change_pointer(**by_hand))
    assert "the pointer has moved to 2013-01-01/by-hand since" in lived.failure["message"]
    assert loop.pointer is not None
    assert loop.pointer.model_version == "2013-01-01/by-hand"


def test_a_rollback_after_a_move_whose_answer_was_lost_is_not_undone(loop: Loop) -> None:
    """The move was done: its history row says so. The pointer names the champion again, as if it had not been."""
    before = loop.at(WEEK).result["model_version"]
    loop.dataproc.also = lambda: loop.servers["datastore"].fault(rpc=COMMIT, when="after")

    def roll_back(_: Any) -> None:
        assert loop.pointer is not None
        assert loop.pointer.generation == 2, "it was moved"
        loop.change_pointer(generation=3, model_version=before)

    lived = loop.at(WEEK + 4, on_pause=roll_back)
    assert (lived.result["outcome"], lived.result["generation"]) == ("PROMOTE", 2)
    assert loop.pointer is not None
    assert (loop.pointer.generation, loop.pointer.model_version) == (3, before)
    assert [move.generation for move in query.promotions(loop.clients.datastore, loop.use_case)] == [2, 1]
