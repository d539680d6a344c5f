"""Reads and writes snapshots: which run's folder has which day of the archive, and what was read to make it.

A conversion never changes a file. It writes the days that new objects touch into its own run's folder, and a report,
``convert.json``, that names for every day the run that holds it; so each run keeps its own state of the archive.
``<archive>/parquet/<use case>/converted/`` has an entry for each report, and the last one is what the next conversion
builds on. (Two conversions at a time may build on the same one: both are right, and the objects that only one of them
has read are read again by the next.)
"""

import hashlib
import json
import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession

from schemas.archive_snapshot import Snapshot
from schemas.label import Label
from schemas.use_cases import UseCase
from spark import objects
from spark.features import features_ddl
from spark.fingerprint import code_sha256
from spark.job import Job, JobFailedError
from spark.literal import literal

JUDGES = ("pydantic", "pydantic-core")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+|:[0-9]{6,}(?=[':\]\[,])")
"""What is another in every process: where a function lies, and a class, whose address is part of its schema's name."""
# Labels that wait for their record are the rows without a day, which Spark files under this name.
NO_DAY = "__HIVE_DEFAULT_PARTITION__"
STORED = "record_id STRING, event_time TIMESTAMP, {features}, label STRING, label_time TIMESTAMP, dt DATE"


def shape(case: UseCase) -> str:
    """What a snapshot of this use case depends on besides the objects: all that has a say in what a line is. Whatever
    of it changes, the archive is read anew.

    That is the class, the source of the package that judges (any of it: a class may use what it likes of it), and the
    packages that do the work. Of a class that lies elsewhere, and of what it uses there, the schema alone is seen.
    """
    digest = hashlib.sha256()
    classes = (_ADDRESS.sub("", repr(one.__pydantic_core_schema__)) for one in (case.record, Label))
    for part in (*classes, code_sha256("schemas"), *map(version, JUDGES)):
        digest.update(f"{len(part)} {part}".encode())
    return f"2; {features_ddl(case)}; {', '.join(case.labels)}; {digest.hexdigest()}"


def root(job: Job) -> str:
    """The folder of all converted data of this use case."""
    return job.work.rpartition("/run=")[0]


def read(storage: Any, job: Job, run_id: str) -> Snapshot | None:
    """A run's report; None if it has not been converted."""
    content = objects.read(storage, f"{root(job)}/run={run_id}/{Snapshot.NAME}")
    return None if content is None else Snapshot.from_json(content)


def keep(storage: Any, job: Job, snapshot: Snapshot) -> None:
    """Write the report, then the entry by which the next conversion finds it."""
    objects.write_once(storage, f"{root(job)}/run={snapshot.run_id}/{Snapshot.NAME}", snapshot.to_json())
    enter(storage, job, snapshot)


def enter(storage: Any, job: Job, snapshot: Snapshot) -> None:
    """Write the entry (again: a run may have ended between the two)."""
    if snapshot.number is None:
        return
    entry = f"{root(job)}/converted/{snapshot.number:06d}.{snapshot.run_id}.json"
    objects.write_once(storage, entry, json.dumps({"run_id": snapshot.run_id}).encode())


def newest(storage: Any, job: Job) -> Snapshot | None:
    """The last conversion of this shape; None before the first."""
    entries = objects.md5s(storage, f"{root(job)}/converted")
    wanted = shape(job.case)
    for entry in sorted(entries, reverse=True):
        run_id = entry.rpartition("/")[2].split(".")[1]
        found = read(storage, job, run_id)
        # One of another shape may have a higher number: numbers begin anew with each shape.
        if found is not None and found.shape == wanted:
            return found
    return None


def inputs(storage: Any, job: Job, snapshot: Snapshot | None) -> dict[str, str]:
    """All objects that a snapshot was made of, with their MD5."""
    found: dict[str, str] = {}
    while snapshot is not None:
        found.update(snapshot.inputs)
        if snapshot.previous is None:
            return found
        before = read(storage, job, snapshot.previous)
        if before is None:
            raise JobFailedError(
                f"{root(job)}/run={snapshot.previous}/{Snapshot.NAME} is gone, and {snapshot.run_id} builds on it; "
                f"delete {root(job)}/converted/ to convert the whole archive anew"
            )
        snapshot = before
    return found


def rows(spark: SparkSession, job: Job, snapshot: Snapshot, features: str, days: set[str] | None = None) -> DataFrame:
    """The snapshot's rows, of all days or of some.

    Args:
        features: the column ``features`` as DDL.

    Raises:
        JobFailedError: a day's folder is gone.
    """
    wanted = {f"run={where.run_id}/dt={day}" for day, where in snapshot.days.items() if days is None or day in days}
    return _read(spark, job, sorted(wanted), features)


def stored(spark: SparkSession, job: Job, snapshot: Snapshot) -> Sequence[str]:
    """The features that the files of the last day have, whatever they should have."""
    day, where = max(snapshot.days.items())
    found = spark.read.parquet(f"{root(job)}/run={where.run_id}/dt={day}").schema["features"].dataType
    return found.fieldNames()  # type: ignore[attr-defined,no-any-return]


def waiting(spark: SparkSession, job: Job, snapshot: Snapshot, features: str) -> DataFrame:
    """Its labels without a record."""
    assert snapshot.waiting is not None
    return _read(spark, job, [f"run={snapshot.waiting.run_id}/dt={NO_DAY}"], features)


def _read(spark: SparkSession, job: Job, folders: list[str], features: str) -> DataFrame:
    ddl = STORED.format(features=features)
    if not folders:
        return literal(spark, [], ddl)
    base = root(job)
    try:
        found = spark.read.schema(ddl).option("basePath", base).parquet(*(f"{base}/{folder}" for folder in folders))
    except AnalysisException as error:
        if error.getErrorClass() == "PATH_NOT_FOUND":
            raise JobFailedError(
                f"{(error.getMessageParameters() or {}).get('path')} is gone, and the snapshot needs it; delete "
                f"{base}/converted/ and start again with a new run id: the archive is then converted anew"
            ) from error
        raise
    return found.drop("run")
