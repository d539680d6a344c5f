"""Every path of the JSON API that is answered; what raises becomes an error in the API's form."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from laptop.errors import ServiceError
from laptop.faults import FaultInjector
from laptop.storage.buckets import Buckets
from laptop.storage.errors import HttpError
from laptop.storage.objects import Objects
from laptop.storage.uploads import Uploads

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(buckets: Buckets, objects: Objects, uploads: Uploads, faults: FaultInjector) -> list[web.RouteDef]:
    """The routes.

    Args:
        buckets: handlers.
        objects: handlers.
        uploads: handlers.
        faults: consulted as ``storage.objects.insert`` and the like.
    """
    api = "/storage/v1/b"
    any_name = r"[\s\S]+"  # a line break too, to be refused by name
    bucket, one = api + "/{bucket}", api + "/{bucket}/o/{name:" + any_name + "}"
    target = "/b/{to}/o/{target:" + any_name + "}"
    upload = "/upload" + bucket + "/o"
    table: list[tuple[str, str, str, Handler]] = [
        ("GET", api, "storage.buckets.list", buckets.list),
        ("POST", api, "storage.buckets.insert", buckets.insert),
        ("GET", bucket, "storage.buckets.get", buckets.get),
        ("PATCH", bucket, "storage.buckets.patch", buckets.patch),
        ("PUT", bucket, "storage.buckets.update", buckets.patch),
        ("DELETE", bucket, "storage.buckets.delete", buckets.delete),
        ("GET", bucket + "/iam", "storage.buckets.getIamPolicy", buckets.get_policy),
        ("PUT", bucket + "/iam", "storage.buckets.setIamPolicy", buckets.set_policy),
        ("GET", bucket + "/storageLayout", "storage.buckets.getStorageLayout", buckets.layout),
        ("GET", bucket + "/o", "storage.objects.list", objects.list),
        ("GET", one, "storage.objects.get", objects.get),
        ("PATCH", one, "storage.objects.patch", objects.patch),
        ("PUT", one, "storage.objects.update", objects.patch),
        ("DELETE", one, "storage.objects.delete", objects.delete),
        ("POST", one + "/rewriteTo" + target, "storage.objects.rewrite", objects.rewrite),
        ("POST", one + "/copyTo" + target, "storage.objects.copy", objects.copy),
        ("POST", one + "/compose", "storage.objects.compose", objects.compose),
        ("GET", "/download" + one, "storage.objects.get", objects.download),
    ]
    # The discovery document has the second path for resumable uploads, and gcloud takes it from there.
    for path in (upload, "/resumable" + upload):
        table += [
            ("POST", path, "storage.objects.insert", uploads.insert),
            ("PUT", path, "storage.objects.insert", uploads.resume),
            ("DELETE", path, "storage.objects.insert", uploads.cancel),
        ]
    return [web.route(method, path, _guarded(rpc, handler, faults)) for method, path, rpc, handler in table]


def _guarded(rpc: str, handler: Handler, faults: FaultInjector) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            await faults.check(rpc)
            response = await handler(request)
            await faults.check(rpc, "after")
            return response
        except HttpError as error:
            return web.json_response(error.body, status=error.status, headers=error.headers)
        except ServiceError as error:
            return web.json_response(error.body(), status=error.http_status)

    return answer
