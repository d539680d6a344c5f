"""The requests in which a message can reach a function."""

import base64
import json
from typing import Any


def push(document: Any, message_id: str = "m1", **attributes: str) -> bytes:
    """A raw push body. ``document`` is sent as JSON, or as it is when it is bytes."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    message: dict[str, Any] = {"messageId": message_id, "publishTime": "2013-03-01T00:00:00Z"}
    if data:
        message["data"] = base64.b64encode(data).decode()
    if attributes:
        message["attributes"] = attributes
    return json.dumps({"message": message, "subscription": "projects/p/subscriptions/s"}).encode()


def structured(document: Any) -> bytes:
    """A CloudEvent in structured mode."""
    event = {
        "specversion": "1.0",
        "id": "m1",
        "source": "//pubsub.googleapis.com/projects/p/topics/records",
        "type": "google.cloud.pubsub.topic.v1.messagePublished",
        "data": json.loads(push(document)),
    }
    return json.dumps(event).encode()


BINARY_HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "m1",
    "ce-source": "//pubsub.googleapis.com/projects/p/topics/records",
    "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
    "content-type": "application/json",
}
