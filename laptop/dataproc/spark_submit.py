"""How a PySpark job of a Dataproc template becomes a ``spark-submit`` on this machine."""

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from laptop.children import Child, Guard, tail
from laptop.dataproc import class_archive
from laptop.dataproc.java import NoJavaError, java_home
from laptop.errors import ServiceError
from laptop.service import Context

MASTER = "local[2]"
DRIVER_MEMORY = "2g"
# Boosting a year in one session fills the 48 MB that Java keeps for compiled code with one compiler, and then nothing
# is compiled any more. Without Hadoop's native library each file that is written is a chmod of its own process: VFORK
# makes that cheap. Java would begin with a small heap and collect all the time: 237 times, 2.2 s, in the demo's first
# training. And it would collect the whole heap whenever a few more classes are loaded (four times, 0.3 s).
JAVA_OPTIONS = (
    "-XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC -Xms2g -Xmn700m -XX:MetaspaceSize=256m "
    "-Djdk.lang.Process.launchMechanism=VFORK"
)
# A job of a template is over before Java's second compiler pays: it takes the cores that the job needs. Measured on the
# demo's first cycle, 2 cores, convert + train + evaluate: 80 and 91 s of CPU with it, 66 and 63 s without. A session
# of many jobs, as a backtest is, converts twice as fast with it.
ONE_COMPILER = "-XX:TieredStopAtLevel=1"
LAUNCHER, SUBMIT = "org.apache.spark.launcher.Main", "org.apache.spark.deploy.SparkSubmit"
PROGRAM = "program.py"
OF_DRIVER = tuple(
    f"spark.driver.{name}"
    for name in ("memory", "defaultJavaOptions", "extraJavaOptions", "extraClassPath", "extraLibraryPath")
)
"""The properties that a driver's Java has to be started with."""
LAUNCHER_SECONDS = 60.0
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")


GRACE_SECONDS = 10.0


class SparkSubmit:
    """Runs jobs as child processes, which end with this one however it ends.

    Args:
        context: where state and the other servers are.
        folder: keeps the jobs' output, and is their working folder.
    """

    def __init__(self, context: Context, folder: Path) -> None:
        self._context = context
        self._folder = folder
        self._guard = Guard(GRACE_SECONDS)

    async def run(self, job: Any, properties: Mapping[str, str], variables: Mapping[str, str]) -> tuple[int, str]:
        """Run a PySpark job; answers its exit code and the end of what it printed.

        Args:
            job: a ``google.cloud.dataproc.v1.Job``.
            properties: Spark properties of the cluster.
            variables: the cluster's additions to the environment.

        Raises:
            ServiceError: it cannot be started: a file of it is not there, or Java.
        """
        log = self._folder / "jobs" / f"{job.reference.job_id}.log"
        platform = {
            "GOOGLE_CLOUD_PROJECT": job.reference.project_id,
            "STORAGE_EMULATOR_HOST": self._context.endpoint("storage"),
        }
        java = _java_home()
        line = await asyncio.to_thread(
            command, self._context.state / "storage", job.pyspark_job, properties, java, variables
        )
        child = await Child.start(
            line,
            cwd=self._folder,
            environment=environment({**variables, **platform}, java),
            log=log,
            watch=self._guard,
        )
        try:
            code = await child.wait()
        except asyncio.CancelledError:
            await child.stop(GRACE_SECONDS)
            raise
        return code, tail(log)

    def close(self) -> None:
        """End every job that still runs."""
        self._guard.close()


def local_path(buckets: Path, uri: str) -> Path:
    """The file of a ``gs://`` object: objects are plain files.

    Raises:
        ServiceError: INVALID_ARGUMENT for another scheme, NOT_FOUND if there is no such object.
    """
    if not uri.startswith("gs://"):
        raise ServiceError("INVALID_ARGUMENT", f"{uri}: a laptop reads job files from gs:// only")
    path = buckets.resolve() / uri.removeprefix("gs://")
    if not path.is_relative_to(buckets.resolve()) or not path.is_file():
        raise ServiceError("NOT_FOUND", f"{uri}: no such object")
    if path.resolve() != path:
        raise ServiceError("NOT_FOUND", f"{uri}: a symbolic link, or behind one, which is not followed here")
    return path


