"""Promises of the drivers' outside: arguments in their form or exit 2, failures as exit 1 with one line."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from functions.classify.trial import INSTANCE_BYTES
from lunation.settings import FunctionSize
from spark.job import JobFailedError, exit_code, parse

ROOT = Path(__file__).resolve().parents[2]
LINE = {
    "--use-case": "flights",
    "--archive": "gs://acme-archive",
    "--models": "gs://acme-models",
    "--run-id": "run-1",
    "--training-date": "2024-06-01",
    "--champion": "none",
}


def line(**changed):
    """The command line, with some values replaced."""
    values = LINE | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
    return [f"{name}={value}" for name, value in values.items()]


def test_no_champion_is_none():
    """The word that a template can pass for an empty value."""
    assert parse("train", "", line()).champion is None


def test_the_evaluation_window_has_four_weeks_unless_it_is_said() -> None:
    """A command line of an earlier release has no such argument."""
    assert parse("train", "", line()).evaluation_days == 28
    assert parse("train", "", line(evaluation_days="7")).evaluation_days == 7


def test_an_instance_has_what_deploy_gives_it_by_default_unless_it_is_said() -> None:
    """The gate tries a model with the memory that it is served with."""
    assert parse("train", "", line()).instance_mib == FunctionSize().memory_mib == INSTANCE_BYTES // 2**20
    assert parse("train", "", line(instance_mib="1024")).instance_mib == 1024


@pytest.mark.parametrize(
    "changed",
    [
        {"use_case": "trains"},
        {"archive": "gs://acme-archive/"},
        {"archive": "/tmp/archive"},
        {"models": "gs://Acme"},
        {"run_id": "../../x"},
        {"run_id": "a" * 65},
        {"training_date": "2024-02-30"},
        {"champion": "models/2024-02-01/a b"},
        {"evaluation_days": "6"},
        {"evaluation_days": "four weeks"},
        {"instance_mib": "64"},
        {"instance_mib": "1Gi"},
    ],
)
def test_a_bad_argument_ends_with_2_and_says_which(changed, capsys):
    """Names the argument and the form it should have; no path is ever built from it."""
    with pytest.raises(SystemExit) as ended:
        parse("train", "", line(**changed))
    assert ended.value.code == 2
    assert f"argument --{next(iter(changed)).replace('_', '-')}: " in capsys.readouterr().err


def test_a_failure_ends_with_1_and_its_text(capsys):
    """One line on the error stream; what is no JobFailedError keeps its trace."""

    def fail():
        raise JobFailedError("the thing, the cause; the fix")

    def crash():
        raise ZeroDivisionError

    assert exit_code(fail) == 1
    line = json.loads(capsys.readouterr().err)
    assert (line["severity"], line["message"]) == ("ERROR", "FAILED: the thing, the cause; the fix")
    assert exit_code(lambda: None) == 0
    with pytest.raises(ZeroDivisionError):
        exit_code(crash)


@pytest.mark.parametrize("driver", ["convert", "train", "evaluate"])
def test_a_staged_driver_needs_only_its_zip(driver, tmp_path):
    """The driver alone in a folder, with the zip of packages on the path and nothing else of ours, starts and helps."""
    with zipfile.ZipFile(tmp_path / "lunation_spark.zip", "w") as staged:
        for package in ("spark", "schemas", "telemetry"):
            for path in sorted((ROOT / package).rglob("*.py")):
                staged.write(path, path.relative_to(ROOT))
    (tmp_path / f"{driver}.py").write_text((ROOT / "spark" / f"{driver}.py").read_text())
    ended = subprocess.run(
        [sys.executable, f"{driver}.py", "--help"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "lunation_spark.zip")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "--training-date" in ended.stdout
    assert "example:" in ended.stdout
    assert "exit codes:" in ended.stdout
