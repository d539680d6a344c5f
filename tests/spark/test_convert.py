"""Promises of the conversion: each record once, with its latest label, and everything unreadable counted."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import Field

from schemas.use_cases import use_case
from spark import archive, reading, snapshot
from spark.conversion import convert
from spark.features import features_ddl
from spark.job import JobFailedError
from tests.spark.conftest import ShopFeatures

pytestmark = pytest.mark.spark


class Coloured(ShopFeatures):
    """The shop's, and one more."""

    colour: str | None = None


def test_a_record_is_kept_once_and_the_same_one_wins_whatever_the_order(desk, record):
    """Of two versions of a record the later one wins; of two at the same time the same one, in any file order."""
    early, late = record("a", day=0, price=1.0), record("a", day=2, price=2.0)
    left, right = record("b", price=5.0), record("b", price=6.0)
    desk.put("records", [late, left], "1.json")
    desk.put("records", [early, right, right], "2.json")
    convert(desk.spark, desk.storage, desk.job)
    first = desk.rows()
    assert {name: row.features.price for name, row in first.items()} == {"a": 2.0, "b": 6.0}
    assert desk.converted().counts["duplicates"] == 3

    desk.job = replace(desk.job, run_id="run-2")
    desk.put("records", [right, early, right], "1.json")
    desk.put("records", [left, late], "2.json")
    convert(desk.spark, desk.storage, desk.job)
    assert desk.rows() == first


def test_the_latest_label_is_joined(desk, record, label):
    """A label that was corrected later replaces the first; a label without its record is counted; late is no matter."""
    desk.put("records", [record("a"), record("b"), record("c")])
    desk.put("labels", [label("a", "returned", day=9), label("a", "kept", day=3), label("b", "kept", day=40)])
    desk.put("labels", [label("zz")], "2.json", day="2024-05-01")
    convert(desk.spark, desk.storage, desk.job)
    assert {name: row.label for name, row in desk.rows().items()} == {"a": "returned", "b": "kept", "c": None}
    counts = desk.converted().counts
    assert (counts["labelled"], counts["unlabelled"], counts["labels_orphaned"]) == (2, 1, 1)


def test_numbers_come_as_doubles_however_they_were_sent(desk, record):
    """A whole number in a fractional field, a fraction-free double in a whole one, a boolean, null and absence."""
    desk.put("records", [record("a", price=7, items=3, rating=4, returning=True), record("b", rating=None)])
    convert(desk.spark, desk.storage, desk.job)
    rows = desk.rows()
    assert rows["a"].features.asDict() == {
        "country": "br",
        "coupon": None,
        "items": 3.0,
        "price": 7.0,
        "rating": 4.0,
        "returning": 1.0,
    }
    assert rows["b"].features.rating is None
    assert rows["b"].features.coupon is None


def test_unknown_fields_are_ignored(desk, record):
    """A newer publisher's fields do not disturb the job."""
    desk.put("records", [record("a", novelty={"deep": [1]}) | {"extra": "x"}])
    convert(desk.spark, desk.storage, desk.job)
    assert list(desk.rows()) == ["a"]


def test_unreadable_lines_are_counted_and_reported(desk, record, label, capfd):
    """Broken JSON, a wrong type, a missing part, a time without a zone or none at all, an unknown label."""
    bad_records = [
        '{"record_id": "x1", "event_time": "2024-0',
        "not json",
        b"\xff\xfe\x00",
        record("x2", price="cheap"),
        record("x3", price=float("nan")),
        {key: value for key, value in record("x4").items() if key != "features"},
        {key: value for key, value in record("x5").items() if key != "record_id"},
        record("x6") | {"event_time": "yesterday"},
        record("x7") | {"event_time": "2024-03-01T12:00:00"},
        record(""),
    ]
    bad_labels = ["{", label("good", "lost"), label("good") | {"event_time": None}]
    desk.put("records", [*bad_records, record("good"), record("zone") | {"event_time": "2024-03-02T01:30:00+02:00"}])
    desk.put("labels", bad_labels)
    convert(desk.spark, desk.storage, desk.job)
    rows = desk.rows()
    assert sorted(rows) == ["good", "zone"]
    assert rows["zone"].dt.isoformat() == "2024-03-01"
    assert rows["good"].label is None
    counts = desk.converted().counts
    assert (counts["records_lines"], counts["records_corrupt"]) == (len(bad_records) + 2, len(bad_records))
    assert (counts["labels_lines"], counts["labels_corrupt"]) == (3, 3)
    assert "10 record lines and 3 label lines not readable" in capfd.readouterr().err


