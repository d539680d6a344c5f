"""Batching: items that arrive while a request is in flight share the next one, and each caller awaits its own item."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from functions.runtime.errors import OverloadedError


@dataclass(slots=True, eq=False)
class Entry:
    """One caller's item and the future that the caller awaits."""

    value: Any
    size: int
    """Size, in bytes, of the serialized item."""
    key: bytes | None
    """Entries with equal keys are never in flight at the same time. None lifts this restriction."""
    future: "asyncio.Future[Any]"

    def resolve(self, result: Any = None) -> None:
        """Give the caller its result, unless the caller has gone away."""
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        """Give the caller its error, unless the caller has gone away."""
        if not self.future.done():
            self.future.set_exception(error)


class Batcher:
    """Groups items into batches. An item that finds nothing in flight is sent at once, without lingering.

    While batches are in flight, another one is sent once it holds as many items as they do together. A call costs far
    more than an item, so a few large calls give more throughput under load; under light load, two callers do not wait
    for one another.
    """

    def __init__(
        self,
        send: Callable[[list[Entry]], Awaitable[None]],
        *,
        max_items: int,
        max_bytes: int,
        max_in_flight: int,
        max_waiting_bytes: int = 64 << 20,
    ) -> None:
        """Configure the batches.

        Args:
            send: sends a batch, and resolves or fails each of its entries.
            max_items: limit for the number of items in a batch.
            max_bytes: limit, in bytes, for a batch; a larger item is sent alone.
            max_in_flight: limit for the number of batches in flight.
            max_waiting_bytes: limit, in bytes, for the items that wait.
        """
        self._send = send
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._max_in_flight = max_in_flight
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: deque[Entry] = deque()
        self._waiting_bytes = 0
        self._keys: set[bytes] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._scheduled = False

    async def put(self, value: Any, size: int, key: bytes | None = None) -> Any:
        """Send one item. Returns what ``send`` resolved it to, once its batch is complete.

        Raises:
            OverloadedError: more bytes than the limit are waiting already.
            Exception: the error with which ``send`` failed the item.
        """
        if self._waiting_bytes + size > self._max_waiting_bytes and self._waiting:
            raise OverloadedError(f"{len(self._waiting)} items ({self._waiting_bytes} bytes) are waiting already")
        loop = asyncio.get_running_loop()
        entry = Entry(value, size, key, loop.create_future())
        self._waiting.append(entry)
        self._waiting_bytes += size
        if not self._scheduled and self._may_send():
            # Deferred, so that the other requests of this turn of the event loop share the batch.
            self._scheduled = True
            loop.call_soon(self._send_waiting)
        return await entry.future

    def _may_send(self) -> bool:
        return len(self._tasks) < self._max_in_flight and len(self._waiting) >= self._in_flight

    def _send_waiting(self) -> None:
        self._scheduled = False
        while self._waiting and self._may_send():
            batch = self._next_batch()
            if not batch:
                return
            self._in_flight += len(batch)
            task = asyncio.create_task(self._send_batch(batch))
            self._tasks.add(task)
            task.add_done_callback(self._batch_ended)

    def _next_batch(self) -> list[Entry]:
        batch: list[Entry] = []
        held_back: list[Entry] = []
        size = 0
        while self._waiting and len(batch) < self._max_items:
            entry = self._waiting[0]
            if batch and size + entry.size > self._max_bytes:
                break
            self._waiting.popleft()
            if entry.key is not None and entry.key in self._keys:
                held_back.append(entry)
                continue
            self._waiting_bytes -= entry.size
            if entry.future.done():
                continue  # the caller has gone away
            batch.append(entry)
            size += entry.size
            if entry.key is not None:
                self._keys.add(entry.key)
        self._waiting.extendleft(reversed(held_back))
        return batch

    async def _send_batch(self, batch: list[Entry]) -> None:
        try:
            await self._send(batch)
        except Exception as error:
            for entry in batch:
                entry.fail(error)
        finally:
            self._in_flight -= len(batch)
            for entry in batch:
                if entry.key is not None:
                    self._keys.discard(entry.key)

    def _batch_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._send_waiting()
