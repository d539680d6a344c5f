"""Candidates beside the served model: a shadow is scored and never served, a canary answers its share, and neither
can harm the model that serves."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from starlette.requests import Request

from functions.classify.canary import in_canary_share
from functions.classify.handler import ClassifyHttp, ClassifyPush
from functions.classify.pointer import PointerUnavailableError
from functions.classify.reasons import Reasons
from functions.classify.shadow import Shadows
from functions.runtime.channel import open_channel
from functions.runtime.dead_letters import DeadLetters
from functions.runtime.group_commit import GroupCommit
from functions.runtime.instruments import ANSWERS
from functions.runtime.publisher import Publisher
from schemas import Comparison
from tests.functions.doubles import envelopes, models
from tests.functions.doubles.google_server import GoogleServer
from tests.functions.doubles.world import CASE, World

IDS = [f"2013-03-0{number % 9 + 1}.UA.{number}.JFK.0600" for number in range(20_000)]


@pytest.fixture
def scene() -> Callable[[Callable[[World], Coroutine[Any, Any, None]]], None]:
    """Runs a scenario with a new world."""

    def run(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            await asyncio.wait_for(scenario(World()), 10)

        asyncio.run(main())

    return run


async def classify(world: World, ids: list[str]) -> list[dict[str, Any]]:
    """What a caller gets for records with these ids: one alone, or a list."""

    records = [models.record(one) for one in ids]

    async def receive() -> dict[str, Any]:
        body = json.dumps(records if len(records) > 1 else records[0]).encode()
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/v1/classify", "headers": [], "query_string": b""}
    answer = await ClassifyHttp(CASE, world.serving, Reasons(world.reader)).handle(Request(scope, receive))
    assert answer.status_code == 200, answer.body
    given = json.loads(answer.body)
    return given if isinstance(given, list) else [given]


async def model_report(world: World) -> dict[str, Any]:
    """What ``GET /v1/model`` says."""
    scope = {"type": "http", "method": "GET", "path": "/v1/model", "headers": []}
    answer = await ClassifyHttp(CASE, world.serving, Reasons(world.reader)).handle(Request(scope))
    return json.loads(answer.body)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_a_canary_gets_its_share_of_the_ids(share):
    """Within four standard deviations of the binomial distribution, on ids that look alike."""
    hits = sum(in_canary_share("2013-03-01/one", share, record_id) for record_id in IDS)
    deviation = (len(IDS) * share * (1 - share)) ** 0.5
    assert abs(hits - len(IDS) * share) < 4 * deviation


def test_an_id_stays_on_its_side_when_the_share_grows():
    """Who had the canary keeps it; another canary takes others."""
    small = {one for one in IDS if in_canary_share("a", 0.1, one)}
    large = {one for one in IDS if in_canary_share("a", 0.3, one)}
    other = {one for one in IDS if in_canary_share("b", 0.1, one)}
    assert small < large
    assert len(small & other) < 0.2 * len(small)


def test_a_canary_answers_its_share_and_each_answer_names_its_model(scene):
    """The same id gets the same model, in a list and alone; the order of a list stays."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        canary = world.model(77)
        world.beside(canary=canary, share=0.3)
        await world.follow()
        ids = IDS[:500]
        before = Counter(dict(ANSWERS.values()))
        answers = await classify(world, ids)
        counted = Counter(dict(ANSWERS.values())) - before
        assert {dict(what)["model_version"]: count for what, count in counted.items()} == Counter(
            one["model_version"] for one in answers
        )
        assert [one["record_id"] for one in answers] == ids
        for one in answers:
            falls = in_canary_share(canary.model_version, 0.3, one["record_id"])
            assert one["model_version"] == (canary.model_version if falls else "2013-03-01/run-1")
            assert one["probability"] == (0.77 if falls else 0.01)
            assert one["generation"] == 2
        shares = Counter(one["model_version"] for one in answers)
        assert 100 < shares[canary.model_version] < 200
        for number in (0, 1, 2, 3, 4, 5, 6, 7):
            served = world.serving.current_if_fresh()
            assert served is not None
            assert served.canary is not None
            alone = await classify(world, [ids[number]])
            assert alone[0]["model_version"] == answers[number]["model_version"]

    scene(scenario)


