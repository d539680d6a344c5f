"""The report says what happened, and which promise was not kept."""

import json

import pytest

from demo.report import Cycle, Report, Switch, describe_switch
from demo.summary import print_summary
from demo.traffic import Answer

CYCLE = Cycle(
    run_id="r1",
    model_version="2013-03-01/r1",
    verdict="PROMOTE",
    reasons=["better"],
    rows=1000,
    auc=0.7,
    log_loss=0.5,
    champion_auc=None,
    parity_max_abs_diff=1e-16,
    seconds=20.0,
)


def told(**changes: object) -> Report:
    """A story that went well, with changes."""
    good = Report(
        use_case="weather",
        published=20,
        backfilled=1000,
        archived=1010,
        mirrored=10,
        classified=10,
        dead_lettered=10,
        cycles=[CYCLE],
        switch=Switch(100, 0, 1.5, 30.0, 2.0, 9.0),
        wall_seconds=100.0,
    )
    for name, value in changes.items():
        setattr(good, name, value)
    return good


def test_the_file_has_what_the_readers_of_it_were_promised() -> None:
    """Names and kinds; a build server reads it."""
    document = json.loads(json.dumps(told().to_json()))
    counts = ("published", "backfilled", "archived", "mirrored", "classified", "dead_lettered", "lost")
    assert all(isinstance(document[name], int) for name in counts)
    assert isinstance(document["wall_seconds"], float)
    names = {"run_id", "model_version", "verdict", "rows", "auc", "log_loss", "parity_max_abs_diff", "seconds"}
    assert names <= set(document["cycles"][0])
    assert {"requests", "errors", "seconds_to_last_old_answer", "bound_seconds"} <= set(document["switch"])


def test_a_switch_is_summed_up_from_what_callers_saw() -> None:
    """Errors, and how long after the move a request could still start that the old model, or an older one, answered."""
    answers = [
        Answer(98.0, 0.010, 1),
        Answer(99.9, 0.020, 1),
        Answer(100.5, 0.030, 0),
        Answer(101.0, 0.040, 2),
        Answer(101.2, 0.050, None, "HTTP 503: no model"),
        Answer(102.0, 0.060, None, "HTTP 500"),
    ]
    switch = describe_switch(answers, 1, 100.0, 30.0)
    assert (switch.requests, switch.errors, switch.first_error) == (6, 2, "HTTP 503: no model")
    assert switch.seconds_to_last_old_answer == 0.5
    assert (switch.p50_ms, switch.p99_ms) == (40.0, 60.0)
    assert describe_switch(answers[:2], 1, 100.0, 30.0).seconds_to_last_old_answer == 0.0
    assert describe_switch(answers, 1, None, 30.0).seconds_to_last_old_answer == 0.0
    assert describe_switch([], 1, 100.0, 30.0) == Switch(0, 0, 0.0, 30.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lost": 3}, "3 records are lost"),
        ({"switch": Switch(0, 0, 0.0, 30.0, 0.0, 0.0)}, "nobody asked for an answer"),
        ({"cycles": []}, "the last model did not take over"),
        ({"switch": Switch(100, 2, 1.0, 30.0, 2.0, 9.0, "HTTP [503]")}, "2 of 100 requests failed: HTTP [503]"),
        ({"switch": Switch(100, 0, 30.5, 30.0, 2.0, 9.0)}, "the old model answered 30.5 s after the pointer had moved"),
        ({"cycles": [CYCLE, Cycle(**{**vars(CYCLE), "verdict": "HOLD"})]}, "the last model did not take over: better"),
        ({"cycles": [Cycle(**{**vars(CYCLE), "parity_max_abs_diff": 1e-8})]}, "a served model differs from Spark by"),
    ],
)
def test_a_promise_that_was_not_kept_is_told(
    changes: dict[str, object], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, by the summary too; a story that went well has none."""
    assert told().broken() == []
    report = told(**changes)
    assert [one for one in report.broken() if sentence in one]
    print_summary(report, None)
    assert sentence in capsys.readouterr().out


def test_the_summary_names_what_is_missing_and_where(capsys: pytest.CaptureFixture[str]) -> None:
    """So that one can go and look."""
    print_summary(told(lost=2, missing={"mirrored": ["r7"], "archived": ["r7", "r8"]}), None)
    printed = capsys.readouterr().out
    assert "not mirrored: r7" in printed
    assert "not archived: r7, r8" in printed
