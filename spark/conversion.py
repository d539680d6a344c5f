"""Job 1 of 3: new NDJSON of the archive becomes date-partitioned Parquet, each record once, with its latest label.

A run reads only the objects that no run before it has read. It writes the days that they touch, each into one file, and
takes all other days from where earlier runs wrote them (``snapshot.py``); so the work of a cycle does not grow with the
archive. Its report, ``convert.json``, closes the job: if it is there, the job was done before.

What an archive holds never ends a training. Whoever may write there may have put anything there, and what was a record
once may be none to today's class: objects and lines that are none are set aside, counted, and named in the report.
"""

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql.functions import expr

from schemas.archive_snapshot import MAX_NAMED, Day, Snapshot
from schemas.use_cases import UseCase
from spark import archive, objects, reading, snapshot
from spark.archive import Listing
from spark.features import features_ddl
from spark.instruments import ARCHIVE, OBJECTS
from spark.job import Job, JobFailedError, progress
from spark.repeat import original, pinned

# Records and labels with one record_id meet in one group, so one shuffle both drops duplicates and joins. Two lines
# with one record_id are one record sent twice, or sent again with changes: the later event time wins, and among equal
# ones the larger content. Duplicates are rare, so lines are brought together first: to sort and merge them before the
# shuffle as well would cost more than it saves. max() over the whole row depends on no order of files or tasks, nor on
# which run read them.
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
ROUNDS = 5
"""So often the archive is read until all that Spark cannot read is set aside."""
SHOWN = 5
"""So many refused lines and skipped objects are told in the job's log."""
REFUSED = "to_json(sort_array(collect_list(IF(object IS NULL, NULL, struct(object, reason)))))"


def convert(spark: SparkSession, storage: Any, job: Job) -> None:
    """Convert what is new in the archive.

    Raises:
        JobFailedError: no records in the archive, or none that can be read; or a folder of an earlier run is gone.
    """
    began = time.monotonic()
    done = snapshot.read(storage, job, job.run_id)
    if done is not None:
        snapshot.enter(storage, job, done)
        progress(f"convert: {job.work}/{Snapshot.NAME} is there, this run was converted before")
        return
    aside: dict[str, str] = {}
    for attempt in range(1, ROUNDS + 1):
        found: dict[str, Listing] = {}
        try:
            made = _converted(spark, storage, job, aside, found)
            break
        except (Py4JJavaError, PySparkException) as error:
            # An object is gone meanwhile, or its bytes are not to be had.
            lost: dict[str, str] = {}
            for topic, listing in found.items():
                lost |= archive.blamed(error, listing, archive.listed(storage, job, topic))
            if not lost or attempt == ROUNDS:
                raise
            progress(f"convert: set aside, and read again without it: {_named(lost)}", "WARNING")
            aside |= lost
    _measure(job, made)
    _check(job, made)
    made = replace(made, seconds=round(time.monotonic() - began, 3))
    snapshot.keep(storage, job, made)
    _tell(made)


def _converted(
    spark: SparkSession, storage: Any, job: Job, aside: Mapping[str, str], found: dict[str, Listing]
) -> Snapshot:
    """The archive as it is now, its new days written.

    Args:
        aside: objects that are not to be read, with the reason.
        found: is filled with what the archive's topics hold.
    """
    repeated = original(storage, job)
    # A repetition stands by itself: it reads what the original had read, and nothing is built on it.
    before = None if repeated else snapshot.newest(storage, job)
    known = snapshot.inputs(storage, job, before)
    old: DataFrame | None = None
    with ThreadPoolExecutor() as pool:
        # Spark lists the days that are there while the archive is listed.
        opened = None if before is None else pool.submit(snapshot.rows, spark, job, before, features_ddl(job.case))
        listed = list(pool.map(partial(archive.listed, storage, job), TOPICS))
        if opened is not None:
            old = opened.result()
    paths: dict[str, Sequence[str]] = {}
    for topic, listing in zip(TOPICS, listed, strict=True):
        found[topic] = listing.without(aside)
        paths[topic] = (
            pinned(repeated, found[topic].ours, found[topic].odd, f"{job.archive}/archive/{topic}")
            if repeated
            else archive.new_paths(found[topic], known)
        )
    odd = {uri: why for listing in found.values() for uri, why in sorted(listing.odd.items())}
    if before is None and not paths["records"]:
        raise JobFailedError(
            f"{job.archive}/archive/records has no objects, so there is nothing to train on; check that the archive "
            f"pipeline runs (or backfill history) and that --archive names its bucket"
            + (f" ({_named(odd)})" if odd else "")
        )
    made = Snapshot(
        use_case=job.case.name,
        run_id=job.run_id,
        number=None if repeated else (0 if before is None else (before.number or 0) + 1),
        previous=None if before is None else before.run_id,
        shape=snapshot.shape(job.case),
        days={} if before is None else before.days,
        waiting=None if before is None else before.waiting,
        counts={**({} if before is None else before.counts), "objects_skipped": len(odd)},
        skipped=dict(list(odd.items())[:MAX_NAMED]),
        refused=() if before is None else before.refused,
    )
    if not any(paths.values()):
        return made
    built_on = None if before is None or old is None else _Before(before, old)
    return _extended(spark, storage, job, made, built_on, _New(paths, found))


