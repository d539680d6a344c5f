"""Cloud Function ``submit``: connects the settings and the clients to the handler."""

import os
from functools import cache

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from functions.runtime.channel import open_channel
from functions.runtime.datastore import Lookup
from functions.runtime.instruments import start_telemetry
from functions.runtime.publisher import Publisher
from functions.runtime.worker_timeout import disable_worker_timeout
from schemas import use_case

from .handler import Submit
from .settings import Settings
from .waiting import Waiting

SETTINGS = Settings.read(os.environ)
start_telemetry("submit", SETTINGS)
disable_worker_timeout(os.environ)


@cache
def _function() -> Submit:
    """Build the function on the first request: gRPC channels belong to the event loop of the worker process."""
    lookup = Lookup(open_channel(SETTINGS.datastore_endpoint), SETTINGS.project)
    return Submit(
        case=use_case(SETTINGS.use_case),
        records=Publisher(open_channel(SETTINGS.pubsub_endpoint), SETTINGS.project, SETTINGS.records_topic),
        lookup=lookup,
        waiting=Waiting(lookup, SETTINGS.project),
    )


@functions_framework.aio.http
async def submit(request: Request) -> Response:
    """Publishes callers' records, and returns stored records and classifications."""
    return await _function().handle(request)