def test_a_time_is_read_however_its_zone_is_written(desk, record):
    """The usual form, with fractions of a second, lower case, and other zones; what is no time is no record."""
    written = {
        "2024-03-01T23:59:59Z": "2024-03-01 23:59:59",
        "2024-03-01T23:59:59.25Z": "2024-03-01 23:59:59.25",
        "2024-03-01T23:59:59.1234567Z": "2024-03-01 23:59:59.123456",
        "2024-03-01t23:59:59z": None,
        "2024-03-01 23:59:59Z": None,
        "2024-03-01T23:59:59+0000": None,
        "2024-03-01T23:59:59-01:00": "2024-03-02 00:59:59",
        "2024-03-01T23:59:59+01:00Z": None,
        "2024-03-01T23:59:59ZZ": None,
        "2024-02-30T23:59:59Z": None,
        "2024-03-01T24:00:00Z": None,
        "2024-03-01T23:59:59Z\n": None,
        "2024-03-01T23:59:59+19:00": "2024-03-01 04:59:59",
        "1899-12-30T00:00:00Z": "1899-12-30 00:00:00",
        "2024-03-01T23:59:59Z\u2028": None,
    }
    desk.put("records", [record(f"r{place}") | {"event_time": time} for place, time in enumerate(written)])
    convert(desk.spark, desk.storage, desk.job)
    rows = desk.rows()
    found = {
        time: rows[f"r{place}"].event_time.isoformat(" ").rstrip("0") if f"r{place}" in rows else None
        for place, time in enumerate(written)
    }
    assert found == {time: expected and expected.rstrip("0") for time, expected in written.items()}


def test_a_line_is_what_the_class_says_it_is(desk, record):
    """Nobody but the class judges: what it takes is stored with the values that it gives, and the rest is refused, also
    where Spark's own reader would say otherwise."""
    plain = json.dumps(record("x"))
    lines = [
        plain.replace('"x"', '"digits", "novelty": ' + "9" * 1001),
        plain.replace('"x"', '"decimals", "novelty": 0.' + "9" * 1001),
        plain.replace('"x"', '"twice"').replace('"price": 9.5', '"price": "x", "price": 1'),
        plain.replace('"x"', '"twice.bad"').replace('"price": 9.5', '"price": 1, "price": "x"'),
        plain.replace('"x"', '"nan", "novelty": NaN'),
        plain.replace('"x"', '"infinite", "novelty": [-Infinity]'),
        plain.replace('"x"', '"huge"').replace('"price": 9.5', '"price": 1e999'),
        plain.replace('"x"', '"whole"').replace('"items": 1', '"items": 3.0'),
        plain.replace('"x"', '"half"').replace('"items": 1', '"items": 3.5'),
        plain.replace('"x"', '"bits"').replace('"items": 1', '"items": 9007199254740991'),
        plain.replace('"x"', '"bits.more"').replace('"items": 1', '"items": 9007199254740993'),
        plain.replace('"x"', '"flag"').replace("false", "1"),
        plain.replace('"x"', '"text"').replace("9.5", '"9.5"'),
        plain.replace('"x"', '"null"').replace("9.5", "null"),
        plain.replace('"x"', '"surrogate"').replace('"br"', '"\\ud800"'),
        plain.replace('"x"', '"pair"').replace('"br"', '"\\ud83d\\ude00"'),
        plain.replace('"x"', '"separator"').replace('"br"', '"\u2028\u0085"'),
        plain.replace('"x"', '"returned"').replace(": {", ":\r{"),
        plain.replace('"x"', '"tabbed"') + "\t\r",
        plain.replace('"x"', '"a space"'),
        plain.replace('"x"', '"array"').join("[]"),
        "\ufeff" + plain.replace('"x"', '"marked"'),
        plain.replace('"x"', '"deep", "novelty": ' + "[" * 5000 + "]" * 5000),
        plain.replace('"x"', '"no.utf"').encode().replace(b"br", b"\xff\xfe"),
    ]
    expected = {}
    for line in lines:
        try:
            read = desk.job.case.read_record(line if isinstance(line, bytes) else line.encode())
        except ValueError:
            continue
        expected[read.record_id] = {name: value if isinstance(value, str | None) else float(value)
                                    for name, value in read.features}  # fmt: skip
    assert 5 < len(expected) < len(lines) - 5
    desk.put("records", [*lines, "", "  \t"])
    convert(desk.spark, desk.storage, desk.job)
    assert {name: row.features.asDict() for name, row in desk.rows().items()} == expected
    report = desk.converted()
    assert report.counts["records_lines"] == len(lines), "a line of white space is none"
    assert report.counts["records_corrupt"] == len(report.refused) == len(lines) - len(expected)
    assert all(line["reason"] for line in report.refused)
    assert {line["object"] for line in report.refused} == {f"{desk.job.archive}/archive/records/dt=2024-03-01/one.json"}


