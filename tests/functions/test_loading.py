"""One load of a model, which may be given up."""

import asyncio
import threading

import pytest

from functions.classify.loading import Load, LoadGivenUp
from functions.classify.model import Model, Stop, load_model
from schemas import NamedModel, use_case
from tests.functions.doubles import models

CASE = use_case("flights")


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
        with pytest.raises(LoadGivenUp):
            loading.result()

    asyncio.run(scenario())
