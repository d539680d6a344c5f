"""Following the pointer: the two bounds, the swap, and what happens when something is away or broken."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from functions.classify.pointer import PointerUnavailableError, PointerUnreadableError
from functions.classify.serving import NoModelError
from functions.runtime.instruments import LOADS
from tests.functions.doubles import models
from tests.functions.doubles.world import CASE, World

ENDLESS = models.endless_graph(len(CASE.features.model_fields))
"""onnxruntime never comes back from it by itself."""


@pytest.fixture
def scene() -> Callable[[Callable[[World], Coroutine[Any, Any, None]]], None]:
    """Runs a scenario with a new world."""

    def run(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            await asyncio.wait_for(scenario(World()), 10)

        asyncio.run(main())

    return run


def test_the_first_request_waits_for_the_first_model(scene):
    """A cold instance does not refuse what it can answer a moment later; all who ask share one load."""

    async def scenario(world: World) -> None:
        world.promote(1)
        assert await asyncio.gather(*(world.generation() for _ in range(5))) == [1] * 5
        assert world.loads == [1]
        assert world.reads == 1

    scene(scenario)


def test_before_the_first_promotion_there_is_no_model(scene):
    """The reason says so, and the first model serves soon after its promotion."""

    async def scenario(world: World) -> None:
        with pytest.raises(NoModelError, match="no model has been promoted yet"):
            await world.generation()
        world.promote(1)
        world.time += 2.5
        assert await world.generation() == 1

    scene(scenario)


def test_within_the_soft_bound_nothing_is_read(scene):
    """Requests do not cost a read of the pointer each."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        for _ in range(100):
            world.time += 0.019
            assert await world.generation() == 1
        assert world.reads == 1

    scene(scenario)


def test_past_the_soft_bound_a_request_starts_a_refresh_and_does_not_wait(scene):
    """The request is answered by the old model while the new one loads; then the new one answers."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.promote(2)
        world.loads_open.clear()
        world.time += 2.1
        assert await world.generation() == 1
        assert await world.generation() == 1
        world.loads_open.set()
        await world.freeze_gc()
        assert await world.generation() == 2
        assert world.loads == [1, 2]

    scene(scenario)


def test_past_the_hard_bound_a_request_waits(scene):
    """After a move, no request that starts later than the hard bound is answered by the old model."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.promote(2)
        world.time += 30.1
        assert await asyncio.gather(*(world.generation() for _ in range(5))) == [2] * 5

    scene(scenario)


def test_a_load_that_began_in_time_is_waited_for_past_the_hard_bound(scene):
    """A slow load is no excuse to answer by the old model after the hard bound."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.promote(2)
        world.loads_open.clear()
        world.time += 2.1
        assert await world.generation() == 1
        world.time += 28.0
        waiting = asyncio.create_task(world.generation())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        world.loads_open.set()
        assert await waiting == 2

    scene(scenario)


def test_a_load_that_hangs_does_not_hold_up_requests_for_ever(scene):
    """Past the longest wait the old model answers, flagged as stale, and at once for all that follow."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.promote(2)
        world.loads_open.clear()
        world.time += 2.1
        await world.generation()
        world.time += 28.0
        world.serving._wait_seconds = 0.05
        served = await world.serving.get()
        assert (served.generation, served.stale) == (1, True)
        world.time += 0.06
        served = await asyncio.wait_for(world.serving.get(), 0.02)
        assert (served.generation, served.stale) == (1, True)
        world.loads_open.set()
        await world.freeze_gc()
        served = await world.serving.get()
        assert served.generation == 2

    scene(scenario)


async def until(look: Callable[[], Any]) -> None:
    """Let the loop run until ``look`` is true; the scene ends what takes too long."""
    while not look():  # noqa: ASYNC110 - it looks at threads
        await asyncio.sleep(0.01)


def refused_loads(version: str) -> int:
    """What the metric says."""
    return sum(
        count
        for attributes, count in LOADS.values().items()
        if dict(attributes) == {"model_version": version, "outcome": "refused"}
    )