def storage_properties(buckets: Path, java: Path) -> dict[str, str]:
    """Spark properties that make ``gs://`` the folders of ``buckets``, for this machine and its ``java`` alone.

    ``gs://`` works without a connector: Hadoop's ViewFileSystemOverloadScheme mounts each bucket's folder, and
    RawLocalFileSystem leaves no checksum files beside the objects.
    """
    properties = {
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.extraJavaOptions": f"{JAVA_OPTIONS} {class_archive.options(java)}",
        "spark.hadoop.fs.gs.impl": "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme",
        "spark.hadoop.fs.viewfs.overload.scheme.target.gs.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    }
    for bucket in sorted(path for path in buckets.iterdir() if path.is_dir() and not path.is_symlink()):
        properties[f"spark.hadoop.fs.viewfs.mounttable.{bucket.name}.linkFallback"] = bucket.as_uri()
    return properties


def command(
    buckets: Path, job: Any, properties: Mapping[str, str], java: Path, variables: Mapping[str, str] | None = None
) -> list[str]:
    """The command line.

    Args:
        buckets: the folder with a folder for each bucket.
        job: a ``google.cloud.dataproc.v1.PySparkJob``.
        properties: Spark properties of the cluster; the job's own win.
        java: the ``JAVA_HOME`` that the job will have.
        variables: the cluster's additions to the environment.
    """
    conf = storage_properties(buckets, java)
    conf["spark.driver.extraJavaOptions"] += f" {ONE_COMPILER}"
    conf.update(properties)
    conf.update(job.properties)
    packages = [str(local_path(buckets, uri)) for uri in job.python_file_uris]
    files = ["--py-files", ",".join(packages)] if packages else []
    main = local_path(buckets, job.main_python_file_uri)
    return [*submit(conf, java, variables), *files, str(main), *job.args]


def submit(conf: Mapping[str, str], java: Path, variables: Mapping[str, str] | None = None) -> list[str]:
    """What ``spark-submit`` with these properties runs; the program and its arguments come after it.

    The script asks Spark's launcher, in a Java of its own, for the driver's Java, every time anew, and has driver
    programs import pyspark from a zip, where Python keeps no compiled code: a second for each job.

    Args:
        conf: Spark properties.
        java: the ``JAVA_HOME``.
        variables: the cluster's additions to the environment.

    Raises:
        ServiceError: the launcher takes no such properties, or does not run, or there is no Spark.
    """
    conf = {"spark.driver.memory": DRIVER_MEMORY, **conf}
    settings = {name: ["--conf", f"{name}={value}"] for name, value in sorted(conf.items())}
    of_driver = tuple(chain(*(settings.get(name, ()) for name in OF_DRIVER)))
    driver = _driver(java, of_driver, tuple(sorted((variables or {}).items())))
    return [*driver, "--master", MASTER, *chain(*settings.values())]


@cache
def _driver(java: Path, arguments: Sequence[str], variables: Sequence[tuple[str, str]]) -> list[str]:
    """The driver's Java with its options and class path, up to the class that takes the arguments."""
    launcher = [str(java / "bin" / "java"), "-Xmx128m", "-cp", f"{spark_home()}/jars/*", LAUNCHER]
    try:
        told = subprocess.run(
            [*launcher, SUBMIT, *arguments, PROGRAM],
            # With a Scala version it does not look for Spark as one builds it from source, to find out which it was.
            env=environment(dict(variables), java) | {"SPARK_HOME": str(spark_home()), "SPARK_SCALA_VERSION": "2.12"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LAUNCHER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError("FAILED_PRECONDITION", f"Spark's launcher does not run: {error}") from error
    # Each part ends with a zero byte, and before the first there is one more, on a line of its own.
    line = told.stdout.partition("\0\n")[2].split("\0")
    if told.returncode or PROGRAM not in line:  # what it refuses becomes a call for help, with exit code 0
        raise ServiceError("INVALID_ARGUMENT", f"Spark's launcher starts no such driver: {told.stderr[-2000:]}")
    return line[: line.index(SUBMIT) + 1]


def environment(platform: Mapping[str, str], java: Path) -> dict[str, str]:
    """The job's environment: this interpreter for driver and workers, and nothing of ours on its path."""
    return {
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        **platform,
        "JAVA_HOME": str(java),
        # As the script spark-submit has it: programs see strings in the same order in every job.
        "PYTHONHASHSEED": "0",
        "SPARK_LOCAL_IP": "127.0.0.1",
        # Or Spark takes the python3 of the path, and misses every package.
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }


def _java_home() -> Path:
    try:
        return java_home()
    except NoJavaError as error:
        raise ServiceError("FAILED_PRECONDITION", str(error)) from error


def spark_home() -> Path:
    """Where the package pyspark has Spark."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise ServiceError("FAILED_PRECONDITION", "pyspark is not installed: pip install pyspark==3.5.9")
    return Path(spec.origin).parent
