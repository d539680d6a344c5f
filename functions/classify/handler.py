"""Answers HTTP callers, and Pub/Sub for a pushed record."""

import asyncio
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from pydantic import Field, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from functions.runtime.body import Bodies, BodyTooLargeError, DecompressionError, unsupported_encoding
from functions.runtime.datastore import entity, values
from functions.runtime.errors import OverloadedError, RetryLaterError
from functions.runtime.instruments import ANSWERS
from functions.runtime.log import bind, log, note
from functions.runtime.paths import HEALTH
from functions.runtime.push import read_record, receive
from functions.runtime.request_limits import MAX_BODY_BYTES, MAX_RECORDS
from functions.runtime.responses import field_errors, internal_error, json_response, problem, unavailable
from schemas import Classification, Envelope, UseCase
from schemas.finite import finite
from schemas.record import MAX_RECORD_BYTES
from schemas.shapes import unindexed
from telemetry.counters import Attributes

from . import arrays, lines
from .answer import Answer, answer, answers
from .canary import answer_each, answer_one
from .model import NoProbabilityError
from .reasons import MAX_EXPLAINED_RECORDS, NoReasonsError, Reasons
from .serving import NoModelError, Serving

if TYPE_CHECKING:
    from functions.runtime.dead_letters import DeadLetters
    from functions.runtime.group_commit import GroupCommit
    from functions.runtime.publisher import Publisher

    from .shadow import Shadows

MAX_BODIES_BYTES = 48_000_000
"""Limit, in bytes, for all request bodies in progress in one instance. A parsed body takes several times its size in
memory."""
KIND = "Classification"
"""The Datastore kind of the stored answers."""
UNINDEXED = frozenset(unindexed(Classification))

CLASSIFY = "/v1/classify"
ROUTES = {CLASSIFY: "POST", "/v1/model": "GET", HEALTH: "GET", "/openapi.json": "GET"}


class ClassifyHttp:
    """``POST /v1/classify`` and the routes that describe it (:data:`ROUTES`). Stores nothing."""

    def __init__(self, case: UseCase, serving: Serving, reasons: Reasons) -> None:
        self._case = case
        self._serving = serving
        self._reasons = reasons
        self._bodies = Bodies(MAX_BODY_BYTES, MAX_BODIES_BYTES, unknown_length=0)
        many: Any = Annotated[list[case.record], Field(max_length=MAX_RECORDS)]  # type: ignore[name-defined]
        self._one: Any = case.read_record
        self._many: Any = finite(TypeAdapter(many).validator.validate_json)

    async def handle(self, request: Request) -> Response:
        """Answer one request. Never raises."""
        # This stays one function: each further coroutine costs as much as serializing the answer.
        scope, bodies, size = request.scope, self._bodies, 0
        bind(scope["headers"])
        if scope["path"] != CLASSIFY or scope["method"] != "POST":
            return await self._describe(request)
        try:
            size = bodies.reserve(scope["headers"])
            message = await request.receive()
            body = bodies.complete(message)
            if body is None:
                body, size = await bodies.read_rest(message, request.receive, size)
            is_ndjson_body = b"\n" in body and lines.is_ndjson(request)
            many = is_ndjson_body or body[:1] == b"[" or body.lstrip()[:1] == b"["
            records: Any
            try:
                if not many:
                    records = self._one(body)
                elif is_ndjson_body:
                    records = lines.read(self._one, body, MAX_RECORDS)
                else:
                    records = self._many(body)
                    if len(body) > MAX_RECORD_BYTES:
                        arrays.check_sizes(body)
            except ValidationError as error:
                return _refusal(error, scope["headers"])
            served = self._serving.current_if_fresh() or await self._serving.get()
            given: Any
            if served.canary is not None:
                given = (answer_each if many else answer_one)(self._case, served, served.canary, records)
                for one in given if many else [given]:
                    ANSWERS.count(_attributes(one["model_version"]))
            elif many:
                given = answers(self._case, served, records)
                ANSWERS.count(_attributes(served.model_version), len(records))
            else:
                given = answer(self._case, served, records)
                ANSWERS.count(_attributes(served.model_version))
            if scope["query_string"] and request.query_params.get("reasons") == "true":
                if many and len(records) > MAX_EXPLAINED_RECORDS:
                    return problem(422, f"reasons are given for at most {MAX_EXPLAINED_RECORDS} records at a time")
                await self._reasons.add(served, records if many else [records], given if many else [given])
            return lines.write(given) if is_ndjson_body else json_response(orjson.dumps(given))
        except Exception as error:
            return _failed(error)
        finally:
            bodies.release(size)

    async def _describe(self, request: Request) -> Response:
        path, method = request.scope["path"], request.scope["method"]
        try:
            if method in ("GET", "HEAD"):
                if path == "/v1/model":
                    return await self._model()
                if path == HEALTH:
                    return self._health()
                if path == "/openapi.json":
                    return self._openapi()
        except Exception as error:
            return _failed(error)
        if path in ROUTES:
            return problem(405, f"{path} takes {ROUTES[path]}", headers={"Allow": ROUTES[path]})
        known = ", ".join(f"{verb} {name}" for name, verb in ROUTES.items())
        return problem(404, f"there is no {path}; there are: {known}")

    async def _model(self) -> Response:
        if self._serving.current_if_fresh() is None:
            await self._serving.get()
        return json_response(orjson.dumps(self._serving.report()))

    def _health(self) -> Response:
        self._serving.start_refresh_if_due()
        report = self._serving.report()
        shown = {name: report[name] for name in ("model_version", "generation", "stale")}
        return json_response(orjson.dumps({"status": "ok", **shown}))

    def _openapi(self) -> Response:
        from .openapi import document  # imported here, because only this route needs it

        return json_response(orjson.dumps(document(self._case)))


