"""How a PySpark job of a Dataproc template becomes a ``spark-submit`` on this machine."""

import asyncio
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from laptop.children import Child, Guard, tail
from laptop.dataproc import class_archive
from laptop.dataproc.java import NoJava, java_home
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
        child = await Child.start(
            command(self._context.state / "storage", job.pyspark_job, properties, java),
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
    path = (buckets / uri.removeprefix("gs://")).resolve()
    if not path.is_relative_to(buckets.resolve()) or not path.is_file():
        raise ServiceError("NOT_FOUND", f"{uri}: no such object")
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
    for bucket in sorted(path for path in buckets.iterdir() if path.is_dir()):
        properties[f"spark.hadoop.fs.viewfs.mounttable.{bucket.name}.linkFallback"] = bucket.as_uri()
    return properties


def command(buckets: Path, job: Any, properties: Mapping[str, str], java: Path) -> list[str]:
    """The command line.

    Args:
        buckets: the folder with a folder for each bucket.
        job: a ``google.cloud.dataproc.v1.PySparkJob``.
        properties: Spark properties of the cluster; the job's own win.
        java: the ``JAVA_HOME`` that the job will have.
    """
    conf = storage_properties(buckets, java)
    conf["spark.driver.extraJavaOptions"] += f" {ONE_COMPILER}"
    conf.update(properties)
    conf.update(job.properties)
    packages = [str(local_path(buckets, uri)) for uri in job.python_file_uris]
    files = ["--py-files", ",".join(packages)] if packages else []
    main = local_path(buckets, job.main_python_file_uri)
    return [*submit(conf), *files, str(main), *job.args]


def submit(conf: Mapping[str, str]) -> list[str]:
    """``spark-submit`` with these properties; the program and its arguments come after it."""
    line = [str(spark_home() / "bin" / "spark-submit"), "--master", MASTER, "--driver-memory", DRIVER_MEMORY]
    for name, value in sorted(conf.items()):
        line += ["--conf", f"{name}={value}"]
    return line


def environment(platform: Mapping[str, str], java: Path) -> dict[str, str]:
    """The job's environment: this interpreter for driver and workers, and nothing of ours on its path."""
    return {
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        **platform,
        "JAVA_HOME": str(java),
        "SPARK_HOME": str(spark_home()),
        "SPARK_LOCAL_IP": "127.0.0.1",
        # Or Spark takes the python3 of the path, and misses every package.
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }


def _java_home() -> Path:
    try:
        return java_home()
    except NoJava as error:
        raise ServiceError("FAILED_PRECONDITION", str(error)) from error


def spark_home() -> Path:
    """Where the package pyspark has Spark."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise ServiceError("FAILED_PRECONDITION", "pyspark is not installed: pip install pyspark==3.5.9")
    return Path(spec.origin).parent
