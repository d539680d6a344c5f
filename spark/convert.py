"""Job 1 of 3: the archive's NDJSON becomes date-partitioned Parquet, each record once, joined with its latest label.

Writes ``<archive>/parquet/<use case>/run=<run id>/data/dt=<day>/*.parquet``, then ``convert.json`` beside it: the
counts and the objects that were read. That file closes the job: if it is there, the job was done before.
"""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql.functions import expr

from schemas.shapes import label_ddl, model_inputs, spark_ddl
from schemas.use_cases import UseCase
from spark import objects
from spark.job import Job, JobFailed, exit_code, parse, progress
from spark.repeat import original, pinned
from spark.session import start

CORRUPT = "_corrupt_record"

# A zone is asked for as in schemas.Record: without one, Spark would take its own and shift the record silently.
TIME = "IF(upper(event_time) RLIKE '(Z|[+-][0-9]{2}:?[0-9]{2})$', try_cast(event_time AS TIMESTAMP), NULL)"

# Records and labels with one record_id meet in one group, so one shuffle both drops duplicates and joins. Two lines
# with one record_id are one record sent twice, or sent again with changes: the later event time wins, and among equal
# ones the larger content. max() over the whole row depends on no order of files or tasks.
RECORDS_READ = """
SELECT record_id, event_time, features,
       coalesce({corrupt} IS NULL AND record_id <> '' AND event_time IS NOT NULL AND features IS NOT NULL, false)
         AS readable
FROM (SELECT record_id, {time} AS event_time, IF(features IS NULL, NULL, named_struct({columns})) AS features, {corrupt}
      FROM records_lines)
"""
LABELS_READ = """
SELECT record_id, event_time, label,
       coalesce({corrupt} IS NULL AND record_id <> '' AND event_time IS NOT NULL AND label IN ({labels}), false)
         AS readable
FROM (SELECT record_id, {time} AS event_time, label, {corrupt} FROM labels_lines)
"""
JOINED = """
SELECT record_id, record.event_time, record.features, outcome.label, outcome.event_time AS label_time,
       CAST(record.event_time AS DATE) AS dt
FROM (
  SELECT record_id,
         max(struct(event_time, features)) FILTER (WHERE features IS NOT NULL) AS record,
         max(struct(event_time, label)) FILTER (WHERE label IS NOT NULL) AS outcome
  FROM (
    SELECT record_id, event_time, features, CAST(NULL AS STRING) AS label FROM records_read WHERE readable
    UNION ALL
    SELECT record_id, event_time, NULL AS features, label FROM labels_read WHERE readable
  )
  GROUP BY record_id
)
"""
# One file a day: REBALANCE brings a day's rows together, and splits a day that is too large for one file.
WRITTEN = """
SELECT /*+ REBALANCE(dt) */ record_id, event_time, features, label, label_time, dt FROM joined WHERE dt IS NOT NULL
"""


def main(argv: Sequence[str]) -> int:
    """Wire the job: arguments, session, storage client."""
    from google.cloud.storage import Client

    job = parse("convert", __doc__.splitlines()[0], argv)
    return exit_code(lambda: convert(start(f"convert {job.run_id}"), Client(), job))


def convert(spark: SparkSession, storage: Any, job: Job) -> None:
    """Convert all that the archive holds now.

    Raises:
        JobFailed: no records in the archive, or none that can be read.
    """
    began = time.monotonic()
    done = f"{job.work}/convert.json"
    if objects.read(storage, done) is not None:
        progress(f"convert: {done} is there, this run was converted before")
        return
    repeated = original(storage, job)

    def lines(topic: str, ddl: str) -> DataFrame | None:
        folder = f"{job.archive}/archive/{topic}"
        return _lines(
            spark, [folder] if repeated is None else pinned(repeated, objects.md5s(storage, folder), folder), ddl
        )

    records = lines("records", spark_ddl(job.case))
    if records is None:
        raise JobFailed(
            f"{job.archive}/archive/records has no objects, so there is nothing to train on; check that the archive "
            "pipeline runs (or backfill history) and that --archive names its bucket"
        )
    labels = lines("labels", label_ddl())
    read = sorted(records.inputFiles()) + sorted(labels.inputFiles() if labels is not None else [])
    # Looked up after Spark has listed: the archive grows meanwhile, and no object of it ever changes.
    found = objects.md5s(storage, f"{job.archive}/archive")
    inputs = {uri: found[uri] for uri in map(unquote, read)}
    progress(f"convert: reading {len(inputs)} objects below {job.archive}/archive")

    frame, observed = _converted(spark, job.case, records, labels)
    data = f"{job.work}/data"
    frame.write.mode("overwrite").partitionBy("dt").parquet(data)
    counts = {name: value for part in observed for name, value in part.get.items()}
    counts["duplicates"] = counts["records_readable"] - counts["records"]
    _check(spark, job, data, counts)
    seconds = round(time.monotonic() - began, 3)
    report = {"use_case": job.case.name, "run_id": job.run_id, "counts": counts, "inputs": inputs, "seconds": seconds}
    objects.write_once(storage, done, json.dumps(report, indent=1, sort_keys=True).encode())
    progress(
        f"convert: {counts['records']} records in {seconds:.1f} s; {counts['labelled']} labelled, "
        f"{counts['duplicates']} duplicates dropped, {counts['records_corrupt']} record lines and "
        f"{counts['labels_corrupt']} label lines not readable, {counts['labels_orphaned']} labels without record"
    )


