"""One load of a model: it lets go of what it loaded, and may be given up."""

import asyncio
import gc
import threading
import weakref
from datetime import UTC, datetime

import pytest

from functions.classify.loading import Load, LoadGivenUpError
from functions.classify.model import Model, ModelRefusedError, Stop, load_model
from schemas import ModelPointer, NamedModel, use_case
from tests.functions.doubles import models

CASE = use_case("flights")

POINTER = ModelPointer(
    model_version="2013-03-25/a",
    uri="gs://models/models/2013-03-25/a",
    manifest_sha256="0" * 64,
    use_case="flights",
    generation=1,
    moved_at=datetime(2013, 3, 25, tzinfo=UTC),
)


class Graph:
    """Stands for megabytes."""


def test_a_model_that_is_refused_is_freed_without_the_collector() -> None:
    """What was loaded of a model that fails its checks is freed as soon as its error is told: the collector, which
    would find it in a circle, hardly ever comes."""
    seen: list[weakref.ref[Graph]] = []

    def load(_named: object, _stop: object) -> object:
        graph = Graph()
        seen.append(weakref.ref(graph))
        raise ModelRefusedError(f"{type(graph).__name__} does not reproduce its golden rows")

    async def follow() -> Load:
        begun = Load(load, POINTER)  # type: ignore[arg-type]
        assert await begun.ended(10)
        with pytest.raises(ModelRefusedError, match="golden rows"):
            begun.result()
        return begun

    gc.disable()
    try:
        kept = asyncio.run(follow())
        assert not kept.running
        (graph,) = seen
        assert graph() is None
    finally:
        gc.enable()


def test_what_was_given_up_is_of_no_use_though_it_loads() -> None:
    """Given up while its files came in, it may end well all the same; but each run of the model would be ended."""
    files = models.folder(CASE)
    named = NamedModel.model_validate(models.pointer(files, 1).model_dump())
    begun, go_on = threading.Event(), threading.Event()

    def load(named: NamedModel, stop: Stop) -> Model:
        model = load_model(CASE, named.model_version, named.manifest_sha256, files.__getitem__, stop)
        begun.set()
        assert go_on.wait(10)
        return model

    async def scenario() -> None:
        loading = Load(load, named)
        await asyncio.to_thread(begun.wait, 10)
        loading.give_up()
        go_on.set()
        assert await loading.ended(10)
        with pytest.raises(LoadGivenUpError):
            loading.result()

    asyncio.run(scenario())
