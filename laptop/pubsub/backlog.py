"""What one subscription still has to deliver: the rules of leases, redelivery, backoff and dead letters.

It holds no message but a window of the ones that come next. It knows no network and no clock but the one it is given,
and every method is called from one thread.
"""

import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from laptop.pubsub.intervals import Intervals

WINDOW_MESSAGES = 1000
WINDOW_BYTES = 8 * 1024 * 1024
TICKS_PER_SECOND = 10

Row = tuple[int, bytes]
"""Sequence number and serialized message."""


@dataclass(slots=True)
class Flow:
    """How much a consumer has in hand, and how much it may have. 0 means no limit."""

    max_messages: int = 0
    max_bytes: int = 0
    released: Callable[[], None] = lambda: None
    """Called when one of its messages is settled or given back."""
    messages: int = 0
    bytes: int = 0

    @property
    def full(self) -> bool:
        """Whether nothing more may be handed out."""
        return bool(
            (self.max_messages and self.messages >= self.max_messages)
            or (self.max_bytes and self.bytes >= self.max_bytes)
        )


@dataclass(slots=True)
class Lease:
    """One delivery that is neither settled nor overdue."""

    token: int
    tick: int
    """Its deadline, in ticks of the backlog's clock."""
    attempt: int
    size: int
    flow: Flow


@dataclass(slots=True, frozen=True)
class Delivery:
    """One message handed out."""

    sequence: int
    token: int
    attempt: int
    """1 for the first delivery."""
    body: bytes


@dataclass(frozen=True)
class Redelivery:
    """The retry policy.

    Args:
        minimum_seconds, maximum_seconds: bounds of the exponential backoff; both 0: redelivered at once.
        dead_after: failed deliveries after which a message is a dead letter; 0: never.
    """

    minimum_seconds: float = 0.0
    maximum_seconds: float = 0.0
    dead_after: int = 0

    def pause(self, attempt: int) -> float:
        """Seconds to wait after the ``attempt``-th delivery has failed."""
        return min(self.maximum_seconds, self.minimum_seconds * 2.0 ** min(attempt - 1, 60))


@dataclass(frozen=True)
class Changes:
    """What has to be written down about a subscription."""

    removed: list[int]
    settled: list[tuple[int, int]]
    attempts: list[tuple[int, int]]
    """Sequence number and count of failed deliveries; 0 for a message that is settled."""