def test_times_of_any_century_are_stored(desk, record, label):
    """A spreadsheet's zero, 1601, the second year and the last but one, of a record and of a label: as they are."""
    times = ["1899-12-30T00:00:00Z", "1850-01-01T00:00:00Z", "1601-01-01T12:00:00.000001Z", "1582-10-10T00:00:00Z",
             "0002-01-01T00:00:00Z", "9998-12-31T23:59:59.999999Z"]  # fmt: skip
    desk.put("records", [record(f"r{place}") | {"event_time": time} for place, time in enumerate(times)])
    desk.put("labels", [label(f"r{place}") | {"event_time": time} for place, time in enumerate(times)])
    convert(desk.spark, desk.storage, desk.job)
    later(desk, "run-2")
    desk.put("labels", [label("r1", "returned", day=90)], "late.json", day="2024-05-30")
    convert(desk.spark, desk.storage, desk.job)
    made = snapshot.read(desk.storage, desk.job, desk.job.run_id)
    rows = snapshot.rows(desk.spark, desk.job, made, features_ddl(desk.job.case)).selectExpr(
        "record_id", "unix_micros(event_time) AS event", "unix_micros(label_time) AS known", "CAST(dt AS STRING) AS dt"
    )
    found = {row.record_id: row for row in rows.collect()}
    epoch, tick = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
    for place, time in enumerate(times):
        row, micros = found[f"r{place}"], (datetime.fromisoformat(time) - epoch) // tick
        assert (row.event, row.dt) == (micros, time[:10])
        assert row.known == micros or place == 1


ODD = {
    "archive/records/dt=2024-03-01/a:b.json": "its name is not of the form",
    "archive/records/dt=2024-03-01/a*[x]{y}?.json": "its name is not of the form",
    "archive/records/dt=2024-03-01/back\\slash.json": "its name is not of the form",
    "archive/records/dt=2024-03-01/x.json.gz": "its name is not of the form",
    "archive/records/dt=2024-03-01/_half.json": "its name is not of the form",
    "archive/records/dt=2024-03-01/sub/x.json": "it lies outside of the folders",
    "archive/records/x.json": "it lies outside of the folders",
    "archive/records/dt=yesterday/a.json": "is no day",
    "archive/records/dt=2024-03-02/none.json": "it is empty",
    "archive/labels/dt=2024-03-01/a:b.json": "its name is not of the form",
}


def test_what_somebody_put_into_the_archive_is_skipped_and_named(desk, record, label, capfd):
    """Objects that no pipeline of ours wrote stop nothing, are read by nobody, and have nothing else read again."""
    for name in ODD:
        path = desk.storage.root / desk.job.archive.removeprefix("gs://") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        odd = {"none.json": b"", "x.json.gz": b"\x1f\x8b broken"}
        path.write_bytes(odd.get(path.name, json.dumps(record("o")).encode()))
    desk.put("records", [record("a"), record("b")])
    desk.put("records", [record("c", day=1)], "two.json", day="2024-03-02")
    desk.put("labels", [label("a")])
    convert(desk.spark, desk.storage, desk.job)
    assert sorted(desk.rows()) == ["a", "b", "c"]
    report = desk.converted()
    assert len(report.inputs) == 3
    assert report.counts["objects_skipped"] == len(ODD)
    named = {uri.removeprefix(f"{desk.job.archive}/"): why for uri, why in report.skipped.items()}
    assert named.keys() == ODD.keys()
    assert all(ODD[name] in why for name, why in named.items())
    assert f"{len(ODD)} objects skipped: gs://" in capfd.readouterr().err

    later(desk, "run-2")
    desk.put("records", [record("d")], "later.json")
    convert(desk.spark, desk.storage, desk.job)
    report = desk.converted()
    assert [uri.rpartition("/")[2] for uri in report.inputs] == ["later.json"]
    assert report.counts["duplicates"] == 0
    assert sorted(desk.rows()) == ["a", "b", "c", "d"]


