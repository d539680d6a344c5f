"""Launching: bad arguments are told apart from a failure, and history goes through the transforms of the stream."""

import argparse
import base64
import gzip
import json
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from dataflow import launch
from dataflow import options as options_module
from dataflow.options import ArchiveOptions
from dataflow.pipeline import build
from tests.dataflow.conftest import Cloud, label, record
from tests.support import ROOT

RUNNER = "--runner=laptop.micro_batch.MicroBatchRunner"
NEEDED = ["--archive_bucket=kept", "--dead_letters_topic=projects/local-dev/topics/dead-letters", "--project=local-dev"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (NEEDED[1:], "--archive_bucket"),
        (NEEDED[:1], "--dead_letters_topic"),
        ([*NEEDED, "--archive_bucket=gs://kept"], "a bucket's name, without gs://"),
        ([*NEEDED, "--dead_letters_topic=dead"], "projects/PROJECT/topics/NAME"),
        ([*NEEDED, "--records_subscription=reader"], "projects/PROJECT/subscriptions/NAME"),
        ([*NEEDED, "--labels_subscription=projects/p/topics/t"], "projects/PROJECT/subscriptions/NAME"),
        ([*NEEDED, "--use_case=trains"], "flights"),
        ([*NEEDED, "--window_seconds=0"], "'0' is not a whole number from 1"),
        ([*NEEDED, "--window_seconds=soon"], "'soon' is not a whole number from 1"),
        ([*NEEDED, "--shards=-1"], "'-1' is not a whole number from 1"),
        (NEEDED, "nothing to read: give --records_subscription"),
        ([*NEEDED, "--backfill_records=/no/such/file.json"], "/no/such/file.json: there is no such file"),
        ([*NEEDED, "--backfill_records=/tmp"], "/tmp is a folder: name the files in it, such as /tmp/*.json"),
        ([*NEEDED, "--backfill_labels= , "], "names no file"),
        ([*NEEDED, "--backfill_labels=gs://"], "expected gs://BUCKET/PATTERN"),
        ([*NEEDED, "--backfill_labels=gs://bucket"], "expected gs://BUCKET/PATTERN"),
    ],
)
def test_bad_arguments_end_with_2_and_say_what_is_wrong(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator reads the cause, and who restarts jobs knows that this one will never work."""
    try:
        code: object = launch.main([RUNNER, *arguments])
    except SystemExit as ended:  # how argparse refuses
        code = ended.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_patterns_that_name_no_object_end_with_2(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    """Better than an archive that stays empty without a word."""
    for pattern, message in (
        (f"gs://{cloud.bucket.name}/none/*", "there is no such file"),
        ("gs://no-such-bucket/*", "there is no bucket no-such-bucket"),
    ):
        assert launch.main([RUNNER, *cloud.arguments, f"--backfill_records={pattern}"]) == 2
        assert f"error: {pattern}: {message}" in capsys.readouterr().err


def test_a_pipeline_that_fails_is_no_bad_argument(cloud: Cloud, tmp_path: Path) -> None:
    """It raises, so that the process ends with 1 and a batch job is told to have failed."""
    file = tmp_path / "records.json"
    file.write_bytes(record())
    cloud.bucket.delete(force=True)
    with pytest.raises(Exception, match="404"):
        launch.main([RUNNER, *cloud.arguments, f"--backfill_records={file}"])


def test_history_is_filed_like_the_stream(cloud: Cloud, tmp_path: Path) -> None:
    """Local files and objects, packed or not, with any line end and none at the last; what cannot be read is refused
    with its file and line."""
    folder = tmp_path / "history [2013]"  # a name that is a pattern, too
    folder.mkdir()
    (folder / "a.json").write_bytes(record("crlf") + b"\r\n" + b"{\r\n" + b"\r\n" + record("unended"))
    (folder / "empty.json").write_bytes(b"")
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(record("packed") + b"\n"))
    (tmp_path / "sub.json").mkdir()
    cloud.bucket.blob("history/c.json").upload_from_string(record("object", event_time="2013-02-01T01:00:00Z") + b"\n")
    packed = cloud.bucket.blob("history/d.json")
    packed.content_encoding = "gzip"
    packed.upload_from_string(gzip.compress(record("packed-object")))
    (tmp_path / "labels.ndjson").write_bytes(label("crlf") + b"\n" + label("x", label="lost") + b"\n")
    records = [
        folder / "a.json",
        folder / "empty.json",
        tmp_path / "*.json*",
        f"gs://{cloud.bucket.name}/history/*",
        f"gs://{cloud.bucket.name}/history/c.json",
    ]
    arguments = [
        *cloud.arguments,
        f"--backfill_records={','.join(map(str, records))}",
        f"--backfill_labels={tmp_path / 'labels.ndjson'}",
    ]
    assert launch.main([RUNNER, *arguments]) == 0
    first = cloud.objects()
    assert {name.rsplit("-", 1)[0]: lines for name, lines in first.items()} == {
        "archive/records/dt=2013-01-31/backfill-0-00": sorted(
            record(one) for one in ("crlf", "unended", "packed", "packed-object")
        ),
        "archive/records/dt=2013-02-01/backfill-0-00": [record("object", event_time="2013-02-01T01:00:00Z")],
        "archive/labels/dt=2013-01-31/backfill-0-00": [label("crlf")],
    }
    refused = {letter["message_id"]: letter for letter in cloud.refused()}
    assert sorted(refused) == [f"{folder}/a.json:2", f"{tmp_path}/labels.ndjson:2"]
    assert base64.b64decode(refused[f"{folder}/a.json:2"]["payload_base64"]) == b"{"
    assert refused[f"{tmp_path}/labels.ndjson:2"]["topic"] == "labels"

    assert launch.main([RUNNER, *arguments]) == 0, "filing it again changes nothing"
    assert cloud.objects() == first


def test_stream_and_backfill_share_their_transforms(tmp_path: Path) -> None:
    """What differs is the source and the window, so history is read, refused and filed like what arrives."""
    file = tmp_path / "records.json"
    file.write_bytes(record())

    def steps(*arguments: str) -> set[str]:
        options = PipelineOptions([*NEEDED, *arguments])
        pipeline = beam.Pipeline(options=options)
        build(pipeline, options.view_as(ArchiveOptions))
        return {part.full_label for part in pipeline._root_transform().parts}  # noqa: SLF001  # the graph as it is submitted

    subscription = "--records_subscription=projects/local-dev/subscriptions/reader"
    stream, history = steps("--streaming", subscription), steps(f"--backfill_records={file}")
    assert stream - history == {"Receive records"}
    assert history - stream == {"Files of records", "Lines of records"}


def test_the_options_burden_no_other_pipeline() -> None:
    """Beam parses the options of every imported class: none of ours may be required of somebody else's pipeline."""
    beam.Pipeline(options=PipelineOptions([RUNNER])).options.view_as(ArchiveOptions)


def test_the_template_declares_the_options() -> None:
    """Dataflow refuses a parameter that the template's metadata does not name, so the two are one list."""
    parser = argparse.ArgumentParser()
    ArchiveOptions._add_argparse_args(parser)  # noqa: SLF001  # Beam calls it where it parses
    options = {action.dest: action.dest in options_module.NEEDED for action in parser._actions if action.dest != "help"}
    declared = json.loads((ROOT / "dataflow" / "metadata.json").read_text())["parameters"]
    assert {one["name"]: not one.get("isOptional", False) for one in declared} == options
