"""``classify`` over HTTP: answers, errors and limits."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from functions.classify.handler import ClassifyHttp
from functions.classify.model import load_model
from functions.classify.reasons import Reasons
from functions.classify.serving import Serving
from functions.openapi import documents
from functions.runtime.request_limits import MAX_BODY_BYTES
from lunation.deploy.stack.alerts import NO_PROBABILITY
from schemas import Classification, ModelPointer, use_case
from schemas.record import MAX_RECORD_BYTES
from tests.functions.doubles import models

CASE = use_case("flights")
WEIGHTS = {"temp": 0.01}
"""The probability is the temperature in percent."""


class Pointer:
    """A pointer that stands still."""

    def __init__(self, pointer: ModelPointer | None) -> None:
        self.pointer = pointer

    async def now(self) -> ModelPointer | None:
        return self.pointer

    async def at(self, generation: int) -> ModelPointer | None:
        return None


def ask(
    talk: Callable[[httpx.AsyncClient], Awaitable[None]],
    promoted: bool = True,
    files: dict[str, bytes] | None = None,
) -> None:
    """Runs ``talk`` with a client of a function with (or without) a model."""
    golden = [{"features": models.FEATURES, "probability": 0.39}]
    files = files or models.folder(CASE, bias=0.0, weights=WEIGHTS, golden=golden)
    pointer = Pointer(models.pointer(files, 7) if promoted else None)
    serving = Serving(
        pointer, lambda p, stop: load_model(CASE, p.model_version, p.manifest_sha256, files.__getitem__, stop)
    )
    handler = ClassifyHttp(CASE, serving, Reasons(lambda _: files.__getitem__))
    verbs = ["GET", "POST", "PUT", "DELETE", "HEAD"]
    app = Starlette(routes=[Route("/{path:path}", handler.handle, methods=verbs)])

    async def main() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://function") as client:
            await talk(client)

    asyncio.run(main())


@pytest.mark.parametrize("headers", [{"content-length": str(MAX_BODY_BYTES)}, {}])
def test_bodies_under_way_do_not_outgrow_the_memory(headers):
    """With large bodies under way another large one is told to come again; a small one is answered. A body that does
    not say its length takes room as it comes in, and all room is given back, whatever became of the body."""

    async def talk(client: httpx.AsyncClient) -> None:
        gate, being_read = asyncio.Event(), asyncio.Semaphore(0)
        small = json.dumps(models.record("r1")).encode()

        async def large(end: bytes = b"[" + small + b"]") -> Any:
            yield b" " * (MAX_BODY_BYTES - 1000)
            being_read.release()
            await gate.wait()
            yield end

        async def classify(content: Any, headers: Any) -> int:
            return (await client.post("/v1/classify", content=content, headers=headers)).status_code

        held = [asyncio.create_task(classify(large(), headers)) for _ in range(4)]
        for _ in held:
            await being_read.acquire()
        answer = await asyncio.wait_for(client.post("/v1/classify", content=large(), headers=headers), 10)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert await classify(small, None) == 200
        gate.set()
        assert await asyncio.gather(*held) == [200] * 4
        assert [await classify(large(b" " * 1001), headers) for _ in range(5)] == [413] * 5
        assert [await classify(large(b"[no json"), headers) for _ in range(5)] == [400] * 5
        assert await asyncio.gather(*(classify(large(), headers) for _ in range(4))) == [200] * 4

    ask(talk)


def test_one_record_gets_one_classification():
    """The answer has every field of the schema, and its probability and model are the model's."""

    async def talk(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/classify", json=models.record("r1", temp=70.0))
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert set(answer.json()) == set(Classification.model_fields)
        given = Classification.model_validate_json(answer.content)
        assert (given.record_id, given.label, given.generation) == ("r1", "late", 7)
        assert given.probability == pytest.approx(0.7)
        assert given.model_version == "2013-03-01/20130301-000000-aaaaaaaa"
        assert given.stale is False

    ask(talk)


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_a_list_gets_a_list_in_its_order(count):
    """Each record's answer is the one it gets alone; an empty list is a list."""

    async def talk(client: httpx.AsyncClient) -> None:
        records = [models.record(f"r{i}", temp=float(i % 100)) for i in range(count)]
        answer = await client.post("/v1/classify", content=b" \n" + json.dumps(records).encode())
        assert answer.status_code == 200
        given = answer.json()
        assert [item["record_id"] for item in given] == [item["record_id"] for item in records]
        assert [item["probability"] for item in given] == pytest.approx([i % 100 / 100 for i in range(count)])
        assert [item["label"] for item in given] == ["late" if i % 100 >= 50 else "on_time" for i in range(count)]

    ask(talk)


LINES = {"content-type": "application/x-ndjson; charset=utf-8"}


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"])
@pytest.mark.parametrize("count", [1, 2, 1000])
def test_lines_get_lines_in_their_order(count, end):
    """Newline-delimited JSON in and out: each record's answer is the one it gets alone."""

    async def talk(client: httpx.AsyncClient) -> None:
        records = [models.record(f"r{i}", temp=float(i % 100)) for i in range(count)]
        content = b"".join(json.dumps(one).encode() + end for one in records)
        answer = await client.post("/v1/classify", content=content, headers=LINES)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert answer.content.endswith(b"\n")
        given = [json.loads(line) for line in answer.content.splitlines()]
        assert [item["record_id"] for item in given] == [item["record_id"] for item in records]
        assert [item["probability"] for item in given] == pytest.approx([i % 100 / 100 for i in range(count)])

    ask(talk)


@pytest.mark.parametrize(
    ("content", "status", "pointer", "words"),
    [
        (b"\n", 200, None, ""),
        (b"{}\n{}\n", 422, "#/0/record_id", "nothing was classified"),
        (b"[]\n", 422, "#/0", ""),
        (b"not json\n", 400, None, "record 0 is not JSON"),
        (b"1\n" * 1001, 413, None, "more than 1000 lines"),
    ],
)
def test_lines_that_do_not_fit_are_told_the_record_and_the_field(content, status, pointer, words):
    """All or nothing, as with a list; a record must stand on one line, and a line hold one record."""

    async def talk(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/classify", content=content, headers=LINES)
        assert answer.status_code == status
        if status != 200:
            assert words in answer.json()["detail"]
        if pointer is not None:
            assert answer.json()["errors"][0]["pointer"] == pointer
        two = [models.record("a"), models.record("b")]
        spread = json.dumps(two[0], indent=1).encode() + b"\n" + json.dumps(two[1]).encode()
        answer = await client.post("/v1/classify", content=spread, headers=LINES)
        assert (answer.status_code, answer.json()["detail"][:20]) == (400, "record 0 is not JSON")
        crowded = b"".join(json.dumps(one).encode() for one in two) + b"\n"
        assert (await client.post("/v1/classify", content=crowded, headers=LINES)).status_code == 400
        answer = await client.post("/v1/classify", content=json.dumps(two[0], indent=1).encode())
        assert answer.status_code == 200

    ask(talk)


def test_unknown_fields_and_unknown_categories_are_answered():
    """A newer publisher and a new airport break nothing."""

    async def talk(client: httpx.AsyncClient) -> None:
        record = models.record("r1", dest="ZZZ", colour="blue") | {"note": {"deep": [1, None]}}
        answer = await client.post("/v1/classify", json=record)
        assert answer.status_code == 200

    ask(talk)


def body(**features: Any) -> bytes:
    return json.dumps(models.record("r1", **features)).encode()


@pytest.mark.parametrize(
    ("content", "status", "pointer"),
    [
        (b"", 400, None),
        (b"not json", 400, None),
        (b"\xff\xfe", 400, None),
        (b"[" * 100_000, 400, None),
        (b'{"record_id": "a"', 400, None),
        (body() + body(), 400, None),
        (b"null", 422, "#"),
        (b'"text"', 422, "#"),
        (b"[null]", 422, "#/0"),
        (b"{}", 422, "#/record_id"),
        (b"[" + body() + b"," + body(distance=-1) + b"]", 422, "#/1/features/distance"),
        (body(distance="far"), 422, "#/features/distance"),
        (body(distance=[1]), 422, "#/features/distance"),
        (body(temp=float("nan")), 422, "#/features/temp"),
        (body(temp=float("-inf")), 422, "#/features/temp"),
        (body(humid=1e400), 422, "#/features/humid"),
        (body(carrier=5), 422, "#/features/carrier"),
        (body(carrier="x" * 1000), 422, "#/features/carrier"),
        (json.dumps(models.record("a b")).encode(), 422, "#/record_id"),
        (json.dumps(models.record("")).encode(), 422, "#/record_id"),
        (json.dumps(models.record() | {"event_time": "2013-02-30T00:00:00Z"}).encode(), 422, "#/event_time"),
        (json.dumps(models.record() | {"event_time": "2013-02-03T00:00:00"}).encode(), 422, "#/event_time"),
        (json.dumps(models.record() | {"features": None}).encode(), 422, "#/features"),
    ],
)
def test_a_bad_body_is_told_the_field_at_fault(content, status, pointer):
    """Problem JSON, a JSON pointer to the field, no server error; the next caller is answered as ever."""

    async def talk(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/classify", content=content)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == status
        assert problem["detail"]
        if pointer is not None:
            assert problem["errors"][0]["pointer"] == pointer
        after = await client.post("/v1/classify", content=body())
        assert after.status_code == 200

    ask(talk)


def test_the_limits_of_size_and_count():
    """413 for more than 10 MB, with or without a length in the header, for more than 1,000 records, and for what would
    take a hundred times as much of the memory as it has bytes."""

    async def talk(client: httpx.AsyncClient) -> None:
        for content in (b" " * (MAX_BODY_BYTES + 1), chunks()):
            answer = await client.post("/v1/classify", content=content)
            assert answer.status_code == 413
            assert "10000000" in answer.json()["detail"]
        for content in (b"[" + b"{}," * 3_000_000 + b"{}]", body()[:-1] + b', "x": [' + b"1," * 500_000 + b"1]}"):
            answer = await client.post("/v1/classify", content=content)
            assert answer.status_code == 413
            assert "more than 250000 values" in answer.json()["detail"]
        records = [models.record(f"r{i}") for i in range(1001)]
        answer = await client.post("/v1/classify", json=records)
        assert answer.status_code == 413
        assert "more than 1000 records" in answer.json()["detail"]
        answer = await client.post("/v1/classify", content=whole())
        assert answer.status_code == 200

    async def chunks() -> Any:
        for _ in range(11):
            yield b" " * 1_000_000

    async def whole() -> Any:
        yield body()

    ask(talk)


def test_a_member_of_an_array_is_no_larger_than_a_record():
    """Its own bytes are measured, and it is told which one is too large; nothing is classified then."""

    def padded(name: str, size: int) -> str:
        text = json.dumps(models.record(name) | {"note": ""})
        return text.replace('"note": ""', '"note": "' + "x" * (size - len(text)) + '"')

    async def talk(client: httpx.AsyncClient) -> None:
        for size, status in ((MAX_RECORD_BYTES, 200), (MAX_RECORD_BYTES + 1, 422)):
            body = f"[{padded('r0', 500)},\n {padded('r1', size)} , {padded('r2', 500)}]"
            answer = await client.post("/v1/classify", content=body)
            assert answer.status_code == status
            if status == 422:
                (fault,) = answer.json()["errors"]
                assert fault["pointer"] == "#/1"
                assert f"the record has {size} bytes; the limit is {MAX_RECORD_BYTES}" in fault["detail"]

    ask(talk)


def test_before_the_first_model_the_answer_is_503_with_the_reason():
    """Retry-After tells when to come again; the process is healthy nevertheless."""

    async def talk(client: httpx.AsyncClient) -> None:
        for method, path in (("POST", "/v1/classify"), ("GET", "/v1/model")):
            answer = await client.request(method, path, content=body())
            assert answer.status_code == 503
            assert answer.json()["detail"] == "no model has been promoted yet"
            assert answer.headers["retry-after"] == "1"
        health = await client.get("/v1/health")
        assert health.status_code == 200
        assert health.json() == {"status": "ok", "model_version": None, "generation": None, "stale": False}

    ask(talk, promoted=False)


def test_the_model_tells_about_itself():
    """Version, generation, age, staleness and what was loaded when."""

    async def talk(client: httpx.AsyncClient) -> None:
        report = (await client.get("/v1/model")).json()
        assert report["model_version"] == "2013-03-01/20130301-000000-aaaaaaaa"
        assert (report["generation"], report["stale"], report["trouble"]) == (7, False, None)
        assert report["pointer_age_seconds"] < 5
        assert [entry["outcome"] for entry in report["history"]] == ["serving"]
        assert (await client.get("/v1/health")).json()["generation"] == 7

    ask(talk)


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/", 404, "POST /v1/classify, GET /v1/model, GET /v1/health, GET /openapi.json"),
        ("POST", "/v1/classify/", 404, "there is no /v1/classify/"),
        ("GET", "/v1/classify", 405, "/v1/classify takes POST"),
        ("DELETE", "/v1/model", 405, "/v1/model takes GET"),
    ],
)
def test_other_paths_and_methods_are_told_what_there_is(method, path, status, words):
    """404 lists the paths, 405 names the method."""

    async def talk(client: httpx.AsyncClient) -> None:
        answer = await client.request(method, path)
        assert answer.status_code == status
        assert words in answer.json()["detail"]

    ask(talk)


def test_the_document_of_the_api_is_served():
    """The one that lies in docs/openapi, also before the first model."""

    async def talk(client: httpx.AsyncClient) -> None:
        answer = await client.get("/openapi.json")
        assert answer.status_code == 200
        assert answer.json() == json.loads(documents("flights")["classify.json"])

    ask(talk, promoted=False)


@pytest.mark.parametrize("many", [False, True])
def test_a_model_that_gives_no_probability_is_unavailable_for_that_record(many, capsys):
    """503 with the reason: a rollback mends it, so the caller may come again. The log has a line that an alert waits
    for. Other records are answered."""
    place = list(CASE.features.model_fields).index("temp")
    graph = models.odd_graph(len(CASE.features.model_fields), place, 100.0, float("nan"))

    async def talk(client: httpx.AsyncClient) -> None:
        hot, cool = models.record("r1", temp=101.0), models.record("r2", temp=99.0)
        answer = await client.post("/v1/classify", json=[cool, hot] if many else hot)
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["detail"].endswith("answered nan, which is no probability")
        assert (await client.post("/v1/classify", json=cool)).json()["probability"] == 0.25

    ask(talk, files=models.folder(CASE, model=graph))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (told,) = [line for line in lines if line["message"] == NO_PROBABILITY]
    assert told["severity"] == "ERROR"
