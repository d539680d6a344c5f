"""What comes in as the body of a request: packed, large, full of values. The same for both functions of callers."""

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import psutil
import pytest

from functions.runtime.body import MAX_MEMBERS, MAX_VALUES, UNCOUNTED_BYTES
from functions.runtime.request_limits import MAX_BODY_BYTES
from schemas import use_case
from tests.functions import test_classify_http, test_submit
from tests.functions.doubles import models
from tests.functions.doubles.google_server import GoogleServer

CASE = use_case("flights")
Talk = Callable[[Callable[..., Awaitable[httpx.Response]]], Awaitable[None]]
LINES = {"content-type": "application/x-ndjson"}
PACKED = {"content-encoding": "gzip"}


@pytest.fixture(params=["classify", "submit"])
def ask(request: pytest.FixtureRequest, google: GoogleServer, run: Any) -> Callable[[Talk], None]:
    """Runs a talk with a function; it is given what posts a body and waits for the answer."""

    def classify(talk: Talk) -> None:
        async def with_client(client: httpx.AsyncClient) -> None:
            await talk(lambda content, headers=None: client.post("/v1/classify", content=content, headers=headers))

        test_classify_http.ask(with_client)

    def submit(talk: Talk) -> None:
        async def scenario() -> None:
            client = test_submit.client(google)
            await talk(lambda content, headers=None: client.post("/v1/records", content=content, headers=headers))

        run(scenario)

    return {"classify": classify, "submit": submit}[request.param]


def record(number: int = 0, **more: Any) -> bytes:
    """A record that is right."""
    return json.dumps(models.record(f"r{number}") | more).encode()


def in_members(body: bytes, size: int) -> bytes:
    """Packed in several members, as files are that were put together."""
    return b"".join(gzip.compress(body[start : start + size]) for start in range(0, len(body), size))


@pytest.mark.parametrize("pack", [gzip.compress, lambda body: in_members(body, 100)], ids=["at once", "in members"])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (record(), {}),
        (b"[" + record(1) + b"," + record(2) + b"]", {}),
        (record(1) + b"\n" + record(2) + b"\n", LINES),
        (b"[" + b",".join(record(number, note="x" * 800) for number in range(900)) + b"]", {}),
    ],
    ids=["one", "list", "lines", "a large list"],
)
def test_a_body_packed_by_gzip_is_unpacked(ask, body, headers, pack):
    """And answered as it is without."""

    async def talk(post: Any) -> None:
        plain = await post(body, headers)
        packed = await post(pack(body) if len(body) < 10_000 else gzip.compress(body), headers | PACKED)
        assert plain.status_code in (200, 202)
        assert packed.status_code == plain.status_code
        assert packed.text.count("r1") == plain.text.count("r1")

    ask(talk)


def test_a_carriage_return_is_white_space_and_ends_no_line(ask):
    """It may stand in a document, as in the archive, and before the end of a line."""
    body = record(1).replace(b",", b",\r", 1) + b"\r\n" + record(2) + b"\r\n"

    async def talk(post: Any) -> None:
        answer = await post(body, LINES)
        assert answer.status_code in (200, 202)
        assert answer.text.count('"r1"') == answer.text.count('"r2"') == 1

    ask(talk)


