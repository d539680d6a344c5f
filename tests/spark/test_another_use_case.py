"""Promise: another use case is its own file and a row in the table; from archive to answer nothing else knows of it."""

import ast
import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from backtest.archive import History
from functions.classify.model import load_model
from schemas import USE_CASES, Features, UseCase
from schemas.model_manifest import ModelManifest
from schemas.rate import Rate
from spark import training
from spark.conversion import convert
from spark.evaluation import evaluate
from spark.job import parse

ROOT = Path(__file__).parents[2]
PRODUCT = ("dataflow", "functions", "lunation", "schemas", "spark")


# What its own file would hold.
class PlainFeatures(Features):
    """A machine that is about to fail, or not."""

    plant: str = Field(json_schema_extra={"drifts": True})
    kind: str | None = None
    heat: float = Field(json_schema_extra={"drifts": True})
    hours: int = Field(ge=0)
    serviced: bool


class SensorFeatures(PlainFeatures):
    """The same, and what has more values than the trees take bins: it comes in by its rate."""

    part: str


def readings(until: datetime | None = None) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Sixty days, of which the last thirty are hotter; then a new plant sends a tenth of the readings."""
    draw = random.Random(7)
    for number in range(2400):
        when = datetime(2025, 3, 1, tzinfo=UTC) + timedelta(minutes=36 * number)
        heat = draw.gauss(50 + 10 * (number > 1200), 10)
        plant = "east" if number > 1500 and draw.random() < 0.1 else draw.choice(["north", "south"])
        failed = draw.random() < 1 / (1 + 2.7 ** -((heat - 55) / 8 + (plant == "south")))
        features = {
            "plant": plant,
            "part": f"p{number % 40}",
            "kind": draw.choice([None, "press"]),
            "heat": heat,
            "hours": number % 24,
            "serviced": False,
        }
        record_id, known = f"reading-{number}", when + timedelta(hours=1)
        yield (
            {"record_id": record_id, "event_time": when.isoformat(), "features": features},
            {"record_id": record_id, "event_time": known.isoformat(), "label": "failed" if failed else "ran"},
        )


# What would be its row.
SENSORS = UseCase(
    name="sensors",
    features=SensorFeatures,
    labels=("ran", "failed"),
    example_features={"plant": "north", "part": "p1", "kind": None, "heat": 50.0, "hours": 3, "serviced": False},
    rates=(Rate("failed_by_part", by=("part",), days=28),),
)


WITHOUT_RATES = replace(SENSORS, features=PlainFeatures, rates=())


@pytest.mark.spark
@pytest.mark.parametrize("case", [SENSORS, WITHOUT_RATES], ids=["with rates", "without"])
def test_a_third_use_case_goes_from_its_archive_to_an_answer(desk, monkeypatch, case):
    """Registered in the table, its records are converted, trained on and judged by the drivers' own arguments, and the
    serving function loads the model and answers a record, an unseen plant included."""
    monkeypatch.setitem(USE_CASES, "sensors", case)
    monkeypatch.setattr(training, "PARAMETERS", training.PARAMETERS | {"maxIter": 6})
    History(readings()).file(
        desk.storage.root / desk.job.archive.removeprefix("gs://"),
        datetime(2025, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=UTC),
    )
    arguments = ["--use-case", "sensors", "--archive", desk.job.archive, "--models", desk.job.models]
    job = parse("convert", "", [*arguments, "--run-id", "run-1", "--training-date", "2025-05-01", "--champion", "none"])
    convert(desk.spark, desk.storage, job)
    training.train(desk.spark, desk.storage, job, training.PARAMETERS)
    evaluate(desk.spark, desk.storage, job)

    manifest = ModelManifest.model_validate(desk.json(f"{job.model}/manifest.json"))
    assert manifest.verdict == "PROMOTE", manifest.reasons
    assert manifest.parity_max_abs_diff <= 1e-9
    assert manifest.metrics["challenger"]["auc"] > 0.7
    folder = desk.storage.root / job.model.removeprefix("gs://")
    sha256 = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    model = load_model(case, manifest.model_version, sha256, lambda name: (folder / name).read_bytes())
    cold, hot = (case.features(plant="west", part="p1", heat=heat, hours=1, serviced=True) for heat in (20.0, 90.0))
    assert 0 <= model.probability(cold) < model.probability(hot) <= 1


def test_nothing_outside_its_file_knows_a_use_case():
    """No string of the product's code is a use case's label or feature; its name is the default of settings only."""
    own = ROOT / "schemas" / "use_cases"
    words = {word for case in USE_CASES.values() for word in (case.name, *case.labels, *case.features.model_fields)}
    words -= {"flights"}  # the default
    found = []
    for room in PRODUCT:
        for path in sorted((ROOT / room).rglob("*.py")):
            if own not in path.parents:
                found += [f"{path.relative_to(ROOT)}: {word}" for word in sorted(words & _strings(path))]
    assert found == []


def _strings(path: Path) -> set[str]:
    return {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