@dataclass(frozen=True)
class _Before:
    """What a conversion builds on."""

    snapshot: Snapshot
    rows: DataFrame
    """All that the snapshot has."""


@dataclass(frozen=True)
class _New:
    """What a conversion is to read, by topic."""

    paths: Mapping[str, Sequence[str]]
    """Objects and folders."""
    listings: Mapping[str, Listing]
    """What the topic holds."""

    def inputs(self, storage: Any, job: Job, lines: Mapping[str, DataFrame]) -> dict[str, str]:
        """The objects that ``lines`` are read from, with the MD5 of each."""
        read = sorted(
            uri for topic, frame in lines.items() for uri in _files(frame, self.paths[topic], self.listings[topic])
        )
        there = {uri: md5 for listing in self.listings.values() for uri, md5 in listing.ours.items()}
        if not all(uri in there for uri in read):
            # What Spark has listed counts, and the archive has grown in the meantime.
            there = objects.md5s(storage, f"{job.archive}/archive")
        return {uri: there.get(uri, "") for uri in read}


def _extended(
    spark: SparkSession, storage: Any, job: Job, made: Snapshot, before: _Before | None, new: _New
) -> Snapshot:
    """``made`` with the new objects in it; what it needs is written."""
    lines = {
        "records": reading.records(spark, job.case, new.paths["records"], new.listings["records"].large),
        "labels": reading.labels(spark, job.case, new.paths["labels"], new.listings["labels"].large),
    }
    inputs = new.inputs(storage, job, lines)
    progress(f"convert: reading {len(inputs)} objects below {job.archive}/archive")
    seen, parts = _parts(job.case, lines["records"], lines["labels"])
    touched = _written(spark, job, before, parts)
    counted = {name: value for one in seen for name, value in one.get.items()}
    refused = [line for topic in TOPICS for line in json.loads(counted.pop(f"{topic}_refused"))]
    read = replace(made, inputs=inputs, refused=[*refused, *made.refused][:MAX_NAMED])
    return _counted(spark, job, read, touched, counted)


def _written(spark: SparkSession, job: Job, before: _Before | None, new: Sequence[DataFrame]) -> set[str]:
    """Write the days that the new lines touch, with what was there of them before; which days of ``before`` these are.

    Args:
        new: the readable lines, of each topic.
    """
    parts = reduce(DataFrame.union, new)
    touched: set[str] = set()
    try:
        if before is not None:
            # The new lines are needed twice: for the days they touch, and for these days' rows. Each topic's is kept
            # by itself: Spark makes one union of two, and would find none that was kept.
            for frame in new:
                frame.persist()
            touched = _touched(before.rows, parts)
            features = features_ddl(job.case)
            parts = parts.unionByName(snapshot.rows(spark, job, before.snapshot, features, touched).drop("dt"))
            if before.snapshot.waiting is not None:
                parts = parts.unionByName(snapshot.waiting(spark, job, before.snapshot, features).drop("dt"))
        parts.createOrReplaceTempView("parts")
        spark.sql(JOINED).createOrReplaceTempView("joined")
        spark.sql(WRITTEN).write.mode("overwrite").partitionBy("dt").parquet(job.work)
    finally:
        for frame in new:
            frame.unpersist()
    return touched


