"""Job 2 of 3: gradient-boosted trees on all labelled records before the evaluation window, exported as ONNX.

Writes ``model.onnx``, ``reasons.onnx`` and ``golden.json`` into the model's folder; then, into the run's work folder,
Spark's own probability of every row of the evaluation window (``scores/``) and ``train.json``, which closes the job.

The evaluation window has as many days as the job says, up to the last one that has labels. Training uses earlier
records whose labels were known when the window began. Missing values: see ``features.py``; history features: see
``rates.py``.
The same Parquet gives the same trees: seed, order of categories and rows, and partitions are fixed, whatever the
cluster, and no rows are sampled. (Sums over more than two partitions, see :data:`ROWS_A_PARTITION`, are added in the
order in which Spark merges them, fixed on one machine; on several executors the last bit of a leaf may differ.)
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from math import ceil, isqrt
from typing import Any

from pyspark.ml.classification import GBTClassificationModel, GBTClassifier
from pyspark.ml.functions import vector_to_array
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import col, expr

from schemas.archive_snapshot import Snapshot
from schemas.model_manifest import GoldenRow
from schemas.shapes import ModelInput, model_inputs
from schemas.training_report import GoldenCounts, TrainingReport, WindowRows, Windows
from schemas.use_cases import UseCase
from spark import objects, rates, snapshot
from spark.export import read_forest, to_onnx
from spark.features import assembled, columns, features_ddl, indexed, known_values, scores_ddl
from spark.golden import PLAIN, Golden, golden
from spark.instruments import TRAINING
from spark.job import Job, JobFailedError, progress
from spark.literal import literal
from spark.reasons import to_reasons
from spark.repeat import original

STRAY_SHARE = 0.01
"""Of all labelled rows: fewer than that, more than an evaluation window apart from all others, have a wrong date."""
SEED = 20130101
# Measured on flights (docs/backtest.md). Flat trees: the first one has the full weight in Spark's boosting, and a flat
# one follows the noise of so few weeks less. A tree sees a third of the columns at each split, for the same reason, and
# at a third of the time.
PARAMETERS: dict[str, Any] = {
    "maxDepth": 3,
    "maxBins": 32,
    "stepSize": 0.2,
    "subsamplingRate": 1.0,
    "featureSubsetStrategy": "onethird",
}
TREES_A_CHECKPOINT = 20
ROWS_A_PARTITION = 250_000
"""A year of flights is in two, and two sums give the same in either order."""
FEWEST_TREES, MOST_TREES = 40, 120
MAX_KEYED = 1000
"""So many values of a category are told apart in the groups of a rate."""
THRESHOLD_ROWS = 50_000


def train(spark: SparkSession, storage: Any, job: Job, parameters: Mapping[str, Any] = PARAMETERS) -> None:
    """Train on what ``convert`` wrote for this run. ``parameters`` are the GBTClassifier's; what they leave out of
    :func:`parameters_for` follows from the amount of data.

    Raises:
        JobFailedError: not converted yet, no labels, no history before the evaluation window, or a single class in it.
    """
    began = time.monotonic()
    done = f"{job.work}/{TrainingReport.NAME}"
    if objects.read(storage, done) is not None:
        progress(f"train: {done} is there, this run was trained before")
        return
    converted = snapshot.read(storage, job, job.run_id)
    if converted is None:
        raise JobFailedError(f"{job.work}/{Snapshot.NAME} is not there; run convert.py with the same --run-id first")
    evaluation_days = job.evaluation_days
    repeated = original(storage, job)
    if repeated is not None:
        parameters, evaluation_days = repeated.parameters, repeated.evaluation_days
    labelled = _labelled(spark, job, converted)
    training_set = _encoded(job, converted, labelled, evaluation_days, parameters["maxBins"] - 1)
    parameters = {**parameters_for(training_set.rows.train), **parameters}
    fitted = _fit(spark, storage, job, labelled, training_set, parameters, began)
    report = TrainingReport(
        use_case=job.case.name,
        run_id=job.run_id,
        inputs=[item.name for item in training_set.encoder.inputs],
        input_kinds=[item.kind for item in training_set.encoder.inputs],
        categories=dict(training_set.encoder.categories),
        columns=training_set.encoder.names,
        threshold=fitted.threshold,
        positive_share=training_set.positive_share,
        rows=training_set.rows,
        windows=training_set.windows,
        seed=SEED,
        parameters={"model": "pyspark.ml.GBTClassifier", "evaluation_days": evaluation_days, **parameters},
        golden=GoldenCounts(rows=len(fitted.golden.documents), refused=len(fitted.golden.refused)),
        seconds=round(time.monotonic() - began, 3),
    )
    objects.write_once(storage, done, report.to_json())
    progress(f"train: {fitted.artefact_bytes} bytes of ONNX in {job.model} after {report.seconds:.1f} s")


@dataclass(frozen=True)
class _TrainingSet:
    """The rows to learn from, as the trees take them, and what is known of them before the fit."""

    windows: Windows
    rows: WindowRows
    positive_share: float
    """Of the training rows."""
    encoder: "_Encoder"
    table: DataFrame
    """The training rows as vectors, with ``target``."""
    tables: Sequence[rates.Table]
    """Those that the artefact carries."""


def _encoded(job: Job, converted: Snapshot, labelled: DataFrame, evaluation_days: int, most: int) -> _TrainingSet:
    """Look at the training rows, and encode them for the trees.

    Args:
        most: values of a category that the trees have bins for.
    """
    first, begin, last = _bounds(job, converted, evaluation_days)
    # Read once, for they are looked at four times. In a fixed order and fixed partitions, whatever order the files were
    # listed in, on however many cores.
    training_rows = (
        labelled.where(_training(first, begin))
        .repartition(partitions(_labels(converted, first, begin - timedelta(days=1))), "record_id")
        .sortWithinPartitions("record_id")
        .select("dt", "label_time", "target", "features")
    )
    inputs = model_inputs(job.case)
    # A category with more values than the trees take bins (one of them is for the unseen) comes in by its rates.
    keyed = {part for rate in job.case.rates for part in rate.by}
    limits = {item.name: MAX_KEYED if item.name in keyed else most for item in inputs}
    with _cached(training_rows) as rows:
        with ThreadPoolExecutor() as pool:  # two passes side by side: each waits for its plans as long as for its tasks
            known = pool.submit(known_values, rows, inputs, limits)
            windows, counts = _windows(rows, job, first, begin, last)
            categories = known.result()
        sizes = WindowRows(train=counts["train"], evaluate=_labels(converted, begin, last))
        progress(
            f"train: {sizes.train} rows from {windows.train_from} to {windows.train_to}, "
            f"evaluation window {windows.evaluate_from} to {windows.evaluate_to} with {sizes.evaluate}"
        )
        TRAINING.set(sizes.train, use_case=job.case.name, use="train")
        TRAINING.set(sizes.evaluate, use_case=job.case.name, use="evaluate")
        _enough(sizes.train, windows, categories, most)
        direct = [place for place, item in enumerate(inputs) if len(categories.get(item.name, ())) <= most]
        keys = rates.keys(job.case.rates, counts, inputs, categories)
        frame = indexed(rows, inputs, categories)
        encoder = _Encoder(inputs, categories, direct, keys)
        table, tables = encoder.past(frame, job.case, windows.evaluate_from)
    return _TrainingSet(windows, sizes, counts["positive"] / sizes.train, encoder, table, tables)


@dataclass(frozen=True)
class _Fitted:
    """What came of the fit, beside the files."""

    threshold: float
    artefact_bytes: int
    golden: Golden


def _fit(
    spark: SparkSession,
    storage: Any,
    job: Job,
    labelled: DataFrame,
    training_set: _TrainingSet,
    parameters: Mapping[str, Any],
    began: float,
) -> _Fitted:
    """Fit the trees, and write the artefact, its reasons, Spark's scores and the golden rows.

    Args:
        parameters: all of the classifier's.
        began: when the job did, by the monotonic clock.
    """
    # Each tree's errors follow from those of the tree before, and every task carries all that way: it is cut by files,
    # which the fit deletes again.
    spark.sparkContext.setCheckpointDir(f"{job.work}/boosting")
    trees = GBTClassifier(
        featuresCol="vector", labelCol="target", seed=SEED, checkpointInterval=TREES_A_CHECKPOINT, **parameters
    )
    windows, encoder = training_set.windows, training_set.encoder
    window = labelled.where(col("dt").between(windows.evaluate_from, windows.evaluate_to))
    # Side by side again: the fit is hundreds of small jobs and leaves time for another, and after it come three that
    # wait for their plans and their files.
    with ThreadPoolExecutor() as pool:
        prepared = pool.submit(_prepared, job.case, window, encoder, training_set.tables)
        model = trees.fit(training_set.table)
        progress(
            f"train: {model.getNumTrees} trees with {model.totalNumNodes} nodes after {time.monotonic() - began:.1f} s"
        )
        exported = pool.submit(_export, storage, job, model, encoder, training_set.tables)
        asked = pool.submit(_threshold, model, training_set)
        rows, chosen = prepared.result()
        _score(spark, storage, job, model, rows, chosen)
        artefact_bytes, threshold = exported.result(), asked.result()
    return _Fitted(threshold, artefact_bytes, chosen)


@contextmanager
def _cached(frame: DataFrame) -> Iterator[DataFrame]:
    """``frame``, which is kept in memory within the block."""
    cached = frame.cache()
    try:
        yield cached
    finally:
        cached.unpersist()


def _labelled(spark: SparkSession, job: Job, converted: Snapshot) -> DataFrame:
    """The run's labelled rows, with ``target`` 1.0 for the positive label."""
    return (
        snapshot.rows(spark, job, converted, features_ddl(job.case))
        .where(col("label").isNotNull())
        .withColumn("target", (col("label") == job.case.positive).cast("double"))
    )


