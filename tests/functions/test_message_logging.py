"""What a function tells of a request: tied to its trace and record, counted, and without its payload."""

import asyncio
import json
from typing import Any

import pytest

from functions.runtime.dead_letters import DeadLetters
from functions.runtime.errors import PermanentlyRefusedError, RetryLaterError
from functions.runtime.instruments import MESSAGES
from functions.runtime.push import read_record, receive
from schemas import Envelope, use_case
from telemetry import logs
from tests.functions.doubles import envelopes, models

CASE = use_case("flights")
TRACE = "0af7651916cd43dd8448eb211c80319c"
SECRET = "a-secret-that-must-not-be-logged"


class Topic:
    """Where dead letters go."""

    async def publish(self, data: bytes, attributes: dict[str, str]) -> None:
        """Taken."""


def pushed(document: Any, work: Any) -> int:
    """Push ``document`` to ``work``, with a trace; the answer's status."""
    dead_letters = DeadLetters(Topic(), "classify", "records")  # type: ignore[arg-type]
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    request = envelopes.request("POST", headers, envelopes.push(document, source=SECRET))
    return asyncio.run(receive(request, work, dead_letters)).status_code


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (RetryLaterError("no model serves yet"), 503, "again"),
        (PermanentlyRefusedError("features: too odd"), 204, "refused"),
        (ZeroDivisionError(SECRET), 500, "failed"),
        (None, 204, "done"),
    ],
)
def test_what_becomes_of_a_message_is_told_without_what_is_in_it(
    error: Exception | None,
    status: int,
    outcome: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line for what went wrong, with the trace and the record's id; a count for each outcome; never the payload,
    not even when it is in the text of an exception."""
    monkeypatch.setattr(logs, "_project", "p")

    async def work(envelope: Envelope) -> None:
        read_record(envelope, CASE.read_record)
        if error is not None:
            raise error

    def count() -> int:
        return MESSAGES.values().get((("outcome", outcome),), 0)

    before = count()
    assert pushed(models.record("r-1") | {"note": SECRET}, work) == status
    assert count() == before + 1
    told = capsys.readouterr().out
    assert SECRET not in told
    if error is None:
        assert told == ""
        return
    (line,) = [json.loads(text) for text in told.splitlines()]
    assert line["record_id"] == "r-1"
    assert line["logging.googleapis.com/trace"] == f"projects/p/traces/{TRACE}"
    assert line["severity"] in ("WARNING", "ERROR")
