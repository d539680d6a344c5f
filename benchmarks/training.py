"""The training: is it as good as it should be, is it worth its while, and does Spark spend its time on the work?

scikit-learn and DuckDB are the measure; they are in the dependency group ``bench``. What is compared runs in
interleaved rounds, and medians are told. ``--only`` takes one part at a time.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from rich.console import Console
from rich.table import Table

from backtest import summary
from backtest.archive import History
from backtest.cycles import ARCHIVE, MODELS, Cycle, run
from backtest.machine import Machine, machine
from datasets import data_set
from lunation.settings import ROOT, Schedule
from schemas.archive_objects import SUFFIX
from schemas.storage_uri import StorageUri
from schemas.training_report import TrainingReport
from schemas.use_cases import UseCase, use_case
from spark import objects, snapshot
from spark.conversion import convert
from spark.evaluation import evaluate, read_window
from spark.features import features_ddl, matrix
from spark.job import Job
from spark.served import ServedModel
from spark.training import train

YEAR = datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC)
RHYTHM = Schedule(cycle_weeks=4)
"""Of the backtest that is measured here, whatever ``lunation.toml`` says: 13 cycles a year."""
NEW_DAYS = 28
"""So many days of objects come on top of the rest, where the conversion of new ones is timed."""
EXAMPLE_WEEKS = 12
"""So much history is resampled, where time and memory of more rows are measured."""
Row = dict[str, Any]


class Part(StrEnum):
    """What can be measured by itself."""

    MODEL = "model"
    CONVERSION = "conversion"
    TRAINING = "training"
    CYCLE = "cycle"
    TENFOLD = "tenfold"


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are reported.")] = 5,
    only: Annotated[list[Part] | None, typer.Option(help="Some parts only.")] = None,
    report: Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON.")] = None,
) -> None:
    """AUC against scikit-learn and against not retraining; the time of conversion, of training, of a demo's cycle."""
    parts = {
        Part.MODEL: model,
        Part.CONVERSION: conversion,
        Part.TRAINING: training,
        Part.CYCLE: cycle,
        Part.TENFOLD: tenfold,
    }
    wanted = [part for part in parts if not only or part in only]
    rows: list[Row] = []
    for part in wanted:
        if len(wanted) > 1:  # its process says what it measures
            rows += by_itself(part, rounds)
            continue
        typer.echo(f"{part}:", err=True)
        for row in parts[part](rounds):
            rows.append(row)
            typer.echo(f"  {row['name']}: {row['ours']} ({row['target']})", err=True)
    show(rows)
    if report is not None:
        report.write_text(json.dumps(rows, indent=2) + "\n")
    raise typer.Exit(0 if all(row["ok"] for row in rows) else 1)


def by_itself(part: Part, rounds: int) -> list[Row]:
    """Measure a part in a process of its own: Java stays as warm, and memory as large, as the part before left it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.json"
        options = ["--only", part, "--rounds", str(rounds), "--json", str(path)]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", "training", *options], cwd=ROOT, stdout=subprocess.DEVNULL, check=False
        )
        if not path.exists():
            raise typer.Exit(done.returncode)
        rows: list[Row] = json.loads(path.read_text())
    return rows


# --- how good


def model(_: int) -> Iterator[Row]:
    """The backtest of flights, and scikit-learn's boosting on the same rows in each of its cycles."""
    case = use_case("flights")
    theirs: list[float] = []
    done: list[Cycle] = []
    with machine((ARCHIVE, MODELS)) as here:
        for cycle in run(here, case, data_set(case.name).history(None), 13, RHYTHM):
            done.append(cycle)
            if cycle.retrained is not None:
                theirs.append(boosted(here, case, cycle))
                typer.echo(f"  cycle {cycle.cycle}: AUC {cycle.retrained.auc:.4f}, sklearn {theirs[-1]:.4f}", err=True)
    found = summary.summarise(done)
    other = statistics.mean(theirs)
    gain = found.gain_auc
    yield row("mean AUC of the backtest's cycles", found.auc_retrained, None, ">= 0.70", found.auc_retrained >= 0.70)
    yield row(
        "the same against HistGradientBoosting on the same features and rows, difference",
        found.auc_retrained, other, ">= -0.01", found.auc_retrained - other >= -0.01, found.auc_retrained - other,
    )  # fmt: skip
    yield row(
        f"retrained minus frozen, AUC (95 %: {gain.low:+.4f} to {gain.high:+.4f})",
        gain.value, None, ">= 0.03, interval above 0", gain.value >= 0.03 and gain.low > 0,
    )  # fmt: skip
    loss = found.gain_log_loss
    yield row(
        f"retrained minus frozen, log-loss (95 %: {loss.low:+.4f} to {loss.high:+.4f})",
        loss.value, None, "reported", True,
    )  # fmt: skip
    yield row("calibration error", found.calibration_retrained, found.calibration_frozen, "reported (frozen)", True)
    yield row("parity, largest difference in probability", found.parity, None, "<= 1e-9", found.parity <= 1e-9)


