"""``query``, and the one reader of entities beneath every command."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lunation import query, refused
from lunation.deploy.datastore import CompositeIndex
from schemas import Classification, ModelPointer, ModelPromotion, RunState, TrainingRun
from tests.lunation.operator_support import FIRST, LONG_AGO, Operator, line, operating

NOW = datetime.now(UTC)


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    """With an empty archive."""
    yield from operating(tmp_path, monkeypatch)


def looked_up(operator: Operator, record_id: str) -> dict[str, Any]:
    """What ``query`` says of a record, as JSON."""
    return json.loads(operator.run("query", record_id, "--json").stdout)


def test_a_record_that_was_refused_is_told_with_unit_time_and_reason(operator: Operator) -> None:
    """It is in the dead letters only: the id stands in the payload, in an attribute, or in what is no JSON; the newest
    day that has one is told, whole."""
    reason = "features.distance: Input should be greater than 0"
    operator.refuse("archive", "7", line("late", features={}), "older", NOW - timedelta(days=3))
    for unit in ("archive", "ingest_fast", "classify"):
        operator.refuse(unit, "8", line("late", features={}), reason)
    operator.refuse("archive", "9", b'{"record_id": "torn', "document: Invalid JSON")
    operator.refuse("archive", "10", b"", "document: the message has no data", record_id="marked")
    operator.refuse("archive", "11", line("other", within="late"), "another record, which only speaks of it")

    found = looked_up(operator, "late")
    assert (found["record"], found["classification"], found["broken"]) == (None, None, [])
    assert {(one["unit"], one["message_id"], one["reason"]) for one in found["refused"]} == {
        (unit, "8", reason) for unit in ("archive", "ingest_fast", "classify")
    }
    assert all(abs(datetime.fromisoformat(one["refused_at"]) - NOW) < timedelta(hours=1) for one in found["refused"])
    assert found["searched"]["back_to"] == f"{datetime.now(UTC):%Y-%m-%d}"
    printed = operator.run("query", "late").stdout
    for words in ("Refused", "ingest_fast", reason, f"{datetime.now(UTC):%Y-%m-%d}", "older ones were not looked at"):
        assert words in printed
    (torn,) = looked_up(operator, "torn")["refused"]
    assert (torn["message_id"], torn["found_by"]) == ("9", "text")
    (marked,) = looked_up(operator, "marked")["refused"]
    assert (marked["message_id"], marked["found_by"]) == ("10", "attribute")


def test_what_only_one_unit_refused_is_told_beside_what_there_is(operator: Operator) -> None:
    """The copy is there and no answer: it was refused by the classifier. A record with both is not looked for."""
    operator.mirror("r0", line("r0"))
    operator.refuse("classify", "1", line("r0"), "document: the answer is too large")
    found = looked_up(operator, "r0")
    assert found["record"]["payload"]["record_id"] == "r0"
    assert [one["unit"] for one in found["refused"]] == ["classify"]
    assert "document: the answer is too large" in operator.run("query", "r0").stdout
    operator.answer("r0", FIRST)
    assert looked_up(operator, "r0")["searched"] is None


def test_a_record_that_is_nowhere_says_how_far_was_looked(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest days first, and no more letters than are a minute's work; a letter that names no record may have been
    this one's, and one that is no letter is named."""
    days = [NOW - timedelta(days=days) for days in (0, 1, 5)]
    for number, day in enumerate(days):
        operator.refuse("archive", f"{number}", line(f"r{number}"), "bad", day)
    operator.refuse("archive", "torn", b"\x00\xff", "no JSON", days[1])
    name = operator.file("dead-letters", f"{days[1]:%Y-%m-%d}", b"{")
    said = operator.run("query", "nobody", code=1).stderr
    assert "4 were looked at" in said
    assert f"back to {days[2]:%Y-%m-%d}" in said
    assert "1 of them cannot be read and name no record" in said
    assert "not looked at" not in said
    assert f"{name}:1" in said
    monkeypatch.setattr(refused, "LETTERS", 2)
    said = operator.run("query", "nobody", code=1).stderr
    assert f"back to {days[1]:%Y-%m-%d}" in said
    assert "older ones were not looked at" in said


