"""Launches the archive pipeline: the file that a Flex Template starts, and ``python -m dataflow.launch``."""

import logging
import sys
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from dataflow.options import ArchiveOptions
from dataflow.pipeline import build
from telemetry.logs import use_for_logging


def main(argv: Sequence[str] | None = None) -> int:
    """Build the pipeline and run it until it ends; a stream ends when it is drained.

    Exit codes: 0 done, 1 the pipeline failed, 2 bad arguments.
    """
    arguments = PipelineOptions(list(sys.argv[1:] if argv is None else argv))
    options = arguments.view_as(ArchiveOptions)
    arguments.view_as(StandardOptions).streaming = not (options.backfill_records or options.backfill_labels)
    try:
        pipeline = beam.Pipeline(options=arguments)
        build(pipeline, options)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    pipeline.run().wait_until_finish()
    return 0


if __name__ == "__main__":
    use_for_logging()
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    sys.exit(main())
