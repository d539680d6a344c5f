"""Job 1 of 3: new NDJSON of the archive becomes date-partitioned Parquet, each record once, with its latest label.

A run reads only the objects that no run before it has read. It writes the days that they touch, each into one file, and
takes all other days from where earlier runs wrote them (``snapshot.py``); so the work of a cycle does not grow with the
archive. Its report, ``convert.json``, closes the job: if it is there, the job was done before.
"""

import time
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import unquote

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql.functions import expr

from schemas.shapes import label_ddl, model_inputs, spark_ddl
from schemas.use_cases import UseCase
from spark import objects, snapshot
from spark.features import features_ddl
from spark.job import Job, JobFailed, progress
from spark.literal import literal
from spark.repeat import original, pinned
from spark.snapshot import Day, Snapshot
from spark.watched import ARCHIVE, OBJECTS

CORRUPT = "_corrupt_record"

# A zone is asked for as in schemas.Record: without one, Spark would take its own and shift the record silently.
ZONED = "IF(upper(event_time) RLIKE '(Z|[+-][0-9]{2}:?[0-9]{2})$', try_cast(event_time AS TIMESTAMP), NULL)"
# As it is mostly written, it is read without the Z, which is the session's zone: Spark looks zones up by two regular
# expressions that it compiles for every row, and takes three times as long.
TIME = f"""
IF(endswith(event_time, 'Z') AND
   event_time RLIKE '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}([.][0-9]{{1,9}})?Z$',
   try_cast(left(event_time, length(event_time) - 1) AS TIMESTAMP), {ZONED})
"""

