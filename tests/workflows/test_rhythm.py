"""When a cycle is due: one a period, until it has succeeded, and the periods begin where they would have."""

import re
from datetime import date, timedelta

import pytest

from lunation.deploy.stack import alerts
from schemas import RunState
from tests.workflows.retrain_support import SOURCE, WEEK, Loop

GONE = "projects/local-dev/locations/us-central1/workflows/retrain/executions/00000000-0000-0000-0000-000000000000"


def outcomes(loop: Loop, *weeks: int) -> list[str]:
    """What the firings of these weeks come to; a failure counts as FAILED."""
    lived = [loop.at(WEEK + week) for week in weeks]
    return [one.result["outcome"] if one.failure is None else "FAILED" for one in lived]


def cycles(loop: Loop) -> set[str]:
    """The cycles that there are, without the use case."""
    return {run.cycle.removeprefix(f"{loop.use_case}:") for run in loop.claims()}


@pytest.mark.parametrize(
    ("weeks", "expected"),
    [
        (1, ["PROMOTE"] * 6),
        (2, ["PROMOTE", "NOT_DUE", "PROMOTE", "NOT_DUE", "PROMOTE", "NOT_DUE"]),
        (4, ["PROMOTE", "NOT_DUE", "NOT_DUE", "NOT_DUE", "PROMOTE", "NOT_DUE"]),
    ],
)
def test_a_weekly_firing_trains_once_in_a_period(loop: Loop, weeks: int, expected: list[str]) -> None:
    """However many weeks ``[schedule] cycle_weeks`` gives it; the first week of all is due at once."""
    loop.cycle_weeks = weeks
    assert outcomes(loop, *range(6)) == expected
    assert cycles(loop) == {str(WEEK + week) for week in range(0, 6, weeks)}


def test_a_week_that_is_not_due_does_nothing_and_says_when_the_next_is(loop: Loop) -> None:
    """No claim, no cluster; the day before which nothing is due, also before the very first cycle."""
    loop.first_cycle_week = WEEK + 2
    first = date(1970, 1, 1) + timedelta(weeks=WEEK + 2)
    assert loop.at(WEEK).result == {"outcome": "NOT_DUE", "not_before": first.isoformat()}
    assert loop.claims() == []
    loop.at(WEEK + 2)
    again = loop.at(WEEK + 5)
    assert (again.result["outcome"], again.result["not_before"]) == (
        "NOT_DUE",
        (first + timedelta(weeks=4)).isoformat(),
    )
    assert len(loop.dataproc.parameters) == 1
    assert again.lines == []


def test_a_failed_cycle_is_made_up_for_in_the_next_week_and_the_phase_stays(loop: Loop) -> None:
    """Not four weeks later; and the cycle after it is due when it would have been."""
    loop.dataproc.error = "a job failed"
    assert outcomes(loop, 0, 1) == ["FAILED", "FAILED"]
    loop.dataproc.error = None
    assert outcomes(loop, 2, 3, 4, 5) == ["PROMOTE", "NOT_DUE", "PROMOTE", "NOT_DUE"]
    assert cycles(loop) == {str(WEEK), str(WEEK + 4)}
    assert [run.state for run in loop.claims()] == [RunState.SUCCEEDED, RunState.SUCCEEDED]


def test_a_missed_firing_is_made_up_for_in_the_next_week_and_the_phase_stays(loop: Loop) -> None:
    """The scheduler's job fires every week, so a firing that never came costs one week."""
    assert outcomes(loop, 0, 5, 6, 7, 8) == ["PROMOTE", "PROMOTE", "NOT_DUE", "NOT_DUE", "PROMOTE"]
    assert cycles(loop) == {str(WEEK), str(WEEK + 4), str(WEEK + 8)}


def test_a_period_without_any_firing_is_gone_and_the_next_is_due(loop: Loop) -> None:
    """What was missed for a whole period is not trained twice afterwards: the newest data are all there is."""
    assert outcomes(loop, 0, 9, 10) == ["PROMOTE", "PROMOTE", "NOT_DUE"]
    assert cycles(loop) == {str(WEEK), str(WEEK + 8)}


@pytest.mark.parametrize(("state", "expected"), [(RunState.SUCCEEDED, "NOT_DUE"), (RunState.FAILED, "PROMOTE")])
def test_a_row_that_an_earlier_release_left_is_this_periods(loop: Loop, state: RunState, expected: str) -> None:
    """It named a cycle by the week in which it ran, which was always a period's first."""
    loop.claim(GONE, state, week=WEEK + 4)
    assert outcomes(loop, 6) == [expected]
    assert cycles(loop) == {str(WEEK + 4)}