def test_a_gzip_bomb_costs_no_more_than_the_limit(ask):
    """A thousand times as much as came in is not unpacked: 413, within a second and the room of a body."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b" " * 10_000_000) for _ in range(60)) + packer.flush()
    assert len(bomb) < 700_000
    process = psutil.Process()

    async def talk(post: Any) -> None:
        await post(record())
        before, began = process.memory_info().rss, time.monotonic()
        answer = await post(bomb, PACKED)
        assert answer.status_code == 413
        assert f"more than {MAX_BODY_BYTES} bytes when it is unpacked" in answer.json()["detail"]
        assert time.monotonic() - began < 2
        assert process.memory_info().rss - before < 8 * MAX_BODY_BYTES
        # All room was given back.
        assert (
            await post(gzip.compress(b"[" + b" " * (MAX_BODY_BYTES - 5_000) + record() + b"]"), PACKED)
        ).status_code in (200, 202)

    ask(talk)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (gzip.compress(record())[:-4], "breaks off before its end"),
        (gzip.compress(record())[:30], "breaks off before its end"),
        (gzip.compress(record())[:-8] + b"\x00" * 8, "incorrect data check"),
        (gzip.compress(record()) + b"more", "incorrect header check"),
        (b"\x1f\x8b", "breaks off before its end"),
        (gzip.compress(b"") * (MAX_MEMBERS + 1), f"more than {MAX_MEMBERS} members"),
        (gzip.compress(gzip.compress(record())), "not JSON"),
    ],
    ids=["cut", "cut early", "changed", "trailed", "begun", "members", "twice"],
)
def test_a_body_that_cannot_be_unpacked_is_told_why(ask, body, words):
    """400, and nothing is taken of it."""

    async def talk(post: Any) -> None:
        answer = await post(body, PACKED)
        assert answer.status_code == 400
        assert words in answer.json()["detail"]

    ask(talk)


@pytest.mark.parametrize("packing", ["br", "zstd", "deflate", "gzip, br"])
def test_another_packing_is_told_which_one_is_known(ask, packing):
    """415, with the header that says so to programs (RFC 9110, section 12.5.3)."""

    async def talk(post: Any) -> None:
        for body in (zlib.compress(record()), b"[" + zlib.compress(record())):
            answer = await post(body, {"content-encoding": packing})
            assert answer.status_code == 415
            assert answer.headers["accept-encoding"] == "gzip"
            assert f"Content-Encoding is '{packing}'; send it as it is, or by gzip" in answer.json()["detail"]

    ask(talk)


@pytest.mark.parametrize(
    "note",
    [
        "," * (MAX_VALUES + 1) + "x" * 300_000,
        "[{,\\n" * 100_000,
        '\\",' * (MAX_VALUES + 1),
        "\\\\" * 300_000 + '\\",' * 100_000,
        '\\\\\\",[' * 100_000,
    ],
    ids=["commas", "brackets", "escaped quotes", "backslashes", "both"],
)
def test_a_text_is_judged_as_one_value_whatever_is_in_it(ask, note):
    """Commas, brackets and quotes in a text begin no value."""
    body = record(1).removesuffix(b"}") + f', "note": "{note}"}}'.encode()
    assert len(body) > UNCOUNTED_BYTES

    async def talk(post: Any) -> None:
        for sent, headers in ((body, {}), (b"[" + body + b"]", {}), (body + b"\n" + record(2), LINES)):
            answer = await post(sent, headers)
            assert answer.status_code in (200, 202), answer.text

    ask(talk)


@pytest.mark.parametrize(
    "hidden",
    [
        b'{"a":' + b"[" + b"{}," * 900_000 + b"{}]}",
        b'{"a":["\\\\",' + b"{}," * 900_000 + b"{}]}",
        b'{"a":["\\\\\\"",' + b"{}," * 900_000 + b"{}]}",
        b'["",' + b'"",' * 900_000 + b'""]',
        b'"\n[' + b"{}," * 900_000 + b"{}]",
        b'"\r[' + b"{}," * 900_000 + b"{}]",
    ],
    ids=["objects", "after a backslash", "after a quote", "texts", "open text", "open text, CR"],
)
def test_more_values_than_memory_is_meant_for_are_refused(ask, hidden):
    """However they are hidden: each of them, read, may take 600 bytes."""

    async def talk(post: Any) -> None:
        for headers in ({}, LINES):
            answer = await post(hidden, headers)
            assert answer.status_code == 413
            assert f"more than {MAX_VALUES} values" in answer.json()["detail"]

    ask(talk)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_json_in_an_unknown_field_is_refused(ask, word):
    """Alone, in a list and on a line: what is accepted can be read by every reader behind the door."""

    async def talk(post: Any) -> None:
        odd = record(1).removesuffix(b"}") + f', "note": "NaN", "unknown": {{"deep": [{word}]}}}}'.encode()
        for body, headers in ((odd, {}), (b"[" + odd + b"]", {}), (odd, LINES), (odd + b"\n" + odd, LINES)):
            answer = await post(body, headers)
            assert answer.status_code in (400, 422), answer.text
            assert "not JSON" in answer.text
        fine = record(1, note=f"{word} NaN Infinity")
        for body, headers in ((fine, {}), (b"[" + fine + b"]", {}), (fine + b"\n", LINES)):
            assert (await post(body, headers)).status_code in (200, 202)

    ask(talk)


def test_members_of_a_list_are_published_as_they_were_sent(google, run):
    """Byte for byte: a number keeps its digits, a key that is there twice is there twice, a fraction stays one."""
    odd = b'{ "big": 12345678901234567890123, "huge": 1e400, "long": %s, "x": 1.10, "x": 2,' % (b"7" * 400)
    documents = [odd + record(number)[1:] for number in range(3)]

    async def scenario() -> None:
        answer = await test_submit.client(google).post("/v1/records", content=b" [" + b" ,\n".join(documents) + b"]\n")
        assert answer.status_code == 202
        assert sorted(data for data, _ in google.messages("records")) == documents

    run(scenario)


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b"[" + b"[" * 3_000 + b"]" * 3_000 + b"]", b'["\xff"]', b"[1,]", b"[}"]
)
def test_a_list_that_is_none_is_refused(ask, body):
    """400 or 422, however deep it is; the function goes on."""

    async def talk(post: Any) -> None:
        assert (await post(body)).status_code in (400, 422)
        assert (await post(record())).status_code in (200, 202)

    ask(talk)


def test_what_an_earlier_release_took_is_shown_in_json(google, run):
    """A mirrored record with NaN in it: a text, so that the answer can be read."""

    async def scenario() -> None:
        await asyncio.sleep(0)
        for payload, shown in (('{"a": NaN}', '{"a": NaN}'), ('{"a": 1}', {"a": 1})):
            test_submit.mirrored(google, "r1", payload)
            answer = await test_submit.client(google).get("/v1/records/r1")
            assert answer.json()["record"] == shown

    run(scenario)
