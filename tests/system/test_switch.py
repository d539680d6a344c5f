"""The switch of models under load, in short; ``nox -s bench -- switch`` tells it in full, with figures."""

from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.switch import Answer, scene, tell
from schemas.model_pointer import HARD_BOUND_SECONDS

MODEL_MEGABYTES = 36
"""More than 32: glibc gives such blocks back to the system as soon as they are freed."""


@pytest.mark.system
def test_no_caller_notices_a_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two instances under load through a new model, a rollback, one that misses its golden rows, one that is slow to
    load, and Datastore killed: no request fails, no instance goes back to an older generation, none answers by the old
    model past the hard bound, and memory is back to one model's worth."""
    for variable in ("DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(variable, "")  # the clients set them; they are put back afterwards
    with scene(tmp_path, instances=2, model_megabytes=MODEL_MEGABYTES) as made:
        story = tell(made, callers=2, pause=0.04, steady=0.5, away=2.0, slow=0.7, settle=0.2, say=lambda _: None)
    assert [one.error for one in story.failed] == []
    for instance in range(2):
        seen = [one for one in story.answers if one.instance == instance]
        assert len(seen) > 50
        in_order(sorted(seen, key=lambda one: one.started))
        assert {one.generation for one in seen} == {1, 2, 3, 5, 6}, "the model of generation 4 never serves"
    followed = [phase.seconds_to_follow for phase in story.phases if phase.seconds_to_follow is not None]
    assert len(followed) == 4
    assert max(followed) <= HARD_BOUND_SECONDS
    for before, after in zip(story.megabytes_before, story.megabytes_after, strict=True):
        assert after - before < MODEL_MEGABYTES, "five models came by; one is held"


def in_order(answers: list[Answer]) -> None:
    """A request that began after another had ended is not answered by an older generation than that one."""
    for earlier, later in pairwise(answers):
        if later.started >= earlier.started + earlier.seconds:
            assert (later.generation or 0) >= (earlier.generation or 0)