def test_a_load_that_never_ends_is_given_up(scene):
    """After its time it is refused like any other: told, counted, ended in its thread, and tried again later, with
    growing pauses; the old model goes on, not stale."""

    async def scenario(_: World) -> None:
        world = World(load_seconds=0.3)
        world.promote(1)
        await world.generation()
        before = refused_loads("2013-03-01/run-2")
        world.promote(2, model=ENDLESS)
        world.time += 2.1
        assert await world.generation() == 1
        await until(lambda: world.serving.report()["loading"] == "2013-03-01/run-2")
        await world.freeze_gc()
        report = world.serving.report()
        assert "run-2 (generation 2) is not served: LoadGivenUpError: it had not loaded" in report["trouble"]
        assert "within 0.3 s" in report["trouble"]
        assert report["loading"] is None
        assert report["stale"] is False
        assert report["history"][-1]["outcome"].startswith("refused: LoadGivenUpError")
        assert refused_loads("2013-03-01/run-2") == before + 1
        for _ in range(5):
            await until(lambda: not world.serving._failure.load.running)
            world.time += 2.1
            assert await world.generation() == 1
            await world.freeze_gc()
        assert world.loads == [1, 2, 2, 2]
        world.promote(3)
        world.time += 2.1
        await world.generation()
        await world.freeze_gc()
        assert await world.generation() == 3
        assert world.serving.report()["trouble"] is None

    scene(scenario)


def test_no_request_waits_for_another_attempt_at_a_load_that_hangs(scene):
    """What has failed once is tried again beside the requests: the old model answers them, at once and not stale."""

    async def scenario(_: World) -> None:
        world = World(load_seconds=0.3)
        world.serving._soft = 0.05
        world.promote(1)
        await world.generation()
        world.promote(2, model=ENDLESS)
        world.time += 2.1
        await world.generation()
        await world.freeze_gc()
        await until(lambda: not world.serving._failure.load.running)
        world.serving._load_seconds = 30.0
        world.time += 2.1
        await world.generation()
        await until(lambda: world.loads == [1, 2, 2])
        for _ in range(3):
            reads = world.reads
            world.time += 31
            await until(lambda before=reads: world.reads > before + 1)
            served = await asyncio.wait_for(world.serving.get(), 1.0)
            assert (served.generation, served.stale) == (1, False)
        world.promote(3)
        await until(lambda: 3 in world.loads)
        await world.freeze_gc()

    scene(scenario)


@pytest.mark.parametrize("cold", [False, True], ids=["a model serves", "none serves yet"])
def test_a_later_pointer_is_followed_while_a_load_hangs(scene, cold):
    """A person rolls back, or promotes another model: nobody waits until the bad one's time is up."""

    async def scenario(world: World) -> None:
        world.serving._soft = 0.05
        if not cold:
            world.promote(1)
            await world.generation()
        world.promote(2, model=ENDLESS)
        world.time += 2.1
        waiting = asyncio.create_task(world.generation())
        await until(lambda: 2 in world.loads)
        world.promote(3)
        await until(lambda: 3 in world.loads)
        await world.freeze_gc()
        assert await waiting == (3 if cold else 1)
        assert await world.generation() == 3
        assert world.serving.report()["trouble"] is None
        world.promote(4, model=ENDLESS)
        world.time += 2.1
        await world.generation()
        await until(lambda: 4 in world.loads)
        world.point(world.history[3].model_copy(update={"generation": 5}), world.folders[world.history[3].uri])
        await world.freeze_gc()
        assert await world.generation() == 5
        assert world.loads.count(3) == 1, "it was loaded already"

    scene(scenario)


def test_a_new_instance_does_not_wait_for_ever_for_a_load_that_hangs(scene):
    """It serves the model before, as the older instances do."""

    async def scenario(_: World) -> None:
        world = World(load_seconds=0.3)
        world.promote(1)
        world.promote(2, model=ENDLESS)
        assert await world.generation() == 1
        assert "LoadGivenUpError" in world.serving.report()["trouble"]

    scene(scenario)


