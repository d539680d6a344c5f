"""``verify`` and ``replay``, through the command, on running servers."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lunation import verify
from lunation.cli import app
from lunation.settings import load
from schemas import ModelPointer
from tests.lunation.operator_support import AT_ONCE, FIRST, LONG_AGO, SECOND, Operator, line, operating


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    """With an empty archive."""
    yield from operating(tmp_path, monkeypatch)


def test_what_is_missing_is_named_and_published_again(operator: Operator) -> None:
    """From the archive, byte for byte, or from the fast copy what the archive has lost; each once, with its id."""
    names = [f"r{number}" for number in range(6)]
    lines = {name: line(name) for name in names}
    operator.file("records", FIRST, *(lines[name] for name in names[:5]), lines["r0"])
    operator.file("records", SECOND, line("s0", SECOND))
    for name in names:
        if name != "r1":
            operator.mirror(name, lines[name])
        if name not in ("r1", "r2"):
            operator.answer(name, FIRST)
    operator.answer("s1", SECOND)
    operator.answer("s0", SECOND)
    operator.mirror("s0", line("s0", SECOND))

    found = operator.settled()
    assert (found["archived"], found["duplicates"], found["mirrored"], found["classified"]) == (6, 1, 5, 6)
    assert found["missing"] == {
        "archive": {"count": 2, "record_ids": ["r5", "s1"]},
        "Record": {"count": 1, "record_ids": ["r1"]},
        "Classification": {"count": 2, "record_ids": ["r1", "r2"]},
    }
    assert operator.found("--to", FIRST, "--limit", "1", *AT_ONCE, code=2)["missing"]["Classification"] == {
        "count": 2,
        "record_ids": ["r1"],
    }
    printed = operator.run("verify", "--date", FIRST, *AT_ONCE, code=2).stdout
    assert "3 records are missing somewhere" in printed
    assert "1 lines more than once" in printed
    assert "s1" not in printed

    operator.run("replay", "--from", FIRST, *AT_ONCE, code=1, answer="n\n")
    assert operator.published() == []
    told = operator.run("replay", "--from", FIRST, *AT_ONCE, "--yes", code=2).stdout
    assert "2 not in archive, 1 not in Record, 2 not in Classification" in told
    assert "Published 3 records" in told
    assert "1 are in Classification only" in told
    assert operator.published() == [(name, lines[name]) for name in ("r1", "r2", "r5")]

    operator.run("replay", "--from", FIRST, "--all", "--yes")
    assert [name for name, _ in operator.published()] == ["r0", "r1", "r2", "r3", "r4", "s0"]


def test_what_is_not_there_for_a_reason_is_not_missing(operator: Operator) -> None:
    """History is mirrored by nobody; an old copy has expired; what a unit refused has its dead letter; what is young
    is on its way. A line that cannot be read is a loss."""
    operator.file("records", FIRST, line("history"), history=True)
    operator.file("records", FIRST, line("expired"), line("refused"))
    operator.mirror("refused", b"{}")
    operator.answer("expired", FIRST)
    operator.refuse("classify", "m1", line("refused"), "too large")
    operator.refuse("classify", "m1", line("refused"), "too large")
    operator.refuse("archive", "m2", b"no json", "document: Invalid JSON")
    found = operator.settled()
    assert found["missing"]["Record"] == {"count": 1, "record_ids": ["expired"]}
    assert found["missing"]["Classification"]["count"] == 0
    assert found["refused"] == {"archive": 0, "Record": 0, "Classification": 1}
    assert [(one["unit"], one["messages"], one["reason"]) for one in found["dead_letters"]] == [
        ("archive", 1, "document: Invalid JSON"),
        ("classify", 1, "too large"),
    ]
    assert found["history"] == 1
    young = operator.found("--settle", "3600")
    assert (young["accounted"], young["under_way"]) == (True, 2)
    assert operator.found("--settle", "3600", "--to", "9999-12-31") == young | {"to": "9999-12-31"}
    later = verify.verify(
        load(), operator.clients, first=LONG_AGO.date() - timedelta(days=2), now=datetime.now(UTC) + timedelta(days=91)
    )
    assert (later.whole, later.expired) == (True, 1)
    # It was mirrored some time before it was archived.
    just = verify.verify(
        load(),
        operator.clients,
        first=LONG_AGO.date() - timedelta(days=2),
        now=datetime.now(UTC) + timedelta(days=90, minutes=-2),
    )
    assert (just.whole, just.expired) == (True, 1)

    name = operator.file("records", SECOND, line("s0", SECOND), b"{", b"[1]", b'{"record_id": 7}', history=True)
    unreadable = operator.found("--from", SECOND, code=2)["unreadable"]
    assert (unreadable["count"], unreadable["lines"]) == (3, [f"{name}:{number}" for number in (2, 3, 4)])
    assert "unreadable" in operator.run("verify", "--date", SECOND, code=2).stdout


def test_a_bad_record_does_not_excuse_a_good_one(operator: Operator) -> None:
    """Both have one id: the bad one was refused for good, the good one was archived and is missing. What was refused
    may be anything, such as brackets that no parser follows."""
    operator.file("records", FIRST, line("r0"))
    operator.mirror("r0", line("r0"))
    operator.refuse("classify", "m1", line("r0", features={}), "features.carrier: Field required")
    operator.refuse("classify", "m2", b"[" * 100_000, "document: Invalid JSON")
    assert operator.settled()["missing"]["Classification"]["record_ids"] == ["r0"]


def test_what_is_too_large_for_an_entity_is_set_aside(operator: Operator) -> None:
    """What an earlier release has archived of it is expected nowhere else; a letter without a payload does not excuse a
    small record of the same id."""
    operator.file("records", FIRST, line("large", note="x" * (1 << 20)), line("small"))
    operator.file("records", SECOND, line("kept", SECOND))
    for unit in ("ingest_fast", "classify"):
        for name in ("large", "small"):
            operator.refuse(unit, name, b"", "document: too large", record_id=name)
    found = operator.settled()
    assert found["set_aside"]["count"] == 1
    assert "; the limit is 1000000" in next(iter(found["set_aside"]["reasons"].values()))
    assert found["missing"]["Record"]["record_ids"] == ["small", "kept"]


def test_a_record_of_two_days_is_one_record(operator: Operator) -> None:
    """It was sent twice, with two event times, and is missing: it is published once, and does not make up for another
    one that is nowhere to be had."""
    operator.file("records", FIRST, line("r0"))
    operator.file("records", SECOND, line("r0", SECOND))
    operator.answer("lost", FIRST)
    operator.settled()
    told = operator.run("replay", "--from", FIRST, *AT_ONCE, "--yes", code=2).stdout
    assert "Published 1 records" in told
    assert operator.published() == [("r0", line("r0"))]


def test_more_records_than_one_lookup_takes(operator: Operator) -> None:
    """Every one is looked up."""
    names = [f"r{number}" for number in range(1, 1003)]
    operator.file("records", FIRST, *(line(name) for name in names))
    for name in names[:3] + names[-3:]:
        operator.mirror(name, line(name))
    found = operator.settled()
    assert (found["mirrored"], found["missing"]["Record"]["count"]) == (6, 996)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--date", FIRST, "--to", SECOND], "--date is one day"),
        (["--from", SECOND, "--to", FIRST], "no day from 2013-03-02 to 2013-03-01"),
        (["--to", FIRST], "give --from"),
    ],
)
def test_a_span_without_days_is_refused(arguments: list[str], words: str) -> None:
    """Before anything is read."""
    for command in ("verify", "replay"):
        result = CliRunner().invoke(app, [command, *arguments])
        assert result.exit_code == 1
        assert words in result.output


STRANGERS = {
    f"archive/records/dt={FIRST}/a:b.json": "not of the form",
    f"archive/records/dt={FIRST}/a*[x]{{y}}?.json": "not of the form",
    f"archive/records/dt={FIRST}/back\\slash.json": "not of the form",
    f"archive/records/dt={FIRST}/x.json.gz": "not of the form",
    f"archive/records/dt={FIRST}/sub/x.json": "outside of the folders",
    "archive/records/A.json": "outside of the folders",
    "archive/records/x.json": "outside of the folders",
    "archive/records/dt=yesterday/a.json": "no day",
    "archive/dead-letters/dt=2999-13-01/a.json": "no day",
}


def test_an_object_that_is_none_of_the_archives_is_named_and_not_read(operator: Operator) -> None:
    """Whatever somebody put there is named with what is wrong, counts as no record, and is not published again; the
    rest is accounted for. The archive's own payloads of dead letters are no strangers."""
    operator.file("records", FIRST, line("r0"))
    operator.mirror("r0", line("r0"))
    operator.answer("r0", FIRST)
    for number, name in enumerate(STRANGERS):
        operator.put(name, line(f"stranger{number}"))
    operator.put(f"archive/records/dt={FIRST}/empty.json", b"")
    operator.put("archive/dead-letters/payloads/0a1b", b"too large")

    found = operator.found("--limit", "100", *AT_ONCE)
    assert (found["accounted"], found["archived"], found["duplicates"]) == (True, 1, 0)
    named = found["strangers"]["reasons"]
    assert set(named) == {*STRANGERS, f"archive/records/dt={FIRST}/empty.json"}
    for name, words in STRANGERS.items():
        assert words in named[name]
    assert found["strangers"]["count"] == len(named)
    assert "archive/records/dt=yesterday/a.json" in operator.run("verify", "--date", FIRST, "--limit", "99").stderr

    told = operator.run("replay", "--from", FIRST, "--all", "--yes")
    assert [name for name, _ in operator.published()] == ["r0"]
    assert "archive/records/A.json: it lies outside" in told.stderr


