"""A load lets go of what it loaded."""

import asyncio
import gc
import weakref
from datetime import UTC, datetime

import pytest

from functions.classify.loading import Load
from functions.classify.model import ModelRefused
from schemas import ModelPointer

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
        raise ModelRefused(f"{type(graph).__name__} does not reproduce its golden rows")

    async def follow() -> Load:
        begun = Load(load, POINTER)  # type: ignore[arg-type]
        assert await begun.ended(10)
        with pytest.raises(ModelRefused, match="golden rows"):
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