def test_large_objects_are_read_by_line_and_give_the_same(desk, record, label, monkeypatch):
    """Small objects are held as a whole, large ones are not; what a line is does not depend on it, and no object is
    read twice, whichever lie together in a folder."""
    lines = [json.dumps(record(name)).encode() for name in "abc"]
    whole = b"\r\n".join([*lines[:2], b"", b'{"record_id": "\xff"}', b"[]", lines[2]])  # the last one without an end
    folder = desk.storage.root / desk.job.archive.removeprefix("gs://") / "archive/records/dt=2024-03-01"
    folder.mkdir(parents=True)
    (folder / "mixed.json").write_bytes(whole)
    desk.put("records", [record("d")], "small.json")
    desk.put("records", [record("e", day=1)], day="2024-03-02")
    desk.put("labels", [label("a"), label("b")])
    seen, ways, texts = [], [], reading._texts

    def recorded(spark, paths, whole):
        ways[-1] |= {(path.rpartition("/")[2], whole) for path in paths}
        return texts(spark, paths, whole)

    monkeypatch.setattr(reading, "_texts", recorded)
    for limit in (archive.LARGE_BYTES, len(whole) - 1, 1):
        ways.append(set())
        monkeypatch.setattr(archive, "LARGE_BYTES", limit)
        later(desk, f"run-{limit}")
        convert(desk.spark, desk.storage, desk.job)
        report = desk.converted()
        seen.append((desk.rows(), report.counts, report.inputs, report.refused))
        for path in (desk.storage.root / snapshot.root(desk.job).removeprefix("gs://") / "converted").iterdir():
            path.unlink()
    folders = {("dt=2024-03-01", True), ("dt=2024-03-02", True)}
    assert ways[0] == folders
    assert ways[1] == {("mixed.json", False), ("small.json", True), *folders}
    assert {whole for _, whole in ways[2]} == {False}
    assert sorted(seen[0][0]) == ["a", "b", "c", "d", "e"]
    assert seen[0][1]["records_corrupt"] == 2
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]


def test_an_object_that_is_gone_when_spark_comes_to_it_is_named(desk, record, label, monkeypatch, capfd):
    """It was listed, and deleted before it was read: the rest is converted, and a later run reads it if it is back."""
    desk.put("records", [record("a")])
    desk.put("records", [record("b")], "two.json")
    desk.put("labels", [label("a")])
    path = desk.storage.root / desk.job.archive.removeprefix("gs://") / "archive/records/dt=2024-03-01/two.json"
    content, records = path.read_bytes(), reading.records

    def planned(*arguments):
        frame = records(*arguments)
        path.unlink(missing_ok=True)
        return frame

    monkeypatch.setattr(reading, "records", planned)
    convert(desk.spark, desk.storage, desk.job)
    assert list(desk.rows()) == ["a"]
    assert desk.rows()["a"].label == "kept"
    report = desk.converted()
    assert sorted(uri.rpartition("/")[2] for uri in report.inputs) == ["one.json", "one.json"]
    assert "two.json: it was gone before it could be read" in capfd.readouterr().err

    monkeypatch.undo()
    later(desk, "run-2")
    path.write_bytes(content)
    convert(desk.spark, desk.storage, desk.job)
    assert sorted(desk.rows()) == ["a", "b"]


def test_data_is_partitioned_by_the_records_day_and_names_its_inputs(desk, record):
    """One folder a day, one file in it; the report lists each object that was read, with its MD5."""
    desk.put("records", [record("a", day=0), record("b", day=1), record("c", day=1.2)])
    convert(desk.spark, desk.storage, desk.job)
    assert [name for name in desk.listed(desk.job.work) if "=" in name] == ["dt=2024-03-01", "dt=2024-03-02"]
    assert len(desk.listed(f"{desk.job.work}/dt=2024-03-02")) == 1
    uri = f"{desk.job.archive}/archive/records/dt=2024-03-01/one.json"
    content = (desk.storage.root / uri.removeprefix("gs://")).read_bytes()
    md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
    assert desk.converted().inputs == {uri: md5}


