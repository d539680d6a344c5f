"""A backtest of other people's data: no use case is special."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

PROGRAM = """
import runpy, sys
from datasets import DATA_SETS
from schemas.use_cases import USE_CASES
from tests.use_cases.parcels import PARCELS, PARCELS_DATA
USE_CASES["parcels"], DATA_SETS["parcels"] = PARCELS, PARCELS_DATA
runpy.run_module("backtest", run_name="__main__")
"""


@pytest.mark.system
@pytest.mark.spark
@pytest.mark.parametrize("name", ["parcels", "weather"])
def test_other_use_cases_run_through(name: str, tmp_path: Path) -> None:
    """With whole numbers, a boolean, a default and bounds as with observations: models are promoted, each answers as
    Spark does on every row of its window, and what is told is the use case's own."""
    report, plot = tmp_path / "cycles.json", tmp_path / "chart.svg"
    arguments = ["--use-case", name, "--cycles", "3", "--json", str(report), "--plot", str(plot)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        env={**os.environ, "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, *later = json.loads(report.read_text())
    assert first["verdict"] == "FAILED"
    assert [cycle["verdict"] for cycle in later] == ["PROMOTE", "PROMOTE"], [cycle["reason"] for cycle in later]
    for cycle in later:
        assert cycle["parity_max_abs_diff"] <= 1e-9
        assert cycle["rows"] > 1000
        assert 0.55 < cycle["auc_retrained"] < 0.95  # more would be a leak
    assert later[1]["pointer"] != later[0]["pointer"]
    assert f"{name}: retrained every 4 weeks" in done.stdout
    assert f"{name}: AUC of each cycle" in plot.read_text()
    assert "flight" not in done.stdout + done.stderr
