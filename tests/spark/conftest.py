"""One Spark session for all tests of a worker, buckets as folders, and a small use case to feed them."""

import base64
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import NotFound, PreconditionFailed

from schemas.archive_snapshot import Snapshot
from schemas.evaluation import Evaluation
from schemas.features import Features
from schemas.rate import Rate, Step
from schemas.training_report import TrainingReport
from schemas.use_cases import UseCase
from spark import snapshot
from spark.features import features_ddl
from spark.job import Job

DAY_ONE = datetime(2024, 3, 1, 12, tzinfo=UTC)


class ShopFeatures(Features):
    """A feature of each kind: text and optional text, whole and fractional numbers, optional ones, a boolean."""

    country: str
    coupon: str | None = None
    items: int
    price: float
    rating: float | None = None
    returning: bool


RATES = (Rate("by_coupon", by=("country", "coupon"), days=28), Rate("by_price", by=(Step("price", 5.0),)))
EXAMPLE = {"country": "FR", "items": 1, "price": 9.5, "returning": False}
SHOP = UseCase(name="shop", features=ShopFeatures, labels=("kept", "returned"), example_features=EXAMPLE, rates=RATES)


class FolderStorage:
    """As much of the storage client as the drivers use, on the folders that Spark sees as buckets."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.written: list[str] = []

    def bucket(self, name: str) -> "FolderBucket":
        return FolderBucket(self, name)

    def list_blobs(self, bucket: str, prefix: str, fields: str) -> "list[FolderBlob]":
        home = self.root / bucket
        paths = sorted(path for path in home.rglob("*") if path.is_file())
        names = [path.relative_to(home).as_posix() for path in paths]
        return [FolderBlob(self, bucket, name) for name in names if name.startswith(prefix)]


@dataclass
class FolderBucket:
    storage: FolderStorage
    name: str

    def blob(self, path: str) -> "FolderBlob":
        return FolderBlob(self.storage, self.name, path)


@dataclass
class FolderBlob:
    storage: FolderStorage
    bucket: str
    name: str

    @property
    def md5_hash(self) -> str:
        return base64.b64encode(hashlib.md5(self._path.read_bytes()).digest()).decode()

    @property
    def size(self) -> int:
        return self._path.stat().st_size

    def delete(self) -> None:
        try:
            self._path.unlink()
        except FileNotFoundError:
            raise NotFound(self.name) from None

    @property
    def _path(self) -> Path:
        return self.storage.root / self.bucket / self.name

    def download_as_bytes(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            raise NotFound(self.name) from None

    def upload_from_string(self, content: bytes, content_type: str, if_generation_match: int | None = None) -> None:
        path = self._path
        path.parent.mkdir(parents=True, exist_ok=True)
        if if_generation_match is None:
            path.write_bytes(content)
            return
        assert if_generation_match == 0, "single files are created, never overwritten"
        try:
            with path.open("xb") as file:
                file.write(content)
        except FileExistsError:
            raise PreconditionFailed(self.name) from None
        self.storage.written.append(f"{self.bucket}/{self.name}")


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """A local session that reads ``gs://`` from folders, like the laptop's Dataproc."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession

    from laptop.dataproc import class_archive
    from laptop.dataproc.java import java_home
    from spark.session import start

    java = java_home()
    os.environ["JAVA_HOME"] = str(java)
    builder = SparkSession.builder.master("local[2]")
    for key, value in {
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.driver.extraJavaOptions": f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC {class_archive.options(java)}",
        "spark.hadoop.fs.gs.impl": "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme",
        "spark.hadoop.fs.viewfs.overload.scheme.target.gs.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    }.items():
        builder = builder.config(key, value)
    builder.getOrCreate().sparkContext.setLogLevel("ERROR")
    session = start("tests")
    yield session
    session.stop()


@dataclass
class Desk:
    """One test's buckets and what the drivers take."""

    spark: Any
    storage: FolderStorage
    job: Job

    def put(self, topic: str, lines: list[Any], name: str = "one.json", day: str = "2024-03-01") -> None:
        """An archive object with one line for each document; text and bytes are taken as they are."""
        path = self.storage.root / self.job.archive.removeprefix("gs://") / "archive" / topic / f"dt={day}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [line if isinstance(line, str | bytes) else json.dumps(line) for line in lines]
        path.write_bytes(b"\n".join(text if isinstance(text, bytes) else text.encode() for text in texts) + b"\n")

    def json(self, uri: str) -> Any:
        """A JSON object of a bucket."""
        return json.loads((self.storage.root / uri.removeprefix("gs://")).read_text())

    def converted(self) -> Snapshot:
        """What the run's conversion reported."""
        made = snapshot.read(self.storage, self.job, self.job.run_id)
        assert made is not None, f"{self.job.work}/{Snapshot.NAME} is not there"
        return made

    def trained(self) -> TrainingReport:
        """What the run's training reported."""
        return TrainingReport.model_validate(self.json(f"{self.job.work}/{TrainingReport.NAME}"))

    def evaluated(self) -> Evaluation:
        """What was measured in the run."""
        return Evaluation.model_validate(self.json(f"{self.job.model}/{Evaluation.NAME}"))

    def listed(self, uri: str) -> list[str]:
        """The names in a folder of a bucket."""
        folder = self.storage.root / uri.removeprefix("gs://")
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def rows(self) -> dict[str, Any]:
        """What ``convert`` wrote, by record_id."""
        made = self.converted()
        found = snapshot.rows(self.spark, self.job, made, features_ddl(self.job.case)).collect()
        assert len(found) == len({row.record_id for row in found}) == made.counts["records"]
        return {row.record_id: row for row in found}


@pytest.fixture
def desk(spark: Any, tmp_path: Path) -> Desk:
    """Two empty buckets of this test's own."""
    storage = FolderStorage(tmp_path)
    # Bucket names are unique: Hadoop keeps one file system a name.
    suffix = f"{os.getpid()}-{abs(hash(tmp_path)) % 10**9}"
    for bucket in (f"archive-{suffix}", f"models-{suffix}"):
        (tmp_path / bucket).mkdir()
        hadoop = spark.sparkContext._jsc.hadoopConfiguration()
        hadoop.set(f"fs.viewfs.mounttable.{bucket}.linkFallback", f"file://{tmp_path}/{bucket}")
    job = Job(SHOP, f"gs://archive-{suffix}", f"gs://models-{suffix}", "run-1", "2024-06-01", None)
    return Desk(spark, storage, job)


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    """Makes a record's document; keyword arguments replace features."""

    def make(record_id: str, day: float = 0.0, **features: Any) -> dict[str, Any]:
        return {
            "record_id": record_id,
            "event_time": (DAY_ONE + timedelta(days=day)).isoformat(),
            "features": {"country": "br", "items": 1, "price": 9.5, "returning": False, **features},
        }

    return make


@pytest.fixture
def label() -> Callable[..., dict[str, Any]]:
    """Makes a label's document."""

    def make(record_id: str, value: str = "kept", day: float = 1.0) -> dict[str, Any]:
        return {
            "record_id": record_id,
            "label": value,
            "event_time": (DAY_ONE + timedelta(days=day)).isoformat(),
        }

    return make


@pytest.fixture
def folders(tmp_path: Path) -> FolderStorage:
    """Buckets as folders, without Spark."""
    return FolderStorage(tmp_path)