def test_loading_a_candidate_holds_up_nothing(scene):
    """While it loads, however long, the served model answers alone and follows the pointer."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.loads_open.clear()
        world.beside(canary=world.model(77), shadow=world.model(78))
        world.time += 31  # a request past the hard bound waits for the pointer, and not for candidates
        assert await world.generation() == 2
        assert {one["model_version"] for one in await classify(world, IDS[:50])} == {"2013-03-01/run-1"}
        report = await model_report(world)
        assert (report["canary"]["state"], report["shadow"]["state"]) == ("loading", "loading")
        world.loads_open.set()
        await world.follow()
        report = await model_report(world)
        assert (report["canary"]["state"], report["shadow"]["state"]) == ("loaded", "loaded")
        assert report["canary"]["share"] == 0.5

    scene(scenario)


def test_a_candidate_that_does_not_load_never_harms_the_served_model(scene):
    """The served one answers, fresh and without trouble of its own; the report tells what is wrong with the
    candidate; it is tried again with growing pauses."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.beside(canary=world.model(77, spoil=True), shadow=world.model(78))
        for _ in range(30):
            await world.follow()
        assert {one["model_version"] for one in await classify(world, IDS[:50])} == {"2013-03-01/run-1"}
        report = await model_report(world)
        assert (report["trouble"], report["stale"]) == (None, False)
        assert report["canary"]["state"] == "refused"
        assert "model.onnx has SHA-256" in report["canary"]["trouble"]
        assert report["shadow"]["state"] == "loaded"
        assert 4 <= world.loads.count(77) <= 6

    scene(scenario)


@pytest.mark.parametrize("count", [1, 3])
def test_a_canary_that_fails_at_a_record_is_dropped_and_the_served_model_answers(scene, count):
    """It reproduced its golden rows, and gives no probability for these: nobody gets an error."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        canary = world.model(77)
        world.beside(canary=canary, share=0.999999)
        await world.follow()
        served = world.serving.current_if_fresh()
        assert served is not None
        assert served.canary is not None

        def fail(*_: Any) -> float:
            raise ArithmeticError("no probability")

        served.canary.served.model.probability = fail  # type: ignore[method-assign]
        served.canary.served.model.probabilities = fail  # type: ignore[method-assign,assignment]
        assert {one["model_version"] for one in await classify(world, IDS[:count])} == {"2013-03-01/run-1"}
        assert (await model_report(world))["canary"]["trouble"] == "ArithmeticError: no probability"
        for _ in range(3):
            await world.follow()
        assert (await model_report(world))["canary"]["state"] == "loaded"

    scene(scenario)


def test_memory_returns_to_what_the_pointer_names(scene):
    """A candidate that is no longer named is dropped at once; one that takes over is not loaded again."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        canary, shadow = world.model(77), world.model(78)
        world.beside(canary=canary, shadow=shadow)
        await world.follow()
        assert world.loads == [1, 77, 78]
        world.point(
            world.pointer.model_copy(update={**canary.model_dump(), "generation": 3, "canary": None}),
            world.folders[canary.uri],
        )
        await world.follow()
        assert world.loads == [1, 77, 78]
        served = world.serving.current_if_fresh()
        assert served is not None
        assert (served.model_version, served.canary) == (canary.model_version, None)
        assert served.shadow is not None
        world.beside()
        await world.follow()
        served = world.serving.current_if_fresh()
        assert served is not None
        assert served.shadow is None
        assert world.serving._candidates._models == {}
        assert (await model_report(world))["shadow"] is None

    scene(scenario)


def test_a_candidate_that_is_still_loading_when_it_is_no_longer_named_is_not_kept(scene):
    """The pointer moved on while it was loaded."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.loads_open.clear()
        world.beside(canary=world.model(77))
        world.time += 2.1
        await world.generation()
        await world.freeze_gc()
        world.beside()
        world.time += 2.1
        await world.generation()
        await world.freeze_gc()
        world.loads_open.set()
        await world.follow()
        assert world.serving._candidates._models == {}

    scene(scenario)


def test_candidates_of_a_pointer_that_cannot_be_followed_are_not_used(scene):
    """A canary is a share of what the pointer names: with that model refused, the one before it answers alone."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.promote(2, spoil=True)
        world.beside(canary=world.model(77))
        await world.follow()
        await world.follow()
        assert {one["model_version"] for one in await classify(world, IDS[:50])} == {"2013-03-01/run-1"}

    scene(scenario)