def test_a_damaged_object_is_named_and_the_rest_goes_on(operator: Operator) -> None:
    """What says gzip and is none cannot be read: a loss, which the exit code tells."""
    operator.put(f"archive/records/dt={FIRST}/broken.json", b"no gzip", content_encoding="gzip")
    operator.file("records", FIRST, line("r0"))
    operator.mirror("r0", line("r0"))
    operator.answer("r0", FIRST)
    found = operator.found(*AT_ONCE, code=2)
    assert (found["archived"], found["classified"]) == (1, 1)
    assert found["unreadable"]["lines"] == [f"archive/records/dt={FIRST}/broken.json"]
    told = operator.run("replay", "--from", FIRST, "--all", "--yes")
    assert "broken.json: its content encoding says gzip" in told.stderr
    assert [name for name, _ in operator.published()] == ["r0"]


def test_what_todays_class_refuses_is_set_aside_and_not_missed(operator: Operator) -> None:
    """It is archived, with its reason told, and no consumer would take it again: it is missing nowhere, and nobody
    publishes it. What was answered all the same is in the archive, and a good line of the same id is expected."""
    bad = line("bad", features={})
    operator.file("records", FIRST, bad, line("good"), line("both", features={}), line("both"))
    operator.file("records", FIRST, line("both", features={}), b'{"record_id": "__kept__"}')
    operator.answer("bad", FIRST)
    operator.mirror("good", line("good"))
    operator.answer("good", FIRST)
    found = operator.settled()
    assert found["missing"]["archive"]["count"] == 0
    assert found["missing"]["Record"]["record_ids"] == found["missing"]["Classification"]["record_ids"] == ["both"]
    assert found["set_aside"]["count"] == 3
    assert "features.carrier: Field required" in next(iter(found["set_aside"]["reasons"].values()))
    assert found["unreadable"]["count"] == 1, "an id that Datastore keeps for itself is none"
    printed = operator.run("verify", "--date", FIRST, *AT_ONCE, code=2)
    assert "3 lines set aside" in printed.stdout
    assert "features.carrier: Field required" in printed.stderr
    told = operator.run("replay", "--from", FIRST, "--all", "--yes")
    assert "features.carrier: Field required" in told.stderr
    assert [name for name, _ in operator.published()] == ["both", "good"]


