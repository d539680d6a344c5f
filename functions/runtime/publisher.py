"""Publishes to Pub/Sub: waiting messages share a request, and each caller awaits its own message's confirmation."""

from collections.abc import Mapping
from typing import Any

import grpc.aio
from google.pubsub_v1.types import pubsub as _pubsub

from functions.runtime.batcher import Batcher, Entry
from functions.runtime.errors import PermanentlyRefusedError
from functions.runtime.rpc import Code, Rpc, RpcError
from functions.runtime.wire import Repeated
from schemas.envelope import MAX_MESSAGE_BYTES

PublishRequest: Any = _pubsub.PublishRequest.pb()
PublishResponse: Any = _pubsub.PublishResponse.pb()
PubsubMessage: Any = _pubsub.PubsubMessage.pb()
MESSAGES = Repeated(PublishRequest, "messages")

MAX_MESSAGES = 1000
"""Limit for the number of messages in one request; Pub/Sub's own."""
MAX_BYTES = 4 << 20
"""Limit, in bytes, for one request. Pub/Sub accepts 10 MB."""


class MessageRefusedError(PermanentlyRefusedError):
    """Pub/Sub will never accept this message, so sending it again is useless."""


class Publisher:
    """Publishes messages to one topic."""

    def __init__(self, channel: grpc.aio.Channel, project: str, topic: str) -> None:
        """Publish over ``channel``. ``topic`` is the topic's short name."""
        self._topic = f"projects/{project}/topics/{topic}"
        self._head = PublishRequest(topic=self._topic).SerializeToString()
        self._rpc = Rpc(
            channel,
            "/google.pubsub.v1.Publisher/Publish",
            PublishResponse,
            routing={"topic": self._topic},
        )
        self._batcher = Batcher(self._send, max_items=MAX_MESSAGES, max_bytes=MAX_BYTES, max_in_flight=2)

    async def publish(self, data: bytes, attributes: Mapping[str, str]) -> str:
        """Publish one message. Returns its id once Pub/Sub has confirmed that it is stored.

        Raises:
            MessageRefusedError: Pub/Sub refuses the message (too large, or an invalid attribute).
            RpcError: Pub/Sub is unavailable or fails; the message may or may not be published.
            OverloadedError: too many bytes are waiting already.
        """
        message = PubsubMessage(data=data, attributes=attributes).SerializeToString()
        size = len(message)
        if size > MAX_MESSAGE_BYTES:
            raise MessageRefusedError(f"the message is {size} bytes; Pub/Sub takes {MAX_MESSAGE_BYTES}")
        message_id: str = await self._batcher.put(MESSAGES.element(message), size)
        return message_id

    async def _send(self, entries: list[Entry]) -> None:
        try:
            response = await self._rpc(self._head + b"".join([entry.value for entry in entries]))
        except RpcError as error:
            await self._resolve_failed(entries, error)
        else:
            for entry, message_id in zip(entries, response.message_ids, strict=True):
                entry.resolve(message_id)

    async def _resolve_failed(self, entries: list[Entry], error: RpcError) -> None:
        """Bisect a refused request: Pub/Sub accepts a request as a whole or not at all, so one bad message fails it."""
        if error.code is not Code.INVALID_ARGUMENT:
            for entry in entries:
                entry.fail(error)
        elif len(entries) > 1:
            middle = len(entries) // 2
            await self._send(entries[:middle])
            await self._send(entries[middle:])
        else:
            entries[0].fail(MessageRefusedError(f"Pub/Sub refused the message: {error.details}"))
