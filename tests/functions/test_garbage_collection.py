"""The garbage collector, once a function has everything that stays."""

import gc
import json
from collections.abc import Iterator

import pytest
from pydantic import TypeAdapter

from functions.runtime.garbage_collection import freeze_gc
from schemas import use_case
from tests.functions.doubles import models


@pytest.fixture
def collections() -> Iterator[list[str]]:
    """The collections that are made from now on."""
    seen: list[str] = []
    before = gc.get_threshold()

    def note(phase: str, details: dict[str, int]) -> None:
        if phase == "start":
            seen.append(f"generation {details['generation']}")

    freeze_gc.cache_clear()
    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    gc.unfreeze()
    gc.set_threshold(*before)
    freeze_gc.cache_clear()


def test_a_thousand_records_are_read_without_a_collection(collections: list[str]) -> None:
    """A pause for the collector is longer than the work on the whole list; what was there before is left out of
    the collections to come."""
    freeze_gc()
    assert gc.get_freeze_count() > 10_000
    body = json.dumps([models.record(f"r{i}") for i in range(1000)]).encode()
    collections.clear()
    records = TypeAdapter(list[use_case("flights").record]).validate_json(body)
    assert len(records) == 1000
    assert collections == []