def boosted(here: Machine, case: UseCase, cycle: Cycle) -> float:
    """AUC of scikit-learn's boosting, trained and measured on the very rows of a cycle."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    job = Job(case, f"gs://{ARCHIVE}", f"gs://{MODELS}", f"cycle-{cycle.cycle:02d}", _ends(cycle), None)
    trained = TrainingReport.model_validate_json(objects.read(here.storage, f"{job.work}/{TrainingReport.NAME}") or b"")
    converted = snapshot.read(here.storage, job, job.run_id)
    assert converted is not None
    until = trained.windows.evaluate_from
    past: Any = (
        snapshot.rows(here.spark, job, converted, features_ddl(case))
        .where(f"label IS NOT NULL AND dt < '{until}' AND label_time <= TIMESTAMP '{until} 00:00:00'")
        .selectExpr("features.*", f"double(label = '{case.positive}') AS target_of_row")
        .toPandas()
    )
    names, kinds, categories = trained.inputs, trained.input_kinds, trained.categories

    def columns(frame: Any) -> np.ndarray:
        values = {name: frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in names}
        return matrix(values, names, kinds, categories)

    theirs = HistGradientBoostingClassifier(
        max_iter=150,
        learning_rate=0.06,
        min_samples_leaf=100,
        l2_regularization=1.0,
        categorical_features=[kind == "category" for kind in kinds],
        early_stopping=False,
        random_state=0,
    ).fit(columns(past), past["target_of_row"])
    window = read_window(here.spark, job)
    features = matrix(window.features, names, kinds, categories)
    return float(roc_auc_score(window.target, theirs.predict_proba(features)[:, 1]))


def _ends(cycle: Cycle) -> str:
    return (datetime.fromisoformat(cycle.begins) + timedelta(days=RHYTHM.cycle_days)).date().isoformat()


# --- how fast


def conversion(rounds: int) -> Iterator[Row]:
    """Objects an hour of a year, and the last four weeks of them on top of the rest; DuckDB does the same."""
    case = use_case("flights")
    history = History(data_set(case.name).history(None))
    begin, end = YEAR
    last = end - timedelta(days=NEW_DAYS)
    year: list[tuple[float, float]] = []
    month: list[tuple[float, float]] = []
    buckets = tuple(f"{ARCHIVE}-{number}" for number in range(rounds))
    with machine((*buckets, MODELS)) as here:
        for number, bucket in enumerate(buckets):
            folder, out = here.buckets / bucket, here.buckets.parent / f"duckdb-{number}"
            job = Job(case, f"gs://{bucket}", f"gs://{MODELS}", "first", end.date().isoformat(), None)
            history.file(folder, begin, last)
            _noticed(here, bucket)
            convert(here.spark, here.storage, job)
            with closing(InDuckdb(case, folder, out / "merged")) as duckdb:
                duckdb.convert()
                history.file(folder, last, end)
                _noticed(here, bucket)
                month.append((timed(partial(convert, here.spark, here.storage, replace(job, run_id="new"))),
                              timed(duckdb.convert)))  # fmt: skip
            # The year: nothing of it is converted yet.
            fresh = StorageUri.parse(f"{job.work.rpartition('/run=')[0]}/converted")
            for entry in (here.buckets / fresh.bucket / fresh.path).iterdir():
                entry.unlink()
            with closing(InDuckdb(case, folder, out / "year")) as duckdb:
                year.append((timed(partial(convert, here.spark, here.storage, replace(job, run_id="year"))),
                             timed(duckdb.convert)))  # fmt: skip
            typer.echo(f"  round {number + 1}: new {month[-1]}, year {year[-1]}", err=True)
    for name, times in (("new objects of four weeks (672 hours)", month), ("a year (8,760 hours)", year)):
        ours, theirs = (statistics.median(side) for side in zip(*times, strict=True))
        yield row(f"conversion of {name}, s, against DuckDB", ours, theirs, "<= 5 x", ours <= 5 * theirs, ours / theirs)


def _noticed(here: Machine, bucket: str) -> None:
    """Cloud Storage knows the hash of an object since it was uploaded. These were put into the folder, so the server
    hashes them when they are listed for the first time."""
    objects.md5s(here.storage, f"gs://{bucket}/archive")


JOINED = """
SELECT r.record_id, r.event_time, r.features, l.label, l.event_time AS label_time, CAST(r.event_time AS DATE) AS dt
FROM (SELECT record_id, max(event_time) AS event_time, arg_max(features, event_time) AS features
      FROM ({records}) GROUP BY record_id) r
