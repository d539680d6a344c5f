"""The RPCs of google.pubsub.v1.Subscriber."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.parse import urlsplit

from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import types
from google.rpc import error_details_pb2

from laptop.errors import ServiceError, already_exists, invalid
from laptop.pubsub.backlog import ENVELOPE_BYTES, Delivery, Flow
from laptop.pubsub.broker import Broker
from laptop.pubsub.filters import parse_filter
from laptop.pubsub.names import check_new
from laptop.pubsub.resources import masked, page, refuse_fields, seconds_between
from laptop.pubsub.subscription import Subscription
from laptop.service import ends_with_its_caller

SubscriptionBody = types.Subscription.pb()
ListSubscriptionsResponse = types.ListSubscriptionsResponse.pb()
PullResponse = types.PullResponse.pb()
StreamingPullResponse = types.StreamingPullResponse.pb()

PULL_WAIT_SECONDS = 5.0
HEARTBEAT_SECONDS = 15.0
MAX_PULLED = 1000
CLIENT_BYTES = 4 * 1024 * 1024
"""What a gRPC client takes that does not say otherwise. Google's says otherwise towards the service, but not where
PUBSUB_EMULATOR_HOST directs it (client.py in google/pubsub_v1/services/subscriber makes an ``insecure_channel(host)``).
A larger answer never reaches its caller, and what it held waits for its leases to run out, again and again. The service
answers up to 20 MB (https://github.com/googleapis/google-cloud-java/pull/3825), and may answer less than was asked for:
https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.subscriptions/pull."""
STREAM_BYTES = 1024 * 1024
MAX_REQUEST_BYTES = 512 * 1024
"""Of Acknowledge and ModifyAckDeadline: https://cloud.google.com/pubsub/quotas#resource_limits; the words of the
refusal are those of https://github.com/googleapis/nodejs-pubsub/issues/1864."""
DEFAULT_ACK_SECONDS = 10
RETENTION_SECONDS = 7 * 86400
EXPIRATION_SECONDS = 31 * 86400
log = logging.getLogger("laptop.pubsub")

NOT_DONE = (
    "bigquery_config",
    "cloud_storage_config",
    "bigtable_config",
    "message_transforms",
    "analytics_hub_subscription_info",
    "enable_message_ordering",
    "detached",
)
CHANGEABLE = {
    "push_config",
    "ack_deadline_seconds",
    "retain_acked_messages",
    "message_retention_duration",
    "labels",
    "expiration_policy",
    "dead_letter_policy",
    "retry_policy",
    "enable_exactly_once_delivery",
    *NOT_DONE[:4],
}


class Subscriber:
    """Answers google.pubsub.v1.Subscriber."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    # --- resources

    async def create_subscription(self, request: Any) -> Any:
        """Make a subscription. It gets what is published after this has answered."""
        check_new(request.name, "subscriptions")
        if request.name in self.broker.subscriptions:
            raise already_exists(request.name)
        topic = self.broker.topic(request.topic)
        if request.filter:
            parse_filter(request.filter)
        self._complete(request)
        await self.broker.add_subscription(request, topic)
        return request

    async def update_subscription(self, request: Any) -> Any:
        """Change the fields that the mask names."""
        subscription = self.broker.subscription(request.subscription.name)
        body = masked(subscription.body, request.subscription, request.update_mask.paths, CHANGEABLE)
        self._complete(body)
        await self.broker.change_subscription(subscription, body)
        return body

    async def modify_push_config(self, request: Any) -> Any:
        """Give the subscription another endpoint; an empty one makes it a pull subscription."""
        subscription = self.broker.subscription(request.subscription)
        body = SubscriptionBody()
        body.CopyFrom(subscription.body)
        body.push_config.CopyFrom(request.push_config)
        self._complete(body)
        await self.broker.change_subscription(subscription, body)
        return Empty()

    async def get_subscription(self, request: Any) -> Any:
        """One subscription."""
        return self.broker.subscription(request.subscription).body

    async def list_subscriptions(self, request: Any) -> Any:
        """The subscriptions of a project, by name."""
        prefix = f"{request.project}/subscriptions/"
        names = (name for name in self.broker.subscriptions if name.startswith(prefix))
        listed, token = page(names, request.page_size, request.page_token)
        return ListSubscriptionsResponse(
            subscriptions=[self.broker.subscriptions[name].body for name in listed], next_page_token=token
        )

    async def delete_subscription(self, request: Any) -> Any:
        """Delete a subscription with what it has not delivered."""
        await self.broker.remove_subscription(self.broker.subscription(request.subscription))
        return Empty()

    def _complete(self, body: Any) -> None:
        """Check a subscription and fill in the defaults, as the service shows them."""
        refuse_fields(body, NOT_DONE)
        body.state = types.Subscription.State.ACTIVE
        body.ack_deadline_seconds = body.ack_deadline_seconds or DEFAULT_ACK_SECONDS
        if not 10 <= body.ack_deadline_seconds <= 600:
            raise invalid(f"ack_deadline_seconds: {body.ack_deadline_seconds}: must be between 10 and 600")
        if not body.HasField("message_retention_duration"):
            body.message_retention_duration.seconds = RETENTION_SECONDS
        seconds_between(body, "message_retention_duration", 600, 31 * 86400)
        if not body.HasField("expiration_policy"):
            body.expiration_policy.ttl.seconds = EXPIRATION_SECONDS
        seconds_between(body.expiration_policy, "ttl", 86400, 365 * 86400)
        if body.HasField("retry_policy"):
            seconds_between(body.retry_policy, "minimum_backoff", 0, 600)
            seconds_between(body.retry_policy, "maximum_backoff", 0, 600)
        if body.HasField("dead_letter_policy"):
            self._check_dead_letters(body.dead_letter_policy)
        if body.push_config.push_endpoint:
            _check_push(body)

    def _check_dead_letters(self, policy: Any) -> None:
        if policy.dead_letter_topic not in self.broker.topics:
            raise ServiceError(
                "NOT_FOUND", f"dead_letter_policy: topic {policy.dead_letter_topic!r} does not exist; create it first"
            )
        policy.max_delivery_attempts = policy.max_delivery_attempts or 5
        if not 5 <= policy.max_delivery_attempts <= 100:
            raise invalid("dead_letter_policy.max_delivery_attempts: must be between 5 and 100")

    # --- messages

    @ends_with_its_caller
    async def pull(self, request: Any) -> Any:
        """Messages that are due. With none it waits a few seconds, unless asked not to, then answers none."""
        subscription = self._pullable(request.subscription)
        if request.max_messages < 1:
            raise invalid(f"max_messages: {request.max_messages}: must be at least 1")
        count = min(request.max_messages, MAX_PULLED)
        body = subscription.body
        deadline = asyncio.get_running_loop().time() + PULL_WAIT_SECONDS
        while True:
            taken = subscription.backlog.take(count, CLIENT_BYTES, body.ack_deadline_seconds)
            if taken or request.return_immediately:
                return PullResponse(received_messages=_received(subscription, taken))
            try:
                async with asyncio.timeout_at(deadline):
                    await subscription.wait()
            except TimeoutError:
                return PullResponse()
            self.broker.subscription(request.subscription)

    async def acknowledge(self, request: Any) -> Any:
        """Settle messages. When this answers they are not delivered again, also after a crash."""
        _check_size(request)
        subscription = self.broker.subscription(request.subscription)
        refused = self.settle(subscription, request.ack_ids)
        await self.broker.write_down(subscription)
        _report(refused)
        return Empty()

    async def modify_ack_deadline(self, request: Any) -> Any:
        """Give deliveries more time; 0 seconds give them back."""
        _check_size(request)
        subscription = self.broker.subscription(request.subscription)
        refused = self.extend(subscription, request.ack_ids, [request.ack_deadline_seconds] * len(request.ack_ids))
        _report(refused)
        return Empty()

    async def seek(self, request: Any) -> Any:
        """Settle all that was published before a time, and nothing that was published later and is still kept."""
        subscription = self.broker.subscription(request.subscription)
        if not request.HasField("time"):
            raise ServiceError("UNIMPLEMENTED", "seek: this server has no snapshots; seek to a time")
        await self.broker.seek(subscription, request.time.ToMicroseconds())
        return types.SeekResponse.pb()()

    async def streaming_pull(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Deliver as messages come, within the limits of the first request."""
        first = await anext(aiter(requests), None)
        if first is None:
            return
        subscription = self._pullable(first.subscription)
        if not 10 <= first.stream_ack_deadline_seconds <= 600:
            raise invalid(
                f"stream_ack_deadline_seconds: {first.stream_ack_deadline_seconds}: must be between 10 and 600"
            )
        stream = _Stream(self, subscription, first)
        reader = asyncio.create_task(stream.read(requests))
        try:
            async for response in stream.responses(reader):
                yield response
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader

    def _pullable(self, name: str) -> Subscription:
        subscription = self.broker.subscription(name)
        if subscription.body.push_config.push_endpoint:
            raise ServiceError("FAILED_PRECONDITION", f"{name}: a push subscription cannot be pulled")
        return subscription

    def settle(self, subscription: Subscription, ack_ids: Iterable[str]) -> list[str]:
        """Acknowledge; answers the ack ids that came too late, which only exactly-once delivery refuses."""
        parsed = _parsed(subscription, ack_ids)
        refused = []
        if subscription.body.enable_exactly_once_delivery:
            late = {row for row in parsed if not subscription.backlog.holds(row[1], row[2])}
            refused = [row[0] for row in parsed if row in late]
            parsed = [row for row in parsed if row not in late]
        subscription.backlog.acknowledge(sequence for _, sequence, _ in parsed)
        return refused

    def extend(self, subscription: Subscription, ack_ids: Iterable[str], seconds: list[int]) -> list[str]:
        """Move deadlines; answers the ack ids that came too late, as :meth:`settle` does."""
        if any(not 0 <= value <= 600 for value in seconds):
            raise invalid("ack_deadline_seconds: must be between 0 and 600")
        late = [
            ack_id
            for (ack_id, sequence, token), value in zip(_parsed(subscription, ack_ids), seconds, strict=True)
            if not subscription.backlog.extend(sequence, token, value)
        ]
        if 0 in seconds and subscription.backlog.available:
            subscription.wake()
        return late if subscription.body.enable_exactly_once_delivery else []


class _Stream:
    """One StreamingPull: what it may still deliver, and what its client says meanwhile."""

    def __init__(self, owner: Subscriber, subscription: Subscription, first: Any) -> None:
        self._owner = owner
        self._subscription = subscription
        self._first = first
        self._seconds = first.stream_ack_deadline_seconds
        self._room = asyncio.Event()
        self._flow = Flow(
            max(0, first.max_outstanding_messages), max(0, first.max_outstanding_bytes), released=self._room.set
        )
        self._said = asyncio.Event()
        self._confirmations: deque[Any] = deque()

    async def read(self, requests: AsyncIterator[Any]) -> None:
        """Act on what the client sends until it closes its side."""
        await self._handle(self._first)
        async for request in requests:
            if request.stream_ack_deadline_seconds:
                self._seconds = request.stream_ack_deadline_seconds
            await self._handle(request)

    async def _handle(self, request: Any) -> None:
        owner, subscription = self._owner, self._subscription
        exactly_once = subscription.body.enable_exactly_once_delivery
        if request.ack_ids:
            refused = owner.settle(subscription, request.ack_ids)
            if exactly_once:
                await owner.broker.write_down(subscription)
                done = [ack_id for ack_id in request.ack_ids if ack_id not in refused]
                self._confirm(acknowledge_confirmation={"ack_ids": done, "invalid_ack_ids": refused})
        if request.modify_deadline_ack_ids:
            if len(request.modify_deadline_seconds) != len(request.modify_deadline_ack_ids):
                raise invalid("modify_deadline_seconds: must be as many as modify_deadline_ack_ids")
            refused = owner.extend(subscription, request.modify_deadline_ack_ids, list(request.modify_deadline_seconds))
            if exactly_once:
                done = [ack_id for ack_id in request.modify_deadline_ack_ids if ack_id not in refused]
                self._confirm(modify_ack_deadline_confirmation={"ack_ids": done, "invalid_ack_ids": refused})

    def _confirm(self, **confirmation: Any) -> None:
        self._confirmations.append(StreamingPullResponse(**confirmation))
        self._said.set()

    async def responses(self, reader: "asyncio.Task[None]") -> AsyncIterator[Any]:
        """Messages as they come, until the client closes or the subscription is deleted."""
        subscription = self._subscription
        properties = StreamingPullResponse.SubscriptionProperties(
            exactly_once_delivery_enabled=subscription.body.enable_exactly_once_delivery
        )
        yield StreamingPullResponse(subscription_properties=properties)
        while not reader.done():
            if subscription.gone.is_set():
                raise ServiceError("NOT_FOUND", f"{subscription.body.name}: the subscription was deleted")
            while self._confirmations:
                yield self._confirmations.popleft()
            taken = self._take()
            if taken:
                yield StreamingPullResponse(
                    received_messages=_received(subscription, taken), subscription_properties=properties
                )
            elif not await self._something(reader):
                yield StreamingPullResponse(subscription_properties=properties)
        reader.result()  # raises what the client did wrong

    def _take(self) -> list[Delivery]:
        if self._flow.full:
            return []
        return self._subscription.backlog.take(MAX_PULLED, STREAM_BYTES, self._seconds, self._flow)

    async def _something(self, reader: "asyncio.Task[None]") -> bool:
        """Wait for messages and room for them, for a confirmation to send, or for the client to close.

        False if none of them came for so long that the client would like a sign of life.
        """
        self._said.clear()
        waiting = [asyncio.create_task(self._room_and_messages()), asyncio.create_task(self._said.wait())]
        try:
            done, _ = await asyncio.wait(
                {reader, *waiting}, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            return bool(done)
        finally:
            for task in waiting:
                task.cancel()

    async def _room_and_messages(self) -> None:
        while self._flow.full:
            self._room.clear()
            await self._room.wait()
        await self._subscription.wait()


def _received(subscription: Subscription, taken: list[Delivery]) -> list[Any]:
    for delivery in taken:
        if delivery.attempt > 1 and len(delivery.body) + ENVELOPE_BYTES > CLIENT_BYTES:
            log.warning(
                "%s: a message of %d bytes (number %d) is delivered for the %d. time and was never acknowledged. A "
                "client that PUBSUB_EMULATOR_HOST directs here takes at most %d bytes: pull with a channel whose "
                "grpc.max_receive_message_length is larger, or give the subscription a dead-letter policy",
                subscription.body.name,
                len(delivery.body),
                delivery.sequence,
                delivery.attempt,
                CLIENT_BYTES,
            )
    counted = bool(subscription.body.dead_letter_policy.dead_letter_topic)
    return [
        types.ReceivedMessage.pb()(
            ack_id=f"{subscription.number}-{delivery.sequence}-{delivery.token}",
            message=types.PubsubMessage.pb().FromString(delivery.body),
            delivery_attempt=delivery.attempt if counted else 0,
        )
        for delivery in taken
    ]


def _parsed(subscription: Subscription, ack_ids: Iterable[str]) -> list[tuple[str, int, int]]:
    """Each ack id with its sequence number and token.

    Raises:
        ServiceError: INVALID_ARGUMENT for one that this subscription did not give.
    """
    found = []
    for ack_id in ack_ids:
        try:
            number, sequence, token = map(int, ack_id.split("-"))
        except ValueError:
            number = sequence = token = 0
        if number != subscription.number:
            raise invalid(f"You have passed an invalid ack ID to the service (ack_id={ack_id[:80]})")
        found.append((ack_id, sequence, token))
    return found


def _check_size(request: Any) -> None:
    if request.ByteSize() > MAX_REQUEST_BYTES:
        raise invalid(f"Request payload size exceeds the limit: {MAX_REQUEST_BYTES} bytes.")


def _report(refused: list[str]) -> None:
    """Tell which ack ids came too late, as https://cloud.google.com/pubsub/docs/exactly-once-delivery says."""
    if refused:
        raise ServiceError(
            "FAILED_PRECONDITION",
            f"{len(refused)} acknowledgement IDs are no longer valid: their deadline has passed",
            error_details_pb2.ErrorInfo(metadata=dict.fromkeys(refused, "PERMANENT_FAILURE_INVALID_ACK_ID")),
        )


def _check_push(body: Any) -> None:
    parts = urlsplit(body.push_config.push_endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise invalid(f"push_config.push_endpoint: {body.push_config.push_endpoint!r} is not an http(s) URL")
    if body.enable_exactly_once_delivery:
        raise invalid("enable_exactly_once_delivery: a push subscription cannot have it")
