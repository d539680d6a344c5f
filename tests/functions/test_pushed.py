"""Pushed messages, through both functions that take them: Datastore and Pub/Sub are real gRPC."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from functions.classify.handler import ClassifyPush
from functions.classify.model import load_model
from functions.classify.pointer import PointerUnavailableError
from functions.classify.serving import Serving
from functions.classify.shadow import Shadows
from functions.ingest_fast.handler import IngestFast
from functions.runtime.channel import open_channel
from functions.runtime.dead_letters import MAX_PAYLOAD_BYTES, DeadLetters
from functions.runtime.group_commit import GroupCommit
from functions.runtime.publisher import Publisher
from schemas import Classification, DeadLetter, Envelope, ModelPointer, use_case
from schemas.record import MAX_RECORD_BYTES
from tests.functions.doubles import envelopes, models
from tests.functions.doubles.google_server import GoogleServer

CASE = use_case("flights")
Code = grpc.StatusCode
UNITS = ["ingest_fast", "classify"]


class Pointer:
    """A pointer that stands still, and may be absent or out of reach."""

    def __init__(self, pointer: ModelPointer | None) -> None:
        self.pointer = pointer
        self.error: Exception | None = None

    async def now(self) -> ModelPointer | None:
        if self.error:
            raise self.error
        return self.pointer

    async def at(self, generation: int) -> ModelPointer | None:
        return None


class Pushing:
    """A function, and requests to it."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def push(self, method: str, headers: dict[str, str], body: bytes) -> Any:
        """Its answer to this request."""
        return await self.inner.push(envelopes.request(method, headers, body))


def function(
    unit: str, google: GoogleServer, pointer: Pointer | None = None, files: dict[str, bytes] | None = None
) -> Pushing:
    """The function called ``unit``, talking to ``google``."""
    publisher = Publisher(open_channel(google.endpoint), "local-dev", "dead-letters")
    commits = GroupCommit(open_channel(google.endpoint), "local-dev")
    letters = DeadLetters(publisher, unit, "records")
    if unit == "ingest_fast":
        return Pushing(IngestFast(CASE.read_record, "local-dev", timedelta(days=90), commits, letters))
    files = files or models.folder(CASE, bias=0.75, golden=[{"features": models.FEATURES, "probability": 0.75}])
    serving = Serving(
        pointer or Pointer(models.pointer(files, 3)),
        lambda p, stop: load_model(CASE, p.model_version, p.manifest_sha256, files.__getitem__, stop),
    )
    classifications = Publisher(open_channel(google.endpoint), "local-dev", "classifications")
    return Pushing(
        ClassifyPush(
            case=CASE,
            project="local-dev",
            serving=serving,
            commits=commits,
            classifications=classifications,
            shadows=Shadows(CASE, Publisher(open_channel(google.endpoint), "local-dev", "comparisons")),
            dead_letters=letters,
        )
    )


def kind(unit: str) -> str:
    return {"ingest_fast": "Record", "classify": "Classification"}[unit]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    ("headers", "wrap"),
    [({}, envelopes.push), (envelopes.BINARY_HEADERS, envelopes.push), ({}, envelopes.structured)],
    ids=["push body", "binary CloudEvent", "structured CloudEvent"],
)
def test_a_record_is_stored_whatever_envelope_it_comes_in(google, run, unit, headers, wrap):
    """204 only when Datastore has it."""

    async def scenario() -> None:
        answer = await function(unit, google).push("POST", headers, wrap(models.record("r1")))
        assert answer.status_code == 204
        assert list(google.stored(kind(unit))) == ["r1"]
        assert google.messages("dead-letters") == []

    run(scenario)


def test_a_mirrored_record_holds_the_document_as_it_was_sent(google, run):
    """Unknown fields and spaces included; nothing of it is indexed; it has a time to go."""

    async def scenario() -> None:
        document = json.dumps(models.record("r1") | {"colour": "blau"}, indent=1).encode()
        await function("ingest_fast", google).push("POST", {}, envelopes.push(document))
        stored = google.stored("Record")["r1"]
        assert stored["payload"].encode() == document
        assert stored["event_time"] == datetime(2013, 3, 2, 15, tzinfo=UTC)
        days = (stored["expire_at"] - datetime.now(UTC)) / timedelta(days=1)
        assert 89.9 < days <= 90
        (entity,) = google.entities.values()
        assert all(value.exclude_from_indexes for value in entity.properties.values())
        assert entity.key.partition_id.project_id == "local-dev"

    run(scenario)