def _failed(error: Exception) -> Response:
    if isinstance(error, lines.InvalidLinesError):
        return problem(error.status, str(error), errors=error.errors)
    if isinstance(error, BodyTooLargeError):
        return problem(413, f"{error}. Send fewer records at a time")
    if isinstance(error, DecompressionError):
        return problem(400, str(error))
    if isinstance(error, NoModelError | OverloadedError):
        return unavailable(str(error))
    if isinstance(error, NoProbabilityError):
        _log_no_probability(error)
        return unavailable(str(error))
    if isinstance(error, NoReasonsError):
        return problem(409, f"the answer cannot be explained: {error}")
    if isinstance(error, ClientDisconnect):
        return problem(400, "the caller went away before its body was complete")
    return internal_error(error)


def _log_no_probability(error: NoProbabilityError) -> None:
    """Log that the record waits for a model that can answer it (lunation/deploy/stack/alerts.py watches it)."""
    log("ERROR", "the model gave no probability", reason=str(error))


@lru_cache(maxsize=16)
def _attributes(model_version: str) -> Attributes:
    return (("model_version", model_version), ("way", "http"))


def _refusal(error: ValidationError, headers: Iterable[tuple[bytes, bytes]]) -> Response:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        if packed := unsupported_encoding(headers):
            return problem(415, packed, headers={"Accept-Encoding": "gzip"})
        return problem(400, f"the body is not JSON: {faults[0]['msg'].removeprefix('Invalid JSON: ')}")
    if faults[0]["type"] == "too_long" and not faults[0]["loc"]:
        return problem(413, f"the list has more than {MAX_RECORDS} records. Send fewer at a time")
    return problem(
        422,
        f"{len(faults)} fields do not fit, so nothing was classified; errors names the first of them",
        errors=field_errors(error),
    )


class ClassifyPush:
    """Classifies a pushed record, stores the answer if it is the first, and publishes the stored answer."""

    def __init__(
        self,
        *,
        case: UseCase,
        project: str,
        serving: Serving,
        commits: "GroupCommit",
        classifications: "Publisher",
        shadows: "Shadows",
        dead_letters: "DeadLetters",
    ) -> None:
        self._case = case
        self._project = project
        self._serving = serving
        self._commits = commits
        self._classifications = classifications
        self._shadows = shadows
        self._dead_letters = dead_letters

    async def push(self, request: Request) -> Response:
        """Answer one push request: 204 once the answer is stored and published, or the dead letter is published."""
        return await receive(request, self._classify, self._dead_letters)

    async def _classify(self, envelope: Envelope) -> None:
        record = read_record(envelope, self._case.read_record)
        try:
            served = self._serving.current_if_fresh() or await self._serving.get()
        except NoModelError as error:
            raise RetryLaterError(str(error)) from None
        canary, shadow = served.canary, served.shadow
        try:
            ours = answer_one(self._case, served, canary, record) if canary else answer(self._case, served, record)
        except NoProbabilityError as error:
            _log_no_probability(error)
            raise RetryLaterError(str(error)) from None
        there_before = await self._commits.insert(entity(self._project, KIND, record.record_id, ours, UNINDEXED))
        # The first answer is the served one; a redelivered message publishes it again.
        stored = ours if there_before is None else _stored(there_before)
        note(model_version=stored["model_version"])
        ANSWERS.add(model_version=stored["model_version"], label=stored["label"], way="push")
        published = self._classifications.publish(orjson.dumps(stored), {"record_id": record.record_id})
        if shadow is None:
            await published
        else:
            await asyncio.gather(published, self._shadows.compare(shadow, record, stored))


def _stored(found: Any) -> Answer:
    return Classification.model_validate(values(found)).model_dump()