def test_an_object_that_comes_while_the_archive_is_listed_is_named(desk, record, monkeypatch):
    """What Spark read is what the report names, also when it saw more than the listing before it."""
    desk.put("records", [record("a")])
    listed = desk.storage.list_blobs

    def list_blobs(bucket, prefix, fields):
        found = listed(bucket, prefix, fields)
        if prefix == "archive/records/":
            desk.put("records", [record("b")], "came.json")
        return found

    monkeypatch.setattr(desk.storage, "list_blobs", list_blobs)
    convert(desk.spark, desk.storage, desk.job)
    assert set(desk.rows()) == {"a", "b"}
    inputs = desk.converted().inputs
    assert sorted(uri.rpartition("/")[2] for uri in inputs) == ["came.json", "one.json"]
    assert all(inputs.values())


@pytest.mark.parametrize("names", [[], ["_half", ".hidden"]])
def test_an_archive_without_objects_fails_with_cause_and_fix(desk, record, names):
    """No object, or only such as Spark does not see: a failure that says what to check, and no report."""
    for name in names:
        desk.put("records", [record("a")], name)
    with pytest.raises(JobFailedError, match=r"archive/records has no objects.*check that the archive"):
        convert(desk.spark, desk.storage, desk.job)
    assert desk.storage.written == []


def test_an_archive_without_a_readable_record_fails(desk, label):
    """Nothing but broken lines is no data."""
    desk.put("records", ["{", "}"])
    desk.put("labels", [label("a")])
    with pytest.raises(JobFailedError, match="none of the 2 lines"):
        convert(desk.spark, desk.storage, desk.job)
    assert desk.storage.written == []


def test_a_converted_run_is_not_converted_again(desk, record):
    """A job that is started again after its end does nothing; one that broke off starts over."""
    desk.put("records", [record("a")])
    convert(desk.spark, desk.storage, desk.job)
    desk.put("records", [record("b")], "2.json")
    convert(desk.spark, desk.storage, desk.job)
    assert list(desk.rows()) == ["a"]

    (desk.storage.root / f"{desk.job.work}/convert.json".removeprefix("gs://")).unlink()
    convert(desk.spark, desk.storage, desk.job)
    assert sorted(desk.rows()) == ["a", "b"]


def later(desk, run_id):
    """The same desk for the next run."""
    desk.job = replace(desk.job, run_id=run_id)


def runs_of(desk):
    """Which run wrote each day of the snapshot."""
    report = desk.converted()
    return {day: where.run_id for day, where in report.days.items()}


def test_a_run_reads_what_is_new_and_writes_the_days_it_touches(desk, record, label):
    """New records, late labels, corrections and duplicates reach back to the days they belong to; the rest is not
    written again; all of it equals one conversion of the whole archive."""
    desk.put("records", [record("a", day=0), record("b", day=1), record("c", day=2)])
    desk.put("labels", [label("a"), label("gone"), label("d", day=3)])
    convert(desk.spark, desk.storage, desk.job)
    assert set(runs_of(desk).values()) == {"run-1"}

    later(desk, "run-2")
    desk.put("records", [record("a", day=0), record("c", day=6, price=3.0), record("d", day=5), "{"], "late.json")
    desk.put("records", [record("e", day=5)], "e.json", day="2024-03-06")
    desk.put("labels", [label("b", "returned", day=40)], "late.json", day="2024-04-10")
    convert(desk.spark, desk.storage, desk.job)
    assert runs_of(desk) == {
        "2024-03-01": "run-2",  # a came twice
        "2024-03-02": "run-2",  # b was labelled late
        "2024-03-06": "run-2",
        "2024-03-07": "run-2",  # c moved here, and its old day is gone
    }
    report = desk.converted()
    assert [uri.rpartition("/")[2] for uri in report.inputs] == ["late.json", "late.json", "e.json"]
    assert report.previous == "run-1"

    later(desk, "run-3")
    desk.put("records", [record("f", day=9)], "f.json", day="2024-03-10")
    convert(desk.spark, desk.storage, desk.job)
    assert runs_of(desk) == {
        **dict.fromkeys(["2024-03-01", "2024-03-02", "2024-03-06", "2024-03-07"], "run-2"),
        "2024-03-10": "run-3",
    }
    rows, counts = desk.rows(), desk.converted().counts
    assert {name: row.label for name, row in rows.items()} == {
        "a": "kept", "b": "returned", "c": None, "d": "kept", "e": None, "f": None
    }  # fmt: skip
    assert rows["c"].features.price == 3.0

    folder = desk.storage.root / desk.job.work.removeprefix("gs://").rpartition("/run=")[0] / "converted"
    shutil.rmtree(folder)
    later(desk, "run-4")
    convert(desk.spark, desk.storage, desk.job)
    assert desk.rows() == rows
    assert desk.converted().counts == counts