LEFT JOIN (SELECT record_id, max(event_time) AS event_time, arg_max(label, event_time) AS label
           FROM ({labels}) GROUP BY record_id) l USING (record_id)
"""
MERGED = """
SELECT record_id, max(event_time) AS event_time, arg_max(features, event_time) AS features,
       arg_max(label, label_time) AS label, max(label_time) AS label_time, CAST(max(event_time) AS DATE) AS dt
FROM (
  SELECT record_id, event_time, features, NULL AS label, NULL AS label_time FROM records
  UNION ALL SELECT record_id, NULL, NULL, label, event_time FROM labels
  UNION ALL SELECT record_id, event_time, features, label, label_time
            FROM read_parquet({there}, hive_partitioning = true)
)
GROUP BY record_id
"""


class InDuckdb:
    """The same in DuckDB: the archive's objects deduplicated, joined with their labels and written by day; and what
    came since merged into the days that it touches."""

    def __init__(self, case: UseCase, archive: Path, out: Path) -> None:
        import duckdb

        out.mkdir(parents=True)
        self._archive, self._out = archive, out
        self._known: set[str] = set()
        self._connection = duckdb.connect()
        struct = features_ddl(case).removeprefix("features STRUCT<").removesuffix(">")
        struct = struct.replace("`: ", " ").replace("`", "")
        self._columns = {
            "records": f"{{record_id: 'VARCHAR', event_time: 'TIMESTAMPTZ', features: 'STRUCT({struct})'}}",
            "labels": "{record_id: 'VARCHAR', event_time: 'TIMESTAMPTZ', label: 'VARCHAR'}",
        }

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def convert(self) -> None:
        """Convert what is new, or all if nothing is converted yet."""
        new = {topic: sorted(self._found(topic) - self._known) for topic in self._columns}
        query = self._merged(new) if self._known else JOINED.format(**{name: self._lines(name, new) for name in new})
        self._connection.execute(
            f"COPY ({query}) TO '{self._out}' (FORMAT parquet, PARTITION_BY (dt), OVERWRITE_OR_IGNORE)"
        )
        self._known.update(*new.values())

    def _merged(self, new: dict[str, list[str]]) -> str:
        """The rows of the days that new lines touch: those that were there, and the new ones."""
        for topic in new:
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {topic} AS {self._lines(topic, new)}")
        days = self._connection.execute(
            f"""
            SELECT DISTINCT dt FROM read_parquet('{self._out}/*/*.parquet', hive_partitioning = true)
            WHERE record_id IN (SELECT record_id FROM records UNION ALL SELECT record_id FROM labels)
            UNION SELECT DISTINCT CAST(event_time AS DATE) FROM records
            """
        ).fetchall()
        there = [f"{self._out}/dt={day}/*.parquet" for (day,) in days if (self._out / f"dt={day}").is_dir()]
        return MERGED.format(there=there)

    def _found(self, topic: str) -> set[str]:
        return {str(path) for path in (self._archive / "archive" / topic).rglob(f"*{SUFFIX}")}

    def _lines(self, topic: str, files: dict[str, list[str]]) -> str:
        columns = self._columns[topic]
        return f"SELECT * FROM read_json({files[topic]}, format = 'newline_delimited', columns = {columns})"


def training(rounds: int) -> Iterator[Row]:
    """The whole job on a year, against the same fit on the same table, cached; and the job once more."""
    case = use_case("flights")
    with machine((ARCHIVE, MODELS)) as here:
        History(data_set(case.name).history(None)).file(here.buckets / ARCHIVE, *YEAR)
        job = Job(case, f"gs://{ARCHIVE}", f"gs://{MODELS}", "year", "2014-01-01", None)
        convert(here.spark, here.storage, job)
        with fits() as seen:
            train(here.spark, here.storage, job)  # Java warms up, for both sides
        times, digests, scores = [], set(), []
        for number in range(rounds):
            again = replace(job, run_id=f"year-{number}")
            convert(here.spark, here.storage, again)
            job_itself = partial(timed, partial(train, here.spark, here.storage, again))
            fit_alone = partial(bare_fit, *seen[0], f"{again.work}/table")
            if number % 2:  # in turn: who comes second finds a warmer Java
                bare, whole = fit_alone(), job_itself()
            else:
                whole, bare = job_itself(), fit_alone()
            times.append((whole, bare))
            digests.add(objects.read(here.storage, f"{again.model}/model.onnx"))
            evaluate(here.spark, here.storage, again)
            scores.append(_scores(here, again))
            typer.echo(f"  round {number + 1}: job {times[-1][0]:.1f} s, bare fit {times[-1][1]:.1f} s", err=True)
    whole, bare = (statistics.median(side) for side in zip(*times, strict=True))
    yield row(
        "training job on a year, s, against its bare fit", whole, bare, "<= 1.3 x", whole <= 1.3 * bare, whole / bare
    )
    apart = max(float(np.abs(one - scores[0]).max()) for one in scores)
    yield row("same inputs again: predictions apart by", apart, None, "0", apart == 0.0)
    yield row("same inputs again: different artefacts", len(digests), None, "1", len(digests) == 1)


@contextmanager
def fits() -> Iterator[list[tuple[Any, Any]]]:
    """The fits within the block: each classifier with its table."""
    from pyspark.ml import classification

    trees: Any = classification.GBTClassifier
    seen: list[tuple[Any, Any]] = []
    real = trees.fit

    def fit(self: Any, table: Any, *rest: Any) -> Any:
        seen.append((self, table))
        return real(self, table, *rest)

    trees.fit = fit
    try:
        yield seen
    finally:
        trees.fit = real


def bare_fit(classifier: Any, table: Any, folder: str) -> float:
    """How long a fit takes on ``table`` read from Parquet in ``folder`` and cached."""
    table.write.parquet(folder)
    cached = table.sparkSession.read.parquet(folder).cache()
    cached.count()
    seconds = timed(partial(classifier.fit, cached))
    cached.unpersist()
    return seconds


def _scores(here: Machine, job: Job) -> np.ndarray:
    manifest = json.loads(objects.read(here.storage, f"{job.model}/manifest.json") or b"")
    artefact = objects.read(here.storage, f"{job.model}/model.onnx") or b""
    served = ServedModel(artefact, manifest["inputs"], manifest["input_kinds"], manifest["categories"])
    return served.probabilities(read_window(here.spark, job).features)


def cycle(_: int) -> Iterator[Row]:
    """The demo, whose cycles go through the deployed workflow and template."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demo.json"
        subprocess.run([sys.executable, "-m", "demo", "--report", str(path)], cwd=ROOT, check=True)
        told = json.loads(path.read_text())
    for number, one in enumerate(told["cycles"], 1):
        yield row(f"cycle {number} of the demo, three jobs, s", one["seconds"], None, "<= 60", one["seconds"] <= 60)


