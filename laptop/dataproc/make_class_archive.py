"""``python -m laptop.dataproc.make_class_archive``: run a typical job once and keep its classes (``class_archive.py``).

Exit codes: 0 made, 3 this Java makes none, with the cause on the error stream; jobs then start some seconds slower.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from laptop.dataproc import typical_job
from laptop.dataproc.class_archive import FOLDER, MADE_BY, OF_JAVA, OF_SPARK, identity
from laptop.dataproc.java import NoJavaError, java_home
from laptop.dataproc.spark_submit import JAVA_OPTIONS, ONE_COMPILER, environment, storage_properties, submit
from laptop.errors import ServiceError

SECONDS = 600
QUIET = "-Xlog:disable -Xlog:all=error:stderr"
"""Java would name every class that it leaves out."""


class NotMadeError(Exception):
    """There is no archive; the text says why."""


def make(java: Path, folder: Path = FOLDER) -> int:
    """Make the archive of the Java at home in ``java``, in place of the one that is there; its size in bytes.

    Raises:
        NotMadeError: this Java cannot (before version 13), or it failed. There is no archive then.
    """
    shutil.rmtree(folder, ignore_errors=True)
    # Aside, and renamed when it is whole: a job may start in the meantime.
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as scratch:
        new, buckets = Path(scratch) / "new", Path(scratch) / "buckets"
        new.mkdir()
        (buckets / "typical").mkdir(parents=True)
        # Not every Java brings the archive of its own classes, on which the one of Spark's is put.
        of_java = f"-XX:SharedArchiveFile={new / OF_JAVA}"
        _run([str(java / "bin" / "java"), "-Xshare:dump", of_java, *QUIET.split()], java)
        conf = storage_properties(buckets, java)
        conf["spark.driver.extraJavaOptions"] = (
            f'{JAVA_OPTIONS} {ONE_COMPILER} "{of_java}" "-XX:ArchiveClassesAtExit={new / OF_SPARK}" {QUIET}'
        )
        _run([*submit(conf, java), typical_job.__file__, "gs://typical"], java)
        archives = [new / OF_JAVA, new / OF_SPARK]
        for archive in archives:
            if not archive.exists():
                raise NotMadeError(f"{java} ended well and left no {archive.name}")
        size = sum(archive.stat().st_size for archive in archives)
        (new / MADE_BY).write_text(identity(java))
        new.rename(folder)
    return size


def _run(command: list[str], java: Path) -> None:
    try:
        done = subprocess.run(
            command, env=environment({}, java), capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotMadeError(str(error)) from error
    if done.returncode:
        # Without what Spark logs on its way: date, time, level, …
        levels = {"INFO", "WARN"}
        told = [line for line in (done.stdout + done.stderr).splitlines() if not levels & set(line.split()[2:3])]
        raise NotMadeError("\n".join([f"exit code {done.returncode} of {command[0]}:", *told])[-2000:])


def main() -> int:
    """Make it for the Java that jobs are run with."""
    try:
        size = make(java_home())
    except (NotMadeError, NoJavaError, ServiceError) as error:
        print(f"No class-data archive, jobs start some seconds slower: {error}", file=sys.stderr)
        return 3
    print(f"{FOLDER}: {size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
