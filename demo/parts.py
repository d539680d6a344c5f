"""What the story takes of a use case's history, from its first day on, and whether that is enough."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain

from datasets import Example
from demo.history import HistoryError, Part, cut, moment
from schemas import UseCase
from schemas.dead_letter import explain
from spark.gate import MIN_DAYS, MIN_OF_A_CLASS, MIN_ROWS

FIRST_DAYS, LIVE_DAYS, SECOND_DAYS, UNDER_WAY_DAYS = 56, 3, 28, 14
DAY = timedelta(days=1)
"""What is under way while the second model is trained may be less, or nothing."""


@dataclass(frozen=True)
class Parts:
    """The data set, cut along the story."""

    first: Part
    """Eight weeks, filed as history."""
    live: Part
    """Three days, sent live."""
    second: Part
    """Four more weeks, filed as history."""
    under_way: Part
    """What is sent while the second model is trained."""

    @property
    def count(self) -> int:
        """Of all records."""
        return sum(len(part.records) for part in (self.first, self.live, self.second, self.under_way))


@dataclass(frozen=True)
class _Window:
    """What a cycle of the story learns from and is judged on."""

    cycle: int
    first: date
    last: date
    rows: int
    days: int
    fewer: int
    """Rows of the label that is rarer."""
    taught: dict[str, int]
    """Rows to learn from, by label."""


def take(case: UseCase, history: Iterable[Example], sample: int, evaluation_days: int) -> Parts:
    """The parts of the story, from the day of the history's first record on.

    Args:
        history: all of the use case's data set.
        sample: take one record in so many.
        evaluation_days: how long the window is on which a cycle's model is judged.

    Raises:
        HistoryError: there is too little for the gate to promote a model, or it is none that the use case reads; the
            text says how much is needed.
    """
    examples = iter(history)
    example = next(examples, None)
    if example is None:
        raise HistoryError(f"the history of use case {case.name} has no record: its history() gives none")
    begin = datetime.combine(moment(example[0]).astimezone(UTC), time.min, UTC)
    edges = [begin]
    for days in (FIRST_DAYS, LIVE_DAYS, SECOND_DAYS, UNDER_WAY_DAYS):
        edges.append(edges[-1] + timedelta(days=days))
    parts = Parts(*cut(chain([example], examples), edges, sample))
    _check_documents(case, parts)
    filed = [parts.first, parts.live, parts.second]
    windows = [_window(case, 1, filed[:1], evaluation_days), _window(case, 2, filed, evaluation_days)]
    missing = _too_short(parts, begin) or [text for window in windows for text in _too_little(case, window)]
    if missing:
        whole, enough = parts.first.records + parts.live.records + parts.second.records, _largest(windows, sample)
        end = moment(whole[-1]) if whole else begin
        found = f"the history of use case {case.name}, from {begin:%Y-%m-%d} to {end:%Y-%m-%d}, is too little"
        needed = f"the demo takes {FIRST_DAYS} days of it to learn from, {LIVE_DAYS} live, {SECOND_DAYS} to train again"
        fewer = f"one record in {sample} is taken; --sample {enough} or less would do" if 0 < enough < sample else None
        raise HistoryError("\n  ".join([f"{found}: {needed}", *missing, *([fewer] if fewer else [])]))
    return parts


def _check_documents(case: UseCase, parts: Parts) -> None:
    refused: list[str] = []
    for part in (parts.first, parts.live, parts.second, parts.under_way):
        for what, documents, read in (
            ("record", part.records, case.read_record),
            ("label", part.labels, case.read_label),
        ):
            for document in documents:
                try:
                    read(json.dumps(document).encode())
                except (ValueError, TypeError) as error:
                    refused.append(f"{what} {str(document.get('record_id'))[:128]}: {explain(error)}")
    if refused:
        raise HistoryError(
            f"{len(refused):,} documents of the history are refused by use case {case.name}, wherever they are read; "
            "the first ones:\n  " + "\n  ".join(refused[:3])
        )


def _window(case: UseCase, cycle: int, filed: Sequence[Part], evaluation_days: int) -> _Window:
    """As the training chooses it: so many days up to the last one with labels; what was known by then teaches."""
    labels = {label["record_id"]: label for part in filed for label in part.labels}
    days = {
        record["record_id"]: moment(record).astimezone(UTC).date()
        for part in filed
        for record in part.records
        if record["record_id"] in labels
    }
    last = max(days.values(), default=date.max)
    first = last - timedelta(days=evaluation_days - 1)
    begin = datetime.combine(first, time.min, UTC)
    judged = Counter(labels[one]["label"] for one, day in days.items() if day >= first)
    taught = Counter(labels[one]["label"] for one, day in days.items() if day < first and moment(labels[one]) <= begin)
    return _Window(
        cycle=cycle,
        first=first,
        last=last,
        rows=judged.total(),
        days=len({day for day in days.values() if day >= first}),
        fewer=min(judged[label] for label in case.labels),
        taught={label: taught[label] for label in case.labels},
    )


def _too_short(parts: Parts, begin: datetime) -> list[str]:
    stretches = []
    for what, part, days in (
        ("learn from", parts.first, FIRST_DAYS),
        ("send live", parts.live, LIVE_DAYS),
        ("train the second model with", parts.second, SECOND_DAYS),
    ):
        end = begin + timedelta(days=days)
        if not part.records:
            stretches.append(f"no record from {begin:%Y-%m-%d} to {end - DAY:%Y-%m-%d}, of which the demo is to {what}")
        begin = end
    return stretches


def _too_little(case: UseCase, window: _Window) -> list[str]:
    judged = f"cycle {window.cycle} is judged on the records of {window.first} to {window.last}"
    missing = []
    if window.rows < MIN_ROWS:
        missing.append(f"{judged}: {window.rows:,} of them have a label, the gate needs {MIN_ROWS:,}")
    if window.fewer < MIN_OF_A_CLASS:
        missing.append(
            f"{judged}: {window.fewer} of them have the rarer label of {' and '.join(case.labels)}, the gate needs "
            f"{MIN_OF_A_CLASS} of each"
        )
    if window.days < MIN_DAYS:
        missing.append(f"{judged}: labelled records are of {window.days} days, the gate needs {MIN_DAYS}")
    absent = [label for label, rows in window.taught.items() if rows == 0]
    if absent:
        missing.append(
            f"cycle {window.cycle} learns from what was known before {window.first}, and of that nothing is labelled "
            f"{' or '.join(absent)}: it needs both labels"
        )
    return missing


def _largest(windows: Sequence[_Window], sample: int) -> int:
    """About: one record in so many would be enough. 0 if the whole is not."""
    shares = [share for one in windows for share in (one.rows / MIN_ROWS, one.fewer / MIN_OF_A_CLASS)]
    return int(sample * min(shares, default=0.0) * 0.9)
