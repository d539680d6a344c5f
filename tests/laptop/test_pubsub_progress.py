"""What pushes and streams have acknowledged is written down without being asked, and for all of them at once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.pubsub_v1 import types

from laptop.faults import FaultInjector
from laptop.identity import Identity
from laptop.pubsub.broker import Broker
from laptop.pubsub.schema import SCHEMA
from laptop.store import Store, Work

TOPIC = "projects/p/topics/records"


class Counting(Store):
    """Counts what is written."""

    writes = 0

    async def write(self, work: Work[Any]) -> Any:
        self.writes += 1
        return await super().write(work)


def test_acknowledgements_of_all_subscriptions_share_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon after nobody asked for it, all that three subscriptions are done with is on the disk, by one write."""

    monkeypatch.setattr("laptop.pubsub.broker.CLEAN_SECONDS", 60.0)  # it writes, too

    async def acknowledge() -> int:
        store = Counting(tmp_path / "pubsub.sqlite", SCHEMA)
        broker = Broker(store, Identity(tmp_path), FaultInjector())
        await broker.start()
        await broker.add_topic(types.Topic.pb()(name=TOPIC))
        for name in "abc":
            path = f"projects/p/subscriptions/{name}"
            await broker.add_subscription(types.Subscription.pb()(name=path, topic=TOPIC), broker.topic(TOPIC))
        await broker.publish(broker.topic(TOPIC), [types.PubsubMessage.pb()(data=b"m") for _ in range(2)])
        before = store.writes
        for subscription in broker.subscriptions.values():
            taken = subscription.backlog.take(2, 1000, 10)
            subscription.backlog.acknowledge(one.sequence for one in taken)
        async with asyncio.timeout(5):
            while {row["high"] for row in store.read("SELECT high FROM settled")} != {2}:  # noqa: ASYNC110 - of a disk
                await asyncio.sleep(0.01)
        writes = store.writes - before
        await broker.stop()
        store.close()
        return writes

    assert asyncio.run(acknowledge()) == 1
