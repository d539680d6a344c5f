"""Reads the archive's lines. The use case's own class judges each, in a Python worker, and what it gives is stored.

No schema of Spark's decides what a record is: Spark hands over bytes, and ``UseCase.read_record`` and ``read_label``,
the readers of every other part, answer values or a reason. They are answered by column, a batch at a time, so a line
costs little more than the class itself.
"""

import gc
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, reduce
from operator import itemgetter
from typing import Any
from zipimport import zipimporter

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import expr

from schemas.dead_letter import explain
from schemas.shapes import model_inputs
from schemas.use_cases import UseCase
from spark.features import features_ddl
from spark.literal import literal

TOLD = 100
"""So many refused lines of a task are told with object and reason; all are counted."""
REASON_LENGTH = 300
PIECE = 500
"""So many lines, and at most twice as many, become columns at a time."""
MOMENT = pa.timestamp("us", tz="UTC")
VERDICT = "readable BOOLEAN, object STRING, reason STRING"
RECORDS = "record_id STRING, event_time TIMESTAMP, {features}, " + VERDICT
LABELS = "record_id STRING, event_time TIMESTAMP, label STRING, " + VERDICT

Batches = Iterator[pa.RecordBatch]
Row = tuple[Any, ...]


def records(spark: SparkSession, case: UseCase, paths: Sequence[str], large: Collection[str] = ()) -> DataFrame:
    """A row for each line of the objects: ``record_id``, ``event_time``, ``features`` (numbers are doubles, whatever
    they are in the class; so are booleans), and whether it is ``readable``. One that is not has nothing of these, and
    if it is among the first ones, its ``object`` and a ``reason``.

    Args:
        spark: the session.
        case: whose class judges.
        paths: objects, and folders of them.
        large: those of the paths that are too large to be held in memory as a whole; no folder may hold one.
    """
    return _read(spark, paths, large, RECORDS.format(features=features_ddl(case)), case, _record_columns)


def labels(spark: SparkSession, case: UseCase, paths: Sequence[str], large: Collection[str] = ()) -> DataFrame:
    """The same for labels: ``record_id``, ``event_time``, ``label``, and whether it is ``readable``."""
    return _read(spark, paths, large, LABELS, case, _label_columns)


@dataclass(frozen=True)
class _Columns:
    """How the documents of one topic are read, and become columns."""

    read: Callable[[bytes], Any]
    row: Callable[[Any], Row]
    """A document's values, in order."""
    arrays: Callable[[Sequence[Row]], list[pa.Array]]
    """The columns of such rows."""
    types: Sequence[pa.DataType]


def _read(
    spark: SparkSession,
    paths: Sequence[str],
    large: Collection[str],
    ddl: str,
    case: UseCase,
    columns: Callable[[UseCase], _Columns],
) -> DataFrame:
    texts = [
        _texts(spark, some, whole)
        for whole, some in (
            (True, [path for path in paths if path not in large]),
            (False, [path for path in paths if path in large]),
        )
        if some
    ]
    if not texts:
        return literal(spark, [], ddl)
    plain = replace(case)  # without what it has made for itself so far, which need not travel
    return reduce(DataFrame.union, texts).mapInArrow(lambda batches: _judged(iter(batches), columns(plain)), ddl)


def _texts(spark: SparkSession, paths: Sequence[str], whole: bool) -> DataFrame:
    """A row for each object, or for each of its lines: the ``text`` as bytes, for what is no UTF-8 is for the class to
    refuse, and its ``object``.

    For each object that it reads by line, Spark copies Hadoop's whole configuration and looks through it twice: with
    objects of an hour that was a quarter of Java's time in a conversion.
    """
    # A line ends with a line feed and nothing else: a carriage return is white space of JSON.
    return spark.read.text(list(paths), wholetext=whole, lineSep="\n", recursiveFileLookup=True).select(
        expr("CAST(value AS BINARY) AS text"), expr("_metadata.file_path AS object")
    )


