"""The laptop's Datastore through Google's own clients: what the contract with the emulators does not cover.

Entities, compare-and-set, transactions, queries, aggregations, limits and REST are in tests/contract/test_datastore.py.
"""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import datastore
from google.cloud.datastore.query import PropertyFilter
from google.cloud.datastore_admin_v1 import DatastoreAdminClient
from google.cloud.datastore_v1 import types

from laptop.datastore import transactions
from laptop.datastore.entities import SCHEMA
from laptop.datastore.transactions import Transactions
from laptop.errors import ServiceError
from laptop.store import Store
from tests.datastore_support import FAIL, Clients, names
from tests.support import ServerProcess

BeginTransactionRequest: Any = types.BeginTransactionRequest.pb()
ReadOptions: Any = types.ReadOptions.pb()
COMMIT = "google.datastore.v1.Datastore.Commit"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess("datastore", tmp_path_factory.mktemp("state"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def clients(server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[Clients]:
    """On a project of the test's own."""
    clients = Clients(server.grpc, request.node.name.translate(str.maketrans("_[]", "---")).strip("-"))
    yield clients
    server.admin("DELETE", "/_laptop/faults")
    clients.close()


# --- many writers


def test_ten_writers_compare_and_set(clients: Clients) -> None:
    """All have read the same version: one of them wins, and only its history row is there."""
    clients.put("Pointer", "flights", generation=1)
    version = clients.lookup(clients.key("Pointer", "flights")).found[0].version
    start = threading.Barrier(10)
    outcomes: list[str] = []

    def move(writer: int) -> None:
        pointer = clients.raw("Pointer", "flights", generation={"integer_value": 100 + writer})
        mutations = [
            {"update": pointer, "base_version": version, "conflict_resolution_strategy": FAIL},
            {"insert": clients.raw("History", f"writer {writer}")},
        ]
        request = {"project_id": clients.project, "mode": "TRANSACTIONAL", "mutations": mutations}
        start.wait()
        try:
            clients.api.commit(request={**request, "single_use_transaction": {"read_write": {}}}, retry=None)
            outcomes.append(f"writer {writer}")
        except exceptions.FailedPrecondition:
            outcomes.append("refused")

    threads = [threading.Thread(target=move, args=(writer,)) for writer in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [one for one in outcomes if one != "refused"]
    assert len(outcomes) == 10
    assert names(clients.client.query(kind="History").fetch()) == [winner]
    assert clients.get("Pointer", "flights") == {"generation": 100 + int(winner.split()[1])}


def test_ten_writers_count(clients: Clients) -> None:
    """Each adds ten in transactions, again when it is aborted: the sum is right."""
    clients.put("Counter", "one", value=0)

    def add() -> None:
        client = clients.client
        for _ in range(3):
            while True:
                try:
                    with client.transaction():
                        entity = client.get(client.key("Counter", "one"))
                        entity["value"] += 1
                        client.put(entity)
                    break
                except exceptions.Aborted:
                    continue

    threads = [threading.Thread(target=add) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clients.get("Counter", "one") == {"value": 30}


# --- transactions


def test_a_transaction_sees_one_state(clients: Clients) -> None:
    """A read that would show another state than an earlier one is refused: ABORTED, also if it is read-only."""
    clients.put("Thing", "a", size=1)
    for options in ({"read_write": {}}, {"read_only": {}}):
        identifier = clients.begin(**options)
        clients.lookup(clients.key("Thing", "a"), transaction=identifier)
        clients.lookup(clients.key("Thing", "b"), transaction=identifier)
        clients.put("Thing", "a", options=str(options))
        with pytest.raises(exceptions.Aborted):
            clients.lookup(clients.key("Thing", "b"), transaction=identifier)


def test_what_was_missing_is_read_too(clients: Clients) -> None:
    """Two transactions that have not found an entity: one makes it, the other one is aborted."""
    one, two = clients.begin(read_write={}), clients.begin(read_write={})
    for identifier in (one, two):
        assert clients.lookup(clients.key("Thing", "a"), transaction=identifier).missing
    clients.commit({"upsert": clients.raw("Thing", "a")}, transaction=one)
    with pytest.raises(exceptions.Aborted):
        clients.commit({"upsert": clients.raw("Thing", "a")}, transaction=two)


def test_a_delete_contends_with_a_query(clients: Clients) -> None:
    """The query's result would be another one."""
    clients.fill("Thing", {"a": {}, "b": {}})
    identifier = clients.begin(read_write={})
    clients.query(kind=[{"name": "Thing"}], read_options={"transaction": identifier})
    clients.client.delete(clients.client.key("Thing", "a"))
    with pytest.raises(exceptions.Aborted):
        clients.commit({"upsert": clients.raw("Thing", "c")}, transaction=identifier)


def test_transactions_on_different_entities(clients: Clients) -> None:
    """Do not contend."""
    clients.fill("Thing", {"a": {"size": 1}, "b": {"size": 1}})
    one, two = clients.begin(read_write={}), clients.begin(read_write={})
    for identifier, name in ((one, "a"), (two, "b")):
        clients.lookup(clients.key("Thing", name), transaction=identifier)
    for identifier, name in ((one, "a"), (two, "b")):
        clients.commit({"upsert": clients.raw("Thing", name)}, transaction=identifier)
    assert (clients.get("Thing", "a"), clients.get("Thing", "b")) == ({}, {})


def test_a_read_only_transaction(clients: Clients) -> None:
    """Cannot write."""
    with pytest.raises(exceptions.InvalidArgument, match="read-only"):
        clients.commit({"upsert": clients.raw("Thing", "a")}, transaction=clients.begin(read_only={}))


def test_a_transaction_begun_with_a_read(clients: Clients) -> None:
    """The answer tells its id."""
    clients.put("Thing", "a", size=1)
    request = {"project_id": clients.project, "keys": [clients.key("Thing", "a")]}
    options = {"read_options": {"new_transaction": {"read_write": {}}}}
    identifier = clients.api.lookup(request=request | options).transaction
    clients.put("Thing", "a", size=2)
    with pytest.raises(exceptions.Aborted):
        clients.commit({"upsert": clients.raw("Thing", "a")}, transaction=identifier)


def test_a_transaction_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute without a read, and after 270 seconds in any case."""
    store = Store(tmp_path / "state.sqlite", SCHEMA)
    handlers = Transactions(store)
    now = 0.0
    monkeypatch.setattr(transactions.time, "monotonic", lambda: now)

    def begin() -> Any:
        identifier = asyncio.run(handlers.begin_transaction(BeginTransactionRequest())).transaction
        return ReadOptions(transaction=identifier)

    idle, busy = begin(), begin()
    for now in range(0, 271, 30):  # noqa: B007 - the clock of the transactions
        handlers.reading(busy)
    with pytest.raises(ServiceError, match="expired"):
        handlers.reading(idle)
    now = 271
    with pytest.raises(ServiceError, match="expired"):
        handlers.reading(busy)
    store.close()


# --- queries


def test_many_results(clients: Clients) -> None:
    """Come in batches: by number, and by size, so that a client's limit of 4 MiB a message holds."""
    for start in range(0, 2500, 500):
        clients.fill("Small", {f"{number:04}": {} for number in range(start, start + 500)})
    query = clients.client.query(kind="Small")
    assert names(query.fetch()) == [f"{number:04}" for number in range(2500)]
    assert names(query.fetch(offset=1200, limit=1100)) == [f"{number:04}" for number in range(1200, 2300)]
    for number in range(6):
        clients.put("Large", f"{number}", unindexed=["blob"], blob=b"x" * 1_000_000)
    batch = clients.query(kind=[{"name": "Large"}])
    assert batch.more_results == types.QueryResultBatch.MoreResultsType.NOT_FINISHED
    assert types.QueryResultBatch.pb(batch).ByteSize() < 4 * 1024 * 1024
    assert names(clients.client.query(kind="Large").fetch()) == list("012345")


def test_a_large_lookup_is_answered_in_parts(clients: Clients) -> None:
    """What does not fit is deferred; Google's client asks again."""
    for number in range(6):
        clients.put("Large", f"{number}", unindexed=["blob"], blob=b"x" * 1_000_000)
    keys = [clients.key("Large", f"{number}") for number in range(6)]
    first = clients.lookup(*keys)
    assert (len(first.found), len(first.deferred)) == (3, 3)
    found = clients.client.get_multi([clients.client.key("Large", f"{number}") for number in range(6)])
    assert len(found) == 6


def test_a_query_reads_its_index(clients: Clients) -> None:
    """A change moves an entity to where it belongs now, a delete takes it out."""
    clients.fill("Thing", {name: {"size": 1, "tags": ["x", "y"]} for name in "abc"})
    clients.put("Thing", "b", size=2, tags=["y"])
    clients.client.delete(clients.client.key("Thing", "c"))
    found = {}
    for name, value in (("size", 1), ("size", 2), ("tags", "x"), ("tags", "y")):
        query = clients.client.query(kind="Thing")
        query.add_filter(filter=PropertyFilter(name, "=", value))
        found[name, value] = names(query.fetch())
        (counted,) = list(clients.client.aggregation_query(query).count().fetch())
        assert counted[0].value == len(found[name, value])
    assert found == {("size", 1): ["a"], ("size", 2): ["b"], ("tags", "x"): ["a"], ("tags", "y"): ["a", "b"]}


@pytest.mark.parametrize("number", [20, 1500])
def test_an_order_within_an_equality(clients: Clients, server: ServerProcess, number: int) -> None:
    """The same whether there are few such entities, which are sorted, or many, which are read in order."""
    make_index(server, clients.project, "Thing", color="ASCENDING", size="DESCENDING")
    colors = ["red", "blue", "red"]
    rows = {f"{one:04}": {"size": one * 7 % 1009, "color": colors[one % 3]} for one in range(number)}
    for start in range(0, number, 500):
        clients.fill("Thing", dict(list(rows.items())[start : start + 500]))
    query = clients.client.query(kind="Thing", order=["-size"])
    query.add_filter(filter=PropertyFilter("color", "=", "red"))
    red = [(row["size"], name) for name, row in rows.items() if row["color"] == "red"]
    expected = [name for _, name in sorted(red, reverse=True)]
    assert names(query.fetch(limit=25)) == expected[:25]
    assert names(query.fetch()) == expected


def test_a_bad_cursor(clients: Clients) -> None:
    """INVALID_ARGUMENT."""
    for cursor in (b"x", b"\xff" * 20, b"\x00" * 4):
        with pytest.raises(exceptions.InvalidArgument, match="cursor"):
            clients.query(kind=[{"name": "Thing"}], start_cursor=cursor)


@pytest.mark.parametrize(
    "filters",
    [
        {"property": {"name": "a"}, "op": "IN", "value": {"array_value": {"values": []}}},
        {"property": {"name": "a"}, "op": "NOT_IN", "value": {"array_value": {"values": [{"integer_value": 1}] * 11}}},
        {"property": {"name": "a"}, "op": "OPERATOR_UNSPECIFIED", "value": {"integer_value": 1}},
        {"property": {"name": ""}, "op": "EQUAL", "value": {"integer_value": 1}},
        {"property": {"name": "__key__"}, "op": "EQUAL", "value": {"integer_value": 1}},
        {"property": {"name": "__key__"}, "op": "HAS_ANCESTOR", "value": {"integer_value": 1}},
        {"property": {"name": "a"}, "op": "EQUAL", "value": {"entity_value": {}}},
    ],
)
def test_a_bad_filter(clients: Clients, filters: dict[str, Any]) -> None:
    """INVALID_ARGUMENT."""
    with pytest.raises(exceptions.InvalidArgument):
        clients.query(kind=[{"name": "Thing"}], filter={"property_filter": filters})


# --- composite indexes


def make_index(server: ServerProcess, project: str, kind: str, ancestor: str = "NONE", **properties: str) -> Any:
    """Make a composite index over REST; answers what the operation ends with."""
    body = {
        "kind": kind,
        "ancestor": ancestor,
        "properties": [{"name": name, "direction": direction} for name, direction in properties.items()],
    }
    return admin(server).create_index(request={"project_id": project, "index": body}).result()


def admin(server: ServerProcess) -> DatastoreAdminClient:
    transport = DatastoreAdminClient.get_transport_class("rest")(host=server.http, credentials=AnonymousCredentials())
    return DatastoreAdminClient(transport=transport)


def test_an_index_is_made_used_and_deleted(clients: Clients, server: ServerProcess) -> None:
    """The query is refused, told what it needs, answered once the index is there, and refused again without it."""
    clients.put("Thing", "a", color="red", size=1)
    query = clients.client.query(kind="Thing", order=["-size"])
    query.add_filter(filter=PropertyFilter("color", "=", "red"))
    with pytest.raises(exceptions.FailedPrecondition, match=r"composite index on \(color, size DESC\)"):
        list(query.fetch())
    index = make_index(server, clients.project, "Thing", color="ASCENDING", size="DESCENDING")
    assert names(query.fetch()) == ["a"]
    client = admin(server)
    (known,) = client.list_indexes(request={"project_id": clients.project})
    assert known == index == client.get_index(request={"project_id": clients.project, "index_id": index.index_id})
    with pytest.raises(exceptions.Conflict):
        make_index(server, clients.project, "Thing", color="ASCENDING", size="DESCENDING")
    client.delete_index(request={"project_id": clients.project, "index_id": index.index_id}).result()
    with pytest.raises(exceptions.FailedPrecondition):
        list(query.fetch())


def test_an_index_with_ancestors(clients: Clients, server: ServerProcess) -> None:
    """Serves queries within an ancestor; one without does not, and the other way round."""
    top = clients.client.key("Thing", "a")
    clients.put("Thing", "a", color="red", size=1)

    def query(**options: Any) -> list[Any]:
        query = clients.client.query(kind="Thing", order=["size"], **options)
        query.add_filter(filter=PropertyFilter("color", "=", "red"))
        return names(query.fetch())

    make_index(server, clients.project, "Thing", color="ASCENDING", size="ASCENDING")
    assert query() == ["a"]
    with pytest.raises(exceptions.FailedPrecondition, match="with ancestors"):
        query(ancestor=top)
    make_index(server, clients.project, "Thing", "ALL_ANCESTORS", color="ASCENDING", size="ASCENDING")
    assert query(ancestor=top) == ["a"]
    assert names(clients.client.query(kind="Thing", ancestor=clients.client.key("Thing", "b")).fetch()) == []


def test_an_index_of_one_property(clients: Clients, server: ServerProcess) -> None:
    """Is refused: those are built in."""
    with pytest.raises(exceptions.BadRequest, match="built in"):
        make_index(server, clients.project, "Thing", color="ASCENDING")


# --- limits


def test_a_commit_of_more_than_10_mebibytes(clients: Clients) -> None:
    """Is refused, with the way out."""
    blob = {"blob_value": b"x" * 1_000_000, "exclude_from_indexes": True}
    mutations = [{"upsert": clients.raw("Thing", str(number), blob=blob)} for number in range(11)]
    with pytest.raises(exceptions.InvalidArgument, match="split it"):
        clients.commit(*mutations)
    clients.commit(*mutations[:10])


def test_a_write_that_changes_nothing_in_another_order(clients: Clients) -> None:
    """Leaves the version as it is: the order of properties is no difference."""
    values = {f"p{number}": {"integer_value": number} for number in range(20)}
    first = clients.commit({"upsert": clients.raw("Thing", "a", **values)})
    again = clients.commit({"upsert": clients.raw("Thing", "a", **dict(reversed(values.items())))})
    assert first.mutation_results[0].version == again.mutation_results[0].version


@pytest.mark.parametrize(
    "key",
    [
        {"path": []},
        {"path": [{"kind": "", "name": "a"}]},
        {"path": [{"kind": "K", "id": 0}]},
        {"path": [{"kind": "K"}, {"kind": "L", "name": "a"}]},
        {"path": [{"kind": "K", "name": "a"}] * 101},
        {"path": [{"kind": "K", "name": "x" * 1400}] * 5},
    ],
)
def test_a_bad_key(clients: Clients, key: dict[str, Any]) -> None:
    """INVALID_ARGUMENT, on a write and on a read."""
    with pytest.raises(exceptions.InvalidArgument):
        clients.commit({"upsert": {"key": key}})
    with pytest.raises(exceptions.InvalidArgument):
        clients.lookup(key)


# --- what is not served, and faults


def test_unserved_calls(clients: Clients, server: ServerProcess) -> None:
    """UNIMPLEMENTED, with the name: calls, and fields that would change the answer."""
    refused = pytest.raises(exceptions.MethodNotImplemented)
    request = {"project_id": clients.project, "output_url_prefix": "gs://bucket"}
    with refused as caught:
        admin(server).export_entities(request=request)
    assert "ExportEntities" in caught.value.message
    gql = {"project_id": clients.project, "gql_query": {"query_string": "SELECT * FROM Thing"}}
    with refused as caught:
        clients.api.run_query(request=gql, retry=None)
    assert "gql_query" in caught.value.message
    with refused as caught:
        clients.query(kind=[{"name": "Thing"}], distinct_on=[{"name": "a"}])
    assert "distinct_on" in caught.value.message
    transform = {"property": "a", "increment": {"integer_value": 1}}
    with refused as caught:
        clients.commit({"upsert": clients.raw("Thing", "a"), "property_transforms": [transform]})
    assert "property_transforms" in caught.value.message
    with refused as caught:
        clients.query(kind=[{"name": "Thing"}], read_options={"read_time": {"seconds": 1}})
    assert "read_time" in caught.value.message


def test_unknown_calls(clients: Clients, server: ServerProcess) -> None:
    """UNIMPLEMENTED over gRPC and 501 over REST, with the path."""
    call = clients.channel.unary_unary("/google.datastore.v1.Datastore/Explode")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "Explode" in caught.value.details()
    response = requests.post(f"{server.http}/v1/projects/local-dev:explode", json={}, timeout=10)
    assert (response.status_code, response.json()["error"]["status"]) == (501, "UNIMPLEMENTED")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"keys": 1}', b'{"keys": [{"path": [{"kind": 1}]}]}', b"\xff"])
def test_rest_that_is_no_request(clients: Clients, server: ServerProcess, body: bytes) -> None:
    """400 with a reason, or the answer to an empty request."""
    headers = {"Content-Type": "application/json"}
    response = requests.post(f"{server.http}/v1/projects/local-dev:lookup", data=body, headers=headers, timeout=10)
    assert response.status_code == (200 if body == b"" else 400)
    assert body == b"" or response.json()["error"]["message"]


def test_faults_fire_and_are_counted(clients: Clients, server: ServerProcess) -> None:
    """As often as asked for, then no more; a fault after the call leaves it done."""
    server.fault(rpc=COMMIT, code="UNAVAILABLE", times=2)
    for _ in range(2):
        with pytest.raises(exceptions.ServiceUnavailable):
            clients.commit({"upsert": clients.raw("Thing", "a")})
    assert [fault["fired"] for fault in server.faults()] == [2]
    assert clients.get("Thing", "a") is None
    server.fault(rpc=COMMIT, code="DEADLINE_EXCEEDED", when="after")
    with pytest.raises(exceptions.DeadlineExceeded):
        clients.commit({"insert": clients.raw("Thing", "a")})
    with pytest.raises(exceptions.Conflict):
        clients.commit({"insert": clients.raw("Thing", "a")})
    assert [fault["fired"] for fault in server.faults()] == [2, 1]


def test_faults_over_rest(clients: Clients, server: ServerProcess) -> None:
    """The same, as the workflow's calls meet them."""
    server.fault(rpc="google.datastore.v1.Datastore.Lookup", code="RESOURCE_EXHAUSTED")
    url = f"{server.http}/v1/projects/{clients.project}:lookup"
    assert [requests.post(url, json={"keys": []}, timeout=10).status_code for _ in range(2)] == [429, 200]
    assert [fault["fired"] for fault in server.faults()] == [1]


def test_ids(clients: Clients) -> None:
    """Are allocated for incomplete keys only; reserved ones are taken note of."""
    complete = {"project_id": clients.project, "keys": [clients.key("Thing", "a")]}
    with pytest.raises(exceptions.InvalidArgument, match="incomplete"):
        clients.api.allocate_ids(request=complete)
    clients.client.reserve_ids_multi([clients.client.key("Thing", 5)])
    child = clients.client.allocate_ids(clients.client.key("Family", "a", "Thing"), 1)[0]
    assert isinstance(child, datastore.Key)
    assert (child.parent.name, child.kind) == ("a", "Thing")