# Records and labels with one record_id meet in one group, so one shuffle both drops duplicates and joins. Two lines
# with one record_id are one record sent twice, or sent again with changes: the later event time wins, and among equal
# ones the larger content. Duplicates are rare, so lines are brought together first: to sort and merge them before the
# shuffle as well would cost more than it saves. max() over the whole row depends on no order of files or tasks, nor on
# which run read them.
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
         max(struct(label_time AS event_time, label)) FILTER (WHERE label IS NOT NULL) AS outcome
  FROM (SELECT /*+ REPARTITION(record_id) */ * FROM parts)
  GROUP BY record_id
)
"""
NO_LABEL = "CAST(NULL AS STRING) AS label", "CAST(NULL AS TIMESTAMP) AS label_time"
NO_RECORD = "CAST(NULL AS TIMESTAMP) AS event_time", "CAST(NULL AS {features}) AS features"
RECORD_PART = "record_id", "event_time", "features", *NO_LABEL
LABEL_PART = "record_id", *NO_RECORD, "label", "event_time AS label_time"
# One file a day: REBALANCE brings a day's rows together, and splits a day that is too large for one file.
WRITTEN = "SELECT /*+ REBALANCE(dt) */ * FROM joined"
TOPICS = ("records", "labels")
HIDDEN = ("_", ".")
"""Objects whose names begin so do not count: Spark takes them for its own."""


def convert(spark: SparkSession, storage: Any, job: Job) -> None:
    """Convert what is new in the archive.

    Raises:
        JobFailed: no records in the archive, or none that can be read, or a folder that an earlier run wrote is gone.
    """
    began = time.monotonic()
    done = snapshot.read(storage, job, job.run_id)
    if done is not None:
        snapshot.enter(storage, job, done)
        progress(f"convert: {job.work}/convert.json is there, this run was converted before")
        return
    repeated = original(storage, job)
    # A repetition stands by itself: it reads what the original had read, and nothing is built on it.
    before = None if repeated else snapshot.newest(storage, job)
    there: dict[str, str] = {}
    paths: dict[str, Sequence[str]] = {}
    known = snapshot.inputs(storage, job, before)
    folders = [f"{job.archive}/archive/{topic}" for topic in TOPICS]
    old: DataFrame | None = None
    with ThreadPoolExecutor() as pool:
        # Spark lists the days that are there while the archive is listed.
        opened = None if before is None else pool.submit(snapshot.rows, spark, job, before, features_ddl(job.case))
        listed = list(pool.map(partial(objects.md5s, storage), folders))
        if opened is not None:
            old = opened.result()
    for topic, folder, found in zip(TOPICS, folders, listed, strict=True):
        paths[topic] = pinned(repeated, found, folder) if repeated else _new(found, known)
        there |= found
    if before is None and not paths["records"]:
        raise JobFailed(
            f"{job.archive}/archive/records has no objects, so there is nothing to train on; check that the archive "
            "pipeline runs (or backfill history) and that --archive names its bucket"
        )
    made = Snapshot(
        use_case=job.case.name,
        run_id=job.run_id,
        number=None if repeated else (0 if before is None else (before.number or 0) + 1),
        previous=None if before is None else before.run_id,
        shape=snapshot.shape(job.case),
        days={} if before is None else before.days,
        waiting=None if before is None else before.waiting,
        counts={} if before is None else before.counts,
    )
    if any(paths.values()):
        made = _extended(spark, storage, job, made, before, old, paths, there)
    _measure(job, made)
    _check(job, made)
    made = replace(made, seconds=round(time.monotonic() - began, 3))
    snapshot.keep(storage, job, made)
    counts = made.counts
    progress(
        f"convert: {len(made.inputs)} new objects in {made.seconds:.1f} s; {counts['records']} records, "
        f"{counts['labelled']} labelled, {counts['duplicates']} duplicates dropped, {counts['records_corrupt']} record "
        f"lines and {counts['labels_corrupt']} label lines not readable, {counts['labels_orphaned']} labels without "
        "record"
    )


def _new(there: Mapping[str, str], known: Container[str]) -> list[str]:
    """What to read of a topic: the folder of a day of which nobody has read anything, else single objects."""
    folders: dict[str, list[str]] = defaultdict(list)
    for uri in there:
        folder, _, name = uri.rpartition("/")
        if not name.startswith(HIDDEN):
            folders[folder].append(uri)
    paths = []
    for folder, uris in sorted(folders.items()):
        new = [uri for uri in uris if uri not in known]
        paths += [folder] if len(new) == len(uris) else sorted(new)
    return paths


def _extended(
    spark: SparkSession,
    storage: Any,
    job: Job,
    made: Snapshot,
    before: Snapshot | None,
    old: DataFrame | None,
    paths: Mapping[str, Sequence[str]],
    there: Mapping[str, str],
) -> Snapshot:
    """``made`` with the new objects in it; what it needs is written.

    Args:
        old: the rows of ``before``.
        paths: what to read, by topic.
        there: the archive's objects with their MD5.
    """
    features = features_ddl(job.case)
    records = _lines(spark, paths["records"], spark_ddl(job.case))
    labels = _lines(spark, paths["labels"], label_ddl())
    read = sorted(
        uri for topic, frame in (("records", records), ("labels", labels)) for uri in _files(frame, paths[topic], there)
    )
    if not all(uri in there for uri in read):
        # What Spark has listed counts, and the archive has grown in the meantime.
        there = objects.md5s(storage, f"{job.archive}/archive")
    inputs = {uri: there[uri] for uri in read}
    progress(f"convert: reading {len(inputs)} objects below {job.archive}/archive")
    seen, parts = _parts(job.case, records, labels)
    touched: set[str] = set()
    if before is not None and old is not None:
        # The new lines are needed twice: for the days they touch, and for these days' rows.
        parts = parts.persist()
        touched = {
            row.day
            for row in old.select("record_id", "dt")
            .join(parts.select("record_id"), "record_id", "left_semi")
            .select(expr("CAST(dt AS STRING) AS day"))
            .union(parts.where("features IS NOT NULL").select(expr("CAST(CAST(event_time AS DATE) AS STRING) AS day")))
            .distinct()
            .collect()  # days, not data
        }
        kept = snapshot.rows(spark, job, before, features, touched).drop("dt")
        together = parts.unionByName(kept)
        if before.waiting is not None:
            together = together.unionByName(snapshot.waiting(spark, job, before, features).drop("dt"))
    else:
        together = parts
    together.createOrReplaceTempView("parts")
    spark.sql(JOINED).createOrReplaceTempView("joined")
    spark.sql(WRITTEN).write.mode("overwrite").partitionBy("dt").parquet(job.work)
    parts.unpersist()
    counted = {name: value for one in seen for name, value in one.get.items()}
    return _counted(spark, job, replace(made, inputs=inputs), touched, counted)


def _counted(spark: SparkSession, job: Job, made: Snapshot, touched: set[str], seen: dict[str, int]) -> Snapshot:
    """``made`` with the days that were written in place of those touched, and the counts that follow."""
    days = {day: where for day, where in made.days.items() if day not in touched}
    waiting = None
    # From the files' footers and one narrow column.
    written = spark.read.schema("label STRING, dt STRING").parquet(job.work).groupBy("dt")
    for row in written.agg(expr("count(1) AS rows"), expr("count(label) AS labelled")).collect():  # days, not data
        if row.dt is None:
            waiting = Day(job.run_id, row.rows, row.labelled)
        else:
            days[row.dt] = Day(job.run_id, row.rows, row.labelled)
    counts = {name: made.counts.get(name, 0) + value for name, value in seen.items()}
    counts["records"] = sum(day.rows for day in days.values())
    counts["labelled"] = sum(day.labelled for day in days.values())
    counts["unlabelled"] = counts["records"] - counts["labelled"]
    counts["labels_orphaned"] = 0 if waiting is None else waiting.rows
    counts["duplicates"] = counts["records_readable"] - counts["records"]
    counts["objects"] = made.counts.get("objects", 0) + len(made.inputs)
    return replace(made, days=dict(sorted(days.items())), waiting=waiting, counts=counts)


def _files(frame: DataFrame, paths: Sequence[str], there: Iterable[str]) -> list[str]:
    """The objects that ``frame`` reads. Spark listed them after us, and objects are only ever added: as many as in our
    listing are the same ones. (To be told their names takes 2 s for a year of them.)"""
    wanted = set(paths)
    expected = [
        uri
        for uri in there
        if not uri.rpartition("/")[2].startswith(HIDDEN) and (uri in wanted or uri.rpartition("/")[0] in wanted)
    ]
    if len(frame._jdf.inputFiles()) == len(expected):
        return expected
    return [unquote(uri) for uri in frame.inputFiles()]


def _lines(spark: SparkSession, paths: Sequence[str], ddl: str) -> DataFrame:
    """The objects' lines under an explicit schema."""
    schema = f"{ddl}, `{CORRUPT}` STRING"
    if not paths:
        return literal(spark, [], schema)
    return (
        spark.read.schema(schema)
        .option("mode", "PERMISSIVE")
        .option("columnNameOfCorruptRecord", CORRUPT)
        .option("allowNonNumericNumbers", "false")
        .option("recursiveFileLookup", "true")
        .json(list(paths))
    )


