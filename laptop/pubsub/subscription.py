"""A subscription while the server runs: its backlog, and who waits for it."""

import asyncio
from typing import Any

from laptop.pubsub.backlog import Backlog, Redelivery

DEFAULT_MINIMUM_BACKOFF = 10.0
DEFAULT_MAXIMUM_BACKOFF = 600.0
DEFAULT_DELIVERY_ATTEMPTS = 5


class Subscription:
    """A subscription with its backlog, and who waits for it."""

    def __init__(self, number: int, body: Any, topic: int, backlog: Backlog) -> None:
        self.number = number
        self.body = body
        self.topic = topic
        self.backlog = backlog
        self.gone = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []

    def wake(self) -> None:
        """Tell everybody who waits for messages to look."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self) -> None:
        """Wait until there may be something new."""
        if not self.backlog.available and not self.gone.is_set():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            try:
                await future
            finally:
                if future in self._waiting:  # whoever waited has gone
                    self._waiting.remove(future)

    def configure(self) -> None:
        """Bring the backlog in line with the body."""
        policy, dead = self.body.retry_policy, self.body.dead_letter_policy
        minimum = maximum = 0.0
        if self.body.HasField("retry_policy"):
            minimum, maximum = DEFAULT_MINIMUM_BACKOFF, DEFAULT_MAXIMUM_BACKOFF
            if policy.HasField("minimum_backoff"):
                minimum = policy.minimum_backoff.ToTimedelta().total_seconds()
            if policy.HasField("maximum_backoff"):
                maximum = policy.maximum_backoff.ToTimedelta().total_seconds()
        attempts = (dead.max_delivery_attempts or DEFAULT_DELIVERY_ATTEMPTS) if dead.dead_letter_topic else 0
        self.backlog.redelivery = Redelivery(minimum, max(minimum, maximum), attempts)
