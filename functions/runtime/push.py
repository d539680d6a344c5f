"""Process pushed Pub/Sub messages and answer the push requests. A 2xx response acknowledges the message.

| the work …                                         | response | the message … |
|----------------------------------------------------|----------|---|
| returns                                            | 204 | is acknowledged |
| raises :class:`.errors.PermanentlyRefusedError`    | 204 | is acknowledged once its dead letter is published |
| cannot start, because the envelope is malformed    | 204 | is acknowledged once its dead letter is published |
| raises :class:`.errors.RetryLaterError`, or a service is unavailable | 503 | is kept, and Pub/Sub delivers it again |
| raises anything else, which is a bug in this code  | 500 | is kept, and Pub/Sub delivers it again |
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from functions.runtime.body import Bodies, BodyTooLargeError, DecompressionError
from functions.runtime.errors import OverloadedError, PermanentlyRefusedError, RetryLaterError
from functions.runtime.instruments import MESSAGES
from functions.runtime.log import bind, log, note
from functions.runtime.responses import internal_error, no_content, problem, unavailable
from functions.runtime.rpc import RpcError
from schemas import Envelope, EnvelopeError, Record, decode_envelope
from schemas.dead_letter import explain

if TYPE_CHECKING:
    from functions.runtime.dead_letters import DeadLetters

MAX_PUSH_BODY_BYTES = 20_000_000
"""Limit, in bytes, for the body of a push request. A Pub/Sub message has at most 10 MB; in the body it is in base64 and
has its attributes."""

MAX_PUSH_BODIES_BYTES = 48_000_000
"""Limit, in bytes, for all push requests in progress in one instance. It holds thirty of the largest records. Without
it, eighty messages ten times as large, none of which can be a record, would exhaust the instance's memory."""
# Pub/Sub declares the length; if it were lost on the way, no message should wait for it.
_bodies = Bodies(MAX_PUSH_BODY_BYTES, MAX_PUSH_BODIES_BYTES, unknown_length=0)

Work = Callable[[Envelope], Awaitable[None]]


async def receive(request: Request, work: Work, dead_letters: "DeadLetters") -> Response:
    """Do ``work`` with the message in a push request and return the response. Never raises."""
    if request.scope["method"] != "POST":
        return problem(405, "messages are pushed by POST", headers={"Allow": "POST"})
    bind(request.scope["headers"])
    try:
        size = _bodies.reserve(request.scope["headers"])
        try:
            body, size = await _bodies.read(request, size)
            return await _attempt(request.headers, body, work, dead_letters)
        finally:
            _bodies.release(size)
    except BodyTooLargeError as error:
        return problem(413, f"{error}, and no message of Pub/Sub is as large")
    except DecompressionError as error:
        return problem(400, str(error))
    except ClientDisconnect:
        return problem(400, "the caller went away before its body was complete")
    except (RetryLaterError, OverloadedError, RpcError) as error:
        log("WARNING", "message not taken, it will be sent again", reason=str(error))
        MESSAGES.add(outcome="again")
        return unavailable(str(error))
    except PermanentlyRefusedError as error:
        # The cause is this code or the dead-letter topic, not the message, so Pub/Sub delivers it again.
        log("ERROR", "message refused, and no dead letter of it can be published", reason=str(error))
        MESSAGES.add(outcome="failed")
        return problem(500, str(error))
    except Exception as error:
        MESSAGES.add(outcome="failed")
        return internal_error(error)


async def _attempt(headers: Mapping[str, str], body: bytes, work: Work, dead_letters: "DeadLetters") -> Response:
    try:
        envelope = decode_envelope(headers, body)
    except EnvelopeError as error:
        await dead_letters.send(Envelope(data=body), f"envelope: {error}")
        MESSAGES.add(outcome="refused")
        return no_content()
    try:
        await work(envelope)
    except PermanentlyRefusedError as error:
        await dead_letters.send(envelope, str(error))
        MESSAGES.add(outcome="refused")
    else:
        MESSAGES.add(outcome="done")
    return no_content()


def read_record(envelope: Envelope, read: Callable[[bytes], Record[Any]]) -> Record[Any]:
    """Return the record in the message, as ``UseCase.read_record`` reads it.

    Raises:
        PermanentlyRefusedError: the message is not a record; the reason names the invalid fields.
    """
    if not envelope.data:
        raise PermanentlyRefusedError("document: the message has no data; expected a record as JSON")
    try:
        record = read(envelope.data)
    except ValidationError as error:
        raise PermanentlyRefusedError(explain(error)) from None
    note(record_id=record.record_id)
    return record
