"""What a smoke test says of filters, and what it leaves. tests/lunation/test_deploy.py runs it on a deployment."""

from pathlib import Path
from typing import Any

import pytest

from laptop.errors import ServiceError
from lunation.deploy.monitoring import AlertPolicy
from lunation.deploy.table import resources
from lunation.settings import load
from lunation.smoke import Step, _filter_of, smoke
from tests.lunation.rehearsed import Refuses, rehearsed


def filters(clients: Any) -> dict[str, Step]:
    """What is said of each alert's filter."""
    rows = resources(load(), clients.target)
    return {row.name: _filter_of(row, clients) for row in rows if isinstance(row, AlertPolicy)}


def test_a_filter_that_a_service_refuses_is_named(tmp_path: Path) -> None:
    """One over a metric and one over the log; all others are taken."""
    with rehearsed(tmp_path) as (stage, clients):
        stage.project.surroundings.bad_filters = ("data_watermark_age", "cloud_scheduler_job")
        found = filters(clients)
    assert {name for name, step in found.items() if step.state == "failed"} == {"archive lags", "cycle not started"}
    assert "data_watermark_age" in found["archive lags"].fix
    assert {step.state for name, step in found.items() if name not in ("archive lags", "cycle not started")} == {"ok"}


def test_a_filter_that_may_not_be_tried_is_no_failure(tmp_path: Path) -> None:
    """It says which role lets it be tried."""
    refused = ServiceError("PERMISSION_DENIED", "Permission monitoring.timeSeries.list denied")
    with rehearsed(tmp_path, Refuses("ListTimeSeries", refused)) as (_, clients):
        found = filters(clients)
    step = found["archive lags"]
    assert step.state == "not seen"
    assert "--role=roles/monitoring.viewer" in step.fix
    assert found["stale pointer"].state == "ok", "that one is of the log"


def test_what_was_published_is_taken_away_though_the_rest_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second message is refused: the first one may be there already."""
    taken = []

    class Marked:
        record_id = "lunation-smoke-1"

        def __init__(self, *_: Any) -> None: ...

        def publish(self) -> None:
            raise RuntimeError("the second message is refused")

        def take_away(self) -> str:
            taken.append(self.record_id)
            return ""

    monkeypatch.setattr("lunation.smoke._Marked", Marked)
    nothing: Any = None
    with pytest.raises(RuntimeError, match="second message"):
        list(smoke(nothing, nothing, []))
    assert taken == ["lunation-smoke-1"]
