"""Cloud Functions ``classify_http`` and ``classify_push``: connects settings and clients to two entry points."""

import os
from functools import cache

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from functions.runtime.channel import open_channel
from functions.runtime.garbage_collection import freeze_gc
from functions.runtime.instruments import start_telemetry
from functions.runtime.worker_timeout import disable_worker_timeout
from schemas import NamedModel, use_case

from .folder import Folders
from .handler import ClassifyHttp, ClassifyPush
from .model import Model, Stop, load_model
from .pointer import Pointers
from .reasons import Reasons
from .serving import Serving
from .settings import Settings

SETTINGS = Settings.read(os.environ)
start_telemetry("classify", SETTINGS)
disable_worker_timeout(os.environ)

# The first request builds whatever needs an event loop: gRPC channels belong to the loop of the worker process.


@cache
def _folders() -> Folders:
    return Folders(SETTINGS.project, SETTINGS.models_bucket)


@cache
def _serving() -> Serving:
    case = use_case(SETTINGS.use_case)

    def load(named: NamedModel, stop: Stop) -> Model:
        model = load_model(case, named.model_version, named.manifest_sha256, _folders().reader(named), stop)
        freeze_gc()
        return model

    channel = open_channel(SETTINGS.datastore_endpoint)
    return Serving(Pointers(channel, SETTINGS.project, case.name), load)


@cache
def _http() -> ClassifyHttp:
    return ClassifyHttp(use_case(SETTINGS.use_case), _serving(), Reasons(_folders().reader))


@cache
def _push() -> ClassifyPush:
    # Imported here: the HTTP entry point starts without them.
    from functions.runtime.dead_letters import DeadLetters
    from functions.runtime.group_commit import GroupCommit
    from functions.runtime.publisher import Publisher

    from .shadow import Shadows

    case = use_case(SETTINGS.use_case)
    pubsub = open_channel(SETTINGS.pubsub_endpoint)
    return ClassifyPush(
        case=case,
        project=SETTINGS.project,
        serving=_serving(),
        commits=GroupCommit(open_channel(SETTINGS.datastore_endpoint), SETTINGS.project),
        classifications=Publisher(pubsub, SETTINGS.project, SETTINGS.classifications_topic),
        shadows=Shadows(case, Publisher(pubsub, SETTINGS.project, SETTINGS.comparisons_topic)),
        dead_letters=DeadLetters(
            Publisher(pubsub, SETTINGS.project, SETTINGS.dead_letter_topic), "classify", SETTINGS.records_topic
        ),
    )


@functions_framework.aio.http
async def classify_http(request: Request) -> Response:
    """Classifies the records in an HTTP request."""
    return await _http().handle(request)


@functions_framework.aio.http
async def classify_push(request: Request) -> Response:
    """Classifies pushed records, and stores and publishes the answers."""
    return await _push().push(request)
