"""What one part accepts, every part can use, with the same values to the last bit."""

import math
import os
import random
import struct
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from pydantic_core import from_json

from dataflow.reading import as_line
from schemas import USE_CASES
from schemas.contract import check_use_case
from tests.contract import documents
from tests.contract.parts import LINES, Parts, Values
from tests.spark.conftest import spark  # noqa: F401  # the one session of a worker
from tests.use_cases.parcels import PARCELS

CASES = {"flights": USE_CASES["flights"], "weather": USE_CASES["weather"], "parcels": PARCELS}
CATEGORIES = {
    "flights": {"carrier": ["AA", "UA", "__missing__"], "origin": ["EWR", "JFK"], "dest": ["ATL", "a", "é"]},
    "weather": {"airport": ["EWR", "JFK"]},
    "parcels": {"depot": ["AA", "LYS1", "__missing__", "a"]},
}
EXAMPLES = 60
"""For each use case, every day."""
BATCH = 500
"""The same, of each round, where there is time."""
THOROUGH_SECONDS = float(os.environ.get("THOROUGH_SECONDS", "1800"))


@pytest.fixture
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    """The parts of the use case that is the parameter."""
    case = CASES[request.param]
    monkeypatch.setitem(USE_CASES, case.name, case)
    check_use_case(case)
    made = Parts(case, CATEGORIES[request.param])
    yield made
    made.close()


def is_one_value(document: bytes) -> bool:
    """Whether it is one JSON value, or would be but for NaN: in a list it would be one member."""
    try:
        from_json(document)
    except ValueError:
        return False
    return True


def agree(parts: Parts, document: bytes) -> None:
    """All doors, the archive and the mirror are of one mind about a record's document."""
    expected = parts.judged(document)
    row = None if expected is None else struct.pack(f"{len(parts.names)}d", *parts.row(document))

    assert parts.submitted(document) == [expected] or document.lstrip()[:1] == b"["
    assert parts.asked(document) == row or document.lstrip()[:1] == b"["
    mirrored, classified, filed = parts.mirrored(document), parts.classified(document), parts.filed("records", document)
    if expected is None:
        assert (mirrored, classified, filed) == (None, None, None)
    else:
        assert mirrored == (document, expected.micros)
        assert classified == (expected.record_id, expected.micros)
        assert filed is not None
        assert filed[1] == as_line(document)
        assert parts.judged(filed[1]) == expected

    if is_one_value(document) or expected is not None:
        listed = b"[" + document + b" ]"
        assert parts.submitted(listed) == [expected]
        if expected is not None:
            assert parts.published() == [document.strip(b" \t\r\n")]
        assert (parts.answers(listed) == 200) == (expected is not None)
    if not {10, 13} & set(document) and document.strip():
        assert parts.submitted(document, LINES) == [expected]
        assert (parts.answers(document + b"\n" + document, LINES) == 200) == (expected is not None)


def agree_on_label(parts: Parts, document: bytes) -> None:
    """The archive files what the use case's class takes for a label."""
    expected, filed = parts.judged_label(document), parts.filed("labels", document)
    assert (filed is None) == (expected is None)
    if filed is not None:
        assert parts.judged_label(filed[1]) == expected


def drawn(parts: Parts, examples: int, number: int) -> tuple[list[bytes], list[bytes]]:
    """Documents on which all doors agree, as lines: records and labels."""
    seen: tuple[list[bytes], list[bytes]] = [], []
    how = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )

    @seed(number)
    @how
    @given(documents.records(parts.case))
    def of_records(document: bytes) -> None:
        seen[0].append(as_line(document))
        agree(parts, document)

    @seed(number)
    @how
    @given(documents.labels(parts.case))
    def of_labels(document: bytes) -> None:
        seen[1].append(as_line(document))
        agree_on_label(parts, document)

    of_records()
    of_labels()
    return seen


def swept(parts: Parts) -> list[bytes]:
    """Documents on which all doors agree, as lines: each with one thing that is odd, and each odd thing in one."""
    seen = list(documents.one_thing_odd(parts.case))
    for document in seen:
        agree(parts, document)
    return [as_line(document) for document in seen]