def test_a_classification_is_stored_then_published(google, run):
    """Both hold the same answer, and it names the model that gave it."""

    async def scenario() -> None:
        answer = await function("classify", google).push("POST", {}, envelopes.push(models.record("r1")))
        assert answer.status_code == 204
        stored = Classification.model_validate(google.stored("Classification")["r1"])
        ((data, attributes),) = google.messages("classifications")
        assert Classification.model_validate_json(data) == stored
        assert attributes == {"record_id": "r1"}
        assert stored.label == "late"
        assert (stored.probability, stored.generation, stored.stale) == (0.75, 3, False)
        assert stored.model_version == "2013-03-01/20130301-000000-aaaaaaaa"
        (entity,) = google.entities.values()
        indexed = {name for name, value in entity.properties.items() if not value.exclude_from_indexes}
        assert indexed == {"label", "model_version", "classified_at", "event_time"}

    run(scenario)


def test_a_redelivered_record_publishes_the_first_answer_again(google, run):
    """Another model may serve by then: what was answered first stays the answer."""

    async def scenario() -> None:
        body = envelopes.push(models.record("r1"))
        await function("classify", google).push("POST", {}, body)
        first = google.stored("Classification")["r1"]
        files = models.folder(CASE, run_id="other", bias=0.25)
        other = function("classify", google)
        other.inner._serving = Serving(
            Pointer(models.pointer(files, 4)),
            lambda p, stop: load_model(CASE, p.model_version, p.manifest_sha256, files.__getitem__, stop),
        )
        answers = await asyncio.gather(*(other.push("POST", {}, body) for _ in range(5)))
        assert [answer.status_code for answer in answers] == [204] * 5
        assert google.stored("Classification")["r1"] == first
        messages = {data for data, _ in google.messages("classifications")}
        assert {Classification.model_validate_json(data) for data in messages} == {Classification.model_validate(first)}
        assert len(google.messages("classifications")) == 6

    run(scenario)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "envelope: the body is not JSON"),
        (b"\xff\xfe", "envelope: the body is not JSON"),
        (b"[]", "envelope: the body is a JSON list"),
        (b"[" * 200_000, "envelope: the body is not JSON"),
        (b"{}", "envelope: the body has no object `message`"),
        (b'{"message": {"data": 5}}', "envelope: message.data is a int"),
        (b'{"message": {"data": "a"}}', "envelope: message.data is not base64"),
        (b'{"message": {"data": "", "attributes": {"a": 1}}}', "envelope: message.attributes must be"),
        (b'{"message": {"data": "", "attributes": {"a": "\\ud800"}}}', "envelope: the body is not JSON"),
        (b'{"message": {"data": "", "messageId": "\\udc00"}}', "envelope: the body is not JSON"),
        (b'{"specversion": "1.0"}', "envelope: the CloudEvent has neither data nor data_base64"),
        (envelopes.push(b"", colour="blue"), "document: the message has no data"),
        (envelopes.push(b"not json"), "document: Invalid JSON"),
        (envelopes.push(b"\xff\xfe\x00"), "document: Invalid JSON"),
        (envelopes.push(b"[" * 5000), "document: Invalid JSON: recursion limit"),
        (envelopes.push(b"null"), "document: Input should be an object"),
        (envelopes.push({}), "record_id: Field required; event_time: Field required"),
        (envelopes.push(models.record("a/b")), "record_id: String should match pattern"),
        (envelopes.push(models.record("x" * 129)), "record_id: String should have at most 128"),
        (envelopes.push(models.record() | {"event_time": "2013-03-01T00:00:00"}), "event_time: expected RFC 3339"),
        (envelopes.push(models.record() | {"event_time": "0001-01-01T00:00:00+14:00"}), "event_time: Input should"),
        (envelopes.push(models.record() | {"event_time": "9999-12-31T23:59:59-14:00"}), "event_time: Input should"),
        (envelopes.push(models.record(distance="far")), "features.distance: Input should be a valid number"),
        (envelopes.push(models.record(distance=float("nan"))), "features.distance: Input should be a finite"),
        (envelopes.push(models.record(temp=float("inf"))), "features.temp: Input should be a finite number"),
        (envelopes.push(models.record(carrier="")), "features.carrier: String should have at least 1"),
        (envelopes.push(models.record(carrier=None)), "features.carrier: Input should be a valid string"),
    ],
)
def test_what_no_one_can_read_becomes_a_dead_letter(google, run, unit, body, reason):
    """It is acknowledged only with a dead letter that has the bytes, the field at fault and who refused it."""

    async def scenario() -> None:
        answer = await function(unit, google).push("POST", {}, body)
        assert answer.status_code == 204
        ((data, attributes),) = google.messages("dead-letters")
        letter = DeadLetter.model_validate_json(data)
        assert letter.reason.startswith(reason)
        assert (letter.unit, letter.topic, attributes) == (unit, "records", {"unit": unit})
        payload = base64.b64decode(letter.payload_base64)
        if reason.startswith("envelope"):
            assert payload == body
        else:
            message = json.loads(body)["message"]
            assert payload == base64.b64decode(message.get("data", ""))
            assert letter.message_id == "m1"
            assert letter.attributes == message.get("attributes", {})
        assert google.entities == {}
        assert google.messages("classifications") == []

    run(scenario)


