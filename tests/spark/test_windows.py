"""Which days a model is judged on."""

from datetime import date, timedelta

import pytest

from spark.training import newest_day, oldest_day

MARCH = {date(2013, 3, 1) + timedelta(days=day): 100 for day in range(31)}


@pytest.mark.parametrize(
    ("strays", "newest"),
    [
        ({}, date(2013, 3, 31)),
        ({date(2999, 1, 1): 1}, date(2013, 3, 31)),
        ({date(2999, 1, 1): 1, date(2999, 1, 2): 1, date(4000, 1, 1): 1}, date(2013, 3, 31)),
        ({date(2013, 4, 20): 1}, date(2013, 4, 20)),
        ({date(2013, 6, 1): 100}, date(2013, 6, 1)),
    ],
    ids=["none", "one", "several", "near", "a pause in the data"],
)
def test_a_few_records_of_a_wrong_clock_do_not_move_the_window(strays: dict[date, int], newest: date) -> None:
    """One labelled record of the year 2999 would be the evaluation window of every run from then on."""
    assert newest_day(MARCH | strays, 28) == newest


def test_a_shorter_window_calls_a_shorter_gap_a_wrong_clock() -> None:
    """One record after it would be the whole window."""
    strays = {date(2013, 4, 20): 1}
    assert newest_day(MARCH | strays, 7) == date(2013, 3, 31)


@pytest.mark.parametrize(
    ("strays", "oldest"),
    [
        ({}, date(2013, 3, 1)),
        ({date(1899, 12, 30): 5}, date(2013, 3, 1)),
        ({date(2, 1, 1): 1, date(1601, 1, 1): 1, date(1970, 1, 1): 1}, date(2013, 3, 1)),
        ({date(2013, 2, 20): 1}, date(2013, 2, 20)),
        ({date(2012, 6, 1): 100}, date(2012, 6, 1)),
    ],
    ids=["none", "a spreadsheet's zero", "several", "near", "an older batch"],
)
def test_a_few_records_of_long_ago_are_not_where_training_begins(strays: dict[date, int], oldest: date) -> None:
    """A run that was trained on a year of data says so, and not that it was trained from 1899 on."""
    assert oldest_day(MARCH | strays, 28) == oldest
    assert newest_day(MARCH | strays, 28) == date(2013, 3, 31)


def test_dates_without_sense_are_left_out_however_many_they_are() -> None:
    """A publisher's fault may scatter a thousand records over the centuries."""
    days = dict.fromkeys(MARCH, 10000)
    scattered = {date(3, 1, 1) + timedelta(days=160 * number): 1 for number in range(1500)}
    later = {date(2100, 1, 1) + timedelta(days=160 * number): 1 for number in range(1500)}
    assert oldest_day(days | scattered | later, 28) == date(2013, 3, 1)
    assert newest_day(days | scattered | later, 28) == date(2013, 3, 31)


def test_what_is_sparse_is_no_stray() -> None:
    """Labels of one day a month, over twenty years: no more of them are left out than a few of all."""
    months = {date(2000 + number // 12, 1 + number % 12, 1): 100 for number in range(240)}
    assert oldest_day(months, 28) == date(2000, 3, 1)
    assert newest_day(months, 28) == date(2019, 10, 1)


def test_a_single_day_is_the_newest() -> None:
    """There is nothing to compare it with."""
    assert newest_day({date(2013, 3, 1): 1}, 28) == date(2013, 3, 1)
    assert oldest_day({date(2013, 3, 1): 1}, 28) == date(2013, 3, 1)