def in_spark(session: Any, parts: Parts, folder: Path, records: list[bytes], labels: list[bytes]) -> None:
    """Spark's conversion reads the lines as the class does, Parquet keeps the values, and the model's input in Spark is
    that of the serving function."""
    from pyspark.sql.functions import expr

    from spark import reading
    from spark.features import MISSING_NUMBER, columns, indexed

    folder.mkdir()
    for name, lines in (("records", records), ("labels", labels)):
        (folder / f"{name}.json").write_bytes(b"".join(line + b"\n" for line in lines))
    read = reading.records(session, parts.case, [f"file://{folder}/records.json"])
    read.write.parquet(f"file://{folder}/records.parquet")
    kept = session.read.parquet(f"file://{folder}/records.parquet")
    expected = [parts.judged(line) for line in records]
    empty = sum(not line.strip() for line in records)
    assert kept.where("NOT readable").count() == expected.count(None) - empty
    ready = indexed(kept.where("readable"), parts.inputs, parts.categories)
    found = ready.select("record_id", expr("unix_micros(event_time) AS micros"), "features.*", *columns(parts.inputs))
    stored: Counter[Any] = Counter()
    inputs: Counter[bytes] = Counter()
    width = len(parts.names)
    for row in found.collect():
        stored[_values(row[0], row[1], row[2 : 2 + width])] += 1
        inputs[struct.pack(f"{width}d", *row[2 + width :])] += 1
    _same(Counter(one for one in expected if one is not None), stored)
    served = [parts.row(line) for line, one in zip(records, expected, strict=True) if one is not None]
    trained = ([MISSING_NUMBER if math.isnan(value) else value for value in row] for row in served)
    _same(Counter(struct.pack(f"{width}d", *row) for row in trained), inputs)

    marked = reading.labels(session, parts.case, [f"file://{folder}/labels.json"])
    wanted = [parts.judged_label(line) for line in labels]
    rows = marked.select("record_id", expr("unix_micros(event_time) AS micros"), "label", "readable").collect()
    _same(
        Counter(one for one in wanted if one is not None),
        Counter(_values(row[0], row[1], row[2:3]) for row in rows if row.readable),
    )


def _values(record_id: str, micros: int, values: Any) -> Values:
    return Values(record_id, micros, tuple(struct.pack(">d", x) if isinstance(x, float) else x for x in values))


def _same(expected: Counter[Any], found: Counter[Any]) -> None:
    lacking, odd = expected - found, found - expected
    assert not lacking, f"not in Spark: {list(lacking)[:3]}; instead: {list(odd)[:3]}"
    assert not odd, f"only in Spark: {list(odd)[:3]}"


@pytest.mark.spark
@pytest.mark.parametrize("parts", CASES, indirect=True)
def test_what_one_part_accepts_every_part_has_with_the_same_values(
    parts: Parts,
    spark: Any,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Documents around the contract and mutations of them: the same in small, every day."""
    records, labels = drawn(parts, EXAMPLES, 0)
    if parts.case is PARCELS:  # which has a field of each kind
        records += swept(parts)
    in_spark(spark, parts, tmp_path / "lines", records, labels)


@pytest.mark.thorough
def test_no_document_is_read_differently_by_two_parts(
    monkeypatch: pytest.MonkeyPatch,
    spark: Any,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Others each time, as long as there is time: ``THOROUGH_SECONDS``, half an hour if nothing is said."""
    ends, rounds = time.monotonic() + THOROUGH_SECONDS, 0
    monkeypatch.setitem(USE_CASES, PARCELS.name, PARCELS)
    every = [Parts(case, CATEGORIES[name]) for name, case in CASES.items()]
    seen: Counter[str] = Counter()
    while time.monotonic() < ends:
        for parts in every:
            number = random.randrange(2**32)
            print(f"{parts.case.name}, seed {number}, {dict(seen)}", flush=True)
            records, labels = drawn(parts, BATCH, number)
            in_spark(spark, parts, tmp_path / f"lines-{rounds}", records, labels)
            seen["documents"] += len(records) + len(labels)
            seen["accepted"] += sum(parts.judged(line) is not None for line in records)
            rounds += 1
    for parts in every:
        parts.close()
    assert seen["accepted"] > 0


def test_the_documents_that_are_drawn_are_of_both_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the above would hold of nothing: a fifth at least is accepted, and a fifth refused."""
    monkeypatch.setitem(USE_CASES, PARCELS.name, PARCELS)
    parts = Parts(PARCELS, CATEGORIES["parcels"])
    records, labels = drawn(parts, 200, 1)
    for judged in ([parts.judged(line) for line in records], [parts.judged_label(line) for line in labels]):
        assert len(judged) / 5 < judged.count(None) < 4 * len(judged) / 5
    parts.close()