def test_a_new_line_is_judged_once(desk, record, label, monkeypatch):
    """The new lines tell the days to write, and are in them: the second time they are what the first has made."""
    desk.put("records", [record("a"), record("b", day=1)])
    convert(desk.spark, desk.storage, desk.job)
    later(desk, "run-2")
    desk.put("records", [record("c"), record("d", day=2)], "two.json")
    desk.put("labels", [label("a")], "two.json")
    judged = {topic: desk.spark.sparkContext.accumulator(0) for topic in ("records", "labels")}

    def counted(topic, read):
        def count(batches, seen=judged[topic]):
            for batch in batches:
                seen.add(batch.num_rows)
                yield batch

        return lambda *arguments: (frame := read(*arguments)).mapInArrow(count, frame.schema)

    monkeypatch.setattr(reading, "records", counted("records", reading.records))
    monkeypatch.setattr(reading, "labels", counted("labels", reading.labels))
    convert(desk.spark, desk.storage, desk.job)
    assert sorted(desk.rows()) == ["a", "b", "c", "d"]
    assert {topic: seen.value for topic, seen in judged.items()} == {"records": 2, "labels": 1}


def test_a_run_without_news_keeps_the_state(desk, record, label):
    """Nothing new in the archive: nothing is read or written, and the run sees what the one before saw."""
    desk.put("records", [record("a"), record("b")])
    desk.put("labels", [label("a")])
    convert(desk.spark, desk.storage, desk.job)
    rows = desk.rows()
    later(desk, "run-2")
    convert(desk.spark, desk.storage, desk.job)
    assert desk.rows() == rows
    assert desk.converted().inputs == {}
    assert desk.listed(desk.job.work) == ["convert.json"]


def test_a_deleted_day_stops_the_run_with_cause_and_fix(desk, record):
    """A folder that an earlier run wrote is gone: the failure names it and says how to convert anew, and that works."""
    desk.put("records", [record("a", day=0), record("b", day=1)])
    convert(desk.spark, desk.storage, desk.job)
    root = desk.storage.root / desk.job.work.removeprefix("gs://")
    shutil.rmtree(root / "dt=2024-03-01")
    later(desk, "run-2")
    desk.put("records", [record("a", day=0)], "again.json")
    with pytest.raises(JobFailedError, match=r"dt=2024-03-01 is gone.*delete gs://\S+/converted/"):
        convert(desk.spark, desk.storage, desk.job)
    shutil.rmtree(root.parent / "converted")
    later(desk, "run-3")
    convert(desk.spark, desk.storage, desk.job)
    assert sorted(desk.rows()) == ["a", "b"]


class Bounded(ShopFeatures):
    """The shop's, with a bound that is no matter of types."""

    price: float = Field(ge=0)


def test_the_shape_is_all_that_the_class_says(desk):
    """It is the same in every process, or the archive would be read anew by each; and another with another bound."""
    program = (
        "from schemas.use_cases import use_case; from spark.snapshot import shape; print(shape(use_case('flights')))"
    )
    shapes = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert shapes == {snapshot.shape(use_case("flights"))}
    shop = desk.job.case
    assert snapshot.shape(replace(shop, features=Bounded)) != snapshot.shape(shop)


def test_another_shape_of_record_is_converted_anew(desk, record):
    """A feature is added to the use case: what was converted without it is not built on, for the archive has it; the
    run after that builds on what was converted with it."""
    desk.put("records", [record("a", colour="red")])
    convert(desk.spark, desk.storage, desk.job)
    later(desk, "run-1b")
    convert(desk.spark, desk.storage, desk.job)

    desk.job = replace(desk.job, run_id="run-2", case=replace(desk.job.case, features=Coloured))
    convert(desk.spark, desk.storage, desk.job)
    assert desk.rows()["a"].features.colour == "red"

    later(desk, "run-3")
    desk.put("records", [record("b", day=1, colour="blue")], "2.json")
    convert(desk.spark, desk.storage, desk.job)
    assert desk.converted().previous == "run-2"
    assert {name: row.features.colour for name, row in desk.rows().items()} == {"a": "red", "b": "blue"}