def _parts(case: UseCase, records: DataFrame, labels: DataFrame) -> tuple[list[Observation], DataFrame]:
    """The readable lines of both topics in one shape, and the counts that are made on the way: lines are read once."""
    records_seen, labels_seen = Observation("records"), Observation("labels")
    spark = records.sparkSession
    # Numbers are stored as doubles, whatever they were sent as; so are booleans.
    columns = ", ".join(
        f"'{item.name}', features.`{item.name}`"
        if item.kind == "category"
        else f"'{item.name}', CAST(features.`{item.name}` AS DOUBLE)"
        for item in model_inputs(case)
    )
    records.createOrReplaceTempView("records_lines")
    records = spark.sql(RECORDS_READ.format(time=TIME, corrupt=CORRUPT, columns=columns)).observe(
        records_seen,
        *_counts(
            records_lines="count(1)", records_readable="count_if(readable)", records_corrupt="count_if(NOT readable)"
        ),
    )
    labels.createOrReplaceTempView("labels_lines")
    known = ", ".join(f"'{label}'" for label in case.labels)
    labels = spark.sql(LABELS_READ.format(time=TIME, corrupt=CORRUPT, labels=known)).observe(
        labels_seen, *_counts(labels_lines="count(1)", labels_corrupt="count_if(NOT readable)")
    )
    struct = features_ddl(case).partition(" ")[2]
    parts = (
        records.where("readable")
        .selectExpr(*RECORD_PART)
        .unionByName(labels.where("readable").selectExpr(*(one.format(features=struct) for one in LABEL_PART)))
    )
    return [records_seen, labels_seen], parts


def _counts(**expressions: str) -> list[Column]:
    return [expr(expression).alias(name) for name, expression in expressions.items()]


def _measure(job: Job, made: Snapshot) -> None:
    OBJECTS.set(len(made.inputs), use_case=job.case.name)
    for outcome in ("records", "labelled", "duplicates", "records_corrupt", "labels_corrupt", "labels_orphaned"):
        ARCHIVE.set(made.counts[outcome], use_case=job.case.name, outcome=outcome)


def _check(job: Job, made: Snapshot) -> None:
    if made.counts["records"] == 0:
        raise JobFailed(
            f"none of the {made.counts['records_lines']} lines below {job.archive}/archive/records can be read as a "
            f"record of use case {job.case.name}; compare one with schemas/use_cases/, or fix --use-case"
        )
