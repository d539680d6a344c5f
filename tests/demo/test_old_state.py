"""What lies in the state folder may be somebody's records: nothing of it is deleted without a word."""

import re
from pathlib import Path

import pytest

from demo.old_state import make_room
from laptop.supervisor import Supervisor, SupervisorError


def never(what: str) -> bool:
    """Nobody is asked."""
    raise AssertionError(what)


def test_a_folder_that_holds_nothing_is_taken(tmp_path: Path) -> None:
    """A new one, and one on which servers were only started."""
    for _ in range(2):
        make_room(tmp_path / "state", never, never)
        with Supervisor(tmp_path / "state", only=[]):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_what_an_earlier_run_left_is_kept_aside(tmp_path: Path) -> None:
    """Whole, under a name that has the time, and told with how to go back to it."""
    state = tmp_path / "state"
    (state / "storage" / "bucket").mkdir(parents=True)
    (state / "storage" / "bucket" / "mine.json").write_text("mine")
    asked, said = [], []

    def no(what: str) -> bool:
        asked.append(what)
        return False

    make_room(state, no, said.append)
    assert not state.exists()
    (aside,) = tmp_path.iterdir()
    assert re.fullmatch(r"state-\d{8}-\d{6}", aside.name)
    assert (aside / "storage" / "bucket" / "mine.json").read_text() == "mine"
    assert re.fullmatch(rf"{state} holds what an earlier run left, last changed \d+-\d\d-\d\d \d\d:\d\d", asked[0])
    assert f"kept in {aside}" in said[0]
    assert f"mv {aside.name} state" in said[0]


def test_what_may_be_deleted_stays_until_the_servers_start(tmp_path: Path) -> None:
    """And is gone then."""
    (tmp_path / "state" / "storage").mkdir(parents=True)
    make_room(tmp_path / "state", lambda _: True, never)
    assert (tmp_path / "state" / "storage").exists()


def test_a_state_that_is_in_use_is_left_where_it_is(tmp_path: Path) -> None:
    """Whoever is asked."""
    (tmp_path / "storage").mkdir()
    with Supervisor(tmp_path, only=[]), pytest.raises(SupervisorError, match="run already"):
        make_room(tmp_path, never, never)
    assert (tmp_path / "storage").exists()