@pytest.mark.parametrize("unit", UNITS)
def test_a_dead_letter_that_cannot_be_published_leaves_the_message(google, run, unit):
    """Pub/Sub away: 503, so the message comes again; nothing is dropped."""

    async def scenario() -> None:
        google.fail("Publish", Code.UNAVAILABLE, times=3)
        answer = await function(unit, google).push("POST", {}, b"{}")
        assert answer.status_code == 503
        assert json.loads(answer.body)["status"] == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "1"

    run(scenario)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("size", [MAX_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES + 1, 9_990_000])
def test_a_message_of_any_size_is_refused_once(google, run, unit, size):
    """Acknowledged with a dead letter that Pub/Sub takes: without the payload, where that is too large for one. Nothing
    else would ever move it, so it would come for seven days."""
    attributes = {f"{number:0256}": "\x01" * 1024 for number in range(100)}  # as many and as large as can be

    async def scenario() -> None:
        answer = await function(unit, google).push("POST", {}, envelopes.push(b"x" * size, **attributes))
        assert answer.status_code == 204
        ((data, _),) = google.messages("dead-letters")
        letter = DeadLetter.model_validate_json(data)
        reason = f"document: the record has {size} bytes; the limit is 1000000"
        if size > MAX_PAYLOAD_BYTES:
            reason += f" (a message of {size} bytes, too large for a dead letter: the archive keeps it)"
        assert letter.reason == reason
        assert len(base64.b64decode(letter.payload_base64)) == (size if size == MAX_PAYLOAD_BYTES else 0)
        assert (letter.unit, letter.message_id, letter.payload_uri) == (unit, "m1", "")
        assert letter.attributes == attributes

    run(scenario)


@pytest.mark.parametrize(
    ("payload", "given", "named"),
    [
        (b'{"record_id": "r1", "note": "', {}, "r1"),
        (b' {"event_time": "2013-03-02T15:00:00Z", "record_id":"r1" , "x": [[{"a":"', {}, "r1"),
        (b'{"record_id": "r1", "note": "', {"record_id": "r2"}, "r2"),
        (b'{"record_id": "a b", "note": "', {}, None),
        (b'{"record_id": 7, "note": "', {}, None),
        (b'[{"record_id": "r1"}, "', {}, None),
        (b'{"note": "%s", "record_id": "r1", "x": "' % (b"x" * 5000), {}, None),
    ],
)
def test_a_dead_letter_without_its_payload_names_the_record(google, run, payload, given, named):
    """If the payload begins with its id, so that the letter is found by it; what the publisher said of it stands."""

    async def scenario() -> None:
        body = envelopes.push(payload + b"x" * MAX_PAYLOAD_BYTES, **given)
        assert (await function("ingest_fast", google).push("POST", {}, body)).status_code == 204
        ((data, _),) = google.messages("dead-letters")
        letter = DeadLetter.model_validate_json(data)
        assert letter.payload_base64 == ""
        assert letter.attributes == ({} if named is None else {"record_id": named})

    run(scenario)


