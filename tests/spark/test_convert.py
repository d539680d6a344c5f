"""Promises of the conversion: each record once, with its latest label, and everything unreadable counted."""

import base64
import hashlib
import shutil
from dataclasses import replace

import pytest

from spark.conversion import convert
from spark.job import JobFailed
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
    assert desk.json(f"{desk.job.work}/convert.json")["counts"]["duplicates"] == 3

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
    counts = desk.json(f"{desk.job.work}/convert.json")["counts"]
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
    counts = desk.json(f"{desk.job.work}/convert.json")["counts"]
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
    desk.put("records", [record(time) | {"event_time": time} for time in written])
    convert(desk.spark, desk.storage, desk.job)
    rows = desk.rows()
    found = {time: rows[time].event_time.isoformat(" ").rstrip("0") if time in rows else None for time in written}
    assert found == {time: expected and expected.rstrip("0") for time, expected in written.items()}


def test_data_is_partitioned_by_the_records_day_and_names_its_inputs(desk, record):
    """One folder a day, one file in it; the report lists each object that was read, with its MD5."""
    desk.put("records", [record("a", day=0), record("b", day=1), record("c", day=1.2)])
    convert(desk.spark, desk.storage, desk.job)
    assert [name for name in desk.listed(desk.job.work) if "=" in name] == ["dt=2024-03-01", "dt=2024-03-02"]
    assert len(desk.listed(f"{desk.job.work}/dt=2024-03-02")) == 1
    uri = f"{desk.job.archive}/archive/records/dt=2024-03-01/one.json"
    content = (desk.storage.root / uri.removeprefix("gs://")).read_bytes()
    md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
    assert desk.json(f"{desk.job.work}/convert.json")["inputs"] == {uri: md5}


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
    inputs = desk.json(f"{desk.job.work}/convert.json")["inputs"]
    assert sorted(uri.rpartition("/")[2] for uri in inputs) == ["came.json", "one.json"]
    assert all(inputs.values())


@pytest.mark.parametrize("names", [[], ["_half", ".hidden"]])
def test_an_archive_without_objects_fails_with_cause_and_fix(desk, record, names):
    """No object, or only such as Spark does not see: a failure that says what to check, and no report."""
    for name in names:
        desk.put("records", [record("a")], name)
    with pytest.raises(JobFailed, match=r"archive/records has no objects.*check that the archive"):
        convert(desk.spark, desk.storage, desk.job)
    assert desk.storage.written == []


def test_an_archive_without_a_readable_record_fails(desk, label):
    """Nothing but broken lines is no data."""
    desk.put("records", ["{", "}"])
    desk.put("labels", [label("a")])
    with pytest.raises(JobFailed, match="none of the 2 lines"):
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
    report = desk.json(f"{desk.job.work}/convert.json")
    return {day: where["run_id"] for day, where in report["days"].items()}


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
    report = desk.json(f"{desk.job.work}/convert.json")
    assert [uri.rpartition("/")[2] for uri in report["inputs"]] == ["late.json", "late.json", "e.json"]
    assert report["previous"] == "run-1"

    later(desk, "run-3")
    desk.put("records", [record("f", day=9)], "f.json", day="2024-03-10")
    convert(desk.spark, desk.storage, desk.job)
    assert runs_of(desk) == {
        **dict.fromkeys(["2024-03-01", "2024-03-02", "2024-03-06", "2024-03-07"], "run-2"),
        "2024-03-10": "run-3",
    }
    rows, counts = desk.rows(), desk.json(f"{desk.job.work}/convert.json")["counts"]
    assert {name: row.label for name, row in rows.items()} == {
        "a": "kept", "b": "returned", "c": None, "d": "kept", "e": None, "f": None
    }  # fmt: skip
    assert rows["c"].features.price == 3.0

    folder = desk.storage.root / desk.job.work.removeprefix("gs://").rpartition("/run=")[0] / "converted"
    shutil.rmtree(folder)
    later(desk, "run-4")
    convert(desk.spark, desk.storage, desk.job)
    assert desk.rows() == rows
    assert desk.json(f"{desk.job.work}/convert.json")["counts"] == counts


def test_a_run_without_news_keeps_the_state(desk, record, label):
    """Nothing new in the archive: nothing is read or written, and the run sees what the one before saw."""
    desk.put("records", [record("a"), record("b")])
    desk.put("labels", [label("a")])
    convert(desk.spark, desk.storage, desk.job)
    rows = desk.rows()
    later(desk, "run-2")
    convert(desk.spark, desk.storage, desk.job)
    assert desk.rows() == rows
    assert desk.json(f"{desk.job.work}/convert.json")["inputs"] == {}
    assert desk.listed(desk.job.work) == ["convert.json"]


def test_a_deleted_day_stops_the_run_with_cause_and_fix(desk, record):
    """A folder that an earlier run wrote is gone: the failure names it and says how to convert anew, and that works."""
    desk.put("records", [record("a", day=0), record("b", day=1)])
    convert(desk.spark, desk.storage, desk.job)
    root = desk.storage.root / desk.job.work.removeprefix("gs://")
    shutil.rmtree(root / "dt=2024-03-01")
    later(desk, "run-2")
    desk.put("records", [record("a", day=0)], "again.json")
    with pytest.raises(JobFailed, match=r"dt=2024-03-01 is gone.*delete gs://\S+/converted/"):
        convert(desk.spark, desk.storage, desk.job)
    shutil.rmtree(root.parent / "converted")
    later(desk, "run-3")
    convert(desk.spark, desk.storage, desk.job)
    assert sorted(desk.rows()) == ["a", "b"]


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
    assert desk.json(f"{desk.job.work}/convert.json")["previous"] == "run-2"
    assert {name: row.features.colour for name, row in desk.rows().items()} == {"a": "red", "b": "blue"}