def test_a_line_is_what_spark_takes_for_one(operator: Operator) -> None:
    """A carriage return is white space within a document, and a line of white space is none."""
    returned = line("returned").replace(b": ", b":\r", 1)
    operator.file("records", FIRST, returned, b"", b" \t", line("windows") + b"\r")
    for name in ("returned", "windows"):
        operator.mirror(name, line(name))
        operator.answer(name, FIRST)
    found = operator.found(*AT_ONCE)
    assert (found["archived"], found["unreadable"]["count"]) == (2, 0)
    operator.run("replay", "--from", FIRST, "--all", "--yes")
    assert dict(operator.published())["returned"] == returned


def test_a_dead_letter_that_is_none_is_named_and_the_others_count(operator: Operator) -> None:
    """No JSON, no object, no letter, no base64: each by its object and line."""
    now = datetime.now(UTC)
    operator.file("records", FIRST, line("refused"))
    operator.mirror("refused", line("refused"))
    name = operator.file("dead-letters", f"{now:%Y-%m-%d}", b"{", b"null", b'{"unit": "classify"}', b"", b"\xff")
    operator.refuse("classify", "m1", line("refused"), "too large")
    scrambled = (
        f'{{"unit":"classify","topic":"records","message_id":"m2","reason":"other","payload_base64":"%%%",'
        f'"refused_at":"{now.isoformat()}"}}'
    )
    operator.file("dead-letters", f"{now:%Y-%m-%d}", scrambled.encode())
    operator.file("records", SECOND, line("missed", SECOND))
    found = operator.settled()
    assert found["unreadable"]["lines"] == [f"{name}:{number}" for number in (1, 2, 3, 5)]
    assert found["refused"]["Classification"] == 1
    assert sorted(one["reason"] for one in found["dead_letters"]) == ["other", "too large"]
    assert found["missing"]["Classification"]["record_ids"] == ["missed"]


