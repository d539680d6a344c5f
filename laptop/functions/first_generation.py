"""The first generation's API, as far as to say that there are none of it: ``gcloud functions list`` asks both."""

from aiohttp import web


def routes() -> list[web.RouteDef]:
    """Empty lists."""
    return [
        web.get(r"/v1/{parent:projects/[^/]+}/locations", _none),
        web.get(r"/v1/{parent:projects/[^/]+/locations/[^/]+}/functions", _none),
    ]


async def _none(_: web.Request) -> web.Response:
    return web.json_response({})
