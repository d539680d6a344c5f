"""Spark and Cloud Storage on this machine, for programs that run many jobs: one session, and no server but storage."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laptop.dataproc.java import java_home
from laptop.dataproc.spark_submit import DRIVER_MEMORY, MASTER, storage_properties
from laptop.supervisor import Supervisor


@dataclass(frozen=True)
class Machine:
    """What the jobs take."""

    spark: Any
    storage: Any
    buckets: Path
    """The folder with a folder for each bucket."""


@contextmanager
def machine(buckets: tuple[str, ...]) -> Iterator[Machine]:
    """A machine with empty ``buckets``; all of it is gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="lunation-backtest-") as folder,
        Supervisor(Path(folder), ["storage"]) as up,
    ):
        up.wait_ready()
        os.environ["STORAGE_EMULATOR_HOST"] = up.endpoints["storage"]["http"]
        java = java_home()
        os.environ["JAVA_HOME"] = str(java)
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
        os.environ["PYSPARK_PYTHON"] = sys.executable
        from google.cloud.storage import Client
        from pyspark.sql import SparkSession

        from spark.session import SETTINGS, start

        storage = Client(project="local-dev")
        for bucket in buckets:
            storage.create_bucket(bucket)
        root = up.state / "storage"
        builder = SparkSession.builder.master(MASTER).config("spark.driver.memory", DRIVER_MEMORY)
        for key, value in {**SETTINGS, **storage_properties(root, java)}.items():
            builder = builder.config(key, value)
        # Before the session, or its first seconds are logged in full.
        builder.getOrCreate().sparkContext.setLogLevel("ERROR")
        session = start("backtest")
        session.sparkContext.setLogLevel("ERROR")
        try:
            yield Machine(session, storage, root)
        finally:
            # Hadoop keeps a file system a bucket's name, and the next machine has its buckets elsewhere.
            jvm: Any = session._jvm
            jvm.org.apache.hadoop.fs.FileSystem.closeAll()
            session.stop()