def _bounds(job: Job, converted: Snapshot, evaluation_days: int) -> tuple[date, date, date]:
    """The first day with labels, the first of the evaluation window, and its last."""
    days = {date.fromisoformat(day): where.labelled for day, where in converted.days.items() if where.labelled}
    if not days:
        raise JobFailedError(
            f"no record of {job.work}/convert.json has a label, so there is nothing to learn from; check that labels "
            "are published with the record's record_id, and that the archive has them (archive/labels)"
        )
    first, last = oldest_day(days, evaluation_days), newest_day(days, evaluation_days)
    return first, last - timedelta(days=evaluation_days - 1), last


def _labels(converted: Snapshot, first: date, last: date) -> int:
    """How many labelled rows the days have."""
    return sum(where.labelled for day, where in converted.days.items() if first <= date.fromisoformat(day) <= last)


def _windows(rows: DataFrame, job: Job, first: date, begin: date, last: date) -> tuple[Windows, dict[str, Any]]:
    """The windows, and what one pass over the training rows tells: their counts and the bounds of the rates' steps."""
    (counts, *_) = rows.agg(
        expr("count(1) AS train"),
        expr("count_if(target = 1) AS positive"),
        expr("max(dt) AS train_to"),
        *(expr(f"{bound} AS `{name}`") for name, bound in rates.bounds(job.case.rates)),
    ).collect()
    if counts.train == 0:
        raise JobFailedError(
            f"all labelled records are of {first} or later, within the evaluation window of {(last - begin).days + 1} "
            f"days up to {last}, or their labels came within it: none is left to train on; wait for more history, or "
            "backfill it"
        )
    if counts.positive in (0, counts.train):
        only = job.case.labels[0] if counts.positive == 0 else job.case.positive
        raise JobFailedError(
            f"all {counts.train} training rows are labelled {only!r}: one class teaches nothing; check the "
            "publisher of the labels"
        )
    return Windows(first, counts.train_to, begin, last), counts.asDict()


