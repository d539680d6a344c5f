"""The options of the archive pipeline."""

import argparse
import re
from collections.abc import Callable

from apache_beam.options.pipeline_options import PipelineOptions

from schemas import USE_CASES


def _matching(pattern: str, form: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text and not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r} is not of the form {form}")
        return text

    return check


def _at_least_one(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,6}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 9999999")
    return int(text)


_SUBSCRIPTION = _matching(r"projects/[^/]+/subscriptions/[^/]+", "projects/PROJECT/subscriptions/NAME")
_TOPIC = _matching(r"projects/[^/]+/topics/[^/]+", "projects/PROJECT/topics/NAME")
_BUCKET = _matching(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", "a bucket's name, without gs://")


NEEDED = ("archive_bucket", "dead_letters_topic")
"""The options that have no default. They are asked for by :func:`dataflow.pipeline.build`: Beam parses the options of
every class that the process has imported, so an argument that argparse requires is required of every other pipeline."""


class ArchiveOptions(PipelineOptions):
    """Where the pipeline reads and writes.

    It streams from the subscriptions, or, if ``backfill_*`` names files, files those and ends.
    """

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--archive_bucket", default="", type=_BUCKET, help="bucket of the archive (needed)")
        parser.add_argument(
            "--dead_letters_topic",
            default="",
            type=_TOPIC,
            help="topic for what cannot be read, with its reason (needed)",
        )
        parser.add_argument(
            "--use_case", default="flights", choices=sorted(USE_CASES), help="row of the use-case table"
        )
        parser.add_argument("--records_subscription", default="", type=_SUBSCRIPTION, help="stream of records")
        parser.add_argument("--labels_subscription", default="", type=_SUBSCRIPTION, help="stream of labels")
        parser.add_argument(
            "--dead_letters_subscription", default="", type=_SUBSCRIPTION, help="stream of dead letters"
        )
        parser.add_argument(
            "--comparisons_subscription", default="", type=_SUBSCRIPTION, help="stream of what shadows say"
        )
        parser.add_argument(
            "--window_seconds", default=60, type=_at_least_one, help="publish time that an object spans"
        )
        parser.add_argument("--shards", default=1, type=_at_least_one, help="objects a window, topic and event date")
        parser.add_argument(
            "--backfill_records",
            default="",
            help="files of records, a document a line: paths or gs:// patterns, by comma",
        )
        parser.add_argument("--backfill_labels", default="", help="files of labels, likewise")