def test_a_canarys_answers_are_stale_when_the_served_models_are(scene):
    """Datastore out of reach past the hard bound: both go on, and both say so."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.beside(canary=world.model(77))
        await world.follow()
        assert {one["stale"] for one in await classify(world, IDS[:50])} == {False}
        world.error = PointerUnavailableError("away")
        world.time += 31
        answers = await classify(world, IDS[:50])
        assert {one["stale"] for one in answers} == {True}
        assert len({one["model_version"] for one in answers}) == 2
        assert {(await classify(world, [one]))[0]["stale"] for one in IDS[:10]} == {True}

    scene(scenario)


def pushing(world: World, google: GoogleServer) -> ClassifyPush:
    """The push entry point in this world."""

    def publisher(topic: str) -> Publisher:
        return Publisher(open_channel(google.endpoint), "local-dev", topic)

    return ClassifyPush(
        case=CASE,
        project="local-dev",
        serving=world.serving,
        commits=GroupCommit(open_channel(google.endpoint), "local-dev"),
        classifications=publisher("classifications"),
        shadows=Shadows(CASE, publisher("comparisons")),
        dead_letters=DeadLetters(publisher("dead-letters"), "classify", "records"),
    )


async def push(function: ClassifyPush, record_id: str) -> int:
    """The status that a pushed record gets."""
    answer = await function.push(envelopes.request("POST", {}, envelopes.push(models.record(record_id))))
    return answer.status_code


def test_a_shadow_is_scored_and_never_served(google, run):
    """What is stored and published is the served model's; beside each answer a comparison goes to a topic of its own,
    with what was served, also when the message comes again and another model serves by then."""

    async def scenario() -> None:
        world = World()
        world.promote(1)
        await world.generation()
        world.beside(shadow=world.model(78))
        await world.follow()
        function = pushing(world, google)
        assert await push(function, "r1") == 204
        assert google.stored("Classification")["r1"]["model_version"] == "2013-03-01/run-1"
        ((answer, _),) = google.messages("classifications")
        assert json.loads(answer)["probability"] == 0.01
        ((data, attributes),) = google.messages("comparisons")
        assert attributes == {"record_id": "r1"}
        given = Comparison.model_validate_json(data)
        assert (given.served_version, given.served_label, given.served_probability) == (
            "2013-03-01/run-1", "on_time", 0.01,
        )  # fmt: skip
        assert (given.shadow_version, given.shadow_label, given.shadow_probability) == (
            "2013-03-01/run-78", "late", 0.78,
        )  # fmt: skip
        assert given.event_time == datetime(2013, 3, 2, 15, tzinfo=UTC)
        world.promote(5)
        world.beside(shadow=world.model(79))
        await world.follow()
        assert await push(function, "r1") == 204
        again = Comparison.model_validate_json(google.messages("comparisons")[-1][0])
        assert (again.served_probability, again.shadow_probability) == (0.01, 0.79)

    run(scenario)


def test_a_comparison_that_cannot_be_sent_harms_no_record(google, run, capsys):
    """The record is acknowledged all the same; the log counts what is lost, without a line for each."""

    async def scenario() -> None:
        world = World()
        world.promote(1)
        await world.generation()
        world.beside(shadow=world.model(78))
        await world.follow()
        google.fail(
            "Publish",
            grpc.StatusCode.NOT_FOUND,
            times=1000,
            when=lambda request: request.topic.endswith("/comparisons"),
        )
        function = pushing(world, google)
        for number in range(10):
            assert await push(function, f"r{number}") == 204
        assert len(google.messages("classifications")) == 10

    run(scenario)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["lost"] for line in lines if line["message"] == "comparison is lost"] == [1, 2, 4, 8]


def test_a_pushed_record_that_falls_to_the_canary_is_answered_by_it(google, run):
    """What is stored names the canary, so that its answers can be looked up by model."""

    async def scenario() -> None:
        world = World()
        world.promote(1)
        await world.generation()
        canary = world.model(77)
        world.beside(canary=canary, share=0.5)
        await world.follow()
        function = pushing(world, google)
        for record_id in IDS[:40]:
            assert await push(function, record_id) == 204
        for record_id, stored in google.stored("Classification").items():
            falls = in_canary_share(canary.model_version, 0.5, record_id)
            assert stored["model_version"] == (canary.model_version if falls else "2013-03-01/run-1")

    run(scenario)


@pytest.mark.parametrize("role", ["canary", "shadow"])
def test_a_candidate_that_never_ends_to_load_is_given_up(scene, role: str) -> None:
    """It is refused with its reason, harms nobody, and is ended at once when another one is named in its place."""

    async def scenario(_: World) -> None:
        world = World(load_seconds=0.3)
        world.promote(1)
        await world.generation()
        endless = world.model(2, model=models.endless_graph(len(CASE.features.model_fields)))
        world.beside(**{role: endless})
        await world.follow()
        told = world.serving.report()[role]
        assert told["state"] == "refused"
        assert "LoadGivenUpError: it had not loaded" in told["trouble"]
        assert world.serving.report()["trouble"] is None

        world = World()
        world.promote(1)
        await world.generation()
        endless = world.model(2, model=models.endless_graph(len(CASE.features.model_fields)))
        world.beside(**{role: endless})
        world.time += 2.1
        await world.generation()
        await world.freeze_gc()
        assert world.serving.report()[role]["state"] == "loading"
        world.beside(**{role: world.model(3)})
        await world.follow()
        assert world.serving.report()[role]["model_version"] == "2013-03-01/run-3"
        assert world.serving.report()[role]["state"] == "loaded"

    scene(scenario)
