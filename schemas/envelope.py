"""Decodes every envelope in which Pub/Sub or a function runtime can hand us a message.

Shapes: the raw push body, with or without ``data``; a CloudEvent in binary mode (the message body behind
``ce-*`` headers) and in structured mode (``application/cloudevents+json``).
Source: https://cloud.google.com/pubsub/docs/push and the CloudEvents HTTP binding 1.0.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

MAX_MESSAGE_BYTES = 10_000_000
"""Largest message that Pub/Sub takes, attributes included, and the largest request that publishes some:
https://cloud.google.com/pubsub/quotas#resource_limits"""


class EnvelopeError(ValueError):
    """The body is no Pub/Sub message in any known shape. The text says what was found and what is expected."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One Pub/Sub message, whatever it came in."""

    data: bytes
    """The payload; empty for a message that has attributes only."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    message_id: str = ""
    publish_time: str = ""
    """RFC 3339, as Pub/Sub wrote it; empty if the envelope has none."""
    ordering_key: str = ""
    delivery_attempt: int = 0
    """Counted by Pub/Sub from 1 where a dead-letter policy is set; 0 if unknown."""
    subscription: str = ""


def decode_push_body(body: bytes) -> Envelope:
    """Decode a raw push body, or a structured CloudEvent that carries one.

    Raises:
        EnvelopeError: not JSON, or no ``message`` in it, or ``data`` that is not base64.
    """
    try:
        # The reader of the records themselves: what it takes can be written into a dead letter, too. Python's own
        # takes half of a surrogate pair for text, and recurses.
        document = from_json(body)
    except ValueError as error:
        raise EnvelopeError(f"the body is not JSON ({error}); expected a Pub/Sub push body") from None
    if isinstance(document, dict) and "specversion" in document:
        document = _structured_data(document)
    return _from_document(document)


def decode_envelope(headers: Mapping[str, str], body: bytes) -> Envelope:
    """Decode any of the known shapes, by its headers (a case-insensitive mapping, or lower-case keys).

    Raises:
        EnvelopeError: see :func:`decode_push_body`.
    """
    envelope = decode_push_body(body)
    if not envelope.message_id and headers.get("ce-id"):
        return Envelope(
            data=envelope.data,
            attributes=envelope.attributes,
            message_id=headers["ce-id"],
            publish_time=envelope.publish_time or headers.get("ce-time", ""),
            ordering_key=envelope.ordering_key,
            delivery_attempt=envelope.delivery_attempt,
            subscription=envelope.subscription,
        )
    return envelope


def _structured_data(event: dict[str, Any]) -> Any:
    if "data" in event:
        return event["data"]
    if "data_base64" in event:
        try:
            return from_json(base64.b64decode(event["data_base64"], validate=True))
        except (binascii.Error, TypeError, ValueError) as error:
            raise EnvelopeError(f"the CloudEvent's data_base64 cannot be read ({error})") from None
    raise EnvelopeError("the CloudEvent has neither data nor data_base64")


def _from_document(document: Any) -> Envelope:
    if not isinstance(document, dict):
        raise EnvelopeError(f"the body is a JSON {type(document).__name__}; expected an object with `message`")
    message = document.get("message")
    if not isinstance(message, dict):
        raise EnvelopeError("the body has no object `message`; expected a Pub/Sub push body")
    attributes = message.get("attributes") or {}
    if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
        raise EnvelopeError("message.attributes must be an object of strings")
    attempt = document.get("deliveryAttempt", 0)
    return Envelope(
        data=_decoded(message.get("data", "")),
        attributes=attributes,
        message_id=_text(message, "messageId", "message_id"),
        publish_time=_text(message, "publishTime", "publish_time"),
        ordering_key=_text(message, "orderingKey", "ordering_key"),
        delivery_attempt=attempt if isinstance(attempt, int) else 0,
        subscription=_text(document, "subscription", "subscription"),
    )


def _decoded(data: Any) -> bytes:
    if data is None:
        return b""
    if not isinstance(data, str):
        raise EnvelopeError(f"message.data is a {type(data).__name__}; expected base64 text")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnvelopeError(f"message.data is not base64 ({error})") from None


def _text(mapping: Mapping[str, Any], name: str, other: str) -> str:
    value = mapping.get(name, mapping.get(other, ""))
    return value if isinstance(value, str) else str(value)
