"""kill -9 of Datastore in mid-stream: nothing acknowledged is lost, nothing is half there."""

import threading
from collections.abc import Callable, Iterator

import pytest
from google.api_core import exceptions

from tests.datastore_support import Clients, names
from tests.support import ServerProcess, eventually

KILLS = 3


@pytest.fixture
def server(serve: Callable[..., ServerProcess]) -> ServerProcess:
    return serve("datastore")


@pytest.fixture
def clients(server: ServerProcess) -> Iterator[Clients]:
    clients = Clients(server.grpc)
    yield clients
    clients.close()


def kill_while_growing(server: ServerProcess, progress: Callable[[], int]) -> None:
    """Kill and restart the server a few times, each time after some more progress."""
    for _ in range(KILLS):
        seen = progress()
        eventually(lambda seen=seen: progress() > seen + 20, 30)  # type: ignore[misc]
        server.kill()
        server.start()
    seen = progress()
    eventually(lambda: progress() > seen + 20, 30)


def write_until(stop: threading.Event, commit: Callable[[int], None], confirmed: list[int], first: int) -> None:
    """Commit numbered writes; note those that the server has confirmed."""
    number = first
    while not stop.is_set():
        try:
            commit(number)
            confirmed.append(number)
        except exceptions.GoogleAPICallError:
            stop.wait(0.02)  # the server is away; this one may or may not have arrived
        number += 1


def test_confirmed_commits_survive(server: ServerProcess, clients: Clients) -> None:
    """Of four writers; and the pair that one transaction writes is there as a pair or not at all."""

    def commit(number: int) -> None:
        pair = [{"insert": clients.raw(kind, str(number), odd={"integer_value": number})} for kind in ("Left", "Right")]
        request = {"project_id": clients.project, "mode": "TRANSACTIONAL", "mutations": pair}
        request["single_use_transaction"] = {"read_write": {}}
        clients.api.commit(request=request, retry=None, timeout=5)

    stop, confirmed = threading.Event(), list[int]()
    threads = [
        threading.Thread(target=write_until, args=(stop, commit, confirmed, writer * 1_000_000)) for writer in range(4)
    ]
    for thread in threads:
        thread.start()
    kill_while_growing(server, lambda: len(confirmed))
    stop.set()
    for thread in threads:
        thread.join()
    left, right = (set(names(clients.client.query(kind=kind).fetch())) for kind in ("Left", "Right"))
    assert {str(number) for number in confirmed} <= left
    assert left == right
    # The index tells the same as the entities.
    indexed = names(clients.client.query(kind="Left", order=["odd"]).fetch())
    assert set(indexed) == left
    assert indexed == sorted(indexed, key=int)


def test_versions_rise_over_a_restart(server: ServerProcess, clients: Clients) -> None:
    """A stale base version stays stale; a transaction of before is over."""
    clients.put("Thing", "a", size=1)
    first = clients.lookup(clients.key("Thing", "a")).found[0].version
    identifier = clients.begin(read_write={})
    server.kill()
    server.start()
    eventually(lambda: clients.commit({"upsert": clients.raw("Thing", "a")}).mutation_results[0].version > first)
    with pytest.raises(exceptions.InvalidArgument, match="expired"):
        clients.commit({"upsert": clients.raw("Thing", "a")}, transaction=identifier)


def test_an_answer_lost_after_the_commit(server: ServerProcess, clients: Clients) -> None:
    """The ambiguous case: the caller got an error, the entity is there; its insert again says so."""
    server.fault(rpc="google.datastore.v1.Datastore.Commit", when="after", action="kill")
    insert = {"insert": clients.raw("Thing", "a", size={"integer_value": 1})}
    with pytest.raises(exceptions.GoogleAPICallError):
        clients.commit(insert)
    server.kill()
    server.start()
    eventually(lambda: clients.get("Thing", "a") == {"size": 1})
    with pytest.raises(exceptions.Conflict):
        clients.commit(insert)
