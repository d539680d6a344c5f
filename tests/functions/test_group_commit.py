"""The group commit, over real gRPC."""

import asyncio
from typing import Any

import grpc
import pytest

from functions.runtime.channel import open_channel
from functions.runtime.datastore import CommitRequest, Lookup, entity, path, values
from functions.runtime.group_commit import MAX_BYTES, EntityRefusedError, GroupCommit
from functions.runtime.rpc import RpcError

Code = grpc.StatusCode


def thing(name: str, **properties: Any) -> Any:
    return entity("local-dev", "Thing", name, properties, unindexed=properties)


def test_what_waits_while_a_commit_is_in_flight_goes_into_the_next(google, run):
    """Fifty callers cost a handful of commits, never more than two at a time, and each entity is stored."""

    async def scenario() -> None:
        commits = GroupCommit(open_channel(google.endpoint), "local-dev")
        google.commits_open.clear()
        first = asyncio.create_task(commits.upsert(thing("first")))
        await google.commits_seen(1)
        others = [asyncio.create_task(commits.upsert(thing(f"n{i}"))) for i in range(50)]
        await google.commits_seen(2)
        late = [asyncio.create_task(commits.upsert(thing(f"late{i}"))) for i in range(50)]
        await asyncio.sleep(0)
        assert not first.done()
        google.commits_open.set()
        await asyncio.gather(first, *others, *late)
        assert [len(commit.mutations) for commit in google.commits] == [1, 50, 50]
        assert google.most_in_flight == 2
        assert len(google.stored("Thing")) == 101
        assert all(commit.mode == CommitRequest.NON_TRANSACTIONAL for commit in google.commits)
        assert google.metadata[0]["x-goog-request-params"] == "project_id=local-dev"

    run(scenario)


def test_a_second_commit_leaves_beside_the_first_once_it_is_as_large(google, run):
    """A commit costs far more than an entity: ten callers wait for the twenty in flight, or for ten more."""

    async def scenario() -> None:
        commits = GroupCommit(open_channel(google.endpoint), "local-dev")
        google.commits_open.clear()
        callers = [asyncio.create_task(commits.upsert(thing(f"first{i}"))) for i in range(20)]
        await google.commits_seen(1)
        callers += [asyncio.create_task(commits.upsert(thing(f"second{i}"))) for i in range(10)]
        # Another commit, if there were one, would be there before the answer to a later request.
        await Lookup(open_channel(google.endpoint), "local-dev").one("Thing", "first0")
        assert len(google.commits) == 1
        callers += [asyncio.create_task(commits.upsert(thing(f"third{i}"))) for i in range(10)]
        await google.commits_seen(2)
        google.commits_open.set()
        await asyncio.gather(*callers)
        assert [len(commit.mutations) for commit in google.commits] == [20, 20]

    run(scenario)


def test_a_caller_is_answered_only_after_its_own_commit(google, run):
    """A commit that is through answers none of those that wait for the next one."""

    async def scenario() -> None:
        commits = GroupCommit(open_channel(google.endpoint), "local-dev")

        async def store(name: str) -> bool:
            await commits.upsert(thing(name))
            return name in google.stored("Thing")

        google.commits_open.clear()
        callers = asyncio.gather(*(store(f"n{i}") for i in range(1200)))
        await google.commits_seen(2)
        # A third commit, if there were one, would be there before the answer to a later request.
        await Lookup(open_channel(google.endpoint), "local-dev").one("Thing", "n0")
        google.commits_open.set()
        assert all(await callers)
        assert max(len(commit.mutations) for commit in google.commits) == 500
        assert google.most_in_flight == 2

    run(scenario)


def test_a_commit_stays_below_the_byte_limit(google, run):
    """Big entities travel in several commits, each below the limit."""

    async def scenario() -> None:
        commits = GroupCommit(open_channel(google.endpoint), "local-dev")
        await asyncio.gather(*(commits.upsert(thing(f"n{i}", text="x" * 900_000)) for i in range(12)))
        assert len(google.stored("Thing")) == 12
        assert max(commit.ByteSize() for commit in google.commits) < MAX_BYTES + 1000
        assert len(google.commits) == 3

    run(scenario)


def test_one_bad_entity_fails_only_its_own_caller(google, run):
    """What Datastore refuses is told to its caller; the forty others of the commit are stored."""

    async def scenario() -> None:
        commits = GroupCommit(open_channel(google.endpoint), "local-dev")
        names = [f"n{i}" for i in range(41)]
        results = await asyncio.gather(
            *(commits.upsert(thing(name, **({"poison": "x"} if name == "n17" else {}))) for name in names),
            return_exceptions=True,
        )
        assert isinstance(results[17], EntityRefusedError)
        assert "poison" in str(results[17])
        assert [r for i, r in enumerate(results) if i != 17] == [None] * 40
        assert set(google.stored("Thing")) == set(names) - {"n17"}

    run(scenario)