def test_a_dead_letter_that_pubsub_refuses_leaves_the_message(google, run):
    """No 2xx, with what Pub/Sub said: nothing is dropped."""

    async def scenario() -> None:
        google.fail("Publish", Code.INVALID_ARGUMENT, times=1)
        answer = await function("ingest_fast", google).push("POST", {}, envelopes.push(b"not json"))
        assert answer.status_code == 500
        assert "Pub/Sub refused the message" in json.loads(answer.body)["detail"]
        assert google.published == []

    run(scenario)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("size", [1_000_000, 1_000_001])
def test_a_record_too_big_for_datastore_becomes_a_dead_letter(google, run, unit, size):
    """Pub/Sub takes ten times what an entity holds; the reason says so, and the neighbours are stored. What is as large
    as a record may be, an entity holds."""

    async def scenario() -> None:
        big = json.dumps(models.record("big") | {"note": ""}).encode()
        big = big.replace(b'"note": "', b'"note": "' + b"x" * (size - len(big)))
        pushed = function(unit, google)
        answers = await asyncio.gather(
            pushed.push("POST", {}, envelopes.push(big)),
            *(pushed.push("POST", {}, envelopes.push(models.record(f"r{i}"))) for i in range(5)),
        )
        assert [answer.status_code for answer in answers] == [204] * 6
        reasons = [DeadLetter.model_validate_json(data).reason for data, _ in google.messages("dead-letters")]
        if size > MAX_RECORD_BYTES:
            assert reasons == ["document: the record has 1000001 bytes; the limit is 1000000"]
        else:
            assert reasons == []
        stored = {f"r{i}" for i in range(5)} | ({"big"} if size <= MAX_RECORD_BYTES else set())
        assert set(google.stored(kind(unit))) == stored

    run(scenario)


def test_a_reason_of_any_length_makes_a_dead_letter(google, run):
    """A service may say much; a letter that could not be made would leave its message to come again and again."""

    async def scenario() -> None:
        letters = DeadLetters(Publisher(open_channel(google.endpoint), "local-dev", "dead-letters"), "classify", "t")
        await letters.send(Envelope(data=b"{}"), "no " * 2000)
        await letters.send(Envelope(data=b"x" * (MAX_PAYLOAD_BYTES + 1)), "no " * 2000)
        small, large = (DeadLetter.model_validate_json(data).reason for data, _ in google.messages("dead-letters"))
        assert small.startswith("no no ")
        assert large.startswith("no no ")
        assert large.endswith("the archive keeps it)")

    run(scenario)


@pytest.mark.parametrize("unit", UNITS)
def test_with_datastore_away_nothing_is_acknowledged(google, run, unit):
    """503 and a reason, no dead letter: a good record waits in the subscription."""

    async def scenario() -> None:
        google.fail("Commit", Code.UNAVAILABLE, times=3)
        push = function(unit, google).push
        answer = await push("POST", {}, envelopes.push(models.record()))
        assert answer.status_code == 503
        assert "Commit answered UNAVAILABLE" in json.loads(answer.body)["detail"]
        assert google.published == []
        assert (await push("POST", {}, envelopes.push(models.record()))).status_code == 204

    run(scenario)


def test_an_answer_that_is_stored_but_not_published_is_not_acknowledged(google, run):
    """The redelivery publishes what is stored, once Pub/Sub takes it."""

    async def scenario() -> None:
        google.fail("Publish", Code.UNAVAILABLE, times=3)
        push = function("classify", google).push
        assert (await push("POST", {}, envelopes.push(models.record()))).status_code == 503
        stored = google.stored("Classification")["r1"]
        assert (await push("POST", {}, envelopes.push(models.record()))).status_code == 204
        ((data, _),) = google.messages("classifications")
        assert Classification.model_validate_json(data) == Classification.model_validate(stored)

    run(scenario)


def test_before_the_first_model_a_record_stays(google, run):
    """503 with the reason; nothing is stored or published. What cannot be read is refused all the same."""

    async def scenario() -> None:
        push = function("classify", google, Pointer(None)).push
        answer = await push("POST", {}, envelopes.push(models.record()))
        assert answer.status_code == 503
        assert json.loads(answer.body)["detail"] == "no model has been promoted yet"
        assert google.entities == {}
        assert (await push("POST", {}, b"{}")).status_code == 204

    run(scenario)