def test_what_cannot_be_ended_is_not_begun_a_second_time(scene):
    """One thread may be lost to a model, not one more with each attempt."""

    async def scenario(_: World) -> None:
        world = World(load_seconds=0.05)
        world.promote(1)
        await world.generation()
        world.promote(2)
        world.loads_open.clear()
        for _ in range(100):
            world.time += 2.1
            await world.generation()
            await world.freeze_gc()
        assert world.loads == [1, 2]
        world.loads_open.set()
        failure = world.serving._failure
        assert failure is not None
        await until(lambda: not failure.load.running)
        world.time += 2.1
        await world.generation()
        await world.freeze_gc()
        assert await world.generation() == 2

    scene(scenario)


def test_a_rollback_to_the_same_model_loads_nothing(scene):
    """A new generation that names the model which serves already swaps at once."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        assert world.pointer is not None
        world.pointer = world.pointer.model_copy(update={"generation": 2})
        world.time += 2.1
        await world.generation()
        await world.freeze_gc()
        assert await world.generation() == 2
        assert world.loads == [1]

    scene(scenario)


def test_with_datastore_away_the_model_keeps_serving_and_says_stale(scene):
    """Stale only past the hard bound; no request waits while it is known to be away; it ends by itself."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.error = PointerUnavailableError("Datastore is out of reach: no route")
        world.time += 2.1
        served = await world.serving.get()
        assert (served.generation, served.stale) == (1, False)
        await world.freeze_gc()
        for _ in range(30):
            world.time += 1.0
            await world.serving.get()
            await world.freeze_gc()
        served = await world.serving.get()
        assert (served.generation, served.stale) == (1, True)
        assert world.serving.report()["trouble"] == "Datastore is out of reach: no route"
        assert world.serving.report()["stale"] is True
        world.reads_open.clear()
        world.time += 1.5
        await asyncio.wait_for(world.serving.get(), 0.5)
        world.reads_open.set()
        await world.freeze_gc()
        world.error = None
        world.promote(2)
        world.time += 1.5
        await world.serving.get()
        await world.freeze_gc()
        served = await world.serving.get()
        assert (served.generation, served.stale) == (2, False)
        assert world.serving.report()["trouble"] is None

    scene(scenario)


def test_attempts_to_reach_datastore_are_paced(scene):
    """While it is away, a thousand requests a second do not become a thousand reads."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.error = PointerUnavailableError("away")
        world.time += 40
        for _ in range(1000):
            world.time += 0.001
            await world.generation()
            await world.freeze_gc()
        assert world.reads <= 3

    scene(scenario)


def test_a_cold_instance_without_datastore_refuses_at_once_after_the_first_try(scene):
    """Nobody queues up for a service that is known to be away."""

    async def scenario(world: World) -> None:
        world.error = PointerUnavailableError("Datastore is out of reach: x")
        for _ in range(100):
            with pytest.raises(NoModelError, match="out of reach"):
                await world.generation()
        assert world.reads == 1

    scene(scenario)


def test_an_instance_that_slept_through_its_read_gets_a_second_one(scene):
    """A read that was begun before the instance was put to sleep fails when it wakes; the request tries anew."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.reads_open.clear()
        world.time += 2.1
        await world.generation()
        await asyncio.sleep(0)
        world.promote(2)
        world.time += 600
        world.passing_error = PointerUnavailableError("deadline exceeded")
        waiting = asyncio.create_task(world.generation())
        await asyncio.sleep(0)
        world.time += 0.01
        world.reads_open.set()
        assert await waiting == 2
        assert world.reads == 3

    scene(scenario)