def _enough(rows: int, windows: Windows, categories: Mapping[str, Sequence[str]], most: int) -> None:
    """Spark's trees need as many rows as a category has values, and one more for the unseen."""
    values = {name: len(known) for name, known in categories.items() if len(known) <= most}
    name = max(values, key=lambda one: values[one], default="")
    if rows <= values.get(name, 0):
        raise JobFailedError(
            f"{rows} training rows, from {windows.train_from} to {windows.train_to}, are too few: category {name} has "
            f"{values[name]} values and needs {values[name] + 1}; wait for more history, or backfill it"
        )


def newest_day(labelled: Mapping[date, int], evaluation_days: int) -> date:
    """The newest day with labels, left out what a wrong clock dated into the future: a few rows after a gap.

    One such record would else be the whole evaluation window, of this run and of all that follow.

    Args:
        labelled: labelled rows by day; at least one day.
        evaluation_days: so many days without labels make a gap.
    """
    newest = _outermost(sorted(labelled), labelled, evaluation_days)
    if newest < max(labelled):
        progress(f"train: what is labelled after {newest} is left out: a few rows, long after all others")
    return newest


def oldest_day(labelled: Mapping[date, int], evaluation_days: int) -> date:
    """The first day with labels, left out what a wrong clock, or a spreadsheet's zero, dated into the past: a few rows
    before a gap. The run says that it was trained from this day on."""
    oldest = _outermost(sorted(labelled, reverse=True), labelled, evaluation_days)
    if oldest > min(labelled):
        progress(f"train: what is labelled before {oldest} is left out: a few rows, long before all others")
    return oldest


