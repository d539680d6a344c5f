"""Reading: what is good is filed as it was sent, what is not becomes a dead letter that says why."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from apache_beam import pvalue
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from dataflow import reading
from dataflow.reading import ReadDocuments, Source
from schemas import DeadLetter
from tests.dataflow.conftest import RECORD, label, record

FEATURES = RECORD["features"]


def read(topic: str, *documents: Any, shards: int = 1, window_seconds: int = 60, at: float = 0) -> tuple[dict, list]:
    """The lines by key, and the dead letters, of one bundle."""
    step = ReadDocuments(topic, "flights", window_seconds, shards)
    step.setup()
    step.start_bundle()
    filed: dict[tuple[str, str, int], list[bytes]] = {}
    dead: list[DeadLetter] = []
    out = []
    for document in documents:
        element = document if isinstance(document, PubsubMessage | Source) else Source(document, "m1")
        out += list(step.process(element, Timestamp(at)))
    out += list(step.finish_bundle())
    for one in out:
        if isinstance(one, pvalue.TaggedOutput):
            assert one.tag == reading.DEAD
            dead.append(DeadLetter.model_validate_json(one.value))
        else:
            key, lines = one.value
            filed.setdefault(key, []).extend(lines)
    return filed, dead


def reason(topic: str, document: bytes) -> str:
    """Why a document is refused; that it is refused, and kept byte for byte."""
    filed, dead = read(topic, document)
    assert filed == {}
    (letter,) = dead
    assert base64.b64decode(letter.payload_base64) == document
    assert (letter.unit, letter.topic, letter.message_id) == ("archive", topic, "m1")
    return letter.reason


def spliced(text: bytes) -> bytes:
    """A good record with a field that no one knows, spelt as given."""
    return record()[:-1] + b', "x": ' + text + b"}"


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "Invalid JSON"),
        (b"   \n", "Invalid JSON"),
        (b"\xff\xfe not text", "Invalid JSON"),
        (b"\xef\xbb\xbf" + record(), "Invalid JSON"),
        (b"{not json", "Invalid JSON"),
        (b"null", "an object"),
        (b"[]", "an object"),
        (b'"text"', "an object"),
        (b"[" * 100_000, "recursion limit"),
        (record() + record(), "trailing characters"),
        (record() + b"\n" + record("r2"), "trailing characters"),
        (record() + b"\0", "trailing characters"),
        (spliced(b'"a\nb"'), "control character"),
        (spliced(b'"\xff"'), "invalid unicode"),
        (spliced(b'"\\ud800"'), "hex escape"),
        (spliced(b"[" * 500 + b"]" * 500), "recursion limit"),
        (spliced(b"1" * 5000), "number out of range"),
        (spliced(b"NaN"), "NaN and Infinity are no JSON"),
        (spliced(b'["Infinity",-Infinity]'), "NaN and Infinity are no JSON"),
        (spliced(b"1,") + b"", "Invalid JSON"),
        (record("../../etc/passwd"), "record_id"),
        (record(""), "record_id"),
        (record("x" * 129), "record_id"),
        (record("a\nb"), "record_id"),
        (record(event_time="yesterday"), "event_time"),
        (record(event_time="2013-01-31T10:15:00"), "event_time"),
        (record(event_time="2013-02-29T10:15:00Z"), "event_time"),
        (record(event_time="2013-01-31T24:00:00Z"), "hours 00 to 23"),
        (record(event_time="2016-12-31T23:59:60Z"), "no leap second"),
        (record(event_time="2013-01-31T10:15:00+24:00"), "hours 00 to 23"),
        (record(event_time="0001-01-01T00:00:00+14:00"), "event_time"),
        (record(event_time="9999-12-31T23:59:59-14:00"), "event_time"),
        (record(event_time=None), "event_time"),
        (record(event_time=1e300), "event_time"),
        (record(features=None), "features"),
        (record(features={**FEATURES, "distance": float("nan")}), "features.distance"),
        (record(features={**FEATURES, "distance": 10**400}), "features.distance"),
        (record(features={**FEATURES, "carrier": {"deep": True}}), "features.carrier"),
        (b'{"record_id": "r1"}', "event_time: Field required; features: Field required"),
    ],
)
def test_a_record_that_cannot_be_read_is_refused_with_its_reason(document: bytes, why: str) -> None:
    """Whatever it is made of: no crash, the payload kept byte for byte, and the reason names the fault."""
    assert why in reason("records", document)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (label(label="lost"), "expected one of on_time, late"),
        (label(label=""), "label"),
        (label("a/b"), "record_id"),
        (label(event_time="2013-01-31"), "event_time"),
        (label(event_time="2016-12-31T23:59:60Z"), "no leap second"),
        (label()[:-1] + b',"x":NaN}', "NaN and Infinity are no JSON"),
        (record(), "label: Field required"),
    ],
)
def test_a_label_that_cannot_be_read_is_refused_with_its_reason(document: bytes, why: str) -> None:
    """The label must be one of the use case's."""
    assert why in reason("labels", document)