def test_all_who_wait_for_a_read_that_was_slept_through_get_the_second_one(scene):
    """Not only the first of them: the others share its new attempt."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.reads_open.clear()
        world.time += 2.1
        await world.generation()
        await asyncio.sleep(0)
        world.promote(2)
        world.time += 600
        world.passing_error = PointerUnavailableError("deadline exceeded")
        waiting = [asyncio.create_task(world.serving.get()) for _ in range(5)]
        await asyncio.sleep(0)
        world.time += 0.01
        world.reads_open.set()
        taken = await asyncio.gather(*waiting)
        assert [(served.generation, served.stale) for served in taken] == [(2, False)] * 5
        assert world.reads == 3

    scene(scenario)


def test_what_was_read_before_an_instance_slept_is_read_again(scene):
    """The answer to a read may lie there since before the sleep: it says how the pointer stood then, not now."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        old = world.pointer
        world.reads_open.clear()
        world.time += 2.1
        await world.generation()
        await asyncio.sleep(0)
        world.time += 600
        waiting = [asyncio.create_task(world.serving.get()) for _ in range(5)]
        await asyncio.sleep(0)
        world.passing_pointer = old
        world.promote(2)
        world.reads_open.set()
        taken = await asyncio.gather(*waiting)
        assert [(served.generation, served.stale) for served in taken] == [(2, False)] * 5
        assert world.reads == 3

    scene(scenario)


def test_a_model_that_fails_its_checks_never_serves(scene):
    """The old one stays, fresh and not stale, and the report says which model failed and why."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.promote(2, spoil=True)
        world.time += 2.1
        await world.generation()
        await world.freeze_gc()
        served = world.serving.current_if_fresh()
        assert served is not None
        assert (served.generation, served.stale) == (1, False)
        report = world.serving.report()
        assert "generation 2" in report["trouble"]
        assert "model.onnx has SHA-256" in report["trouble"]
        assert [entry["generation"] for entry in report["history"]] == [1, 2]
        world.promote(3)
        world.time += 2.1
        await world.generation()
        await world.freeze_gc()
        assert await world.generation() == 3
        assert world.serving.report()["trouble"] is None

    scene(scenario)


def test_a_failed_load_is_tried_again_with_growing_pauses(scene):
    """A bucket that was away for a moment is not the end of a promotion, and a bad model is not loaded in a loop."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.promote(2, spoil=True)
        for _ in range(60):
            world.time += 2.1
            await world.generation()
            await world.freeze_gc()
        assert 5 <= len(world.loads) - 1 <= 8
        world.promote(2)
        for _ in range(30):
            world.time += 2.1
            await world.generation()
            await world.freeze_gc()
        assert await world.generation() == 2

    scene(scenario)


def test_a_new_instance_whose_model_fails_serves_the_one_before(scene):
    """The old one stays also where it was not loaded yet: it is found in the pointer's history."""

    async def scenario(world: World) -> None:
        world.promote(1)
        world.promote(2, spoil=True)
        world.promote(3, spoil=True)
        assert await world.generation() == 1
        assert "generation 3" in world.serving.report()["trouble"]
        world.promote(4)
        world.time += 2.1
        await world.generation()
        await world.freeze_gc()
        assert await world.generation() == 4

    scene(scenario)


def test_without_any_model_that_loads_the_reason_is_told(scene):
    """503 names the model at fault, and the folders are not read at every request."""

    async def scenario(world: World) -> None:
        world.promote(1, spoil=True)
        for _ in range(3):
            with pytest.raises(NoModelError, match=r"run-1 \(generation 1\) is not served: ModelRefusedError"):
                await world.generation()
        assert world.loads == [1]

    scene(scenario)


def test_a_pointer_that_cannot_be_read_changes_nothing(scene):
    """The old model stays, and the report says what is wrong."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.error = PointerUnreadableError("ModelPointer flights: uri: Field required")
        world.time += 31
        assert await world.generation() == 1
        assert "uri: Field required" in world.serving.report()["trouble"]

    scene(scenario)


def test_a_fault_of_ours_while_refreshing_is_visible_and_harms_no_request(scene):
    """Whatever goes wrong in the background, the old model goes on."""

    async def scenario(world: World) -> None:
        world.promote(1)
        await world.generation()
        world.error = ZeroDivisionError("x")
        world.time += 2.1
        assert await world.generation() == 1
        await world.freeze_gc()
        assert "ZeroDivisionError" in world.serving.report()["trouble"]
        world.error = None
        world.promote(2)
        world.time += 2.1
        await world.generation()
        await world.freeze_gc()
        assert await world.generation() == 2

    scene(scenario)
