"""The requests in which a message can reach a function."""

import base64
import json
from typing import Any

from starlette.requests import Request


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


def request(method: str, headers: dict[str, str], body: bytes | None) -> Request:
    """A request as the server hands it over; without a body, its caller has gone away."""

    async def receive() -> dict[str, Any]:
        if body is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": False}

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": method, "path": "/", "headers": raw}, receive)


BINARY_HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "m1",
    "ce-source": "//pubsub.googleapis.com/projects/p/topics/records",
    "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
    "content-type": "application/json",
}