def _touched(old: DataFrame, parts: DataFrame) -> set[str]:
    """The days that have a row of one of ``parts``: those where its record lies, and those where it belongs."""
    return {
        row.day
        for row in old.select("record_id", "dt")
        .join(parts.select("record_id"), "record_id", "left_semi")
        .select(expr("CAST(dt AS STRING) AS day"))
        .union(parts.where("features IS NOT NULL").select(expr("CAST(CAST(event_time AS DATE) AS STRING) AS day")))
        .distinct()
        .collect()  # days, not data
    }


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
    counts["objects_skipped"] = made.counts["objects_skipped"]
    counts["objects"] = made.counts.get("objects", 0) + len(made.inputs)
    return replace(made, days=dict(sorted(days.items())), waiting=waiting, counts=counts)


def _files(frame: DataFrame, paths: Sequence[str], listing: Listing) -> list[str]:
    """The objects that ``frame`` reads. Spark listed them after us, and objects are only ever added: as many as in our
    listing are the same ones. (To be told their names takes 2 s for a year of them.)"""
    expected = archive.below(paths, listing)
    if len(frame._jdf.inputFiles()) == len(expected):
        return expected
    return [unquote(uri) for uri in frame.inputFiles()]


def _parts(case: UseCase, records: DataFrame, labels: DataFrame) -> tuple[list[Observation], list[DataFrame]]:
    """The readable lines of either topic in one shape, and what is counted on the way: lines are read once."""
    records_seen, labels_seen = Observation("records"), Observation("labels")
    records = records.observe(
        records_seen,
        *_counts(
            records_lines="count(1)",
            records_readable="count_if(readable)",
            records_corrupt="count_if(NOT readable)",
            records_refused=REFUSED,
        ),
    )
    labels = labels.observe(
        labels_seen,
        *_counts(labels_lines="count(1)", labels_corrupt="count_if(NOT readable)", labels_refused=REFUSED),
    )
    struct = features_ddl(case).partition(" ")[2]
    return [records_seen, labels_seen], [
        records.where("readable").selectExpr(*RECORD_PART),
        labels.where("readable").selectExpr(*(one.format(features=struct) for one in LABEL_PART)),
    ]


def _counts(**expressions: str) -> list[Column]:
    return [expr(expression).alias(name) for name, expression in expressions.items()]


def _measure(job: Job, made: Snapshot) -> None:
    OBJECTS.set(len(made.inputs), use_case=job.case.name)
    for outcome in ("records", "labelled", "duplicates", "records_corrupt", "labels_corrupt", "labels_orphaned"):
        ARCHIVE.set(made.counts[outcome], use_case=job.case.name, outcome=outcome)


def _check(job: Job, made: Snapshot) -> None:
    if made.counts["records"] == 0:
        first = "; the first: {object}: {reason}".format(**made.refused[0]) if made.refused else ""
        raise JobFailedError(
            f"none of the {made.counts['records_lines']} lines below {job.archive}/archive/records can be read as a "
            f"record of use case {job.case.name}{first}; compare one with schemas/use_cases/, or fix --use-case"
        )


def _tell(made: Snapshot) -> None:
    counts = made.counts
    for line in made.refused[:SHOWN]:
        progress(f"convert: refused a line of {line['object']}: {line['reason']}", "WARNING")
    if made.skipped:
        progress(f"convert: {counts['objects_skipped']} objects skipped: {_named(made.skipped)}", "WARNING")
    progress(
        f"convert: {len(made.inputs)} new objects in {made.seconds:.1f} s; {counts['records']} records, "
        f"{counts['labelled']} labelled, {counts['duplicates']} duplicates dropped, {counts['records_corrupt']} record "
        f"lines and {counts['labels_corrupt']} label lines not readable, {counts['labels_orphaned']} labels without "
        "record"
    )


def _named(objects_: Mapping[str, str]) -> str:
    """The first few of them with their reasons."""
    few = [f"{uri}: {why}" for uri, why in list(objects_.items())[:SHOWN]]
    return "; ".join(few) + (f"; and {len(objects_) - SHOWN} more" if len(objects_) > SHOWN else "")
