"""Push delivery: https://cloud.google.com/pubsub/docs/push."""

import asyncio
import base64
import json
import logging
import re
import time
from typing import Any

import aiohttp
from google.pubsub_v1 import types

from laptop.errors import ServiceError
from laptop.faults import FaultInjector
from laptop.identity import Identity
from laptop.pubsub.backlog import Delivery, Flow
from laptop.pubsub.subscription import Subscription

PubsubMessage = types.PubsubMessage.pb()

ACKNOWLEDGING = {102, 200, 201, 202, 204}
MAX_WINDOW = 64
FIRST_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 2.0
SENDER = {"From": "noreply@google.com", "User-Agent": "CloudPubSub-Google"}
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+: [\x20-\x7e]*")  # an attribute that can be a header
log = logging.getLogger("laptop.pubsub.push")


class Window:
    """How many pushes may be under way: doubled while all goes well, then one more at a time; halved by a failure.

    When nothing but failures come back it asks for a pause, so that an endpoint that is down is probed, not flooded.
    """

    def __init__(self) -> None:
        self.size = 1.0
        self.pause = 0.0
        self._threshold = float(MAX_WINDOW)
        self._reduced_at = 0.0

    def succeeded(self) -> None:
        """A push was acknowledged."""
        self.pause = 0.0
        grown = self.size + (1.0 if self.size < self._threshold else 1.0 / self.size)
        self.size = min(MAX_WINDOW, grown)

    def failed(self, started: float, now: float) -> None:
        """A push that started at ``started`` was not acknowledged."""
        if started < self._reduced_at:
            return  # it left before the window was reduced: the same trouble, not a new one
        self._reduced_at = now
        if self.size <= 1:
            self.pause = min(MAX_PAUSE_SECONDS, self.pause * 2 or FIRST_PAUSE_SECONDS)
        self._threshold = max(1.0, self.size / 2)
        self.size = self._threshold


class Pusher:
    """Posts a subscription's messages to its endpoint.

    Args:
        subscription: whose body tells the endpoint, anew for each message.
        identity: signs the tokens.
        faults: consulted before each push, as ``laptop.pubsub.Push``.
    """

    def __init__(self, subscription: Subscription, identity: Identity, faults: FaultInjector) -> None:
        self._subscription = subscription
        self._identity = identity
        self._faults = faults
        self._window = Window()
        self._flow = Flow()
        self._pushes: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._done = asyncio.Event()

    def start(self) -> None:
        """Start to push."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End all pushes; what is under way counts as not delivered."""
        tasks = [task for task in (self._task, *self._pushes) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        subscription = self._subscription
        connector = aiohttp.TCPConnector(limit=MAX_WINDOW)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            while True:
                await subscription.wait()
                if self._window.pause:
                    await asyncio.sleep(self._window.pause)
                free = int(self._window.size) - len(self._pushes)
                if free <= 0:
                    self._done.clear()
                    await self._done.wait()
                    continue
                taken = subscription.backlog.take(free, 1 << 24, self._seconds + 1, self._flow)
                for delivery in taken:
                    task = asyncio.create_task(self._push(session, delivery))
                    self._pushes.add(task)
                    task.add_done_callback(self._finished)
                if not taken:
                    await asyncio.sleep(0)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._pushes.discard(task)
        self._done.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("%s: a push broke", self._subscription.body.name, exc_info=task.exception())

    @property
    def _seconds(self) -> int:
        return self._subscription.body.ack_deadline_seconds

    async def _push(self, session: aiohttp.ClientSession, delivery: Delivery) -> None:
        subscription = self._subscription
        started = time.monotonic()
        problem = await self._post(session, delivery)
        if problem is None:
            self._window.succeeded()
            subscription.backlog.acknowledge([delivery.sequence])
        else:
            self._window.failed(started, time.monotonic())
            subscription.backlog.extend(delivery.sequence, delivery.token, 0)
            log.info("%s: attempt %d: %s", subscription.body.name, delivery.attempt, problem)

    async def _post(self, session: aiohttp.ClientSession, delivery: Delivery) -> str | None:
        """None when the endpoint acknowledged; else what happened instead."""
        config = self._subscription.body.push_config
        try:
            await self._faults.check("laptop.pubsub.Push")
            form = _bare if config.HasField("no_wrapper") else _wrapped
            body, headers = form(self._subscription.body, delivery)
            if config.oidc_token.service_account_email:
                audience = config.oidc_token.audience or config.push_endpoint
                token = self._identity.token(config.oidc_token.service_account_email, audience)
                headers["Authorization"] = f"Bearer {token}"
            async with session.post(
                config.push_endpoint,
                data=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=self._seconds),
                allow_redirects=False,
            ) as response:
                await response.read()
                return None if response.status in ACKNOWLEDGING else f"{config.push_endpoint}: HTTP {response.status}"
        except (aiohttp.ClientError, TimeoutError, OSError, ServiceError) as error:
            return f"{config.push_endpoint}: {type(error).__name__}: {error}"


def _wrapped(subscription: Any, delivery: Delivery) -> tuple[bytes, dict[str, str]]:
    message = PubsubMessage.FromString(delivery.body)
    time_text = message.publish_time.ToJsonString()
    inner: dict[str, Any] = {}
    if message.attributes:
        inner["attributes"] = dict(message.attributes)
    if message.data:
        inner["data"] = base64.b64encode(message.data).decode()
    inner["messageId"] = inner["message_id"] = message.message_id
    if message.ordering_key:
        inner["orderingKey"] = message.ordering_key
    inner["publishTime"] = inner["publish_time"] = time_text
    document: dict[str, Any] = {"message": inner, "subscription": subscription.name}
    if subscription.dead_letter_policy.dead_letter_topic:
        document["deliveryAttempt"] = delivery.attempt
    return json.dumps(document).encode(), {"Content-Type": "application/json", **SENDER}


def _bare(subscription: Any, delivery: Delivery) -> tuple[bytes, dict[str, str]]:
    """The data alone: https://cloud.google.com/pubsub/docs/payload-unwrapping."""
    message = PubsubMessage.FromString(delivery.body)
    headers = dict(SENDER)
    if subscription.push_config.no_wrapper.write_metadata:
        headers.update(
            {name: value for name, value in message.attributes.items() if _HEADER.fullmatch(f"{name}: {value}")}
        )
        headers["x-goog-pubsub-subscription-name"] = subscription.name
        headers["x-goog-pubsub-message-id"] = message.message_id
        headers["x-goog-pubsub-publish-time"] = message.publish_time.ToJsonString()
        if message.ordering_key:
            headers["x-goog-pubsub-ordering-key"] = message.ordering_key
    return message.data, headers
