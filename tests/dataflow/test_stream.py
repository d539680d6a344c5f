"""The pipeline as it is deployed, its Pub/Sub sources replaced by a stream that tells when what comes."""

import base64
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.coders import PickleCoder
from apache_beam.io.gcp.pubsub import PubsubMessage, ReadFromPubSub
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import PTransformOverride
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.testing.test_stream import TestStream as Scripted  # pytest would take the name for a test
from apache_beam.transforms.window import TimestampedValue

from dataflow import pipeline as archive
from dataflow.options import ArchiveOptions
from tests.dataflow.conftest import Cloud, record


class Streams(PTransformOverride):
    """Puts a test stream in the place of each subscription."""

    def __init__(self, streams: dict[str, Scripted]) -> None:
        self.streams = streams

    def matches(self, applied: Any) -> bool:
        """Every Pub/Sub source."""
        return isinstance(applied.transform, ReadFromPubSub)

    def get_replacement_transform_for_applied_ptransform(self, applied: Any) -> beam.PTransform:
        """The stream of the subscription's topic."""
        return next(
            stream
            for topic, stream in self.streams.items()
            if topic in applied.transform._source.full_subscription  # noqa: SLF001  # where a runner finds it, too
        )


def run(cloud: Cloud, streams: dict[str, Scripted], *arguments: str) -> None:
    """Run the archive pipeline on streams, on Beam's own runner."""
    subscriptions = [argument for argument in cloud.streams if any(f"/{topic}-" in argument for topic in streams)]
    options = PipelineOptions([*cloud.arguments, *subscriptions, "--streaming", "--window_seconds=60", *arguments])
    built = beam.Pipeline(runner=BundleBasedDirectRunner(), options=options)
    archive.build(built, options.view_as(ArchiveOptions))
    built.replace_all([Streams(streams)])
    built.run().wait_until_finish()


def stream() -> Scripted:
    """One that begins with the epoch."""
    return Scripted(coder=PickleCoder()).advance_watermark_to(0)


def messages(*documents: bytes, at: float) -> list[TimestampedValue]:
    """Messages that were published at a time."""
    return [TimestampedValue(PubsubMessage(document, {}, "m"), at) for document in documents]


def test_what_comes_late_makes_an_object_of_its_own(cloud: Cloud) -> None:
    """Days after its window was closed, and again: nothing is dropped, and nothing that lies there is overwritten.

    Beam's own file sinks fail this: apache/beam#19636, #29515.
    """
    day = 24 * 3600
    late = (
        stream()
        .add_elements(messages(record("first"), record("second"), at=10))
        .advance_watermark_to(61)
        .add_elements(messages(record("late"), at=11))
        .advance_processing_time(61)
        .advance_watermark_to(6 * day)
        .add_elements(messages(record("very-late"), at=12))
        .advance_processing_time(61)
        .advance_watermark_to_infinity()
    )
    run(cloud, {"records": late})
    objects = cloud.objects()
    assert sorted(objects.values()) == sorted(
        [[record("first"), record("second")], [record("late")], [record("very-late")]]
    )
    window = "archive/records/dt=2013-01-31/19700101T000000"
    assert sorted(name.rsplit("-", 1)[0] for name in objects) == [f"{window}-{pane}-00" for pane in (0, 1, 2)]


def test_a_window_and_an_event_date_make_an_object(cloud: Cloud) -> None:
    """A date is never mixed with another, nor a window."""
    records = (
        stream()
        .add_elements(messages(record("a"), record("b", event_time="2013-02-01T00:00:00Z"), at=10))
        .add_elements(messages(record("c"), at=70))
        .advance_watermark_to_infinity()
    )
    run(cloud, {"records": records})
    objects = {name.rsplit("-", 1)[0].removeprefix("archive/"): lines for name, lines in cloud.objects().items()}
    assert objects == {
        "records/dt=2013-01-31/19700101T000000-0-00": [record("a")],
        "records/dt=2013-02-01/19700101T000000-0-00": [record("b", event_time="2013-02-01T00:00:00Z")],
        "records/dt=2013-01-31/19700101T000100-0-00": [record("c")],
    }


def test_a_window_with_very_much_in_it_is_written_in_parts(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held to be written is bounded; and where the window's end brings nothing more, no empty object is."""
    monkeypatch.setattr(archive, "MAX_BATCHES_IN_AN_OBJECT", 2)
    much = stream()
    for number in range(4):  # each a bundle, so a batch, of its own
        much = much.add_elements(messages(record(f"r{number}"), at=10 + number))
    run(cloud, {"records": much.advance_watermark_to_infinity()})
    assert sorted(cloud.objects().values()) == [[record("r0"), record("r1")], [record("r2"), record("r3")]]


def test_what_cannot_be_read_is_published_with_its_reason(cloud: Cloud) -> None:
    """And what was read with it is filed all the same."""
    mixed = stream().add_elements(messages(record("good"), b"{", at=10)).advance_watermark_to_infinity()
    run(cloud, {"records": mixed})
    assert cloud.lines("records") == [record("good")]
    (letter,) = cloud.refused()
    assert (letter["unit"], letter["topic"]) == ("archive", "records")
    assert base64.b64decode(letter["payload_base64"]) == b"{"


def test_a_dead_letter_that_is_too_large_to_publish_names_an_object(cloud: Cloud) -> None:
    """A message of nearly 10 MB has no room left for base64; refusing it must not fail for ever. The letter names the
    record, too, if the payload begins with its id."""
    large = b'{"record_id": "large", "note": "' + b"x" * 9_500_000
    run(cloud, {"records": stream().add_elements(messages(large, at=10)).advance_watermark_to_infinity()})
    (letter,) = cloud.refused()
    assert letter["payload_base64"] == ""
    name = letter["payload_uri"].removeprefix(f"gs://{cloud.bucket.name}/")
    assert cloud.bucket.blob(name).download_as_bytes() == large
    assert letter["attributes"] == {"record_id": "large"}
    assert letter["reason"] == f"document: the record has {len(large)} bytes; the limit is 1000000"