def _judged(batches: Batches, columns: _Columns) -> Batches:
    """For each piece of the lines those that are documents, and then those that are refused."""
    _spare_the_next_task()
    told = 0
    for lines, objects in _pieces(batches):
        rows, refused = [], []
        for place, line in enumerate(lines):
            try:
                rows.append(columns.row(columns.read(line)))
            except MemoryError:  # which is not the line's fault
                raise
            except Exception as error:  # whatever a class raises: the line is none of its documents
                if line.strip():  # a line without anything is no document that somebody sent
                    refused.append((objects[place], error))
        if rows:
            arrays = columns.arrays(rows)
            yield _batch(arrays, pa.repeat(pa.scalar(True), len(rows)), *_nothing([pa.string()] * 2, len(rows)))
        if refused:
            named = refused[: TOLD - told]
            told += len(named)
            rest = [None] * (len(refused) - len(named))
            sources = [source.as_py() for source, _ in named] + rest
            reasons = [explain(error)[:REASON_LENGTH] for _, error in named] + rest
            yield _batch(
                _nothing(columns.types, len(refused)),
                pa.repeat(pa.scalar(False), len(refused)),
                pa.array(sources, pa.string()),
                pa.array(reasons, pa.string()),
            )


@cache
def _spare_the_next_task() -> None:
    """Once in a worker: what Spark's worker does around each task costs as much as 15,000 lines, and need not.

    Before a task it lets each finder of modules in an archive read that archive's directory anew, one of pyspark's
    archive for each package of it (``pyspark/worker.py``; https://github.com/python/cpython/issues/103200). Finders are
    a cache, and made again when they are needed. After a task it collects garbage among all that was ever imported.
    """
    for path, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimporter):
            del sys.path_importer_cache[path]
    gc.freeze()


def _pieces(batches: Batches) -> Iterator[tuple[list[bytes], list[pa.Scalar]]]:
    """The texts' lines and, for each, its object. A piece is so small that its values are in the processor's cache
    still when they become columns."""
    lines: list[bytes] = []
    objects: list[pa.Scalar] = []
    for batch in batches:
        for text, object_ in zip(*batch.columns, strict=True):
            every = text.as_py().split(b"\n")
            for start in range(0, len(every), PIECE):
                some = every[start : start + PIECE]
                lines += some
                objects += [object_] * len(some)
                if len(lines) >= PIECE:
                    yield lines, objects
                    lines, objects = [], []
    if lines:
        yield lines, objects


def _batch(arrays: Sequence[pa.Array], *verdict: pa.Array) -> pa.RecordBatch:
    # Spark goes by position.
    columns = [*arrays, *verdict]
    return pa.RecordBatch.from_arrays(columns, [f"c{place}" for place in range(len(columns))])


def _nothing(types: Sequence[pa.DataType], rows: int) -> list[pa.Array]:
    return [pa.nulls(rows, kind) for kind in types]


@lru_cache(maxsize=8)
def _record_columns(case: UseCase) -> _Columns:
    """Cached, for a worker does many tasks, and the class's reader is made anew for each copy of the case."""
    inputs = model_inputs(case)
    kinds = [pa.string() if item.kind == "category" else pa.float64() for item in inputs]
    struct = pa.struct([pa.field(item.name, kind) for item, kind in zip(inputs, kinds, strict=True)])
    names = [item.name for item in inputs]
    values = itemgetter(*names) if len(names) > 1 else lambda features: (features[names[0]],)

    def row(record: Any) -> Row:
        return (record.record_id, record.event_time, *values(record.features.__dict__))

    def arrays(rows: Sequence[Row]) -> list[pa.Array]:
        ids, times, *features = zip(*rows, strict=True)
        fields = [_array(column, kind) for column, kind in zip(features, kinds, strict=True)]
        return [
            pa.array(ids, pa.string()),
            pa.array(times, MOMENT),
            pa.StructArray.from_arrays(fields, fields=list(struct)),
        ]

    return _Columns(case.read_record, row, arrays, [pa.string(), MOMENT, struct])


@lru_cache(maxsize=8)
def _label_columns(case: UseCase) -> _Columns:
    types = [pa.string(), MOMENT, pa.string()]

    def row(label: Any) -> Row:
        return label.record_id, label.event_time, label.label

    def arrays(rows: Sequence[Row]) -> list[pa.Array]:
        return [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), types, strict=True)]

    return _Columns(case.read_label, row, arrays, types)


def _array(column: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(column, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # booleans are no doubles to Arrow
        return pa.array([None if value is None else float(value) for value in column], kind)
