"""Dead letters: what a function refuses for good goes to the topic for them, with its reason."""

import base64
from datetime import UTC, datetime

from functions.runtime.log import log
from functions.runtime.publisher import MAX_MESSAGE_BYTES, MessageRefused, Publisher
from schemas import DeadLetter, Envelope
from schemas.dead_letter import REASON_LENGTH


class DeadLetters:
    """Sends the dead letters of one unit."""

    def __init__(self, publisher: Publisher, unit: str, topic: str) -> None:
        """``topic`` is the short name of the topic the messages come from."""
        self._publisher = publisher
        self._unit = unit
        self._topic = topic

    async def send(self, envelope: Envelope, reason: str) -> None:
        """Publish the message with ``reason``. Only after this may the message be acknowledged.

        Raises:
            MessageRefused: too big for Pub/Sub with its reason. Do not acknowledge it: the subscription's own
                dead-letter policy moves it, as it is, after the last attempt.
            RpcError, Overloaded: not published; do not acknowledge the message.
        """
        payload = base64.b64encode(envelope.data).decode()
        if len(payload) > MAX_MESSAGE_BYTES:
            raise MessageRefused(f"{len(envelope.data)} bytes do not fit into a dead letter ({reason})")
        letter = DeadLetter(
            unit=self._unit,
            topic=self._topic,
            message_id=envelope.message_id,
            reason=reason[:REASON_LENGTH],  # a service may have said more
            payload_base64=payload,
            attributes=dict(envelope.attributes),
            refused_at=datetime.now(UTC),
        )
        await self._publisher.publish(letter.model_dump_json().encode(), {"unit": self._unit})
        log("WARNING", "message refused for good", message_id=envelope.message_id, reason=reason)
