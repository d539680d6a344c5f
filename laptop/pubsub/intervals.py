"""A set of integers that remembers ranges, not members."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable


class Intervals:
    """Closed ranges, merged where they touch. It keeps count of what changed, so that a table can follow."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        self._removed: set[int] = set()
        self._changed: set[int] = set()
        for low, high in ranges:
            self.add(low, high)
        self._removed.clear()
        self._changed.clear()

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._lows, number) - 1
        return index >= 0 and number <= self._highs[index]

    def __len__(self) -> int:
        """The number of ranges."""
        return len(self._lows)

    def ranges(self) -> list[tuple[int, int]]:
        """The ranges in order."""
        return list(zip(self._lows, self._highs, strict=True))

    def end_of(self, number: int) -> int | None:
        """The last member of the range that holds ``number``; None if it is not a member."""
        index = bisect_right(self._lows, number) - 1
        return self._highs[index] if index >= 0 and number <= self._highs[index] else None

    def add(self, low: int, high: int) -> None:
        """Add ``low`` to ``high``, both included."""
        first = bisect_left(self._highs, low - 1)
        after = bisect_right(self._lows, high + 1)
        if first < after:
            if self._lows[first] <= low and high <= self._highs[first]:
                return
            low, high = min(low, self._lows[first]), max(high, self._highs[after - 1])
            for gone in self._lows[first:after]:
                self._changed.discard(gone)
                self._removed.add(gone)
        self._lows[first:after] = [low]
        self._highs[first:after] = [high]
        self._removed.discard(low)
        self._changed.add(low)

    def add_all(self, numbers: Iterable[int]) -> None:
        """Add single numbers; neighbours are put together first."""
        ordered = sorted(numbers)
        if not ordered:
            return
        low = high = ordered[0]
        for number in ordered:
            if number > high + 1:
                self.add(low, high)
                low = number
            high = number
        self.add(low, high)

    def changes(self) -> tuple[list[int], list[tuple[int, int]]]:
        """What changed since the last call: lows of ranges that are gone, and ranges that are new or longer."""
        removed = list(self._removed)
        changed = [(low, self._highs[bisect_left(self._lows, low)]) for low in self._changed]
        self._removed.clear()
        self._changed.clear()
        return removed, changed

    @property
    def changed(self) -> bool:
        """Whether :meth:`changes` has something to tell."""
        return bool(self._changed or self._removed)