@pytest.mark.parametrize("event_time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", 1357035300])
def test_a_comparison_that_cannot_be_filed_under_a_date_is_refused(event_time: Any) -> None:
    """A time at the calendar's end is no crash here either: it would come again for ever, and hold up the rest."""
    document = {
        "record_id": "r1", "event_time": event_time, "compared_at": "2013-03-02T15:00:00Z", "generation": 3,
        "served_version": "2013-03-01/one", "served_label": "late", "served_probability": 0.75,
        "shadow_version": "2013-03-01/two", "shadow_label": "on_time", "shadow_probability": 0.25,
    }  # fmt: skip
    assert "event_time" in reason("comparisons", json.dumps(document).encode())
    filed, dead = read("comparisons", json.dumps(document | {"event_time": "2013-03-02T15:00:00Z"}).encode())
    assert (list(filed), dead) == ([("comparisons", "2013-03-02", 0)], [])


def test_what_lies_in_the_dead_letters_and_is_none_is_refused_in_turn() -> None:
    """So that a message which Pub/Sub itself gave up on is filed like any other, and its own letter is not refused."""
    _, (letter,) = read("dead-letters", PubsubMessage(record(), {"CloudPubSubDeadLetterSourceSubscription": "s"}, "m9"))
    assert (letter.topic, letter.message_id) == ("dead-letters", "m9")
    assert letter.attributes == {"CloudPubSubDeadLetterSourceSubscription": "s"}
    filed, dead = read("dead-letters", letter.model_dump_json().encode())
    assert dead == []
    assert list(filed) == [("dead-letters", letter.refused_at.date().isoformat(), 0)]


def test_a_dead_letter_keeps_the_message_s_id_and_attributes() -> None:
    """Who sent it can be found, and it can be sent again as it was."""
    _, (letter,) = read("records", PubsubMessage(b"{", {"sender": "gate 7"}, "m7"))
    assert (letter.message_id, letter.attributes) == ("m7", {"sender": "gate 7"})
    _, (letter,) = read("records", PubsubMessage(None, {"only": "attributes"}, "m8"))
    assert (letter.message_id, letter.payload_base64) == ("m8", "")


@pytest.mark.parametrize(
    "text",
    [
        b"12345678901234567890123456789",
        b"1.10",
        b"1e400",
        b"0.1000000000000000055511151231257827",
        b'"\\u00e9 \xc3\xa9 \\/"',
        b'{"a":1,  "a":2}',
        b"[" * 100 + b"]" * 100,
        b'"NaN Infinity"',
    ],
)
def test_a_field_that_no_one_knows_is_kept_byte_for_byte(text: bytes) -> None:
    """The archive is what was sent, not what was understood of it: also where it was sent over several lines."""
    document = spliced(text)
    filed, dead = read("records", document, b"\r\n" + document.replace(b", ", b",\r\n\t"))
    assert dead == []
    ((_, (first, second)),) = filed.items()
    assert first == document
    assert b"\n" not in second
    assert b"\r" not in second
    assert text.replace(b", ", b",  \t") in second
    assert json.loads(first) == json.loads(second)


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    """As it does for Spark and the functions: no reader sees another record than the one that was checked."""
    assert "record_id" in reason("records", record()[:-1] + b', "record_id": "../x"}')
    filed, _ = read("records", b'{"record_id": "../x", ' + record()[1:])
    assert list(filed) == [("records", "2013-01-31", 0)]


