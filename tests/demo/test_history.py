"""The data set is cut along the story, and what is spoilt on purpose is refused by everyone."""

import itertools
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import BaseModel

from dataflow.reading import READERS
from datasets import data_set
from demo.history import HistoryError, cut, malformed, write
from functions.runtime.errors import PermanentlyRefusedError
from functions.runtime.push import read_record
from schemas import USE_CASES, Envelope, UseCase, use_case


def example(day: int, labelled: bool = True) -> tuple[dict, dict | None]:
    """A record of a day in January, and its label."""
    record = {"record_id": f"r{day}", "event_time": f"2013-01-{day:02d}T00:00:00Z"}
    return record, {"record_id": f"r{day}", "label": "late"} if labelled else None


def edges(*days: int) -> list[datetime]:
    """Midnights in January."""
    return [datetime(2013, 1, day, tzinfo=UTC) for day in days]


def days(part: object, what: str = "records") -> list[str]:
    """The ids in a part."""
    return [document["record_id"] for document in getattr(part, what)]


def test_each_example_is_in_the_part_of_its_time() -> None:
    """The first moment of a part belongs to it, its end to the next; what lies outside is left out."""
    parts = cut((example(day) for day in range(1, 10)), edges(2, 4, 5, 8), 1)
    assert [days(part) for part in parts] == [["r2", "r3"], ["r4"], ["r5", "r6", "r7"]]
    assert [days(part, "labels") for part in parts] == [days(part) for part in parts]


def test_a_part_in_which_nothing_happened_is_empty() -> None:
    """And the parts after it have what is theirs."""
    parts = cut([example(1), example(9)], edges(1, 2, 3, 10), 1)
    assert [days(part) for part in parts] == [["r1"], [], ["r9"]]


def test_an_outcome_that_was_never_known_has_no_label() -> None:
    """Cancelled flights are records all the same."""
    (part,) = cut([example(1), example(2, labelled=False)], edges(1, 3), 1)
    assert (days(part), days(part, "labels")) == (["r1", "r2"], ["r1"])


def test_a_sample_takes_one_example_in_so_many() -> None:
    """Counted over the whole data set, so that the parts keep their proportions."""
    parts = cut((example(day) for day in range(1, 10)), edges(1, 5, 10), 3)
    assert [days(part) for part in parts] == [["r1", "r4"], ["r7"]]


def test_documents_are_written_one_a_line(tmp_path: Path) -> None:
    """As the backfill reads them."""
    documents = [{"a": "line\nbreak"}, {"b": 2}]
    lines = write(documents, tmp_path / "x.ndjson").read_text().splitlines()
    assert [json.loads(line) for line in lines] == documents


@pytest.mark.parametrize("name", sorted(USE_CASES))
def test_every_malformed_kind_is_refused_by_every_unit(name: str) -> None:
    """One declaration decides, whoever reads: else a message would be archived here and refused there."""
    case = use_case(name)
    documents = [record for record, _ in itertools.islice(data_set(name).history(datetime(2013, 1, 2, tzinfo=UTC)), 1)]
    assert documents, "the data set begins later than that day"
    kinds = list(malformed(case, documents[0]))
    assert len(set(kinds)) == len(kinds) >= 15
    archive = READERS["records"](name)
    for kind in kinds:
        with pytest.raises(ValueError, match=r"."):
            archive(kind)
        with pytest.raises(PermanentlyRefusedError):  # what ingest_fast and classify both call
            read_record(Envelope(data=kind), case.read_record)
    good = json.dumps(documents[0]).encode()
    archive(good)
    read_record(Envelope(data=good), case.read_record)


def test_what_a_use_case_allows_is_no_spoiling() -> None:
    """Features that may be left out, no number among them, a boolean: what is sent as malformed is refused all the
    same, or it would be archived and be missed in the dead letters."""

    class Lenient(BaseModel):
        note: str | None = None
        express: bool | None = None
        depot: str

    case = UseCase(name="lenient", features=Lenient, labels=("no", "yes"), example_features={"depot": "LYS1"})
    document = {
        "record_id": "r1",
        "event_time": "2026-01-03T08:00:00+02:00",
        "features": {"note": None, "express": None, "depot": "LYS1"},
    }
    case.read_record(json.dumps(document).encode())
    kinds = list(malformed(case, document))
    assert len(set(kinds)) == len(kinds) >= 15
    for kind in kinds:
        with pytest.raises(ValueError, match=r"."):
            case.read_record(kind)


def test_a_history_in_another_order_is_told() -> None:
    """Not cut into parts that are none: by record and by time."""
    with pytest.raises(HistoryError, match=r"record 'r1' of 2013-01-01.* comes after one of 2013-01-02"):
        cut([example(2), example(1)], edges(1, 3), 1)
    with pytest.raises(HistoryError, match="has no event_time with a zone"):
        cut([({"record_id": "r1", "event_time": "2013-01-01T00:00:00"}, None)], edges(1, 3), 1)