def test_a_cold_instance_that_cannot_read_the_pointer_leaves_the_record(google, run):
    """503 says that Datastore is out of reach."""

    async def scenario() -> None:
        pointer = Pointer(None)
        pointer.error = PointerUnavailableError("Datastore is out of reach: x")
        answer = await function("classify", google, pointer).push("POST", {}, envelopes.push(models.record()))
        assert answer.status_code == 503
        assert "out of reach" in json.loads(answer.body)["detail"]

    run(scenario)


@pytest.mark.parametrize("unit", UNITS)
def test_two_hundred_messages_at_once_share_their_commits(google, run, unit):
    """Each is answered after its own is stored, with far fewer commits than messages."""

    async def scenario() -> None:
        push = function(unit, google).push
        answers = await asyncio.gather(*(push("POST", {}, envelopes.push(models.record(f"r{i}"))) for i in range(200)))
        assert {answer.status_code for answer in answers} == {204}
        assert len(google.stored(kind(unit))) == 200
        assert len(google.commits) < 20

    run(scenario)


@pytest.mark.parametrize("unit", UNITS)
def test_messages_under_way_do_not_outgrow_the_memory(google, run, unit):
    """With large ones under way another large one stays for later, and a small one is taken all the same."""

    async def scenario() -> None:
        push = function(unit, google).push
        google.commits_open.clear()
        large = {"content-length": "20000000"}
        held = [asyncio.create_task(push("POST", large, envelopes.push(models.record(f"r{i}")))) for i in range(2)]
        await google.commits_seen(1)
        answer = await push("POST", large, envelopes.push(models.record("r3")))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        small = envelopes.push(models.record("r4"))
        held.append(asyncio.create_task(push("POST", {"content-length": str(len(small))}, small)))
        await asyncio.sleep(0)
        google.commits_open.set()
        assert [answer.status_code for answer in await asyncio.gather(*held)] == [204] * 3
        assert (await push("POST", large, envelopes.push(models.record("r3")))).status_code == 204
        assert set(google.stored(kind(unit))) == {"r0", "r1", "r3", "r4"}

    run(scenario)


@pytest.mark.parametrize("unit", UNITS)
def test_only_post_is_a_push(google, run, unit):
    """Anything else is told so, and touches nothing."""

    async def scenario() -> None:
        answer = await function(unit, google).push("GET", {}, b"")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
        assert google.published == []

    run(scenario)


def test_a_caller_that_goes_away_or_sends_too_much_is_no_fault_of_ours(google, run):
    """Neither a stack in the log nor a dead letter: nothing came that could be a message."""

    async def scenario() -> None:
        mirror = function("ingest_fast", google).inner
        assert (await mirror.push(envelopes.request("POST", {}, None))).status_code == 400
        assert (await mirror.push(envelopes.request("POST", {}, b" " * 20_000_001))).status_code == 413
        assert google.published == []

    run(scenario)


def test_a_fault_of_ours_is_a_500_without_the_payload(google, run, capsys):
    """The log has the stack, and neither the log nor the answer has what the record said."""

    async def scenario() -> None:
        mirror = function("ingest_fast", google)
        mirror.inner._commits = None
        answer = await mirror.push("POST", {}, envelopes.push(models.record("r1", carrier="SECRET")))
        assert answer.status_code == 500
        line = json.loads(capsys.readouterr().out)
        assert line["severity"] == "ERROR"
        assert "AttributeError" in line["message"]
        assert "handler.py" in line["stack"]
        assert b"SECRET" not in answer.body
        assert "SECRET" not in json.dumps(line)

    run(scenario)


def test_a_record_that_gets_no_probability_waits_for_a_model_that_has_one(google, run):
    """503: Pub/Sub keeps it and sends it again, and nothing of it is stored or published; others are answered."""

    async def scenario() -> None:
        place = list(CASE.features.model_fields).index("temp")
        graph = models.odd_graph(len(CASE.features.model_fields), place, 100.0, float("nan"))
        classify = function("classify", google, files=models.folder(CASE, model=graph))
        answer = await classify.push("POST", {}, envelopes.push(models.record("r1", temp=101.0)))
        assert answer.status_code == 503
        assert b"which is no probability" in answer.body
        assert (await classify.push("POST", {}, envelopes.push(models.record("r2", temp=99.0)))).status_code == 204
        assert list(google.stored("Classification")) == ["r2"]
        assert google.messages("dead-letters") == []

    run(scenario)