def tenfold(_: int) -> Iterator[Row]:
    """Twelve weeks as they are, and ten times resampled with jitter: time and memory of all three jobs."""
    case = use_case("flights")
    took, peaks, added = [], [], []
    before = psutil.Process().memory_info().rss
    for times in (1, 10):
        with machine((ARCHIVE, MODELS)) as here:
            # Elsewhere, or the memory that it takes would be there for the jobs.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                pool.submit(file_resampled, times, here.buckets / ARCHIVE).result()
            job = Job(case, f"gs://{ARCHIVE}", f"gs://{MODELS}", f"times-{times}", "2013-03-26", None)
            with peak_memory(before) as peak:
                began = time.monotonic()
                for work in (convert, train, evaluate):
                    work(here.spark, here.storage, job)
                took.append(time.monotonic() - began)
            peaks.append(peak.all / 1e9)
            added.append(peak.added / 1e9)
            typer.echo(f"  {times} x: {took[-1]:.0f} s, {peaks[-1]:.2f} GB, Python {added[-1]:.2f} GB more", err=True)
    ratio = took[1] / took[0]
    yield row("ten times the rows, s", took[1], took[0], "<= 12 x", ratio <= 12, ratio)
    yield row("memory of the driver at ten times the rows, GB", peaks[1], peaks[0], "<= 4", peaks[1] <= 4)
    yield row("of it what the jobs add to Python, GB", added[1], added[0], "<= 0.5", added[1] <= 0.5)


