"""``submit``: an answer of 202 means that Pub/Sub has the record; everything else says what to do."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import grpc
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from functions.openapi import documents
from functions.runtime.channel import open_channel
from functions.runtime.datastore import Lookup, entity, path
from functions.runtime.publisher import Publisher
from functions.runtime.request_limits import MAX_BODY_BYTES
from functions.submit.handler import Submit
from functions.submit.waiting import Waiting
from schemas import Classification, use_case
from schemas.record import MAX_RECORD_BYTES
from tests.functions.doubles import models
from tests.functions.doubles.google_server import GoogleServer

CASE = use_case("flights")
Code = grpc.StatusCode


def client(google: GoogleServer) -> httpx.AsyncClient:
    """A caller of the function."""
    lookup = Lookup(open_channel(google.endpoint), "local-dev")
    function = Submit(
        case=CASE,
        records=Publisher(open_channel(google.endpoint), "local-dev", "records"),
        lookup=lookup,
        waiting=Waiting(lookup, "local-dev"),
    )
    app = Starlette(routes=[Route("/{path:path}", function.handle, methods=["GET", "POST", "PUT", "HEAD"])])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://function")


def classified(google: GoogleServer, record_id: str) -> Classification:
    """Put the answer to a record there, as ``classify`` would."""
    answer = Classification(
        record_id=record_id, label="late", probability=0.75, model_version="2013-03-01/one", generation=3,
        event_time=datetime(2013, 3, 2, 15, tzinfo=UTC), classified_at=datetime(2013, 3, 2, 15, 0, 1, tzinfo=UTC),
    )  # fmt: skip
    stored = entity("local-dev", "Classification", record_id, answer.model_dump())
    google.entities[path(stored.key)] = stored
    return answer


def mirrored(google: GoogleServer, record_id: str, payload: str) -> None:
    """Put a record there, as ``ingest_fast`` would."""
    at = datetime(2013, 3, 2, tzinfo=UTC)
    values = {"payload": payload, "event_time": at, "stored_at": at, "expire_at": at}
    stored = entity("local-dev", "Record", record_id, values)
    google.entities[path(stored.key)] = stored


def test_a_record_is_published_as_it_was_sent(google, run):
    """202 with its id and where its classification will be; the id is an attribute; not a byte is changed."""

    async def scenario() -> None:
        document = json.dumps(models.record("r1") | {"colour": "blau"}, indent=1).encode()
        answer = await client(google).post("/v1/records", content=document)
        assert answer.status_code == 202
        assert answer.json() == {"record_id": "r1", "status": "accepted"}
        assert answer.headers["location"] == "/v1/classifications?record_id=r1"
        assert google.messages("records") == [(document, {"record_id": "r1"})]

    run(scenario)


def as_list(documents: list[Any]) -> tuple[bytes, dict[str, str]]:
    return json.dumps(documents).encode(), {}


def as_lines(documents: list[Any]) -> tuple[bytes, dict[str, str]]:
    body = b"\n\n".join(json.dumps(document).encode() for document in documents)
    return body + b"\r\n", {"content-type": "application/x-ndjson; charset=utf-8"}


@pytest.mark.parametrize("form", [as_list, as_lines])
def test_a_batch_says_for_each_record_what_became_of_it(google, run, form: Callable[[list[Any]], Any]):
    """207 for a mixed one, in the order of the records: accepted, or the reason with the field at fault."""

    async def scenario() -> None:
        good = [models.record("r1"), models.record("r2", colour="red")]
        bad = [models.record("r3", distance=-1), {"record_id": "a b"}, 5, models.record("r4") | {"event_time": "x"}]
        body, headers = form([good[0], *bad, good[1]])
        answer = await client(google).post("/v1/records", content=body, headers=headers)
        assert answer.status_code == 207
        results = answer.json()["results"]
        assert [one["status"] for one in results] == ["accepted", *["refused"] * 4, "accepted"]
        assert [one["record_id"] for one in results] == ["r1", "r3", None, None, "r4", "r2"]
        assert [one["errors"][0]["pointer"] for one in results[1:5]] == [
            "#/features/distance", "#/record_id", "#", "#/event_time",
        ]  # fmt: skip
        assert [json.loads(data) for data, _ in google.messages("records")] == good
        body, headers = form(good)
        assert (await client(google).post("/v1/records", content=body, headers=headers)).status_code == 202
        body, headers = form(bad)
        answer = await client(google).post("/v1/records", content=body, headers=headers)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.json()["results"]) == 4
        assert len(google.messages("records")) == 4

    run(scenario)


def body(**features: Any) -> bytes:
    return json.dumps(models.record("r1", **features)).encode()


@pytest.mark.parametrize(
    ("content", "status", "pointer"),
    [
        (b"", 400, None),
        (b"not json", 400, None),
        (b"\xff\xfe", 400, None),
        (b"[" * 100_000, 400, None),
        (b"{" * 100_000, 400, None),
        (b"[" + body() + b",", 400, None),
        (b"[" + body(temp=float("nan")) + b"]", 400, None),
        (body() + body(), 400, None),
        (b"null", 422, "#"),
        (b"{}", 422, "#/record_id"),
        (body(distance="far"), 422, "#/features/distance"),
        (body(temp=float("nan")), 422, "#/features/temp"),
        (json.dumps(models.record() | {"event_time": "9999-12-31T23:59:59-12:00"}).encode(), 422, "#/event_time"),
        (json.dumps(models.record("x" * 129)).encode(), 422, "#/record_id"),
        (body() + b" " * MAX_RECORD_BYTES, 413, None),
        (b" " * (MAX_BODY_BYTES + 1), 413, None),
        (b"[" + b",".join([b"1"] * 1001) + b"]", 413, None),
    ],
)
def test_a_bad_body_is_told_the_field_at_fault(google, run, content, status, pointer):
    """Problem JSON, nothing published, and the next caller is served as ever."""

    async def scenario() -> None:
        caller = client(google)
        answer = await caller.post("/v1/records", content=content)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        if pointer is not None:
            assert answer.json()["errors"][0]["pointer"] == pointer
        assert google.messages("records") == []
        assert (await caller.post("/v1/records", content=body())).status_code == 202

    run(scenario)


def test_a_record_of_a_list_that_is_nested_too_deeply_is_refused_alone(google, run):
    """No fault of the service, and no harm to the others."""

    async def scenario() -> None:
        deep = body()[:-1] + b', "x": ' + b"[" * 300 + b"]" * 300 + b"}"
        answer = await client(google).post("/v1/records", content=b"[" + deep + b"," + body() + b"]")
        assert answer.status_code == 207
        assert [one["status"] for one in answer.json()["results"]] == ["refused", "accepted"]
        assert "ecursion limit" in answer.json()["results"][0]["detail"]

    run(scenario)


def test_too_many_lines_are_refused(google, run):
    """The limit of a list holds for lines too."""

    async def scenario() -> None:
        content, headers = as_lines([1] * 1001)
        answer = await client(google).post("/v1/records", content=content, headers=headers)
        assert answer.status_code == 413
        assert "1001 records; the limit is 1000" in answer.json()["detail"]

    run(scenario)


def test_what_pubsub_has_not_confirmed_is_never_accepted(google, run):
    """503 with Retry-After, alone and for a batch of which a part was published: to send it again is right."""

    async def scenario() -> None:
        caller = client(google)
        google.fail("Publish", Code.PERMISSION_DENIED, times=1)
        answer = await caller.post("/v1/records", json=models.record("r1"))
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert "send it again" in answer.json()["detail"]
        assert google.messages("records") == []
        google.fail(
            "Publish",
            Code.PERMISSION_DENIED,
            times=1000,
            when=lambda request: any("r2" in message.attributes.values() for message in request.messages),
        )
        both = [caller.post("/v1/records", json=[models.record(one), {"x": 1}]) for one in ("r1", "r2")]
        fine = await both[0]
        assert fine.status_code == 207
        answer = await both[1]
        assert answer.status_code == 503
        assert [one["status"] for one in answer.json()["results"]] == ["not_published", "refused"]

    run(scenario)


def test_waiting_gives_the_classification_when_it_comes_in_time(google, run):
    """200 with what is stored, at once if it is there; 202 when the time is over; the record is published first."""

    async def scenario() -> None:
        caller = client(google)
        there = classified(google, "r1")
        answer = await caller.post("/v1/records?wait=5", json=models.record("r1"))
        assert answer.status_code == 200
        given = answer.json()
        assert (given["record_id"], given["status"]) == ("r1", "classified")
        assert Classification.model_validate(given["classification"]) == there

        async def later() -> None:
            while len(google.messages("records")) < 2:  # noqa: ASYNC110 - the server of the test is not told
                await asyncio.sleep(0.01)
            classified(google, "r2")

        coming = asyncio.create_task(later())
        answer = await caller.post("/v1/records?wait=5", json=models.record("r2"))
        await coming
        assert answer.status_code == 200
        answer = await caller.post("/v1/records?wait=0.1", json=models.record("r3"))
        assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
        answer = await caller.post("/v1/records?wait=0.5", json=[models.record(one) for one in ("r1", "r2", "r3")])
        assert answer.status_code == 202
        assert [one["status"] for one in answer.json()["results"]] == ["classified", "classified", "accepted"]
        answer = await caller.post("/v1/records?wait=1", json=[models.record(one) for one in ("r1", "r2", "r1")])
        assert answer.status_code == 200

    run(scenario)


def test_those_who_wait_share_their_lookups(google, run):
    """Fifty callers who wait half a second do not ask fifty times as often as one."""

    async def scenario() -> None:
        caller = client(google)
        await asyncio.gather(
            *(caller.post("/v1/records?wait=0.5", json=models.record(f"r{number}")) for number in range(50))
        )
        assert len(google.messages("records")) == 50
        assert len(google.lookups) < 20

    run(scenario)


def test_datastore_away_while_waiting_takes_nothing_back(google, run):
    """The record is published, so the answer is 202."""

    async def scenario() -> None:
        google.fail("Lookup", Code.PERMISSION_DENIED, times=1000)
        answer = await client(google).post("/v1/records?wait=0.2", json=models.record("r1"))
        assert answer.status_code == 202

    run(scenario)


def test_a_classification_that_cannot_be_read_spoils_no_one_elses(google, run, capsys):
    """Its caller gets 202, the one beside it its classification; the log names the record."""

    async def scenario() -> None:
        caller = client(google)
        classified(google, "r1")
        stored = entity("local-dev", "Classification", "r2", {"record_id": "r2", "label": 5})
        google.entities[path(stored.key)] = stored
        answers = await asyncio.gather(
            *(caller.post("/v1/records?wait=0.5", json=models.record(one)) for one in ("r1", "r2"))
        )
        assert [one.status_code for one in answers] == [200, 202]

    run(scenario)
    (line,) = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert (line["severity"], line["record_id"]) == ("ERROR", "r2")


@pytest.mark.parametrize("wait", ["-1", "31", "nan", "inf", "soon", ""])
def test_a_bad_wait_is_refused_before_anything_is_published(google, run, wait):
    """So is waiting for more records than is meant."""

    async def scenario() -> None:
        caller = client(google)
        answer = await caller.post(f"/v1/records?wait={wait}", json=models.record("r1"))
        assert answer.status_code == 422
        assert "seconds from 0 to 30" in answer.json()["detail"]
        answer = await caller.post("/v1/records?wait=1", json=[models.record("r1")] * 101)
        assert answer.status_code == 422
        assert "at most 100 records" in answer.json()["detail"]
        assert google.messages("records") == []

    run(scenario)


def test_the_fast_path_can_be_read(google, run):
    """The record as it was sent with its times, and the classification; 404 says that it may come yet."""

    async def scenario() -> None:
        caller = client(google)
        for path_ in ("/v1/records/r1", "/v1/classifications/r1"):
            answer = await caller.get(path_)
            assert answer.status_code == 404
            assert "not yet" in answer.json()["detail"]
        document = json.dumps(models.record("r1") | {"colour": "blau"})
        mirrored(google, "r1", document)
        answer = await caller.get("/v1/records/r1")
        assert answer.json()["record"] == json.loads(document)
        assert answer.json()["stored_at"] == "2013-03-02T00:00:00+00:00"
        there = classified(google, "r1")
        answer = await caller.get("/v1/classifications/r1")
        assert Classification.model_validate_json(answer.content) == there
        google.fail("Lookup", Code.PERMISSION_DENIED)
        answer = await caller.get("/v1/classifications/r1")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")

    run(scenario)


@pytest.mark.parametrize("record_id", ["r1", "2013-03-02T10:00:00z", "z", ".", "..", "a:b._-"])
def test_every_id_can_be_asked_for(google, run, record_id):
    """Also one that as the end of a path would not come through Cloud Run, or that a client takes for a step in it;
    where the answer will be is told in that form."""

    async def scenario() -> None:
        caller = client(google)
        answer = await caller.post("/v1/records", json=models.record(record_id))
        assert answer.status_code == 202
        there = classified(google, record_id)
        answer = await caller.get(answer.headers["location"])
        assert Classification.model_validate_json(answer.content) == there
        mirrored(google, record_id, "{}")
        assert (await caller.get("/v1/records", params={"record_id": record_id})).json()["record_id"] == record_id

    run(scenario)


@pytest.mark.parametrize(
    ("method", "path_", "status", "words"),
    [
        ("GET", "/", 404, "POST /v1/records"),
        ("PUT", "/v1/records", 405, "takes GET, POST"),
        ("GET", "/v1/records", 422, "no record id"),
        ("GET", "/v1/classifications?record_id=__r1__", 422, "no record id"),
        ("POST", "/v1/classifications", 405, "takes GET"),
        ("POST", "/v1/classifications/r1", 405, "takes GET"),
        ("GET", "/v1/classifications/a%20b", 422, "no record id"),
        ("GET", "/v1/records/..%2F..%2Fx", 404, "there is no"),
        ("GET", "/v1/records/", 422, "no record id"),
        ("GET", "/v1/records/__r1__", 422, "no record id"),
        ("PUT", "/v1/health", 405, "takes GET"),
    ],
)
def test_other_paths_and_methods_are_told_what_there_is(google, run, method, path_, status, words):
    """404 lists the paths, 405 names the method, 422 says what an id is."""

    async def scenario() -> None:
        answer = await client(google).request(method, path_)
        assert answer.status_code == status
        assert words in answer.json()["detail"]
        assert (await client(google).get("/v1/health")).json() == {"status": "ok"}

    run(scenario)


def test_bodies_under_way_do_not_outgrow_the_memory(google, run):
    """With large bodies under way another large one is told to come again; a small one is taken."""

    async def scenario() -> None:
        caller = client(google)
        gate = asyncio.Event()

        async def slow() -> Any:
            yield b"["
            await gate.wait()
            yield body() + b"]"

        # Chunks without a length count as the largest body there may be: two of them fit.
        held = [asyncio.create_task(caller.post("/v1/records", content=slow())) for _ in range(2)]
        while True:
            answer = await caller.post("/v1/records", content=b" " * 9_000_000)
            if answer.status_code == 503:
                break
            await asyncio.sleep(0.01)
        assert "under way already" in answer.json()["detail"]
        assert answer.headers["retry-after"] == "1"
        assert (await caller.post("/v1/records", content=body())).status_code == 202
        gate.set()
        assert [one.status_code for one in await asyncio.gather(*held)] == [202, 202]
        assert (await caller.post("/v1/records", content=b" " * 9_000_000)).status_code == 413

    run(scenario)


def test_the_document_of_the_api_is_served(google, run):
    """The one that lies in docs/openapi."""

    async def scenario() -> None:
        answer = await client(google).get("/openapi.json")
        assert answer.text == json.dumps(json.loads(documents("flights")["submit.json"]), separators=(",", ":"))

    run(scenario)
