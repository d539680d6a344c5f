"""The archive pipeline. The same transforms serve the stream and the backfill, on every runner."""

import apache_beam as beam
from apache_beam.io.gcp.pubsub import ReadFromPubSub, WriteToPubSub
from apache_beam.options.pipeline_options import GoogleCloudOptions
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterProcessingTime, AfterWatermark
from apache_beam.transforms.window import FixedWindows, GlobalWindows

from dataflow.archive_sink import WriteObjects
from dataflow.files import ReadLines, files_of
from dataflow.options import NEEDED, ArchiveOptions
from dataflow.oversized_dead_letters import ArchiveOversizedPayloads
from dataflow.reading import DEAD, ReadDocuments

ALLOWED_LATENESS_SECONDS = 7 * 24 * 3600  # as long as a subscription keeps a message
MAX_BATCHES_IN_AN_OBJECT = 200
"""An object is closed before its window ends when it has so many batches of lines, each of at most
:data:`dataflow.reading.MAX_HELD_BYTES`: it is held in memory to be written."""


class MissingOptionError(ValueError):
    """An option that has no default is not given."""


class NothingToReadError(ValueError):
    """The options name neither a subscription nor a file."""


def build(pipeline: beam.Pipeline, options: ArchiveOptions) -> None:
    """Put the archive's transforms on ``pipeline``.

    Raises:
        MissingOptionError: one of :data:`dataflow.options.NEEDED` is not given.
        NothingToReadError: no source.
        dataflow.files.NoSuchFileError: a backfill pattern names nothing.
    """
    missing = [f"--{name}" for name in NEEDED if not getattr(options, name)]
    if missing:
        raise MissingOptionError(
            f"the following arguments are required: {', '.join(missing)}; --help tells what they are"
        )
    project = options.view_as(GoogleCloudOptions).project
    files = {"records": options.backfill_records, "labels": options.backfill_labels}
    if any(files.values()):
        sources = _from_files(pipeline, {topic: text for topic, text in files.items() if text}, project)
        windows = beam.WindowInto(GlobalWindows())
        window_seconds = 10**9  # one window for all: a backfill's object is told apart by its event date
    else:
        sources = _from_subscriptions(
            pipeline,
            {
                "records": options.records_subscription,
                "labels": options.labels_subscription,
                "dead-letters": options.dead_letters_subscription,
                "comparisons": options.comparisons_subscription,
            },
        )
        windows = _windows(options.window_seconds)
        window_seconds = options.window_seconds
    if not sources:
        raise NothingToReadError(
            "nothing to read: give --records_subscription or --labels_subscription to stream, "
            "--backfill_records or --backfill_labels to file history"
        )
    filed, dead = [], []
    for topic, elements in sources.items():
        read = elements | f"Read {topic}" >> beam.ParDo(
            ReadDocuments(topic, options.use_case, window_seconds, options.shards)
        ).with_outputs(DEAD, main="filed")
        filed.append(read["filed"])
        dead.append(read[DEAD])
    _ = (
        tuple(filed)
        | "All lines" >> beam.Flatten()
        | "Window" >> windows
        | "Group" >> beam.GroupByKey()
        # No Reshuffle in between: a bundle that is retried may see other lines (Dataflow fuses the two steps, and says
        # that side effects happen at least once: https://cloud.google.com/dataflow/docs/concepts/exactly-once), but an
        # object is named by its lines, so other lines make another object and none is lost; some may be kept twice, as
        # with any message that Pub/Sub delivers twice. It would send each object through the shuffle once more, as one
        # element, of which a streaming job has a limit (StreamingOperationalLimits in the discovery document).
        | "Write objects" >> beam.ParDo(WriteObjects(options.archive_bucket, project))
    )
    _ = (
        tuple(dead)
        | "All dead letters" >> beam.Flatten()
        | "Set aside what is too large" >> beam.ParDo(ArchiveOversizedPayloads(options.archive_bucket, project))
        | "Refuse" >> WriteToPubSub(options.dead_letters_topic)
    )


def _from_subscriptions(pipeline: beam.Pipeline, named: dict[str, str]) -> dict[str, beam.PCollection]:
    return {
        topic: pipeline | f"Receive {topic}" >> ReadFromPubSub(subscription=subscription, with_attributes=True)
        for topic, subscription in named.items()
        if subscription
    }


def _from_files(pipeline: beam.Pipeline, patterns: dict[str, str], project: str | None) -> dict[str, beam.PCollection]:
    return {
        topic: pipeline
        | f"Files of {topic}" >> beam.Create(files_of(text, project))
        | f"Lines of {topic}" >> beam.ParDo(ReadLines(project))
        for topic, text in patterns.items()
    }


def _windows(seconds: int) -> beam.WindowInto:
    """Windows by publish time that lose nothing: what comes late makes a pane, and so an object, of its own."""
    return beam.WindowInto(
        FixedWindows(seconds),
        trigger=AfterWatermark(early=AfterCount(MAX_BATCHES_IN_AN_OBJECT), late=AfterProcessingTime(seconds)),
        accumulation_mode=AccumulationMode.DISCARDING,
        allowed_lateness=ALLOWED_LATENESS_SECONDS,
    )
