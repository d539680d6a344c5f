"""The pipeline counts what it filed and what it refused, as metrics of its job."""

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from dataflow.reading import DEAD, ReadDocuments, Source
from tests.dataflow.conftest import record


def test_what_was_filed_and_what_was_refused_are_counted_by_topic() -> None:
    """Each document once, whatever bundles it travels in."""
    required = ["--archive_bucket=local-dev-archive", "--dead_letters_topic=projects/local-dev/topics/dead-letters"]
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner", *required]))
    documents = [Source(record(), "m1"), Source(b"no record", "m2"), Source(record(record_id="other"), "m3")]
    step = beam.ParDo(ReadDocuments("records", "flights", 60, 1)).with_outputs(DEAD, main="filed")
    _ = pipeline | beam.Create(documents) | step
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(beam.metrics.MetricsFilter().with_namespace("lunation"))["counters"]
    assert {one.key.metric.name: one.committed for one in found} == {"records_filed": 2, "records_dead": 1}
