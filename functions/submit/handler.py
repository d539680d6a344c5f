"""Publishes records for callers, and returns the stored records and classifications.

A record is accepted only once Pub/Sub has confirmed it. Its id is the idempotency key: sending a record again is always
safe, and is the way to proceed after any response other than 200 or 202.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from functions.runtime.body import Bodies, BodyTooLargeError, DecompressionError, unsupported_encoding
from functions.runtime.errors import OverloadedError
from functions.runtime.instruments import SUBMITTED
from functions.runtime.log import bind
from functions.runtime.paths import HEALTH
from functions.runtime.publisher import MessageRefusedError, Publisher
from functions.runtime.request_limits import MAX_BODY_BYTES
from functions.runtime.responses import NDJSON, internal_error, json_response, problem, unavailable
from functions.runtime.rpc import RpcError
from schemas import Classification, RecordId, UseCase

from .batch import (
    AcceptedRecord,
    RefusedDocument,
    TooManyRecordsError,
    UnreadableBodyError,
    read_lines,
    read_list,
    read_one,
)
from .waiting import MAX_WAIT_SECONDS, MAX_WAITED_FOR, Waiting

if TYPE_CHECKING:
    from functions.runtime.datastore import Lookup

MAX_BODIES_BYTES = 24_000_000
"""Limit, in bytes, for all request bodies in progress in one instance. A parsed body takes several times its size in
memory."""
RECORDS, CLASSIFICATIONS = "/v1/records", "/v1/classifications"
ROUTES_HELP = (
    f"POST {RECORDS}, GET {RECORDS}?record_id=, GET {CLASSIFICATIONS}?record_id=, GET {RECORDS}/{{id}}, "
    f"GET {CLASSIFICATIONS}/{{id}}, GET {HEALTH}, GET /openapi.json"
)

_RECORD_ID: Any = TypeAdapter(RecordId)
Result = dict[str, Any]
"""The outcome for one record: its id, a status, and the members that this status has."""


class Submit:
    """The function ``submit``, with its clients."""

    def __init__(self, case: UseCase, records: Publisher, lookup: "Lookup", waiting: Waiting) -> None:
        self._case = case
        self._read_document = case.read_record
        self._records = records
        self._lookup = lookup
        self._waiting = waiting
        self._bodies = Bodies(MAX_BODY_BYTES, MAX_BODIES_BYTES, unknown_length=MAX_BODY_BYTES)

    async def handle(self, request: Request) -> Response:
        """Answer one request. Never raises."""
        bind(request.scope["headers"])
        try:
            return await self._route(request)
        except ClientDisconnect:
            return problem(400, "the caller went away before its body was complete")
        except OverloadedError as error:
            return unavailable(str(error))
        except RpcError as error:
            return unavailable(f"Datastore cannot be read: {error}")
        except Exception as error:
            return internal_error(error)

    async def _route(self, request: Request) -> Response:
        path, method = request.scope["path"], request.scope["method"]
        folder, _, record_id = path.rpartition("/")
        reads = {RECORDS: self._read_record, CLASSIFICATIONS: self._read_classification}
        allowed = "GET"
        if path in reads:
            if method in ("GET", "HEAD"):
                # An id may end in z, or be two dots: a path that ends so may not reach the function.
                return await self._read(reads[path], request.query_params.get("record_id", ""))
            if path == RECORDS:
                if method == "POST":
                    return await self._submit(request)
                allowed = "GET, POST"
        elif folder in reads:
            if method in ("GET", "HEAD"):
                return await self._read(reads[folder], record_id)
        elif path == HEALTH:
            if method in ("GET", "HEAD"):
                return json_response(b'{"status":"ok"}')
        elif path == "/openapi.json":
            if method in ("GET", "HEAD"):
                return self._openapi()
        else:
            return problem(404, f"there is no {path}; there are: {ROUTES_HELP}")
        return problem(405, f"{path} takes {allowed}", headers={"Allow": allowed})

    def _openapi(self) -> Response:
        from .openapi import document  # imported here, because only this route needs it

        return json_response(orjson.dumps(document(self._case)))

    # --- submitting records

    async def _submit(self, request: Request) -> Response:
        try:
            seconds = _wait_seconds(request.query_params.get("wait"))
        except ValueError as error:
            return problem(422, str(error))
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        size = 0
        try:
            size = self._bodies.reserve(request.scope["headers"])
            body, size = await self._bodies.read(request, size)
            if content_type == NDJSON:
                read = read_lines(self._read_document, body)
            elif body.lstrip()[:1] == b"[":
                read = read_list(self._read_document, body)
            else:
                one = read_one(self._read_document, body)
                if isinstance(one, RefusedDocument) and one.status == 400:
                    return _not_json(request, one.detail)
                return await self._submit_one(one, seconds)
            if seconds and len(read) > MAX_WAITED_FOR:
                return problem(422, f"wait is for at most {MAX_WAITED_FOR} records; this request has {len(read)}")
            return _batch_answer(await self._results(read, seconds))
        except (BodyTooLargeError, TooManyRecordsError) as error:
            return problem(413, str(error))
        except (UnreadableBodyError, DecompressionError) as error:
            return _not_json(request, str(error))
        finally:
            self._bodies.release(size)

    async def _submit_one(self, read: AcceptedRecord | RefusedDocument, seconds: float) -> Response:
        if isinstance(read, RefusedDocument):
            return problem(read.status, read.detail, errors=read.errors)
        (result,) = await self._results([read], seconds)
        if result["status"] == "not_published":
            return unavailable(result["detail"])
        if result["status"] == "refused":
            return problem(422, result["detail"])
        answer = json_response(orjson.dumps(result), 200 if result["status"] == "classified" else 202)
        answer.headers["location"] = f"{CLASSIFICATIONS}?record_id={read.record_id}"
        return answer

    async def _results(self, read: Sequence[AcceptedRecord | RefusedDocument], seconds: float) -> list[Result]:
        results = list(await asyncio.gather(*(self._publish(one) for one in read)))
        for result in results:
            SUBMITTED.add(outcome=result["status"])
        accepted = [result["record_id"] for result in results if result["status"] == "accepted"]
        if seconds and accepted:
            found = await self._waiting.classifications(accepted, seconds)
            for result in results:
                if result["status"] == "accepted" and result["record_id"] in found:
                    result |= {"status": "classified", "classification": found[result["record_id"]]}
        return results

    async def _publish(self, read: AcceptedRecord | RefusedDocument) -> Result:
        if isinstance(read, RefusedDocument):
            errors = {"errors": read.errors} if read.errors else {}
            return {"record_id": read.record_id, "status": "refused", "detail": read.detail, **errors}
        try:
            await self._records.publish(read.data, {"record_id": read.record_id})
        except MessageRefusedError as error:
            return {"record_id": read.record_id, "status": "refused", "detail": str(error)}
        except (RpcError, OverloadedError) as error:
            detail = f"Pub/Sub has not confirmed it, so send it again: {error}"
            return {"record_id": read.record_id, "status": "not_published", "detail": detail}
        return {"record_id": read.record_id, "status": "accepted"}

    # --- reading records and classifications

    async def _read(self, read: Any, record_id: str) -> Response:
        try:
            _RECORD_ID.validate_python(record_id)
        except ValidationError:
            return problem(422, "there is no record id: expected 1 to 128 of A-Z a-z 0-9 . _ : -, not first __")
        return await read(record_id)

    async def _read_record(self, record_id: str) -> Response:
        found = await self._lookup.one("Record", record_id)
        if found is None:
            return problem(404, f"there is no record {record_id}: not yet, or no longer. The archive keeps all")
        shown = {
            "record_id": record_id,
            "record": _json_or_text(found["payload"]),
            "stored_at": found["stored_at"],
            "expire_at": found["expire_at"],
        }
        return json_response(orjson.dumps(shown))

    async def _read_classification(self, record_id: str) -> Response:
        found = await self._lookup.one("Classification", record_id)
        if found is None:
            return problem(404, f"there is no classification of {record_id}: not yet, or it was never submitted")
        return json_response(orjson.dumps(Classification.model_validate(found).model_dump()))


def _json_or_text(payload: str) -> Any:
    """Return the stored document. A payload that an earlier release accepted and is not JSON (NaN) becomes a string."""
    try:
        from_json(payload, allow_inf_nan=False)
    except ValueError:
        return payload
    return orjson.Fragment(payload)


def _not_json(request: Request, detail: str) -> Response:
    """Return a 400 response, or 415 if the body's Content-Encoding is unsupported."""
    if packed := unsupported_encoding(request.scope["headers"]):
        return problem(415, packed, headers={"Accept-Encoding": "gzip"})
    return problem(400, detail)


def _wait_seconds(text: str | None) -> float:
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT_SECONDS:
        raise ValueError(f"wait: expected seconds from 0 to {MAX_WAIT_SECONDS:.0f}")
    return seconds


def _batch_answer(results: list[Result]) -> Response:
    """Return 200: all are classified; 202: all are accepted; 207: some are refused; 422: all are refused.

    The status is 503 as soon as one valid record is not published: a caller that checks only the status must not
    conclude that all records are accepted.
    """
    statuses = {result["status"] for result in results}
    members = {"results": results}
    if "not_published" in statuses:
        missing = [result for result in results if result["status"] == "not_published"]
        detail = f"{len(missing)} of {len(results)} records are not published: {missing[0]['detail']}"
        return unavailable(detail, members=members)
    if statuses == {"refused"}:
        return problem(422, "none of the records fits; results says why", members=members)
    return json_response(
        orjson.dumps(members), 207 if "refused" in statuses else 202 if "accepted" in statuses else 200
    )
