"""What the three drivers share on the outside: their arguments, the places these name, progress, and the exit."""

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from pydantic import ValidationError

from schemas.check_limits import CheckLimits
from schemas.dead_letter import explain
from schemas.use_cases import USE_CASES, UseCase, use_case
from telemetry.logs import Severity, configure, write

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
BUCKET = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
FOLDER = re.compile(r"models/\d{4}-\d{2}-\d{2}/[A-Za-z0-9][A-Za-z0-9-]{0,63}")
EVALUATION_DAYS = 28
INSTANCE_MIB = 512

EXAMPLE = """example:
  spark-submit --py-files lunation_spark.zip {program}.py --use-case flights \\
      --archive gs://acme-archive --models gs://acme-models \\
      --run-id 20130325-060000-1a2b3c4d --training-date 2013-03-25 --champion none

exit codes: 0 done (or done before), 1 failed with cause and fix on the error stream, 2 bad arguments
"""


class JobFailedError(Exception):
    """A job cannot go on. Its text names the thing, the cause and the fix; the driver exits with 1."""


@dataclass(frozen=True)
class Job:
    """One job's arguments, and the places that follow from them."""

    case: UseCase
    archive: str
    """``gs://<bucket>``, without a slash at the end."""
    models: str
    """``gs://<bucket>``, without a slash at the end."""
    run_id: str
    training_date: str
    champion: str | None
    """``models/<date>/<run_id>`` in the bucket ``models``; None if no model serves yet."""
    like: str | None = None
    """Folder of the run to repeat, like ``champion``; None for a run of its own."""
    limits: CheckLimits = field(default_factory=CheckLimits)
    """Of the data checks."""
    evaluation_days: int = EVALUATION_DAYS
    """Length of the evaluation window."""
    instance_mib: int = INSTANCE_MIB
    """Memory of an instance that is to serve the model."""

    @property
    def work(self) -> str:
        """The run's own folder for what passes between its jobs: Parquet, counts, scores."""
        return f"{self.archive}/parquet/{self.case.name}/run={self.run_id}"

    @property
    def failure(self) -> str:
        """Where a job of the run that fails leaves cause and fix; :mod:`spark.failure`."""
        return f"{self.work}/failure.json"

    @property
    def model(self) -> str:
        """The folder of the run's model."""
        return f"{self.models}/models/{self.training_date}/{self.run_id}"

    @property
    def model_version(self) -> str:
        """The model's name everywhere else: ``<training date>/<run_id>``."""
        return f"{self.training_date}/{self.run_id}"


def parse(program: str, description: str, argv: Sequence[str]) -> Job:
    """Read a driver's command line. The three drivers take the same one, so a template has one set of values.

    Raises:
        SystemExit: 2 and a usage text, for anything that is not in its expected form.
    """
    parser = argparse.ArgumentParser(
        prog=f"{program}.py",
        description=description,
        epilog=EXAMPLE.format(program=program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--use-case", required=True, choices=sorted(USE_CASES), help="row of the use-case table")
    parser.add_argument("--archive", required=True, type=_matching(BUCKET, "gs://BUCKET"), help="archive bucket")
    parser.add_argument("--models", required=True, type=_matching(BUCKET, "gs://BUCKET"), help="models bucket")
    parser.add_argument(
        "--run-id",
        required=True,
        type=_matching(RUN_ID, "letters, digits and dashes, at most 64"),
        help="names this run's folders; a run that is started again with the same id goes on where it stopped",
    )
    parser.add_argument("--training-date", required=True, type=_day, help="YYYY-MM-DD, labels the model's folder")
    parser.add_argument(
        "--champion",
        default=None,
        type=_folder,
        help="folder of the serving model, models/YYYY-MM-DD/RUN_ID, or none",
    )
    parser.add_argument(
        "--like",
        default=None,
        type=_folder,
        help="folder of a run to repeat, models/YYYY-MM-DD/RUN_ID, or none: its objects, parameters and champion",
    )
    parser.add_argument(
        "--checks",
        default=CheckLimits(),
        type=_limits,
        help='limits of the data checks as JSON, for example {"unseen": 0.3}; what is left out has its default',
    )
    parser.add_argument(
        "--evaluation-days",
        default=EVALUATION_DAYS,
        type=_days,
        help=f"length of the evaluation window, 7 to 366; {EVALUATION_DAYS} if it is not given",
    )
    parser.add_argument(
        "--instance-mib",
        default=INSTANCE_MIB,
        type=_mebibytes,
        help=f"memory of an instance that is to serve the model, 128 to 32768; {INSTANCE_MIB} if it is not given",
    )
    given = parser.parse_args(argv)
    configure("", unit=program, use_case=given.use_case, run_id=given.run_id)
    return Job(
        case=use_case(given.use_case),
        archive=given.archive,
        models=given.models,
        run_id=given.run_id,
        training_date=given.training_date,
        champion=given.champion,
        like=given.like,
        limits=given.checks,
        evaluation_days=given.evaluation_days,
        instance_mib=given.instance_mib,
    )


def progress(text: str, severity: Severity = "INFO") -> None:
    """One line on the error stream, with the run that it belongs to: what Dataproc keeps as the driver's output."""
    write(sys.stderr, severity, text, {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})


def exit_code(work: Callable[[], None]) -> int:
    """Run ``work``; 0 if it returns, 1 if it raises :class:`JobFailedError`. All else is a bug and keeps its trace."""
    try:
        work()
    except JobFailedError as failure:
        progress(f"FAILED: {failure}", "ERROR")
        return 1
    return 0


def _matching(pattern: re.Pattern[str], form: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise argparse.ArgumentTypeError(f"{text!r} is not of the form {form}")
        return text

    return check


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day of the form YYYY-MM-DD") from None


def _days(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 7 <= int(text) <= 366:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days from 7 to 366")
    return int(text)


def _mebibytes(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 128 <= int(text) <= 32768:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of MiB from 128 to 32768")
    return int(text)


def _folder(text: str) -> str | None:
    return None if text in ("none", "") else _matching(FOLDER, "models/YYYY-MM-DD/RUN_ID, or none")(text)


def _limits(text: str) -> Any:
    try:
        return CheckLimits.model_validate_json(text)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(explain(error)) from None
