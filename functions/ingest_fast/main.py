"""Cloud Function ``ingest_fast``: connects the settings and the clients to the handler."""

import os
from datetime import timedelta
from functools import cache

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from functions.runtime.channel import open_channel
from functions.runtime.dead_letters import DeadLetters
from functions.runtime.garbage_collection import freeze_gc
from functions.runtime.group_commit import GroupCommit
from functions.runtime.instruments import start_telemetry
from functions.runtime.publisher import Publisher
from functions.runtime.worker_timeout import disable_worker_timeout
from schemas import use_case

from .handler import IngestFast
from .settings import Settings

SETTINGS = Settings.read(os.environ)
start_telemetry("ingest_fast", SETTINGS)
disable_worker_timeout(os.environ)


@cache
def _function() -> IngestFast:
    """Build the function on the first request: gRPC channels belong to the event loop of the worker process."""
    publisher = Publisher(open_channel(SETTINGS.pubsub_endpoint), SETTINGS.project, SETTINGS.dead_letter_topic)
    function = IngestFast(
        read=use_case(SETTINGS.use_case).read_record,
        project=SETTINGS.project,
        keep_for=timedelta(days=SETTINGS.record_ttl_days),
        commits=GroupCommit(open_channel(SETTINGS.datastore_endpoint), SETTINGS.project),
        dead_letters=DeadLetters(publisher, "ingest_fast", SETTINGS.records_topic),
    )
    freeze_gc()
    return function


@functions_framework.aio.http
async def ingest_fast(request: Request) -> Response:
    """Stores pushed records in Datastore."""
    return await _function().push(request)
