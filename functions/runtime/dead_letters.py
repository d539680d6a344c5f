"""Publishes dead letters: each message that a function permanently refuses, with the reason."""

import base64
from datetime import UTC, datetime

from functions.runtime.log import log
from functions.runtime.publisher import Publisher
from schemas import DeadLetter, Envelope
from schemas.dead_letter import REASON_LENGTH, named_id

MAX_PAYLOAD_BYTES = 6_750_000
"""Limit, in bytes, for the payload in a dead letter: 9 MB in base64. Pub/Sub accepts 10 MB, which must also hold the
reason and the message's attributes (at most 128 KB, some of which take six times as much in JSON).
https://cloud.google.com/pubsub/quotas#resource_limits"""


class DeadLetters:
    """Publishes the dead letters of one unit."""

    def __init__(self, publisher: Publisher, unit: str, topic: str) -> None:
        """Publish by ``publisher``. ``topic`` is the short name of the topic that the messages come from."""
        self._publisher = publisher
        self._unit = unit
        self._topic = topic

    async def send(self, envelope: Envelope, reason: str) -> None:
        """Publish the message with ``reason``. The message may be acknowledged only after this returns.

        If the message is too large for a dead letter, the letter omits the payload and its reason says so. The archive
        reads the same topic through its own subscription and keeps the payload: as a record if it is one, otherwise
        next to the archive's own dead letter (dataflow/oversized_dead_letters.py). This function cannot know which, so
        the letter contains no address. It names the record if the payload begins with the record's id.

        Raises:
            MessageRefusedError: Pub/Sub refuses the letter; do not acknowledge the message.
            RpcError, OverloadedError: the letter is not published; do not acknowledge the message.
        """
        payload, attributes, note = envelope.data, dict(envelope.attributes), ""
        if len(payload) > MAX_PAYLOAD_BYTES:
            note = f" (a message of {len(payload)} bytes, too large for a dead letter: the archive keeps it)"
            if record_id := named_id(payload):
                attributes.setdefault("record_id", record_id)
            payload = b""
        letter = DeadLetter(
            unit=self._unit,
            topic=self._topic,
            message_id=envelope.message_id,
            reason=reason[: REASON_LENGTH - len(note)] + note,  # a service's error text may be longer
            payload_base64=base64.b64encode(payload).decode(),
            attributes=attributes,
            refused_at=datetime.now(UTC),
        )
        await self._publisher.publish(letter.model_dump_json().encode(), {"unit": self._unit})
        log("WARNING", "message refused for good", message_id=envelope.message_id, reason=reason)
