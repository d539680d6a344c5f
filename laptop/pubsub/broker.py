"""Topics and subscriptions in memory, their messages and progress on the disk, and the clockwork between them."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any

from google.protobuf.message import Message
from google.pubsub_v1 import types

from laptop.errors import ServiceError, already_exists, not_found
from laptop.faults import FaultInjector
from laptop.identity import Identity
from laptop.pubsub.backlog import Backlog, Changes, Row
from laptop.pubsub.filters import parse_filter
from laptop.pubsub.intervals import Intervals
from laptop.pubsub.names import DELETED_TOPIC
from laptop.pubsub.push import Pusher
from laptop.pubsub.schema import first_id
from laptop.pubsub.subscription import Subscription
from laptop.store import Store, Work

PubsubMessage = types.PubsubMessage.pb()
TopicBody = types.Topic.pb()
SubscriptionBody = types.Subscription.pb()

TICK_SECONDS = 0.1
CLEAN_SECONDS = 2.0
CLEAN_CHUNK = 5000
log = logging.getLogger("laptop.pubsub")


class Topic:
    """A topic. ``last`` is the sequence number given to the newest message, on the disk or on its way there."""

    def __init__(self, number: int, body: Any, last: int) -> None:
        self.number = number
        self.body = body
        self.last = last
        self.time = 0
        self.subscriptions: list[Subscription] = []


class Broker:
    """All topics and subscriptions of the server.

    Args:
        store: the tables of :mod:`laptop.pubsub.schema`.
        identity: signs the tokens of pushes.
        faults: consulted before each push, as ``laptop.pubsub.Push``.
    """

    def __init__(self, store: Store, identity: Identity, faults: FaultInjector) -> None:
        self.store = store
        self.topics: dict[str, Topic] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self._identity = identity
        self._faults = faults
        self._pushers: dict[Subscription, Pusher] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._writing: asyncio.Task[None] | None = None

    # --- life

    async def start(self) -> None:
        """Load what is on the disk and start the clockwork."""
        by_number: dict[int, Topic] = {}
        for row in self.store.read("SELECT number, body, last FROM topics"):
            topic = Topic(row["number"], TopicBody.FromString(row["body"]), row["last"])
            by_number[topic.number] = self.topics[topic.body.name] = topic
        for row in self.store.read("SELECT number, topic, body FROM subscriptions"):
            known = by_number.get(row["topic"])
            last = known.last if known else self._newest(row["topic"])
            subscription = self._load(row["number"], SubscriptionBody.FromString(row["body"]), row["topic"], last)
            self._open(subscription, known)
        self._tasks = [asyncio.create_task(self._tick()), asyncio.create_task(self._clean_forever())]

    async def stop(self) -> None:
        """End pushes and write down what is settled."""
        for task in self._tasks:
            task.cancel()
        subscriptions = list(self.subscriptions.values())
        for subscription in subscriptions:
            if subscription in self._pushers:
                await self._pushers[subscription].stop()
        for subscription in subscriptions:
            await self.write_down(subscription)

    def _newest(self, topic: int) -> int:
        base = first_id(topic)
        (row,) = self.store.read(
            "SELECT max(id) AS id FROM messages WHERE id > ? AND id < ?", (base, first_id(topic + 1))
        )
        return (row["id"] or base) - base

    def _load(self, number: int, body: Any, topic: int, last: int) -> Subscription:
        settled = Intervals(
            (row["low"], row["high"])
            for row in self.store.read("SELECT low, high FROM settled WHERE subscription = ?", (number,))
        )
        attempts = {
            row["sequence"]: row["count"]
            for row in self.store.read("SELECT sequence, count FROM attempts WHERE subscription = ?", (number,))
        }
        base = first_id(topic)

        def read(after: int, until: int) -> Iterator[Row]:
            rows = self.store.rows(
                "SELECT id - ?, body FROM messages WHERE id > ? AND id <= ? ORDER BY id",
                (base, base + after, base + until),
            )
            return ((row[0], row[1]) for row in rows)

        wanted = parse_filter(body.filter) if body.filter else None
        matches = (lambda blob: wanted(PubsubMessage.FromString(blob).attributes)) if wanted else None
        subscription = Subscription(number, body, topic, Backlog(settled, attempts, read, matches))
        subscription.configure()
        subscription.backlog.published(last)
        return subscription

    def _open(self, subscription: Subscription, topic: Topic | None) -> None:
        self.subscriptions[subscription.body.name] = subscription
        if topic is not None:
            topic.subscriptions.append(subscription)
        self.repush(subscription)

    # --- resources

    def topic(self, name: str) -> Topic:
        """The topic called ``name``.

        Raises:
            ServiceError: NOT_FOUND.
        """
        found = self.topics.get(name)
        if found is None:
            raise ServiceError("NOT_FOUND", f"Resource not found (resource={name.rsplit('/', 1)[-1]}): topic {name}")
        return found

    def subscription(self, name: str) -> Subscription:
        """The subscription called ``name``.

        Raises:
            ServiceError: NOT_FOUND.
        """
        found = self.subscriptions.get(name)
        if found is None:
            raise not_found(name)
        return found

    async def add_topic(self, body: Any) -> None:
        """Make a topic.

        Raises:
            ServiceError: ALREADY_EXISTS.
        """
        blob = body.SerializeToString()
        number = await self._write_new(
            body.name,
            lambda connection: connection.execute(
                "INSERT INTO topics (name, body) VALUES (?, ?) RETURNING number", (body.name, blob)
            ).fetchone()[0],
        )
        self.topics[body.name] = Topic(number, body, 0)

    async def remove_topic(self, topic: Topic) -> None:
        """Delete a topic. Its subscriptions stay, with what is in them."""
        changed = [(subscription, _copy(subscription.body)) for subscription in topic.subscriptions]
        for _, body in changed:
            body.topic = DELETED_TOPIC

        def work(connection: Any) -> None:
            connection.execute("DELETE FROM topics WHERE number = ?", (topic.number,))
            connection.execute("DELETE FROM policies WHERE resource = ?", (topic.body.name,))
            for subscription, body in changed:
                connection.execute(
                    "UPDATE subscriptions SET body = ? WHERE number = ?",
                    (body.SerializeToString(), subscription.number),
                )

        await self.store.write(work)
        for subscription, body in changed:
            subscription.body = body
        if self.topics.get(topic.body.name) is topic:
            del self.topics[topic.body.name]

    async def add_subscription(self, body: Any, topic: Topic) -> None:
        """Make a subscription that starts with the next message; the caller has checked the body.

        Raises:
            ServiceError: ALREADY_EXISTS.
        """
        start = topic.last
        blob = body.SerializeToString()

        def work(connection: Any) -> int:
            number = connection.execute(
                "INSERT INTO subscriptions (name, topic, body) VALUES (?, ?, ?) RETURNING number",
                (body.name, topic.number, blob),
            ).fetchone()[0]
            connection.execute("INSERT INTO settled VALUES (?, 0, ?)", (number, start))
            return number

        number = await self._write_new(body.name, work)
        self._open(self._load(number, body, topic.number, self._newest(topic.number)), topic)

    async def _write_new(self, name: str, work: Work[int]) -> int:
        try:
            return await self.store.write(work)
        except sqlite3.IntegrityError:  # another call was faster
            raise already_exists(name) from None

    async def change_topic(self, topic: Topic, body: Any) -> None:
        """Give a topic another body."""
        blob = body.SerializeToString()
        await self.store.write(
            lambda connection: connection.execute("UPDATE topics SET body = ? WHERE number = ?", (blob, topic.number))
        )
        topic.body = body

    async def change_subscription(self, subscription: Subscription, body: Any) -> None:
        """Give a subscription another body, and act on it."""
        blob = body.SerializeToString()
        await self.store.write(
            lambda connection: connection.execute(
                "UPDATE subscriptions SET body = ? WHERE number = ?", (blob, subscription.number)
            )
        )
        subscription.body = body
        subscription.configure()
        self.repush(subscription)
        subscription.wake()

    async def remove_subscription(self, subscription: Subscription) -> None:
        """Delete a subscription with its state; its messages go when no other one needs them."""
        name = subscription.body.name

        def work(connection: Any) -> None:
            connection.execute("DELETE FROM subscriptions WHERE number = ?", (subscription.number,))
            connection.execute("DELETE FROM settled WHERE subscription = ?", (subscription.number,))
            connection.execute("DELETE FROM attempts WHERE subscription = ?", (subscription.number,))
            connection.execute("DELETE FROM policies WHERE resource = ?", (name,))

        await self.store.write(work)
        self.subscriptions.pop(name, None)
        for topic in self.topics.values():
            if subscription in topic.subscriptions:
                topic.subscriptions.remove(subscription)
        if subscription in self._pushers:
            await self._pushers[subscription].stop()
        subscription.gone.set()
        self._pushers.pop(subscription, None)  # not before it is gone, or a change under way would start another one
        subscription.wake()

    def repush(self, subscription: Subscription) -> None:
        """Start, change or end the pushes of a subscription as its body says."""
        if subscription.gone.is_set():
            return
        endpoint = subscription.body.push_config.push_endpoint
        pusher = self._pushers.get(subscription)
        if endpoint and pusher is None:
            self._pushers[subscription] = Pusher(subscription, self._identity, self._faults)
            self._pushers[subscription].start()
        elif not endpoint and pusher is not None:
            del self._pushers[subscription]
            self._spawn(pusher.stop())

    # --- messages

    async def publish(self, topic: Topic, messages: Sequence[Any]) -> list[str]:
        """Store messages, and answer their ids when they are on the disk.

        ``message_id`` and ``publish_time`` of the messages are set.
        """
        ids, rows, last = self._stamp(topic, messages)

        def work(connection: Any) -> None:
            _insert(connection, topic.number, rows, last)

        await self.store.write(work)
        self._announce(topic, last)
        return ids

    async def seek(self, subscription: Subscription, time_micros: int) -> None:
        """Settle what was published before a time; what was published since, and is still kept, is delivered anew."""
        since = self._first_since(subscription.topic, time_micros)
        settled = since - 1 if since is not None else 0
        subscription.backlog.restart(Intervals([(0, settled)]))
        number = subscription.number

        def work(connection: Any) -> None:
            connection.execute("DELETE FROM settled WHERE subscription = ?", (number,))
            connection.execute("INSERT INTO settled VALUES (?, 0, ?)", (number, settled))
            connection.execute("DELETE FROM attempts WHERE subscription = ?", (number,))

        written = self.store.write(work)
        subscription.wake()
        await written

    def _stamp(self, topic: Topic, messages: Sequence[Any]) -> tuple[list[str], list[tuple[int, int, bytes]], int]:
        # Never backwards, so that times rise with the ids when the clock is set back.
        now = topic.time = max(topic.time, time.time_ns() // 1_000_000 * 1000)  # milliseconds, as the service gives
        seconds, nanos = now // 1_000_000, now % 1_000_000 * 1000
        first = topic.last + 1
        topic.last += len(messages)
        ids, rows = [], []
        # A message that nobody is subscribed to is not kept, as in the service, unless the topic itself keeps it.
        kept = bool(topic.subscriptions) or topic.body.HasField("message_retention_duration")
        for number, message in enumerate(messages, first_id(topic.number) + first):
            message.message_id = text = str(number)
            stamp = message.publish_time
            stamp.seconds, stamp.nanos = seconds, nanos
            ids.append(text)
            if kept:
                rows.append((number, now, message.SerializeToString()))
        return ids, rows, topic.last

    def _announce(self, topic: Topic, last: int) -> None:
        for subscription in topic.subscriptions:
            subscription.backlog.published(last)
            subscription.wake()

    async def write_down(self, subscription: Subscription) -> None:
        """Wait until what is settled so far is on the disk."""
        if subscription.backlog.changed and not subscription.gone.is_set():
            changes = subscription.backlog.changes()
            await self.store.write(lambda connection: _record(connection, subscription.number, changes))

    async def _write_progress(self) -> None:
        """Write down what became of deliveries since the last time: one commit for all subscriptions."""
        changed = [
            (subscription.number, subscription.backlog.changes())
            for subscription in self.subscriptions.values()
            if subscription.backlog.changed
        ]

        def work(connection: Any) -> None:
            for number, changes in changed:
                _record(connection, number, changes)

        try:
            await self.store.write(work)
        except Exception:
            # Nothing is lost: what is not written down is delivered again after a restart.
            log.exception("progress could not be written down")

    # --- the clockwork

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for subscription in list(self.subscriptions.values()):
                backlog = subscription.backlog
                backlog.tick()
                if backlog.available:
                    subscription.wake()
                if backlog.dead:
                    try:
                        await self._bury(subscription)
                    except Exception:
                        # They are still there after a restart: neither the copies nor the acknowledgements were kept.
                        log.exception("%s: dead letters could not be forwarded", subscription.body.name)
            # Nobody waits for it: a tick's worth shares a commit, and the clock goes on meanwhile.
            written = self._writing is None or self._writing.done()
            if written and any(one.backlog.changed for one in self.subscriptions.values()):
                self._writing = asyncio.create_task(self._write_progress())

    async def _bury(self, subscription: Subscription) -> None:
        """Forward what failed too often to the dead-letter topic; both in one commit, so none is lost or left."""
        backlog, policy = subscription.backlog, subscription.body.dead_letter_policy
        dead = list(backlog.dead)
        backlog.dead.clear()
        topic = self.topics.get(policy.dead_letter_topic)
        if topic is None:
            log.warning(
                "%s: dead-letter topic %s does not exist: %d messages stay",
                subscription.body.name,
                policy.dead_letter_topic,
                len(dead),
            )
            for sequence, attempt in dead:
                backlog.retry(sequence, attempt)
            return
        copies, base = [], first_id(subscription.topic)
        for sequence, attempt in dead:
            for row in self.store.rows("SELECT body FROM messages WHERE id = ?", (base + sequence,)):
                copies.append(_dead_letter(PubsubMessage.FromString(row[0]), subscription.body.name, attempt))
        _, rows, last = self._stamp(topic, copies)
        backlog.acknowledge(sequence for sequence, _ in dead)
        changes = backlog.changes()

        def work(connection: Any) -> None:
            _insert(connection, topic.number, rows, last)
            _record(connection, subscription.number, changes)

        await self.store.write(work)
        self._announce(topic, last)

    async def _clean_forever(self) -> None:
        while True:
            await asyncio.sleep(CLEAN_SECONDS)
            try:
                await self.clean()
            except Exception:
                log.exception("old messages could not be removed; the next attempt is in %s s", CLEAN_SECONDS)

    async def clean(self) -> None:
        """Forget what is older than the subscriptions keep it, and remove messages that nobody needs any more."""
        for subscription in list(self.subscriptions.values()):
            oldest = self._kept_since(subscription.topic, subscription.body)
            subscription.backlog.forget_before(oldest)
            await self.write_down(subscription)
        # All bounds are taken before the next wait: a subscription that is made meanwhile starts above them.
        needed = {topic.number: topic.last + 1 for topic in self.topics.values()}
        for topic in self.topics.values():
            if topic.body.HasField("message_retention_duration"):
                needed[topic.number] = self._kept_since(topic.number, topic.body)
        for subscription in self.subscriptions.values():
            first = subscription.backlog.floor + 1
            if subscription.body.retain_acked_messages:
                first = min(first, self._kept_since(subscription.topic, subscription.body))
            needed[subscription.topic] = min(needed.get(subscription.topic, first), first)
        for number in self._topics_with_messages():
            await self._remove(first_id(number), first_id(number) + needed.get(number, first_id(1)))

    def _kept_since(self, topic: int, body: Any) -> int:
        """The first message that is not too old for a topic or subscription with this body."""
        keep = body.message_retention_duration.ToTimedelta().total_seconds()
        return self._first_since(topic, int((time.time() - keep) * 1_000_000)) or 1

    def _topics_with_messages(self) -> list[int]:
        found, after = [], 0
        while rows := self.store.read("SELECT min(id) AS id FROM messages WHERE id > ?", (after,)):
            if rows[0]["id"] is None:
                break
            number = rows[0]["id"] // first_id(1)
            found.append(number)
            after = first_id(number + 1)
        return found

    async def _remove(self, base: int, until: int) -> None:
        """Delete the messages between two ids, in small steps that let others write between them."""
        removed = CLEAN_CHUNK
        while removed == CLEAN_CHUNK:
            removed = await self.store.write(
                lambda connection: (
                    connection.execute(
                        "DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE id > ? AND id < ? LIMIT ?)",
                        (base, until, CLEAN_CHUNK),
                    ).rowcount
                )
            )

    def _first_since(self, topic: int, time_micros: int) -> int | None:
        """The sequence number that the first message since a time has or will have; None if no older one is there.

        A search by halves: times rise with the sequence numbers.
        """
        base, end = first_id(topic), first_id(topic + 1)

        def look(order: str, start: int) -> Any:
            rows = self.store.read(
                f"SELECT id, time FROM messages WHERE id >= ? AND id < ? ORDER BY id {order} LIMIT 1",  # noqa: S608
                (start, end),
            )
            return rows[0] if rows else None

        first, newest = look("ASC", base), look("DESC", base)
        if first is None or first["time"] >= time_micros:
            return None
        low, high = first["id"], newest["id"] + 1  # low is older, high is not
        while high - low > 1:
            middle = (low + high) // 2
            row = look("ASC", middle)
            if row is None or row["id"] >= high or row["time"] >= time_micros:
                high = middle
            else:
                low = row["id"]
        return high - base

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)


def _copy(message: Message) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _insert(connection: Any, topic: int, rows: list[tuple[int, int, bytes]], last: int) -> None:
    connection.executemany("INSERT INTO messages VALUES (?, ?, ?)", rows)
    connection.execute("UPDATE topics SET last = max(last, ?) WHERE number = ?", (last, topic))


def _record(connection: Any, subscription: int, changes: Changes) -> None:
    connection.executemany(
        "DELETE FROM settled WHERE subscription = ? AND low = ?", [(subscription, low) for low in changes.removed]
    )
    connection.executemany(
        "INSERT OR REPLACE INTO settled VALUES (?, ?, ?)",
        [(subscription, low, high) for low, high in changes.settled],
    )
    connection.executemany(
        "DELETE FROM attempts WHERE subscription = ? AND sequence = ?",
        [(subscription, sequence) for sequence, count in changes.attempts if not count],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?)",
        [(subscription, sequence, count) for sequence, count in changes.attempts if count],
    )


def _dead_letter(message: Any, subscription: str, attempt: int) -> Any:
    """The message as the dead-letter topic gets it: https://cloud.google.com/pubsub/docs/handling-failures."""
    _, project, _, name = subscription.split("/")
    message.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] = str(attempt)
    message.attributes["CloudPubSubDeadLetterSourceSubscription"] = name
    message.attributes["CloudPubSubDeadLetterSourceSubscriptionProject"] = project
    published = message.publish_time.ToDatetime(UTC).isoformat(timespec="milliseconds")
    message.attributes["CloudPubSubDeadLetterSourceTopicPublishTime"] = published
    return message
