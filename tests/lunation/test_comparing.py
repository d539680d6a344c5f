"""A shadow is judged on the very records that were served, by what came true."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from google.cloud import storage  # type: ignore[attr-defined]
from typer.testing import CliRunner

from lunation.cli import app
from tests.support import ServerProcess

BUCKET = "local-dev-archive"
VARIABLES = {"COLUMNS": "200", "TERM": "dumb"}


class Archive:
    """The archive's bucket, and the command."""

    def __init__(self, server: ServerProcess) -> None:
        self._bucket = storage.Client(project="local-dev").create_bucket(BUCKET)
        self._endpoints = str(server.state / "endpoints.json")

    def file(self, topic: str, day: str, *documents: Any) -> str:
        """File documents of a day; bytes as they are."""
        name = f"archive/{topic}/dt={day}/{len(list(self._bucket.list_blobs()))}.json"
        lines = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in documents]
        self._bucket.blob(name).upload_from_string(b"".join(line + b"\n" for line in lines))
        return name

    def compare(self, *arguments: str, **variables: str) -> str:
        """What ``lunation compare`` prints."""
        return self.run(*arguments, **variables).stdout

    def run(self, *arguments: str, **variables: str) -> Result:
        """The command."""
        environment = {**VARIABLES, "LUNATION_TARGETS__LAPTOP__ENDPOINTS": self._endpoints, **variables}
        result = CliRunner().invoke(app, ["compare", *arguments], env=environment, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result


@pytest.fixture
def archive(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """An empty one."""
    server = serve("storage")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.http)
    return Archive(server)


def comparison(
    number: int, served: float, shadow: float, version: str = "s", day: str = "2013-03-02"
) -> dict[str, Any]:
    """What the function publishes."""
    return {
        "record_id": f"r{number}",
        "event_time": f"{day}T15:00:00Z",
        "compared_at": f"{day}T15:00:01Z",
        "generation": 2,
        "served_version": "champion",
        "served_label": "late" if served >= 0.5 else "on_time",
        "served_probability": served,
        "shadow_version": version,
        "shadow_label": "late" if shadow >= 0.5 else "on_time",
        "shadow_probability": shadow,
    }


def label(number: int, text: str, hour: int = 18) -> dict[str, Any]:
    """An outcome."""
    return {"record_id": f"r{number}", "label": text, "event_time": f"2013-03-02T{hour}:00:00Z"}


def test_both_are_scored_on_the_same_records(archive: Archive) -> None:
    """Each record once, though it came twice; the latest outcome counts; what has no outcome is compared all the same;
    an older day and another shadow stay out when they are not asked for."""
    assert "No shadow was compared" in archive.compare("--days", "366")
    first = [comparison(0, 0.25, 0.75), comparison(1, 0.25, 0.25), comparison(2, 0.75, 0.25)]
    archive.file("comparisons", "2013-03-02", *first)
    archive.file("comparisons", "2013-03-02", first[0], comparison(3, 0.5, 0.5))
    archive.file("comparisons", "2013-03-01", comparison(9, 0.0, 1.0, day="2013-03-01"))
    archive.file("comparisons", "2013-03-02", comparison(0, 0.25, 0.5, version="other"))
    archive.file("labels", "2013-03-02", label(0, "on_time", 17), label(0, "late"), label(1, "on_time"))
    archive.file("labels", "2013-03-02", label(2, "on_time"), label(77, "late"))
    (found,) = json.loads(archive.compare("s", "--since", "2013-03-02", "--json"))
    assert (found["shadow"], found["served"], found["records"]) == ("s", "champion", 4)
    assert found["same_label"] == 0.5
    assert found["difference"] == pytest.approx(0.25)
    assert (found["shadow_score"]["rows"], found["served_score"]["rows"]) == (3, 3)
    assert found["shadow_score"]["log_loss"] == pytest.approx(0.28768, abs=1e-5)
    assert found["served_score"]["log_loss"] == pytest.approx((1.38629 + 0.28768 + 1.38629) / 3, abs=1e-5)
    assert (found["shadow_score"]["auc"], found["served_score"]["auc"]) == (1.0, 0.25)
    printed = archive.compare("--since", "2013-03-02")
    for words in ("shadow s", "served champion", "shadow other", "50.0%", "1.0000", "0.2877"):
        assert words in printed


def test_what_is_no_comparison_and_no_label_is_named_and_left_out(archive: Archive) -> None:
    """By object and line, on the error stream; the pairs are scored by the others."""
    broken = comparison(1, 0.25, 0.75) | {"shadow_probability": 7}
    ones = archive.file("comparisons", "2013-03-02", comparison(0, 0.25, 0.75), b"{", broken, b"null")
    wrong = label(0, "never", 20), {**label(0, "late"), "event_time": "noon"}
    labels = archive.file("labels", "2013-03-02", b"null", *wrong, label(0, "on_time", 17), b"[")
    shown = archive.run("--since", "2013-03-02", "--json")
    (found,) = json.loads(shown.stdout)
    assert (found["records"], found["served_score"]["rows"], found["served_score"]["rate"]) == (1, 1, 0.0)
    for where in (f"{ones}:2", f"{ones}:3: shadow_probability", f"{ones}:4", f"{labels}:1", f"{labels}:2: label",
                  f"{labels}:3: event_time", f"{labels}:5"):  # fmt: skip
        assert where in shown.stderr


def test_records_of_a_cycle_are_compared_unless_days_are_said(archive: Archive) -> None:
    """As long a time as ``[schedule] cycle_weeks`` says, today among it."""
    first = (datetime.now(UTC) - timedelta(days=13)).date()
    assert f"since {first}" in archive.compare(LUNATION_SCHEDULE__CYCLE_WEEKS="2")