def test_an_answer_that_cannot_be_read_is_named_and_the_others_are_shown(operator: Operator) -> None:
    """By kind, key and property, on the error stream; a list of answers goes on without it."""
    for name in ("r0", "r1", "r2"):
        operator.answer(name, FIRST)
    good = Classification(
        record_id="r1", label="late", probability=0.5, model_version="v", generation=1, event_time=LONG_AGO,
        classified_at=LONG_AGO,
    )  # fmt: skip
    operator.entity(good, "r1", probability="much")
    shown = operator.run("query", "--json")
    assert {one["record_id"] for one in json.loads(shown.stdout)} == {"r0", "r2"}
    assert "Classification r1, property probability: Input should be a valid number" in shown.stderr
    operator.mirror("r1", b"{")
    found = looked_up(operator, "r1")
    assert {(one["kind"], one["key"], one["property"]) for one in found["broken"]} == {
        ("Record", "r1", "payload"),
        ("Classification", "r1", "probability"),
    }
    assert (found["record"]["payload"], found["classification"]) == ("{", None)
    assert "Record r1, property payload" in operator.run("query", "r1").stderr


def test_a_broken_row_is_told_and_the_others_are_read(operator: Operator) -> None:
    """The pointer, its history and the training runs, by whatever reads them; who is not there to be told gets an
    error that names kind, key and property."""
    client, use_case = operator.clients.datastore, "flights"
    CompositeIndex("ModelPromotion", "use_case", "-generation").create(operator.clients)
    CompositeIndex("TrainingRun", "use_case", "-claimed_at").create(operator.clients)
    pointer = ModelPointer(
        use_case=use_case, model_version="v2", uri="gs://b/models/v2", manifest_sha256="0", generation=2,
        moved_at=LONG_AGO,
    )  # fmt: skip
    operator.entity(pointer, use_case, manifest_sha256=7, moved_at="noon")
    for generation in (1, 2, 3):
        row = ModelPromotion.model_validate(
            {**pointer.model_dump(), "previous_version": None, "verdict": "PROMOTE", "reason": "", "actor": "a",
             "generation": generation, "model_version": f"v{generation}"}
        )  # fmt: skip
        broken = {"moved_at": "noon"} if generation == 2 else {}
        operator.entity(row, ModelPromotion.key_name(use_case, generation), **broken)
        run = TrainingRun(
            cycle=f"{use_case}:{generation}", run_id=f"r{generation}", use_case=use_case, state=RunState.FAILED,
            execution="e", claimed_at=LONG_AGO, cause="",
        )  # fmt: skip
        operator.entity(run, run.cycle, **({"state": "GONE", "reasons": "none"} if generation == 2 else {}))

    told: list[query.Broken] = []
    assert query.pointer(client, use_case, told.append) is None
    assert [one.generation for one in query.promotions(client, use_case, broken=told.append)] == [3, 1]
    assert [one.run_id for one in query.training_runs(client, use_case, broken=told.append)] == ["r3", "r1"]
    assert {(one.kind, one.key, one.property) for one in told} == {
        ("ModelPointer", use_case, "manifest_sha256"),
        ("ModelPointer", use_case, "moved_at"),
        ("ModelPromotion", "flights:0000000002", "moved_at"),
        ("TrainingRun", "flights:2", "state"),
        ("TrainingRun", "flights:2", "reasons"),
    }
    told.clear()
    served = query.served_at(client, use_case, LONG_AGO, told.append)
    assert (served and served.generation, told) == (3, []), "what is older than the answer does not matter"
    with pytest.raises(query.BrokenEntityError, match="TrainingRun flights:2, property state"):
        query.training_runs(client, use_case)
    with pytest.raises(query.BrokenEntityError, match=f"ModelPointer {use_case}, property manifest_sha256"):
        query.pointer(client, use_case)
