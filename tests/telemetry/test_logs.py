"""Log lines are what Cloud Logging reads, tied to their request, and hold no payload."""

import asyncio
import io
import json
import logging

import pytest

from telemetry import logs

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(autouse=True)
def _configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_project", "p")
    monkeypatch.setattr(logs, "_always", {"unit": "classify"})


def line(capsys: pytest.CaptureFixture[str]) -> dict:
    """The one line that was written."""
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("header", "span", "sampled"),
    [
        ((b"traceparent", f"00-{TRACE}-b7ad6b7169203331-01".encode()), "b7ad6b7169203331", True),
        ((b"traceparent", f"00-{TRACE}-b7ad6b7169203331-00".encode()), "b7ad6b7169203331", False),
        ((b"x-cloud-trace-context", f"{TRACE}/255;o=1".encode()), "00000000000000ff", True),
        ((b"x-cloud-trace-context", f"{TRACE}/255".encode()), "00000000000000ff", False),
    ],
)
def test_a_line_belongs_to_the_trace_of_its_request(
    header: tuple[bytes, bytes], span: str, sampled: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the standard's header, or Google's older one."""
    logs.bind([(b"accept", b"*/*"), header])
    logs.log("WARNING", "text")
    assert line(capsys) == {
        "severity": "WARNING",
        "message": "text",
        "unit": "classify",
        "logging.googleapis.com/trace": f"projects/p/traces/{TRACE}",
        "logging.googleapis.com/spanId": span,
        "logging.googleapis.com/trace_sampled": sampled,
    }


@pytest.mark.parametrize(
    "value", [b"", b"nonsense", b"00-0-0-0", b"\xff" * 60, f"{TRACE}/1\n".encode(), f"{TRACE}/{'9' * 5000}".encode()]
)
def test_a_header_that_is_none_is_left_out(value: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a stranger sends, the line is one line, and says nothing of it."""
    logs.bind([(b"traceparent", value), (b"x-cloud-trace-context", value)])
    logs.log("INFO", "text")
    assert line(capsys) == {"severity": "INFO", "message": "text", "unit": "classify"}


def test_what_is_noted_is_in_every_further_line_of_that_request_and_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two requests at a time do not see each other's record."""

    async def request(record_id: str) -> None:
        logs.bind([])
        logs.note(record_id=record_id)
        await asyncio.sleep(0)
        logs.note(model_version="v")
        logs.log("INFO", "answered")

    async def both() -> None:
        await asyncio.gather(request("a"), request("b"))

    asyncio.run(both())
    found = [json.loads(one) for one in capsys.readouterr().out.splitlines()]
    assert [(one["record_id"], one["model_version"]) for one in found] == [("a", "v"), ("b", "v")]


def test_the_next_request_of_a_connection_begins_with_nothing_noted(capsys: pytest.CaptureFixture[str]) -> None:
    """What one request noted is not said of another one that the same task answers."""
    logs.bind([])
    logs.note(record_id="a")
    logs.bind([])
    logs.log("INFO", "text")
    assert line(capsys) == {"severity": "INFO", "message": "text", "unit": "classify"}


def test_what_a_library_logs_has_the_same_form() -> None:
    """Also an exception: its stack is a field, and the entry stays one line."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.Formatter())
    logger = logging.Logger("beam")
    logger.addHandler(handler)
    try:
        raise ValueError("x")
    except ValueError:
        logger.exception("failed\nbadly")
    (one,) = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert (one["severity"], one["message"], one["logger"], one["unit"]) == (
        "ERROR",
        "failed\nbadly",
        "beam",
        "classify",
    )
    assert "ValueError" in one["stack"]
