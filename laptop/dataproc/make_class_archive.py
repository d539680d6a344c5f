"""``python -m laptop.dataproc.make_class_archive``: run a typical job once and keep its classes (``class_archive.py``).

Exit codes: 0 made, 1 not made, with the cause on the error stream; jobs then start some seconds slower.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from laptop.dataproc import typical_job
from laptop.dataproc.class_archive import FOLDER, MADE_BY, OF_JAVA, OF_SPARK
from laptop.dataproc.java import NoJava, java_home
from laptop.dataproc.spark_submit import JAVA_OPTIONS, ONE_COMPILER, environment, submit

SECONDS = 600
QUIET = "-Xlog:disable"
"""Java would name every class that it leaves out."""


class NotMade(Exception):
    """There is no archive; the text says why."""


def make(java: Path, folder: Path = FOLDER) -> int:
    """Make the archive of the Java at home in ``java``, in place of the one that is there; its size in bytes.

    Raises:
        NotMade: this Java cannot (before version 13), or it failed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Not every Java brings the archive of its own classes, on which the one of Spark's is put.
    of_java = f"-XX:SharedArchiveFile={folder / OF_JAVA}"
    _run([str(java / "bin" / "java"), "-Xshare:dump", of_java, QUIET], java)
    with tempfile.TemporaryDirectory(prefix="lunation-classes-") as scratch:
        options = f'{JAVA_OPTIONS} {ONE_COMPILER} "{of_java}" "-XX:ArchiveClassesAtExit={folder / OF_SPARK}" {QUIET}'
        _run([*submit({"spark.driver.extraJavaOptions": options}), typical_job.__file__, scratch], java)
    size = sum(_size(folder / name) for name in (OF_JAVA, OF_SPARK))
    (folder / MADE_BY).write_text(str(java))
    return size


def _run(command: list[str], java: Path) -> None:
    try:
        done = subprocess.run(
            command, env=environment({}, java), capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotMade(str(error)) from error
    if done.returncode:
        told = "\n".join(
            line for line in (done.stdout + done.stderr).splitlines() if not {"INFO", "WARN"} & set(line.split()[2:3])
        )
        raise NotMade(f"exit code {done.returncode} of {command[0]}: {told[-2000:]}")


def _size(file: Path) -> int:
    if not file.exists():
        raise NotMade(f"{file} was not written")
    return file.stat().st_size


def main() -> int:
    """Make it for the Java that jobs are run with."""
    try:
        size = make(java_home())
    except (NotMade, NoJava) as error:
        print(f"No class-data archive, jobs start some seconds slower: {error}", file=sys.stderr)
        return 1
    print(f"{FOLDER}: {size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