def file_resampled(times: int, bucket: Path) -> None:
    """Put twelve weeks, each record so many times, into the bucket's folder."""
    examples = list(data_set("flights").history(YEAR[0] + timedelta(weeks=EXAMPLE_WEEKS)))
    History(resampled(examples, times)).file(bucket, *YEAR)


def resampled(examples: list[tuple[Row, Row | None]], times: int) -> Iterator[tuple[Row, Row | None]]:
    """Each example so many times, as a record of its own with numbers that differ a little."""
    draw = np.random.default_rng(1)
    for record, label in examples:
        for copy in range(times):
            if copy == 0:
                yield record, label
                continue
            record_id = f"{record['record_id']}.{copy}"
            noise = draw.normal(0.0, 0.01)
            features = {
                name: round(value * (1 + noise), 3) if isinstance(value, float) else value
                for name, value in record["features"].items()
            }
            yield {**record, "record_id": record_id, "features": features}, label and {**label, "record_id": record_id}


@dataclass
class Peak:
    """Bytes of resident memory."""

    all: int = 0
    """Of this process and its children, of which the JVM is one."""
    added: int = 0
    """What this process, which is the driver's Python, took more than before."""


@contextmanager
def peak_memory(before: int) -> Iterator[Peak]:
    """The most memory within the block; ``before``: of this process, before all of it."""
    import threading

    peak, stopped, me = Peak(), threading.Event(), psutil.Process()

    def watch() -> None:
        while not stopped.wait(0.2):
            own = total = me.memory_info().rss
            for process in me.children(recursive=True):
                try:
                    if not _forked(process):
                        total += process.memory_info().rss
                except psutil.Error:  # it has ended in the meantime
                    continue
            peak.all, peak.added = max(peak.all, total), max(peak.added, own - before)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stopped.set()
        thread.join()


def _forked(process: psutil.Process) -> bool:
    """Whether it is a fork of Java that is not yet a program of its own: its memory is then Java's, not as much again.
    (By the program, not the name: that is the thread's which forked it.)"""
    parent = process.parent()
    return parent is not None and parent.name() == "java" and process.exe() == parent.exe()


# --- small things


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def row(name: str, ours: float, other: float | None, target: str, ok: bool, ratio: float | None = None) -> Row:
    """A row of the report."""
    return {
        "name": name,
        "ours": float(f"{ours:.4g}"),
        "other": None if other is None else float(f"{other:.4g}"),
        "ratio": None if ratio is None else round(ratio, 4),
        "target": target,
        "ok": bool(ok),
    }


def show(rows: list[Row]) -> None:
    """Print the report."""
    table = Table(title="Training", title_justify="left")
    for column in ("measure", "ours", "other", "ratio", "target", "ok"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    for one in rows:
        cells = ["" if one[key] is None else str(one[key]) for key in ("ours", "other", "ratio")]
        table.add_row(one["name"], *cells, one["target"], "yes" if one["ok"] else "[red]no[/]")
    Console(highlight=False).print(table)