def _outermost(days: Sequence[date], labelled: Mapping[date, int], evaluation_days: int) -> date:
    """The last of ``days``, which go in either direction, left out a few rows, all together, after a gap or several."""
    few = STRAY_SHARE * sum(labelled.values())
    outermost, beyond = days[-1], 0
    for place in range(len(days) - 1, 0, -1):
        beyond += labelled[days[place]]
        if beyond >= few:
            break
        if abs(days[place] - days[place - 1]) > timedelta(days=evaluation_days):
            outermost = days[place - 1]
    return outermost


def partitions(rows: int) -> int:
    """How many partitions the training rows get: a matter of the data, or another cluster would give other trees."""
    return max(2, ceil(rows / ROWS_A_PARTITION))


def parameters_for(rows: int) -> dict[str, int]:
    """The GBTClassifier's parameters that follow from the amount of data: with more of it more trees pay, and leaves
    must not be small. A few weeks need no more than 40 trees, with fewer the weather is less well known; of a year, the
    120th still learns (docs/backtest.md), and no more were tried."""
    root = isqrt(rows)
    return {"maxIter": min(max(FEWEST_TREES, root // 5), MOST_TREES), "minInstancesPerNode": root}


def _training(first: date, begin: date) -> str:
    """Which rows are trained on when evaluation begins at ``begin``: those whose outcome was known by then."""
    return f"(dt >= DATE '{first}' AND dt < DATE '{begin}' AND label_time <= TIMESTAMP '{begin} 00:00:00')"


@dataclass(frozen=True)
class _Encoder:
    """From rows to the model's vector: the inputs, then the rates."""

    inputs: Sequence[ModelInput]
    categories: Mapping[str, list[str]]
    direct: Sequence[int]
    """Which of the inputs the trees see as they are."""
    keys: Sequence[rates.Key]

    @property
    def names(self) -> list[str]:
        """What the vector's columns are called."""
        return [self.inputs[place].name for place in self.direct] + [key.name for key in self.keys]

    def past(self, frame: DataFrame, case: UseCase, end: date) -> tuple[DataFrame, list[rates.Table]]:
        """The table to train on, of indexed rows, each with the rates as of its own time; and the rates that the
        artefact carries, as of ``end``, where training ends and evaluation begins."""
        if not self.keys:
            return self._kept(frame, "target"), []
        names = columns(self.inputs)
        with _cached(rates.history(frame, case.rates, self.keys, names, end)) as cells, ThreadPoolExecutor() as pool:
            tables = pool.submit(rates.tables, cells, self.keys)  # which counts them, while the rest is planned
            table = rates.joined(frame, cells, self.keys, names, end)
            found = tables.result()
            return self._kept(table, "target"), found

    def present(self, rows: DataFrame, tables: Sequence[rates.Table]) -> DataFrame:
        """Rows to score, with the rates that the artefact carries."""
        frame = indexed(rows, self.inputs, self.categories)
        frame = rates.looked_up(frame, tables, columns(self.inputs))
        return self._kept(frame, "record_id", "dt", "target", "features", "golden")

    def _kept(self, frame: DataFrame, *others: str) -> DataFrame:
        """``frame`` as vectors, with its ``others``, made now."""
        # Not cached: each of the fit's hundreds of tasks would carry the plan that the table was made by. (What is lost
        # with an executor is not made anew, then: the job fails, and the run can be started again.)
        names = columns(self.inputs)
        seen = [*(names[place] for place in self.direct), *(f"r_{key.name}" for key in self.keys)]
        return assembled(frame, seen).select("vector", *others).localCheckpoint()


def _export(
    storage: Any, job: Job, model: GBTClassificationModel, encoder: _Encoder, tables: Sequence[rates.Table]
) -> int:
    """Write the artefact and its reasons; the artefact's size in bytes."""
    forest = read_forest(model)
    inputs, direct = len(encoder.inputs), encoder.direct
    artefact = to_onnx(forest, inputs, direct, tables)
    objects.write_once(storage, f"{job.model}/model.onnx", artefact, "application/octet-stream")
    reasons = to_reasons(forest, encoder.names, inputs, direct, tables)
    objects.write_once(storage, f"{job.model}/reasons.onnx", reasons, "application/octet-stream")
    return len(artefact)


def _prepared(
    case: UseCase, window: DataFrame, encoder: _Encoder, tables: Sequence[rates.Table]
) -> tuple[DataFrame, Golden]:
    """What is to be scored, as vectors, and the golden rows in it."""
    chosen = _chosen(case, window, encoder.categories)
    return encoder.present(_with_golden(case, window, chosen), tables), chosen


def _score(
    spark: SparkSession, storage: Any, job: Job, model: GBTClassificationModel, window: DataFrame, chosen: Golden
) -> None:
    """Write Spark's own probabilities: of the evaluation window, and of the golden rows."""
    scored = _scored(model, window).select("record_id", "dt", "target", "features", "golden", "probability")
    scores = f"{job.work}/scores"
    scored.write.mode("overwrite").parquet(scores)
    written = spark.read.schema(scores_ddl(job.case)).parquet(scores)
    objects.write_once(storage, f"{job.model}/golden.json", _golden(written, chosen.documents))


def _scored(model: GBTClassificationModel, rows: DataFrame) -> DataFrame:
    return model.transform(rows).withColumn("probability", vector_to_array(col("probability"))[1])


def _threshold(model: GBTClassificationModel, training_set: _TrainingSet) -> float:
    """The training score from which the share of positive answers equals the share of positive labels, on a sample."""
    sample = training_set.table.sample(min(1.0, THRESHOLD_ROWS / training_set.rows.train), SEED)
    (threshold,) = _scored(model, sample).approxQuantile("probability", [1.0 - training_set.positive_share], 1e-4)
    return threshold


def _chosen(case: UseCase, window: DataFrame, categories: Mapping[str, list[str]]) -> Golden:
    """The golden rows, made of some records of the window.

    Raises:
        JobFailedError: the class refuses all of these.
    """
    picked = window.orderBy(expr("xxhash64(record_id)"), "record_id").limit(PLAIN).select("features").collect()
    chosen = golden(case, [row.features.asDict() for row in picked], categories)
    if chosen.refused:
        progress(
            f"train: {case.features.__name__} does not take {len(chosen.refused)} of {len(picked)} records of the "
            f"evaluation window as they are when they are sent again, so they are no golden rows: {chosen.refused[0]}",
            "WARNING",
        )
    if not chosen.documents:
        raise JobFailedError(
            f"{case.features.__name__} does not take any of {len(picked)} records that it has given itself as they are "
            f"when they are sent again, so nothing can show that the model is what was trained: {chosen.refused[0]}; "
            "let its validators take what they give, and give it again (schemas/use_cases/)"
        )
    return chosen


def _with_golden(case: UseCase, window: DataFrame, chosen: Golden) -> DataFrame:
    """The window's rows, and the golden ones, which have a number in ``golden``, to be scored in one go."""
    rows = [{"golden": number, "features": values} for number, values in enumerate(chosen.values)]
    frame = literal(window.sparkSession, rows, f"golden INT, {features_ddl(case)}")
    return window.select("record_id", "dt", "target", "features").unionByName(frame, allowMissingColumns=True)


def _golden(scores: DataFrame, documents: Sequence[Mapping[str, Any]]) -> bytes:
    """Each golden row's features, with Spark's own probability."""
    found = {
        row.golden: row.probability
        for row in scores.where("golden IS NOT NULL").select("golden", "probability").collect()
    }
    rows = [
        GoldenRow(features=dict(document), probability=found[number]).model_dump(mode="json")
        for number, document in enumerate(documents)
    ]
    return json.dumps(rows, indent=1, sort_keys=True).encode()
