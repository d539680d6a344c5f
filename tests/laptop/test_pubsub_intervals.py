"""A set of ranges is a set, in little memory, and a table can follow it."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from laptop.pubsub.intervals import Intervals

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=40)


@given(RANGES)
def test_it_holds_what_was_added(ranges: list[tuple[int, int]]) -> None:
    """Membership is that of a plain set, and neighbours are one range."""
    intervals, plain = Intervals(), set()
    for low, length in ranges:
        intervals.add(low, low + length)
        plain |= set(range(low, low + length + 1))
    assert {number for number in range(-2, 80) if number in intervals} == plain
    rows = intervals.ranges()
    assert all(high + 1 < low for (_, high), (low, _) in pairwise(rows))


@given(RANGES, st.integers(1, 7))
def test_a_table_that_follows_the_changes_holds_the_same(ranges: list[tuple[int, int]], every: int) -> None:
    """What is written down is what is in memory, however seldom the changes are fetched."""
    intervals = Intervals()
    table: dict[int, int] = {}
    for count, (low, length) in enumerate(ranges):
        intervals.add(low, low + length)
        if count % every == 0 or count == len(ranges) - 1:
            removed, changed = intervals.changes()
            for gone in removed:
                table.pop(gone, None)
            table.update(changed)
            assert not intervals.changed
            assert sorted(table.items()) == intervals.ranges()


@given(st.sets(st.integers(0, 100)), st.sets(st.integers(0, 100)))
def test_single_numbers_in_any_order(first: set[int], second: set[int]) -> None:
    """Acknowledgements come as they come."""
    intervals = Intervals()
    intervals.add_all(first)
    intervals.add_all(second)
    assert {number for number in range(-1, 102) if number in intervals} == first | second


@given(RANGES, st.integers(0, 80))
def test_end_of_a_range(ranges: list[tuple[int, int]], number: int) -> None:
    """The floor of a subscription is the end of the range that holds 0."""
    intervals = Intervals((low, low + length) for low, length in ranges)
    end = intervals.end_of(number)
    assert (end is None) == (number not in intervals)
    if end is not None:
        assert all(member in intervals for member in range(number, end + 1))
        assert end + 1 not in intervals


def test_a_million_acknowledged_in_order_is_one_range() -> None:
    """Memory follows the disorder, not the number of messages."""
    intervals = Intervals([(0, 0)])
    for start in range(1, 1_000_001, 1000):
        intervals.add_all(range(start, start + 1000))
    assert intervals.ranges() == [(0, 1_000_000)]
