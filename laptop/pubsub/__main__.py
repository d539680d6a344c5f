"""``python -m laptop.pubsub --state DIR``: wires the server together."""

from google.pubsub_v1 import PublisherClient, SubscriberClient

from laptop.identity import Identity
from laptop.pubsub.broker import Broker
from laptop.pubsub.policies import Policies
from laptop.pubsub.publisher import Publisher
from laptop.pubsub.schema import SCHEMA
from laptop.pubsub.subscriber import Subscriber
from laptop.service import Api, Context, main, surfaces
from laptop.store import Store


def build(context: Context) -> Api:
    """Cloud Pub/Sub: messages and delivery state in one SQLite file."""
    store = Store(context.folder("pubsub") / "pubsub.sqlite", SCHEMA)
    broker = Broker(store, Identity(context.state), context.faults)

    async def stop() -> None:
        await broker.stop()
        store.close()

    return Api(
        surfaces(PublisherClient, SubscriberClient),
        [Publisher(broker), Subscriber(broker), Policies(broker)],
        start=broker.start,
        stop=stop,
    )


if __name__ == "__main__":
    main("pubsub", build)