@pytest.mark.parametrize("argument", [{"force": True}, {"early": True}])
def test_a_run_that_was_asked_for_beside_the_schedule_does_not_count(loop: Loop, argument: dict[str, bool]) -> None:
    """It is no reason to leave out what is due, in that week or later."""
    assert loop.at(WEEK + 1, argument).result["outcome"] == "PROMOTE"
    assert outcomes(loop, 1, 2) == ["PROMOTE", "NOT_DUE"]
    assert str(WEEK) in cycles(loop)


def test_a_cycle_that_is_made_up_for_is_called_overdue(loop: Loop) -> None:
    """With what became of it: no firing at all, or a failed run. A cycle in time says nothing."""
    assert loop.at(WEEK).overdue == []
    assert loop.at(WEEK + 4).overdue == []
    assert loop.at(WEEK + 9).overdue == [(f"{loop.use_case}:{WEEK + 8}", "MISSED")]
    loop.dataproc.error = "a job failed"
    assert loop.at(WEEK + 12).overdue == []
    assert loop.at(WEEK + 13).overdue == [(f"{loop.use_case}:{WEEK + 12}", "FAILED")]


def test_a_whole_period_without_a_success_is_overdue_in_the_first_week_of_the_next(loop: Loop) -> None:
    """Also with a cycle every week, where there is no second week to make up for it."""
    loop.dataproc.error = "a job failed"
    loop.at(WEEK)
    loop.dataproc.error = None
    assert loop.at(WEEK + 4).overdue == [(f"{loop.use_case}:{WEEK}", "FAILED")]
    loop.cycle_weeks = 1
    assert loop.at(WEEK + 5).overdue == []
    assert loop.at(WEEK + 7).overdue == [(f"{loop.use_case}:{WEEK + 6}", "MISSED")]


def test_a_cycle_is_called_missed_after_more_than_one_was(loop: Loop) -> None:
    """What counts is the last one that began, up to a year ago."""
    loop.at(WEEK)
    assert loop.at(WEEK + 17).overdue == [(f"{loop.use_case}:{WEEK + 16}", "MISSED")]


@pytest.mark.parametrize("week", [4, 6])
def test_a_changed_rhythm_is_no_missed_cycle(loop: Loop, week: int) -> None:
    """The period that ends or holds today has no row, as it was none: nobody is told, until a cycle has begun in the
    new rhythm."""
    loop.at(WEEK)
    loop.cycle_weeks = 3
    lived = loop.at(WEEK + week)
    assert (lived.result["outcome"], lived.overdue) == ("PROMOTE", [])
    assert loop.at(WEEK + 10).overdue == [(f"{loop.use_case}:{WEEK + 9}", "MISSED")]


def test_a_moved_first_week_is_no_missed_cycle(loop: Loop) -> None:
    """The same number of weeks in another phase is another rhythm, too."""
    loop.at(WEEK)
    loop.first_cycle_week = WEEK - 2
    lived = loop.at(WEEK + 3)
    assert (lived.result["outcome"], lived.overdue) == ("PROMOTE", [])


def test_a_pause_until_a_later_first_week_is_no_missed_cycle(loop: Loop) -> None:
    """Nothing was due before it, also in the phase that there was."""
    loop.at(WEEK)
    loop.first_cycle_week = WEEK + 8
    lived = loop.at(WEEK + 8)
    assert (lived.result["outcome"], lived.overdue) == ("PROMOTE", [])


def test_a_row_of_an_earlier_release_says_nothing_of_the_rhythm(loop: Loop) -> None:
    """It has no ``cycle_weeks``."""
    loop.claim(GONE, RunState.SUCCEEDED)
    assert loop.at(WEEK + 5).overdue == []


@pytest.mark.parametrize("week", [1, 6])
def test_a_deployment_without_a_cycle_so_far_has_missed_none(loop: Loop, week: int) -> None:
    """``first_cycle`` may lie before the day of the deployment."""
    assert loop.at(WEEK + week).overdue == []


def test_a_line_that_cannot_be_written_does_not_stop_the_training(loop: Loop) -> None:
    """The alert is lost, the cycle is not."""
    loop.at(WEEK)
    assert loop.at(WEEK + 5, logs=False).result["outcome"] == "PROMOTE"


def test_the_alert_waits_for_what_the_workflow_says() -> None:
    """The words of the line, and those in the alert's filter."""
    (said,) = re.findall(r"json: \{message: ([a-z ]+), ", SOURCE.read_text())
    assert said == alerts.CYCLE_OVERDUE
