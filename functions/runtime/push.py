"""What becomes of a pushed message: done, refused for good, or to be sent again. A 2xx acknowledges it.

| the work …                                    | answer | the message … |
|---|---|---|
| returns                                       | 204    | is acknowledged |
| raises :class:`.rpc.Refused`, or the envelope is bad | 204  | is acknowledged, once its dead letter is published |
| raises :class:`NotNow`, or a service is away  | 503    | stays, Pub/Sub sends it again |
| raises anything else, a fault of ours         | 500    | stays, Pub/Sub sends it again |
"""

import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from functions.runtime.answers import done, problem, unavailable
from functions.runtime.batcher import Overloaded
from functions.runtime.body import Bodies, BodyBroken, BodyTooLarge
from functions.runtime.log import bind, log, note
from functions.runtime.rpc import Refused, RpcError
from functions.runtime.watched import MESSAGES
from schemas import Envelope, EnvelopeError, Record, decode_envelope
from schemas.dead_letter import explain

if TYPE_CHECKING:
    from functions.runtime.dead_letters import DeadLetters

MAX_BODY_BYTES = 20_000_000
"""A message of Pub/Sub has at most 10 MB, in base64 and with its attributes."""

MAX_BODIES_BYTES = 48_000_000
"""Of all messages under way in an instance: room for thirty records; but eighty messages of ten times as much, none of
which can be a record, would end the instance, too."""
# Pub/Sub says the length; were it lost on the way, no message must wait for it.
_bodies = Bodies(MAX_BODY_BYTES, MAX_BODIES_BYTES, unsaid=0)

Work = Callable[[Envelope], Awaitable[None]]


class NotNow(Exception):
    """The message cannot be taken yet; the text says what is missing."""


async def receive(request: Request, work: Work, dead_letters: "DeadLetters") -> Response:
    """Do ``work`` with the message in a push request, and answer. Never raises."""
    if request.scope["method"] != "POST":
        return problem(405, "messages are pushed by POST", headers={"Allow": "POST"})
    bind(request.scope["headers"])
    try:
        size = _bodies.take(request.scope["headers"])
        try:
            body, size = await _bodies.read(request, size)
            return await _attempt(request.headers, body, work, dead_letters)
        finally:
            _bodies.give_back(size)
    except BodyTooLarge as error:
        return problem(413, f"{error}, and no message of Pub/Sub is as large")
    except BodyBroken as error:
        return problem(400, str(error))
    except ClientDisconnect:
        return problem(400, "the caller went away before its body was complete")
    except (NotNow, Overloaded, RpcError) as error:
        log("WARNING", "message not taken, it will be sent again", reason=str(error))
        MESSAGES.add(outcome="again")
        return unavailable(str(error))
    except Refused as error:
        # A fault of ours, or of the topic for dead letters, and not of the message: it comes again.
        log("ERROR", "message refused, and no dead letter of it can be published", reason=str(error))
        MESSAGES.add(outcome="failed")
        return problem(500, str(error))
    except Exception as error:
        MESSAGES.add(outcome="failed")
        return crashed(error)


async def _attempt(headers: Mapping[str, str], body: bytes, work: Work, dead_letters: "DeadLetters") -> Response:
    try:
        envelope = decode_envelope(headers, body)
    except EnvelopeError as error:
        await dead_letters.send(Envelope(data=body), f"envelope: {error}")
        MESSAGES.add(outcome="refused")
        return done()
    try:
        await work(envelope)
    except Refused as error:
        await dead_letters.send(envelope, str(error))
        MESSAGES.add(outcome="refused")
    else:
        MESSAGES.add(outcome="done")
    return done()


def read_record(envelope: Envelope, read: Callable[[bytes], Record[Any]]) -> Record[Any]:
    """The record in the message, as ``UseCase.read_record`` reads it.

    Raises:
        Refused: it is none; the reason names the fields at fault.
    """
    if not envelope.data:
        raise Refused("document: the message has no data; expected a record as JSON")
    try:
        record = read(envelope.data)
    except ValidationError as error:
        raise Refused(explain(error)) from None
    note(record_id=record.record_id)
    return record


def crashed(error: Exception) -> Response:
    """500 for a fault of ours, logged with its stack but without its text, which may quote a payload."""
    stack = "".join(traceback.format_tb(error.__traceback__))
    log("ERROR", f"request failed: {type(error).__name__}", stack=stack)
    return problem(500, f"this is a fault of the service ({type(error).__name__}); its log has the stack")