@pytest.mark.parametrize(
    ("event_time", "day"),
    [
        ("2013-01-31T23:59:59.999999999Z", "2013-01-31"),
        ("2013-01-31T23:30:00-05:00", "2013-02-01"),
        ("2013-02-01T00:30:00+14:00", "2013-01-31"),
        ("2013-02-01T00:30:00+23:59", "2013-01-31"),
        ("1899-12-30T00:00:00Z", "1899-12-30"),
        ("1601-01-01T00:00:00Z", "1601-01-01"),
        ("0002-01-01T00:00:00Z", "0002-01-01"),
        ("9998-12-31T23:59:59Z", "9998-12-31"),
    ],
)
def test_a_record_is_filed_under_the_date_of_its_event_in_utc(event_time: str, day: str) -> None:
    """Not under the date of its arrival, nor of its zone."""
    filed, _ = read("records", record(event_time=event_time))
    assert list(filed) == [("records", day, 0)]


def test_lines_of_different_windows_are_not_put_together() -> None:
    """An element has one timestamp, so all its lines must belong to that window."""
    step = ReadDocuments("records", "flights", 60, 1)
    step.setup()
    step.start_bundle()
    for number, at in enumerate((59, 60, 61, -1)):
        assert list(step.process(Source(record(f"r{number}"), "m"), Timestamp(at))) == []
    released = [(value.timestamp, len(value.value[1])) for value in step.finish_bundle()]
    assert sorted(released) == [(Timestamp(-1), 1), (Timestamp(59), 1), (Timestamp(60), 2)]


@pytest.mark.parametrize(("most", "lines"), [("MAX_HELD_LINES", 3), ("MAX_HELD_BYTES", 3 * len(record("r0")))])
def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch, most: str, lines: int) -> None:
    """A bundle of any length lets go of its lines as it goes, by number and by size; none is lost or doubled."""
    monkeypatch.setattr(reading, most, lines)
    step = ReadDocuments("records", "flights", 60, 1)
    step.setup()
    step.start_bundle()
    sizes, seen = [], []
    for number in range(7):
        for value in step.process(Source(record(f"r{number}"), "m"), Timestamp(0)):
            sizes.append(len(value.value[1]))
            seen += value.value[1]
    for value in step.finish_bundle():
        sizes.append(len(value.value[1]))
        seen += value.value[1]
    assert sizes == [3, 3, 1]
    assert seen == [record(f"r{number}") for number in range(7)]


def test_shards_share_the_lines() -> None:
    """Each line is in exactly one of them."""
    filed, _ = read("records", *(record(f"r{number}") for number in range(10)), shards=3)
    assert {key[2]: len(lines) for key, lines in filed.items()} == {0: 4, 1: 3, 2: 3}
    assert len({line for lines in filed.values() for line in lines}) == 10


def damaged(document: bytes) -> st.SearchStrategy[bytes]:
    """A document with some bytes in the place of others."""
    places = st.integers(0, len(document))
    return st.builds(
        lambda start, length, junk: document[:start] + junk + document[start + length :],
        places,
        st.integers(0, 20),
        st.one_of(st.binary(max_size=8), st.text('0123456789eE+-.:TZ"{}[],\n \\u', max_size=8).map(str.encode)),
    )


@given(st.one_of(st.binary(max_size=200), damaged(record()), damaged(label())))
def test_no_bytes_can_stop_it(data: bytes) -> None:
    """Whatever strangers send is filed or refused, and what is filed is one line of JSON."""
    for topic in reading.READERS:
        filed, dead = read(topic, data)
        assert len(dead) + len(filed) == 1
        assert all(isinstance(json.loads(line), dict) for lines in filed.values() for line in lines)


def test_a_dead_letter_says_when() -> None:
    """It is filed under that date."""
    before = datetime.now(UTC)
    _, (letter,) = read("records", b"")
    assert before <= letter.refused_at <= datetime.now(UTC)