def _lines(spark: SparkSession, paths: Sequence[str], ddl: str) -> DataFrame | None:
    """The lines below ``paths`` under an explicit schema; None if there is no object (names with ``_`` or ``.`` first
    do not count: Spark takes them for its own)."""
    if not paths:
        return None
    try:
        lines = (
            spark.read.schema(f"{ddl}, `{CORRUPT}` STRING")
            .option("mode", "PERMISSIVE")
            .option("columnNameOfCorruptRecord", CORRUPT)
            .option("allowNonNumericNumbers", "false")
            .option("recursiveFileLookup", "true")
            .json(list(paths))
        )
    except AnalysisException as error:
        if error.getErrorClass() == "PATH_NOT_FOUND":
            return None
        raise
    return lines if lines.inputFiles() else None


def _converted(
    spark: SparkSession, case: UseCase, records: DataFrame, labels: DataFrame | None
) -> tuple[DataFrame, list[Observation]]:
    """The rows to write, and the counts that the write itself makes on its way: the lines are read once."""
    records_seen, labels_seen, joined_seen = (Observation(name) for name in ("records", "labels", "joined"))
    # Numbers are stored as doubles, whatever they were sent as; so are booleans.
    columns = ", ".join(
        f"'{item.name}', features.`{item.name}`"
        if item.kind == "category"
        else f"'{item.name}', CAST(features.`{item.name}` AS DOUBLE)"
        for item in model_inputs(case)
    )
    records.createOrReplaceTempView("records_lines")
    spark.sql(RECORDS_READ.format(time=TIME, corrupt=CORRUPT, columns=columns)).observe(
        records_seen,
        *_counts(
            records_lines="count(1)", records_readable="count_if(readable)", records_corrupt="count_if(NOT readable)"
        ),
    ).createOrReplaceTempView("records_read")

    if labels is None:
        labels = spark.createDataFrame([], f"{label_ddl()}, `{CORRUPT}` STRING")
    labels.createOrReplaceTempView("labels_lines")
    known = ", ".join(f"'{label}'" for label in case.labels)
    spark.sql(LABELS_READ.format(time=TIME, corrupt=CORRUPT, labels=known)).observe(
        labels_seen, *_counts(labels_lines="count(1)", labels_corrupt="count_if(NOT readable)")
    ).createOrReplaceTempView("labels_read")

    spark.sql(JOINED).observe(
        joined_seen,
        *_counts(
            records="count(dt)",
            labelled="count_if(dt IS NOT NULL AND label IS NOT NULL)",
            unlabelled="count_if(dt IS NOT NULL AND label IS NULL)",
            labels_orphaned="count_if(dt IS NULL)",
        ),
    ).createOrReplaceTempView("joined")
    return spark.sql(WRITTEN), [records_seen, labels_seen, joined_seen]


def _counts(**expressions: str) -> list[Column]:
    return [expr(expression).alias(name) for name, expression in expressions.items()]


def _check(spark: SparkSession, job: Job, data: str, counts: dict[str, int]) -> None:
    """The written rows are as many as were counted on the way (read back from the Parquet footers)."""
    if counts["records"] == 0:
        raise JobFailed(
            f"none of the {counts['records_lines']} lines below {job.archive}/archive/records can be read as a record "
            f"of use case {job.case.name}; compare one with schemas/use_cases/, or fix --use-case"
        )
    written = spark.read.schema("record_id STRING").parquet(data).count()
    if written != counts["records"]:
        raise JobFailed(
            f"{data} has {written} rows but {counts['records']} records were counted: another process wrote to this "
            "run's folder; start the run again with a new run id"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