def test_an_entity_over_the_limit_is_refused_before_it_is_sent(google, run):
    """An entity of more than 1 MiB never spoils a commit; the error says how big it is."""

    async def scenario() -> None:
        commits = GroupCommit(open_channel(google.endpoint), "local-dev")
        with pytest.raises(EntityRefusedError, match=r"the entity is 11\d+ bytes"):
            await commits.upsert(thing("big", text="x" * 1_100_000))
        assert google.commits == []

    run(scenario)


def test_an_insert_answers_what_was_there_before(google, run):
    """Of inserts that share a commit, those with an older entity get that one, and the others are stored."""

    async def scenario() -> None:
        commits = GroupCommit(open_channel(google.endpoint), "local-dev")
        await asyncio.gather(*(commits.insert(thing(f"n{i}", answer="first")) for i in range(0, 300, 2)))
        before = len(google.commits)
        results = await asyncio.gather(*(commits.insert(thing(f"n{i}", answer="second")) for i in range(300)))
        for number, result in enumerate(results):
            if number % 2:
                assert result is None
            else:
                assert values(result) == {"answer": "first"}
        stored = google.stored("Thing")
        assert all(stored[f"n{i}"]["answer"] == ("second" if i % 2 else "first") for i in range(300))
        assert len(google.commits) - before == 2, "one lookup tells them apart, not a search"

    run(scenario)


def test_the_same_key_never_shares_a_commit(google, run):
    """Two inserts of one key at the same time: one is stored, the other learns of it; nobody fails."""

    async def scenario() -> None:
        commits = GroupCommit(open_channel(google.endpoint), "local-dev")
        results = await asyncio.gather(
            *(commits.insert(thing("same", answer=str(i))) for i in range(5)),
            *(commits.upsert(thing(f"n{i}")) for i in range(5)),
        )
        assert results[0] is None
        assert [values(result) for result in results[1:5]] == [{"answer": "0"}] * 4
        assert len(google.stored("Thing")) == 6
        for commit in google.commits:
            keys = [path(getattr(item, item.WhichOneof("operation")).key) for item in commit.mutations]
            assert len(set(keys)) == len(keys)

    run(scenario)


def test_a_passing_failure_is_tried_again(google, run):
    """Datastore away for a moment is not noticed by the caller."""

    async def scenario() -> None:
        google.fail("Commit", Code.UNAVAILABLE, times=2)
        commits = GroupCommit(open_channel(google.endpoint), "local-dev")
        await commits.upsert(thing("a"))
        assert len(google.commits) == 3
        assert "a" in google.stored("Thing")

    run(scenario)


def test_a_commit_that_was_applied_before_it_failed_gives_no_false_answer(google, run):
    """An insert that meets itself after an ambiguous failure answers what is stored: its own entity."""

    async def scenario() -> None:
        google.fail("Commit", Code.DEADLINE_EXCEEDED, applied=1)
        commits = GroupCommit(open_channel(google.endpoint), "local-dev")
        results = await asyncio.gather(
            commits.insert(thing("a", answer="mine")), commits.insert(thing("b", answer="mine"))
        )
        assert values(results[0]) == {"answer": "mine"}
        assert results[1] is None
        assert len(google.stored("Thing")) == 2

    run(scenario)


def test_when_datastore_stays_away_every_caller_is_told(google, run):
    """After the last attempt each caller of the commit gets the error; a later caller is served again."""

    async def scenario() -> None:
        google.fail("Commit", Code.UNAVAILABLE, times=3)
        commits = GroupCommit(open_channel(google.endpoint), "local-dev")
        results = await asyncio.gather(commits.upsert(thing("a")), commits.upsert(thing("b")), return_exceptions=True)
        assert [type(result) for result in results] == [RpcError, RpcError]
        assert "after 3 attempts" in str(results[0])
        assert google.stored("Thing") == {}
        await commits.upsert(thing("c"))
        assert set(google.stored("Thing")) == {"c"}

    run(scenario)


def test_a_refused_permission_is_not_tried_again(google, run):
    """What no later attempt can mend fails at once."""

    async def scenario() -> None:
        google.fail("Commit", Code.PERMISSION_DENIED, times=9)
        commits = GroupCommit(open_channel(google.endpoint), "local-dev")
        with pytest.raises(RpcError, match="PERMISSION_DENIED after 1 attempts"):
            await commits.upsert(thing("a"))

    run(scenario)


def test_a_caller_that_goes_away_harms_nobody(google, run):
    """A cancelled caller's neighbours are answered as ever."""

    async def scenario() -> None:
        commits = GroupCommit(open_channel(google.endpoint), "local-dev")
        google.commits_open.clear()
        tasks = [asyncio.create_task(commits.upsert(thing(f"n{i}"))) for i in range(3)]
        await google.commits_seen(1)
        tasks.append(asyncio.create_task(commits.upsert(thing("n0"))))
        await asyncio.sleep(0)
        tasks[0].cancel()
        google.commits_open.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [None, None, None]

    run(scenario)