class Backlog:
    """The delivery state of one subscription.

    Args:
        settled: what is done with, starting at 0.
        attempts: failed deliveries by sequence number.
        read: rows with a sequence number above the first argument, up to and including the second, in order, lazily.
        wanted: whether the subscription's filter lets a message through; None: all.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        settled: Intervals,
        attempts: dict[int, int],
        read: Callable[[int, int], Iterator[Row]],
        wanted: Callable[[bytes], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settled = settled
        self.redelivery = Redelivery()
        self.dead: deque[tuple[int, int]] = deque()
        """Messages that failed too often, with their count of deliveries. The owner forwards and settles them."""
        self._read = read
        self._wanted = wanted
        self._clock = clock
        self._visible = 0
        self._cursor = 0
        self._window: deque[Row] = deque()
        self._again: deque[int] = deque()
        self._later: list[tuple[float, int]] = []
        self._attempts = attempts
        self._attempts_changed: dict[int, int] = {}
        self._leases: dict[int, Lease] = {}
        self._due: dict[int, set[int]] = {}
        # Never the same after a restart, so that an old ack id cannot end a new lease.
        self._tokens = itertools.count(time.time_ns() // 1000)

    # --- what is there

    @property
    def floor(self) -> int:
        """Everything up to this sequence number is settled."""
        return self.settled.end_of(0) or 0

    @property
    def visible(self) -> int:
        """The newest message that is published for certain."""
        return self._visible

    @property
    def outstanding(self) -> int:
        """Deliveries that wait for their acknowledgement."""
        return len(self._leases)

    def published(self, sequence: int) -> None:
        """Messages up to ``sequence`` are on the disk now."""
        self._visible = max(self._visible, sequence)

    @property
    def available(self) -> bool:
        """Whether :meth:`take` may have something; it may still find only messages that are filtered out."""
        return bool(self._again or self._window) or self._cursor < self._visible

    # --- delivery

    def take(self, messages: int, size: int, seconds: float, flow: Flow | None = None) -> list[Delivery]:
        """Hand out messages that are due, oldest first as far as possible.

        Args:
            messages: at most so many.
            size: at most so many bytes, but never less than one message.
            seconds: the time to acknowledge them.
            flow: counts them as long as they are outstanding, and limits them.
        """
        flow = flow or Flow()
        taken: list[Delivery] = []
        tick = math.ceil((self._clock() + seconds) * TICKS_PER_SECOND)
        due = self._due.setdefault(tick, set())
        total = 0
        for sequence, body in self._next():
            attempt = self._attempts.get(sequence, 0) + 1
            token = next(self._tokens)
            self._leases[sequence] = Lease(token, tick, attempt, len(body), flow)
            due.add(sequence)
            flow.messages += 1
            flow.bytes += len(body)
            total += len(body)
            taken.append(Delivery(sequence, token, attempt, body))
            if len(taken) >= messages or total >= size or flow.full:
                break
        if not due:
            self._due.pop(tick, None)
        return taken

    def _next(self) -> Iterator[Row]:
        while self._again:
            sequence = self._again.popleft()
            if sequence in self.settled:
                continue
            row = next(self._read(sequence - 1, sequence), None)
            if row is None:
                self.settled.add(sequence, sequence)  # too old: retention took it
            else:
                yield row
        while self._window or self._fill():
            row = self._window.popleft()
            if row[0] not in self.settled:
                yield row

    def _fill(self) -> bool:
        """Load the messages that come next; False if there are none."""
        while self._cursor < self._visible:
            done = self.settled.end_of(self._cursor + 1)
            if done is not None:
                self._cursor = done
                continue
            size = 0
            for row in self._read(self._cursor, self._visible):
                sequence, body = row
                if sequence > self._cursor + 1:
                    self.settled.add(self._cursor + 1, sequence - 1)  # never stored, or gone: not to be waited for
                self._cursor = sequence
                if sequence in self.settled:
                    continue
                if self._wanted is not None and not self._wanted(body):
                    self.settled.add(sequence, sequence)
                    continue
                self._window.append(row)
                size += len(body)
                if len(self._window) >= WINDOW_MESSAGES or size >= WINDOW_BYTES:
                    return True
            if self._cursor < self._visible:
                self.settled.add(self._cursor + 1, self._visible)
                self._cursor = self._visible
            if self._window:
                return True
        return False

    # --- what becomes of a delivery

    def acknowledge(self, sequences: Iterable[int]) -> None:
        """These messages are done, also those whose lease has run out meanwhile."""
        sequences = [sequence for sequence in sequences if 0 < sequence <= self._visible]
        self.settled.add_all(sequences)
        for sequence in sequences:
            self._release(sequence)
            if self._attempts.pop(sequence, None) is not None:
                self._attempts_changed[sequence] = 0

    def holds(self, sequence: int, token: int) -> bool:
        """Whether the delivery with this token may still be acknowledged: its lease runs, or it is settled already."""
        lease = self._leases.get(sequence)
        return sequence in self.settled if lease is None else lease.token == token

    def extend(self, sequence: int, token: int, seconds: float) -> bool:
        """Move the deadline to ``seconds`` from now; 0 gives the message back. False: the lease has run out."""
        lease = self._leases.get(sequence)
        if lease is None or lease.token != token:
            return False
        if seconds <= 0:
            self._fail(sequence)
            return True
        self._due[lease.tick].discard(sequence)
        lease.tick = math.ceil((self._clock() + seconds) * TICKS_PER_SECOND)
        self._due.setdefault(lease.tick, set()).add(sequence)
        return True

    def tick(self) -> None:
        """Take back what is overdue, and make due what has waited long enough."""
        now = self._clock()
        for tick in [tick for tick in self._due if tick <= now * TICKS_PER_SECOND]:
            for sequence in sorted(self._due[tick]):
                self._fail(sequence)
            self._due.pop(tick, None)
        while self._later and self._later[0][0] <= now:
            self._again.append(heapq.heappop(self._later)[1])

    def retry(self, sequence: int, attempt: int) -> None:
        """Deliver a message again after its backoff (also a dead letter that could not be forwarded)."""
        pause = self.redelivery.pause(attempt)
        if pause:
            heapq.heappush(self._later, (self._clock() + pause, sequence))
        else:
            self._again.append(sequence)

    def forget_before(self, sequence: int) -> None:
        """Settle everything below ``sequence``: it is older than the subscription keeps messages."""
        if sequence - 1 > self.floor:
            self.settled.add(0, sequence - 1)
            self._cursor = max(self._cursor, sequence - 1)
            for old in [leased for leased in self._leases if leased < sequence]:
                self._release(old)
            for old in [failed for failed in self._attempts if failed < sequence]:
                del self._attempts[old]
                self._attempts_changed[old] = 0

    def restart(self, settled: Intervals) -> None:
        """Deliver all but ``settled`` (again)."""
        for sequence in list(self._leases):
            self._release(sequence)
        self.settled = settled
        self._cursor = 0
        self._window.clear()
        self._again.clear()
        self._later.clear()
        self.dead.clear()
        self._attempts.clear()
        self._attempts_changed.clear()

    def _release(self, sequence: int) -> Lease | None:
        lease = self._leases.pop(sequence, None)
        if lease is not None:
            due = self._due[lease.tick]
            due.discard(sequence)
            if not due:
                del self._due[lease.tick]
            flow = lease.flow
            flow.messages -= 1
            flow.bytes -= lease.size
            flow.released()
        return lease

    def _fail(self, sequence: int) -> None:
        lease = self._release(sequence)
        if lease is None:
            return
        self._attempts[sequence] = lease.attempt
        self._attempts_changed[sequence] = lease.attempt
        if self.redelivery.dead_after and lease.attempt >= self.redelivery.dead_after:
            self.dead.append((sequence, lease.attempt))
        else:
            self.retry(sequence, lease.attempt)

    # --- what has to be written down

    @property
    def changed(self) -> bool:
        """Whether :meth:`changes` has something to tell."""
        return self.settled.changed or bool(self._attempts_changed)

    def changes(self) -> Changes:
        """What changed since the last call."""
        removed, settled = self.settled.changes()
        attempts = list(self._attempts_changed.items())
        self._attempts_changed.clear()
        return Changes(removed, settled, attempts)
