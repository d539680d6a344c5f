"""What a job that fails leaves behind: ``failure.json`` in the run's work folder, cause and fix in a few lines.

The workflow puts it into TrainingRun. Without it there would be the first part of Spark's log, which says nothing.
"""

import json
import re
from typing import Any

from spark import objects
from spark.job import Job, JobFailedError, progress

LENGTH = 2048
"""Of the file, in bytes."""
KNOWN = (
    (
        ("java.lang.OutOfMemoryError", "MemoryError(", "\nMemoryError"),
        "Spark ran out of memory; give the jobs a larger machine (masterConfig in spark/template.yaml), or a lower "
        "share of the archive to each task (spark.sql.files.maxPartitionBytes)",
    ),
    (
        ("No space left on device",),
        "the disk is full, on a machine of Spark's or where the buckets are; free some space, or give the cluster a "
        "larger disk (bootDiskSizeGb in spark/template.yaml), and start the run again",
    ),
    (
        ("Disk quota exceeded",),
        "the disk's quota is used up, on a machine of Spark's or where the buckets are; free some space, and start the "
        "run again",
    ),
    (
        ("Container killed by YARN for exceeding", "Python worker exited unexpectedly"),
        "a worker of Spark's was ended in the middle of its work, which is mostly for want of memory: Python has what "
        "there is beside Java's heap; give the jobs a larger machine (masterConfig in spark/template.yaml), or more of "
        "it to Python (spark.executor.memoryOverhead)",
    ),
    (
        ("Answer from Java side is empty",),
        "Java ended in the middle of the work, which is mostly for want of memory; give the jobs a larger machine "
        "(masterConfig in spark/template.yaml)",
    ),
)
"""Words of Java's or the system's, and what they mean to whoever runs the jobs."""


def explained(error: BaseException) -> JobFailedError | None:
    """The failure that ``error`` stands for, with cause and fix; None if it is none that is known here."""
    if isinstance(error, JobFailedError):
        return error
    said = " ".join(f"{one} {one!r}" for one in _chain(error))
    return next(
        (
            JobFailedError(f"{meaning} ({own_words(error)})")
            for words, meaning in KNOWN
            if any(one in said for one in words)
        ),
        None,
    )


def own_words(error: BaseException) -> str:
    """What the last exception of a chain says, in one line and without any stack, be it Python's, Java's or that of a
    Python worker within Java."""
    text = str(error).strip()
    traced = text.rfind("Traceback (most recent call last):")
    if traced >= 0:
        # A worker's trace: the first line that is no frame, after the last frame.
        lines = text[traced:].splitlines()[1:]
        frames = [place for place, line in enumerate(lines) if line.startswith("  File ")]
        after = lines[frames[-1] + 1 :] if frames else lines
        return next((line.strip() for line in after if line and not line[0].isspace()), type(error).__name__)
    causes = re.findall(r"^Caused by: (.+)$", text, re.MULTILINE) or re.findall(r"^: (.+)$", text, re.MULTILINE)
    if causes:
        return str(causes[-1]).strip()
    first = text.partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def left(storage: Any, job: Job, error: Exception) -> Exception:
    """Write the file, and answer what to raise: the failure that ``error`` stands for, or ``error`` itself, if nobody
    knows it. That the file cannot be written is told, and hides nothing.

    Args:
        storage: a client; None if the job failed before it had one.
    """
    known = explained(error)
    try:
        objects.overwrite(storage or _client(), job.failure, _content(str(known) if known else own_words(error)))
    except Exception as trouble:  # whatever it is, the job's own failure is what counts
        progress(f"{job.failure} cannot be written: {own_words(trouble)}", "WARNING")
    return known or error


def _client() -> Any:
    from google.cloud.storage import Client

    return Client()


def clear(storage: Any, job: Job) -> None:
    """Remove what an earlier attempt of this run has left: it is no longer why the run fails, if it fails."""
    objects.remove(storage, job.failure)


def _content(cause: str) -> bytes:
    content = json.dumps({"cause": cause}, ensure_ascii=False).encode(errors="replace")
    while len(content) > LENGTH:
        cause = cause[: len(cause) - max(1, (len(content) - LENGTH) // 6)]
        content = json.dumps({"cause": f"{cause}…"}, ensure_ascii=False).encode(errors="replace")
    return content


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
