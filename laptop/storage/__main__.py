"""``python -m laptop.storage --state DIR``: wires the server together."""

from laptop.service import Api, Context, main
from laptop.storage.buckets import Buckets
from laptop.storage.files import SCHEMA, Files
from laptop.storage.objects import Objects
from laptop.storage.routes import routes
from laptop.storage.uploads import Uploads
from laptop.store import Store


def build(context: Context) -> Api:
    """Cloud Storage: objects as files, what a file cannot tell in one SQLite file."""
    store = Store(context.state / "storage.sqlite", SCHEMA)
    files = Files(context.state / "storage", context.state / "storage-uploads", store)
    uploads = Uploads(files, store)

    async def stop() -> None:
        store.close()

    table = routes(Buckets(files, store), Objects(files), uploads, context.faults)
    return Api(rpcs=[], handlers=[], routes=table, start=uploads.start, stop=stop)


if __name__ == "__main__":
    main("storage", build)
