"""The story begins where the data begins, and says before anything starts what it has too little of."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from datasets import Example, data_set
from demo.history import HistoryError
from demo.parts import take
from schemas import UseCase, use_case

BEGIN = datetime(2026, 1, 3, 8, tzinfo=UTC)


class Features(BaseModel):
    """One number."""

    items: int


def examples(days: float, a_day: int = 48, rare: int = 3, first: datetime = BEGIN) -> Iterator[Example]:
    """So many days of records, one in ``rare`` late, each known a day later."""
    for number in range(int(days * a_day)):
        when = first + timedelta(days=number / a_day)
        record = {"record_id": f"r{number}", "event_time": when.isoformat(), "features": {"items": number % 7}}
        known = (when + timedelta(days=1)).isoformat()
        yield (
            record,
            {
                "record_id": f"r{number}",
                "label": "late" if number * 617 % 1000 < 1000 // rare else "in_time",
                "event_time": known,
            },
        )


CASE = UseCase(name="parcels", features=Features, labels=("in_time", "late"), example_features={"items": 3})


def test_the_parts_begin_with_the_first_day_of_the_data() -> None:
    """Whatever year it is of, and whatever time of day: eight weeks, three days, four weeks, and what there is more."""
    parts = take(CASE, examples(90), 1, 28)
    begin = datetime(2026, 1, 3, tzinfo=UTC)
    for part, first, last in (
        (parts.first, BEGIN, begin + timedelta(days=56)),
        (parts.live, begin + timedelta(days=56), begin + timedelta(days=59)),
        (parts.second, begin + timedelta(days=59), begin + timedelta(days=87)),
        (parts.under_way, begin + timedelta(days=87), BEGIN + timedelta(days=90)),
    ):
        times = [datetime.fromisoformat(one["event_time"]) for one in part.records]
        assert times[0] == first
        assert last - timedelta(hours=1) < times[-1] < last
        assert len(part.labels) == len(part.records)


def test_a_shipped_history_is_enough() -> None:
    """The smaller one is taken whole, from New Year 2013 on."""
    parts = take(use_case("weather"), data_set("weather").history(None), 1, 28)
    assert parts.first.records[0]["event_time"].startswith("2013-01-01")
    assert parts.count > 7000


@pytest.mark.parametrize(
    ("history", "says"),
    [
        (examples(0), ["has no record: its history() gives none"]),
        (
            examples(42),
            [
                "from 2026-01-03 to 2026-02-14, is too little: the demo takes 56 days",
                "no record from 2026-02-28 to 2026-03-02, of which the demo is to send live",
                "no record from 2026-03-03 to 2026-03-30, of which the demo is to train the second model with",
            ],
        ),
        (
            examples(90, a_day=24),
            [
                "cycle 1 is judged on the records of 2026-01-31 to 2026-02-27: 672 of them have a label, the gate "
                "needs 1,000",
                "cycle 2 is judged on the records of 2026-03-03 to 2026-03-30: 672",
            ],
        ),
        (
            examples(90, rare=100),
            ["13 of them have the rarer label of in_time and late, the gate needs 50 of each"],
        ),
        (
            examples(90, rare=10**6),
            ["cycle 1 learns from what was known before 2026-01-31, and of that nothing is labelled late: it needs"],
        ),
    ],
    ids=["nothing", "six weeks", "few a day", "rare label", "one label"],
)
def test_too_little_is_told_with_how_much_is_needed(history: Iterator[Example], says: list[str]) -> None:
    """All of it at once, in the terms of the data: its days, its labels, what the gate asks for."""
    with pytest.raises(HistoryError) as told:
        take(CASE, history, 1, 28)
    for sentence in says:
        assert sentence in str(told.value)


def test_a_sample_that_leaves_too_little_is_refused_with_one_that_does_not() -> None:
    """What it names is taken."""
    with pytest.raises(HistoryError, match="one record in 40 is taken; --sample 6 or less would do"):
        take(CASE, examples(90, a_day=240), 40, 28)
    assert take(CASE, examples(90, a_day=240), 6, 28).count == 90 * 40
    with pytest.raises(HistoryError) as told:
        take(CASE, examples(90, a_day=24), 2, 28)
    assert "would do" not in str(told.value), "nothing less than all would, and all is too little"


def test_a_document_that_the_use_case_refuses_is_told() -> None:
    """It would only make dead letters, in step five: record, field and kind are named now."""

    def spoilt() -> Iterator[Example]:
        for number, (record, label) in enumerate(examples(90)):
            if number in (5, 6):
                record["features"] = {"items": "many"}
            assert label is not None
            yield record, {**label, "label": "lost"} if number == 7 else label

    with pytest.raises(HistoryError) as told:
        take(CASE, spoilt(), 1, 28)
    assert "3 documents of the history are refused by use case parcels" in str(told.value)
    assert "record r5: features.items: Input should be a valid integer" in str(told.value)
    typed: list[Example] = [({"record_id": "r1", "event_time": BEGIN, "features": {}}, None)]
    with pytest.raises(HistoryError, match=r"has no event_time with a zone, such as .*: .*r1"):
        take(CASE, typed, 1, 28)
