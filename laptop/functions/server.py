"""Wires the server together."""

from aiohttp import web
from google.cloud.functions_v2 import FunctionServiceClient
from google.cloud.iam_credentials_v1 import IAMCredentialsClient
from google.cloud.run_v2 import ServicesClient

from laptop import operations, policies
from laptop.functions import first_generation, registry, uploads
from laptop.functions.api import Functions
from laptop.functions.deployments import Deployments
from laptop.functions.tokens import Tokens
from laptop.identity import Identity
from laptop.service import Api, Context, surfaces
from laptop.store import Store

SCHEMA = "\n".join((registry.SCHEMA, operations.SCHEMA, policies.SCHEMA, uploads.SCHEMA))


def build(context: Context) -> Api:
    """Cloud Functions, 2nd generation."""
    folder = context.folder("functions")
    store = Store(folder / "functions.sqlite", SCHEMA)
    kept = registry.Registry(store)
    longrunning = operations.Operations(store)
    iam = policies.Policies(store, kept.read)
    sources = uploads.Uploads(context, folder / "uploads", store)
    identity = Identity(context.state)
    deployments = Deployments(context, folder / "sources", kept, iam, sources, identity)
    functions = Functions(kept, deployments, longrunning, sources, iam)

    async def start() -> None:
        await deployments.restore()
        await functions.resume()

    async def stop() -> None:
        deployments.leave()
        await longrunning.stop()
        await deployments.close()
        store.close()

    async def describe(_: web.Request) -> web.Response:
        return web.json_response(deployments.describe())

    return Api(
        surfaces(FunctionServiceClient, ServicesClient, IAMCredentialsClient),
        [functions, iam, longrunning, Tokens(identity)],
        routes=[*sources.routes(), *first_generation.routes(), web.get("/_laptop/functions", describe)],
        start=start,
        stop=stop,
    )