def test_an_entity_that_cannot_be_read_is_named_and_the_others_are_compared(operator: Operator) -> None:
    """By its kind, key and property, each once, and the exit code tells; what it stands for is there all the same."""
    for name in ("r0", "r1", "r2"):
        operator.file("records", FIRST, line(name))
        operator.mirror(name, line(name))
        operator.answer(name, FIRST)
    answer = operator.clients.datastore.get(operator.clients.datastore.key("Classification", "r0"))
    record = operator.clients.datastore.get(operator.clients.datastore.key("Record", "r1"))
    other = operator.clients.datastore.get(operator.clients.datastore.key("Classification", "r2"))
    answer["event_time"], record["stored_at"], other["classified_at"] = "noon", "yesterday", 7
    unkept = operator.clients.datastore.key("Classification", "unkept")
    operator.answer("unkept", FIRST)
    lost = operator.clients.datastore.get(unkept)
    lost["classified_at"] = "once"
    operator.clients.datastore.put_multi([answer, record, other, lost])
    found = operator.settled()
    told = {(one["kind"], one["key"], one["property"]) for one in found["broken"]}
    assert told == {
        ("Classification", "r0", "event_time"),
        ("Record", "r1", "stored_at"),
        ("Classification", "unkept", "classified_at"),
    }
    assert (found["mirrored"], found["classified"]) == (3, 4)
    assert {place: one["record_ids"] for place, one in found["missing"].items() if one["count"]} == {
        "archive": ["unkept"]
    }
    shown = operator.run("verify", "--date", FIRST, *AT_ONCE, code=2).stderr
    assert "Record r1, property stored_at: expected a timestamp" in shown

    operator.mirror("unkept", line("unkept", features={}))
    told_again = operator.run("replay", "--from", FIRST, *AT_ONCE, "--yes", code=2)
    assert "Record unkept, property payload: features.carrier: Field required" in told_again.stderr
    assert operator.published() == []


def test_a_model_that_nobody_can_be_asked_about_is_said_to_be_so(operator: Operator) -> None:
    """That nothing is known of it is told, and is no fault of the records."""
    pointer = ModelPointer(
        use_case="flights", model_version="v", uri="gs://b/models/v", manifest_sha256="0", generation=1,
        moved_at=LONG_AGO,
    )  # fmt: skip
    operator.entity(pointer, "flights")
    found = operator.found()
    assert (found["accounted"], found["troubles"]) == (True, [])
    assert "no functions" in found["unasked"]
    assert "nobody says whether the pointer's model loads" in operator.run("verify", "--date", FIRST).stderr
