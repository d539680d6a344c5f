"""``python -m laptop.datastore --state DIR``: wires the server together."""

from google.cloud.datastore_admin_v1 import DatastoreAdminClient
from google.cloud.datastore_v1.services.datastore import DatastoreClient

from laptop import operations
from laptop.datastore.commits import Commits
from laptop.datastore.composites import Composites
from laptop.datastore.entities import SCHEMA
from laptop.datastore.ids import Ids
from laptop.datastore.reads import Reads
from laptop.datastore.transactions import Transactions
from laptop.operations import Operations
from laptop.service import Api, Context, main, surfaces
from laptop.store import Store


def build(context: Context) -> Api:
    """Datastore: entities, their indexes and the composite indexes in one SQLite file."""
    store = Store(context.folder("datastore") / "datastore.sqlite", operations.SCHEMA + SCHEMA)
    known = Operations(store)
    composites = Composites(store, known)
    transactions = Transactions(store)

    async def stop() -> None:
        store.close()

    handlers = [Reads(store, transactions, composites), Commits(store, transactions), transactions, Ids(), composites]
    return Api(surfaces(DatastoreClient, DatastoreAdminClient), [*handlers, known], stop=stop)


if __name__ == "__main__":
    main("datastore", build)
