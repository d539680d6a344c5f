"""The RPCs of google.pubsub.v1.Publisher."""

from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import types

from laptop.errors import already_exists, invalid
from laptop.pubsub.broker import Broker
from laptop.pubsub.names import check_new
from laptop.pubsub.resources import masked, page, refuse_fields, seconds_between

PublishResponse = types.PublishResponse.pb()
TopicBody = types.Topic.pb()
ListTopicsResponse = types.ListTopicsResponse.pb()
ListTopicSubscriptionsResponse = types.ListTopicSubscriptionsResponse.pb()
DetachSubscriptionResponse = types.DetachSubscriptionResponse.pb()

# https://cloud.google.com/pubsub/quotas#resource_limits
MAX_MESSAGES = 1000
MAX_BYTES = 10_000_000
MAX_PAYLOAD_BYTES = 10 * 1024 * 1024
"""What is larger is refused before anybody looks into it: https://github.com/standard-ai/hedwig-rust/issues/18."""
MAX_ATTRIBUTES = 100
MAX_KEY_BYTES = 256
MAX_VALUE_BYTES = 1024
MAX_ORDERING_KEY_BYTES = 1024

NOT_DONE = ("schema_settings", "ingestion_data_source_settings", "message_transforms")
CHANGEABLE = {"labels", "message_storage_policy", "kms_key_name", "message_retention_duration", *NOT_DONE}


class Publisher:
    """Answers google.pubsub.v1.Publisher."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def create_topic(self, request: Any) -> Any:
        """Make a topic."""
        check_new(request.name, "topics")
        if request.name in self._broker.topics:
            raise already_exists(request.name)
        _check(request)
        request.state = types.Topic.State.ACTIVE
        await self._broker.add_topic(request)
        return request

    async def update_topic(self, request: Any) -> Any:
        """Change the fields that the mask names."""
        topic = self._broker.topic(request.topic.name)
        body = masked(topic.body, request.topic, request.update_mask.paths, CHANGEABLE)
        _check(body)
        await self._broker.change_topic(topic, body)
        return body

    async def get_topic(self, request: Any) -> Any:
        """One topic."""
        return self._broker.topic(request.topic).body

    async def list_topics(self, request: Any) -> Any:
        """The topics of a project, by name."""
        prefix = f"{request.project}/topics/"
        names = (name for name in self._broker.topics if name.startswith(prefix))
        listed, token = page(names, request.page_size, request.page_token)
        return ListTopicsResponse(topics=[self._broker.topics[name].body for name in listed], next_page_token=token)

    async def list_topic_subscriptions(self, request: Any) -> Any:
        """The names of a topic's subscriptions."""
        topic = self._broker.topic(request.topic)
        names = (subscription.body.name for subscription in topic.subscriptions)
        listed, token = page(names, request.page_size, request.page_token)
        return ListTopicSubscriptionsResponse(subscriptions=listed, next_page_token=token)

    async def delete_topic(self, request: Any) -> Any:
        """Delete a topic; its subscriptions stay."""
        await self._broker.remove_topic(self._broker.topic(request.topic))
        return Empty()

    async def publish(self, request: Any) -> Any:
        """Store messages. When this answers, they are on the disk."""
        topic = self._broker.topic(request.topic)
        _check_messages(request)
        return PublishResponse(message_ids=await self._broker.publish(topic, request.messages))


def _check(topic: Any) -> None:
    refuse_fields(topic, NOT_DONE)
    seconds_between(topic, "message_retention_duration", 600, 31 * 86400)


def _check_messages(request: Any) -> None:  # noqa: C901  # a message's rules, in the order in which the service tells them
    if not request.messages:
        raise invalid("The value for message_count is too small. You passed 0 in the request; the minimum is 1")
    size = request.ByteSize()
    if size > MAX_PAYLOAD_BYTES:
        raise invalid(f"Request payload size exceeds the limit: {MAX_PAYLOAD_BYTES} bytes.")
    # The words: https://github.com/GoogleCloudPlatform/pubsub/issues/267, https://github.com/snowplow/enrich/issues/653.
    for name, value, most in (
        ("message_count", len(request.messages), MAX_MESSAGES),
        ("request_size", size, MAX_BYTES),
    ):
        if value > most:
            raise invalid(
                f"The value for {name} is too large. You passed {value} in the request, "
                f"but the maximum value is {most}."
            )
    for message in request.messages:
        if not message.data and not message.attributes:
            raise invalid("A message must have data or at least one attribute")
        if message.attributes:
            if len(message.attributes) > MAX_ATTRIBUTES:
                raise invalid(f"A message has {len(message.attributes)} attributes; the maximum is {MAX_ATTRIBUTES}")
            for key, value in message.attributes.items():
                if not key or len(key.encode()) > MAX_KEY_BYTES or len(value.encode()) > MAX_VALUE_BYTES:
                    raise invalid(
                        f"Attribute {key[:40]!r}: a key has 1 to {MAX_KEY_BYTES} bytes, a value up to {MAX_VALUE_BYTES}"
                    )
        if len(message.ordering_key.encode()) > MAX_ORDERING_KEY_BYTES:
            raise invalid(f"An ordering key has at most {MAX_ORDERING_KEY_BYTES} bytes")
