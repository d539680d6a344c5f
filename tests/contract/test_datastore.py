"""One test body against our Datastore server and against both of Google's official emulators.

These are the Datastore emulator (the older one, which knows composite indexes) and the Firestore emulator in Datastore
mode (the newer one, which knows the newer queries). Where one differs from the documented service, DIFFERENCES tells in
what, and the test holds the emulator to it: should a new version mend it, the test says so. In each of these cases our
server does what the service's documentation says.
"""

import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import datastore
from google.cloud.datastore.helpers import GeoPoint
from google.cloud.datastore.query import And, Or, PropertyFilter
from google.cloud.datastore_admin_v1 import DatastoreAdminClient
from google.cloud.datastore_v1 import types

from tests.datastore_support import FAIL, Clients, names
from tests.support import ServerProcess, eventually

DATASTORE = "com.google.cloud.datastore.emulator.CloudDatastore"
FIRESTORE = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
JARS = {
    "datastore": "cloud-datastore-emulator/CloudDatastore.jar",
    "firestore": "cloud-firestore-emulator/cloud-firestore-emulator.jar",
}
OLD_QUERIES = "the Datastore emulator knows no OR, IN, NOT_IN or !=, and one inequality in a query"
NO_AGGREGATIONS = "the Datastore emulator answers UNIMPLEMENTED"
NO_INDEXES = "the Firestore emulator answers every query without an index"
LOCKS = "the Firestore emulator locks what a transaction has read, for a minute"
TAKES_MORE_KEYS = "the emulators look up any number of keys"
DIFFERENCES = {
    (
        "test_a_transaction_that_has_queried",
        "datastore",
    ): "the Datastore emulator queries in a transaction by ancestor only",
    ("test_a_transaction_that_has_queried", "firestore"): LOCKS,
    ("test_aggregations", "datastore"): NO_AGGREGATIONS,
    ("test_aggregations_of_a_filter", "datastore"): NO_AGGREGATIONS,
    ("test_an_abandoned_transaction", "firestore"): LOCKS,
    ("test_arrays", "firestore"): "the Firestore emulator finds an entity once for each of its values",
    ("test_average_of_nothing", "datastore"): NO_AGGREGATIONS,
    ("test_base_version_without_fail", "firestore"): "the Firestore emulator overwrites",
    ("test_composite_index", "firestore"): NO_INDEXES,
    ("test_composite_index_within_an_ancestor", "firestore"): NO_INDEXES,
    ("test_count_up_to", "datastore"): NO_AGGREGATIONS,
    ("test_in", "datastore"): OLD_QUERIES,
    ("test_limit_and_offset", "datastore"): "the Datastore emulator says MORE_RESULTS_AFTER_LIMIT at the end too",
    ("test_lookup_of_1001_keys", "datastore"): TAKES_MORE_KEYS,
    ("test_lookup_of_1001_keys", "firestore"): TAKES_MORE_KEYS,
    ("test_not_equal", "datastore"): OLD_QUERIES,
    ("test_not_in", "datastore"): OLD_QUERIES,
    ("test_or", "datastore"): OLD_QUERIES,
    ("test_property_mask", "datastore"): "the Datastore emulator replaces the whole entity",
    ("test_property_mask_of_a_lookup", "datastore"): "the Datastore emulator answers the whole entity",
    ("test_the_loser_of_two_transactions", "firestore"): LOCKS,
    ("test_too_many_disjunctions", "datastore"): OLD_QUERIES,
    ("test_two_inequalities", "datastore"): OLD_QUERIES,
}
INDEXES = {
    "Thing": [
        (("color", "ASCENDING"), ("size", "ASCENDING")),
        (("color", "ASCENDING"), ("size", "DESCENDING")),
        (("size", "ASCENDING"), ("color", "DESCENDING")),
        (("size", "ASCENDING"), ("weight", "ASCENDING")),
    ]
}


def jar(name: str) -> Path | None:
    """An emulator in the Cloud SDK whose gcloud is on the PATH."""
    gcloud = shutil.which("gcloud")
    if gcloud is None or shutil.which("java") is None:
        return None
    found = Path(gcloud).resolve().parent.parent / "platform" / name
    return found if found.exists() else None


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess("datastore", tmp_path_factory.mktemp("state"))
    server.start()
    yield server
    server.stop()


def start_emulator(kind: str, folder: Path) -> tuple[str, subprocess.Popen[bytes]]:
    """Start one of Google's emulators; answers where it listens."""
    path = jar(JARS[kind])
    if path is None:
        problem = f"no {kind} emulator: install the Cloud SDK with its component cloud-{kind}-emulator, and Java"
        pytest.fail(problem) if os.environ.get("CI") else pytest.skip(problem)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "emulator.log"
    # The gcloud wrapper would leave its Java child behind, so Java is started here, as the wrapper does.
    java = ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", str(path)]
    if kind == "datastore":
        # It answers Admin calls for no index: it reads them from a file, made here as `gcloud` would make it.
        data = folder / "data"
        (data / "WEB-INF").mkdir(parents=True)
        (data / "WEB-INF" / "datastore-indexes.xml").write_text(index_file())
        command = [*java, DATASTORE, "start", "--host=127.0.0.1", f"--port={port}", "--store_on_disk=False"]
        command += ["--consistency=1.0", "--require_indexes", str(data)]
    else:
        command = [*java, FIRESTORE, "--host=127.0.0.1", f"--port={port}", "--database-mode=datastore-mode"]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    up = "Dev App Server is now running"
    eventually(lambda: up in log.read_text() or process.poll() is not None, 60, f"the {kind} emulator is up")
    assert process.poll() is None, log.read_text()
    return f"127.0.0.1:{port}", process


def index_file() -> str:
    lines = ['<datastore-indexes autoGenerate="false">']
    for kind, indexes in INDEXES.items():
        for index in indexes:
            lines.append(f'<datastore-index kind="{kind}" ancestor="false">')
            lines += [
                f'<property name="{name}" direction="{way.removesuffix("ENDING").lower()}"/>' for name, way in index
            ]
            lines.append("</datastore-index>")
    return "\n".join([*lines, "</datastore-indexes>"])


@pytest.fixture(
    scope="module",
    params=[
        "laptop",
        pytest.param("datastore", marks=pytest.mark.emulator),
        pytest.param("firestore", marks=pytest.mark.emulator),
    ],
)
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Where a server listens: gRPC, HTTP."""
    if request.param == "laptop":
        server: ServerProcess = request.getfixturevalue("laptop")
        yield server.grpc, server.http
        return
    host, process = start_emulator(request.param, tmp_path_factory.mktemp(request.param))
    try:
        yield host, f"http://{host}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def clients(address: tuple[str, str], request: pytest.FixtureRequest) -> Iterator[Clients]:
    server = request.node.callspec.params["address"]
    if reason := DIFFERENCES.get((request.node.originalname, server)):
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    clients = Clients(address[0], f"contract-{uuid.uuid4().hex[:8]}")
    if server == "laptop":
        make_indexes(request.getfixturevalue("laptop").http, clients.project)
    yield clients
    clients.close()


def make_indexes(url: str, project: str) -> None:
    transport = DatastoreAdminClient.get_transport_class("rest")(host=url, credentials=AnonymousCredentials())
    admin = DatastoreAdminClient(transport=transport)
    for kind, indexes in INDEXES.items():
        for index in indexes:
            properties = [{"name": name, "direction": direction} for name, direction in index]
            body = {"kind": kind, "ancestor": "NONE", "properties": properties}
            admin.create_index(request={"project_id": project, "index": body}).result()


def things(clients: Clients, *filters: Any, **options: Any) -> list[str | int]:
    """The names of the things that a query finds, in its order."""
    query = clients.client.query(kind="Thing", **options)
    for one in filters:
        query.add_filter(filter=PropertyFilter(*one) if isinstance(one, tuple) else one)
    return names(query.fetch())


@pytest.fixture
def balls(clients: Clients) -> Clients:
    """Five things of two properties; the fifth has only one of them."""
    rows = [("a", "red", 1), ("b", "blue", 2), ("c", "red", 3), ("d", "green", 4)]
    clients.fill("Thing", {name: {"color": color, "size": size} for name, color, size in rows})
    clients.put("Thing", "e", color="blue")
    return clients


# --- entities


def test_every_type_of_value(clients: Clients) -> None:
    """What was put comes back, type and all."""
    inner = datastore.Entity(exclude_from_indexes=("text",))
    inner.update({"text": "inside", "number": 1})
    values = {
        "none": None, "yes": True, "number": -7, "ratio": 0.5, "when": datetime(2013, 1, 1, 5, 15, 0, 123456, UTC),
        "text": "Zoë", "bytes": b"\x00\xff", "place": GeoPoint(40.6, -73.8), "list": [1, "two", None], "empty": [],
        "inner": inner, "key": clients.client.key("Other", 12),
    }  # fmt: skip
    clients.put("Thing", "all", **values)
    assert clients.get("Thing", "all") == values


def test_delete(clients: Clients) -> None:
    """Gone; and deleting what is not there is no error."""
    clients.put("Thing", "a", size=1)
    for _ in range(2):
        clients.client.delete(clients.client.key("Thing", "a"))
        assert clients.get("Thing", "a") is None


def test_insert_of_an_existing_entity(clients: Clients) -> None:
    """ALREADY_EXISTS; without a transaction, what stands before it in the commit is applied, the rest is not."""
    clients.put("Thing", "a", size=1)
    mutations = [{"upsert": clients.raw("Thing", "b")}, {"insert": clients.raw("Thing", "a")}]
    with pytest.raises(exceptions.Conflict) as caught:
        clients.commit(*mutations, {"upsert": clients.raw("Thing", "c")})
    assert caught.value.grpc_status_code is grpc.StatusCode.ALREADY_EXISTS
    assert [clients.get("Thing", name) for name in "abc"] == [{"size": 1}, {}, None]


def test_a_transaction_that_fails_in_part(clients: Clients) -> None:
    """Writes nothing at all."""
    clients.put("Thing", "a")
    mutations = [{"upsert": clients.raw("Thing", "b")}, {"insert": clients.raw("Thing", "a")}]
    with pytest.raises(exceptions.Conflict):
        clients.commit(*mutations, transaction=clients.begin(read_write={}))
    assert clients.get("Thing", "b") is None


def test_a_write_that_changes_nothing(clients: Clients) -> None:
    """Leaves the version as it is."""
    clients.put("Thing", "a", size=1)
    version = version_of(clients, "a")
    clients.put("Thing", "a", size=1)
    assert version_of(clients, "a") == version


def test_update_of_a_missing_entity(clients: Clients) -> None:
    """NOT_FOUND."""
    with pytest.raises(exceptions.NotFound):
        clients.commit({"update": clients.raw("Thing", "a")})


def test_ids_are_given(clients: Clients) -> None:
    """An incomplete key gets an id, by an insert and ahead of it."""
    entity = datastore.Entity(clients.client.key("Thing"))
    clients.client.put(entity)
    reserved = clients.client.allocate_ids(clients.client.key("Thing"), 3)
    ids = {entity.key.id, *(key.id for key in reserved)}
    assert len(ids) == 4
    assert all(isinstance(one, int) and one > 0 for one in ids)


def test_lookup_of_many(clients: Clients) -> None:
    """Each key once, found or missing."""
    clients.fill("Thing", {f"n{number}": {"size": number} for number in range(50)})
    keys = [clients.client.key("Thing", f"n{number}") for number in range(40, 60)]
    missing: list[Any] = []
    found = clients.client.get_multi([*keys, keys[0]], missing=missing)
    assert {entity["size"] for entity in found} == set(range(40, 50))
    assert {entity.key.name for entity in missing} == {f"n{number}" for number in range(50, 60)}


def test_namespaces_are_apart(clients: Clients, address: tuple[str, str]) -> None:
    """The same key in two namespaces is two entities."""
    other = Clients(address[0], clients.project, namespace="other")
    clients.put("Thing", "a", size=1)
    other.put("Thing", "a", size=2)
    assert (clients.get("Thing", "a"), other.get("Thing", "a")) == ({"size": 1}, {"size": 2})
    assert len(list(other.client.query(kind="Thing").fetch())) == 1
    other.close()


def test_property_mask(clients: Clients) -> None:
    """Only what the mask names is written; what it names and the entity lacks is removed."""
    clients.put("Thing", "a", size=1, color="red", weight=5)
    entity = clients.raw("Thing", "a", size={"integer_value": 2}, color={"string_value": "blue"})
    clients.commit({"upsert": entity, "property_mask": {"paths": ["size", "weight"]}})
    assert clients.get("Thing", "a") == {"size": 2, "color": "red"}


def test_property_mask_of_a_lookup(clients: Clients) -> None:
    """Only what the mask names is answered, if the entity has it."""
    clients.put("Thing", "a", size=1, color="red")
    request = {
        "project_id": clients.project,
        "keys": [clients.key("Thing", "a"), clients.key("Thing", "b")],
        "property_mask": {"paths": ["size", "weight"]},
    }
    answer = clients.api.lookup(request=request)
    (found,) = answer.found
    assert {name: value.integer_value for name, value in found.entity.properties.items()} == {"size": 1}
    assert [one.entity.key.path[0].name for one in answer.missing] == ["b"]


def test_times_are_kept_to_the_microsecond(clients: Clients) -> None:
    """What is finer is cut off."""
    stamp = {"timestamp_value": {"seconds": 1, "nanos": 123456789}}
    clients.commit({"upsert": clients.raw("Thing", "a", when=stamp)})
    found = clients.lookup(clients.key("Thing", "a")).found[0].entity
    assert found.properties["when"].timestamp_value.nanosecond == 123456000


# --- compare and set


def version_of(clients: Clients, name: str) -> int:
    return int(clients.lookup(clients.key("Thing", name)).found[0].version)


def test_base_version_and_fail(clients: Clients) -> None:
    """Of two that have read the same version, the second is refused, with all of its commit."""
    clients.put("Thing", "a", size=1)
    version = version_of(clients, "a")

    def move(size: int) -> Any:
        update = clients.raw("Thing", "a", size={"integer_value": size})
        mutation = {"update": update, "base_version": version, "conflict_resolution_strategy": FAIL}
        history = {"insert": clients.raw("Thing", f"history {size}")}
        return clients.commit(history, mutation, transaction=clients.begin(read_write={}))

    first = move(2)
    assert version_of(clients, "a") == first.mutation_results[1].version > version
    with pytest.raises(exceptions.FailedPrecondition):
        move(3)
    assert clients.get("Thing", "history 3") is None


def test_base_version_of_a_missing_entity(clients: Clients) -> None:
    """Is zero."""
    mutation = {"upsert": clients.raw("Thing", "a"), "conflict_resolution_strategy": FAIL}
    with pytest.raises(exceptions.FailedPrecondition):
        clients.commit({**mutation, "base_version": 1})
    clients.commit({**mutation, "base_version": 0})
    assert clients.get("Thing", "a") == {}


def test_base_version_without_fail(clients: Clients) -> None:
    """The stale write is not applied, and the answer says so."""
    clients.put("Thing", "a", size=1)
    version = version_of(clients, "a")
    clients.put("Thing", "a", size=2)
    stale = {"upsert": clients.raw("Thing", "a", size={"integer_value": 3}), "base_version": version}
    (result,) = clients.commit(stale).mutation_results
    assert result.conflict_detected
    assert result.version == version_of(clients, "a")
    assert clients.get("Thing", "a") == {"size": 2}


def test_one_commit_of_two_mutations_of_an_entity(clients: Clients) -> None:
    """Refused outside a transaction."""
    with pytest.raises(exceptions.InvalidArgument):
        clients.commit(*[{"upsert": clients.raw("Thing", "a")}] * 2)


# --- transactions


def test_read_modify_write(clients: Clients) -> None:
    """What a transaction writes is there after its commit, and not before."""
    clients.put("Thing", "a", size=1)
    with clients.client.transaction():
        entity = clients.client.get(clients.client.key("Thing", "a"))
        entity["size"] += 1
        clients.client.put(entity)
        assert clients.get("Thing", "a") == {"size": 1}
    assert clients.get("Thing", "a") == {"size": 2}


def test_the_loser_of_two_transactions(clients: Clients) -> None:
    """ABORTED; what it wrote is not there."""
    clients.put("Thing", "a", size=1)
    key = clients.key("Thing", "a")
    one, two = clients.begin(read_write={}), clients.begin(read_write={})
    clients.lookup(key, transaction=one)
    clients.lookup(key, transaction=two)
    clients.commit({"upsert": clients.raw("Thing", "a", size={"integer_value": 2})}, transaction=one, timeout=3)
    with pytest.raises(exceptions.Aborted):
        clients.commit({"upsert": clients.raw("Thing", "a", size={"integer_value": 3})}, transaction=two)
    assert clients.get("Thing", "a") == {"size": 2}


def test_a_transaction_that_has_queried(clients: Clients) -> None:
    """Is aborted when what it has queried has changed."""
    clients.put("Thing", "a", size=1)
    identifier = clients.begin(read_write={})
    clients.query(kind=[{"name": "Thing"}], read_options={"transaction": identifier})
    clients.commit({"upsert": clients.raw("Thing", "b")}, timeout=3)
    with pytest.raises(exceptions.Aborted):
        clients.commit({"upsert": clients.raw("Thing", "c")}, transaction=identifier)


def test_an_abandoned_transaction(clients: Clients) -> None:
    """Blocks nobody."""
    clients.put("Thing", "a", size=1)
    clients.lookup(clients.key("Thing", "a"), transaction=clients.begin(read_write={}))
    clients.commit({"upsert": clients.raw("Thing", "a", size={"integer_value": 2})}, timeout=3)
    assert clients.get("Thing", "a") == {"size": 2}


def test_rollback(clients: Clients) -> None:
    """Nothing is written, and the transaction is over."""
    transaction = clients.client.transaction()
    transaction.begin()
    transaction.put(clients.entity("Thing", "a"))
    transaction.rollback()
    assert clients.get("Thing", "a") is None
    with pytest.raises(exceptions.InvalidArgument):
        clients.commit({"upsert": clients.raw("Thing", "a")}, transaction=clients.begin(read_write={}) + b"x")


# --- queries


def test_comparisons(balls: Clients) -> None:
    """An entity without the property is in none of them."""
    assert things(balls, ("size", "=", 2)) == ["b"]
    assert things(balls, ("size", "<", 3)) == ["a", "b"]
    assert things(balls, ("size", ">=", 3)) == ["c", "d"]
    assert things(balls, ("size", ">", 1), ("size", "<=", 3)) == ["b", "c"]
    assert things(balls, ("size", ">", 4)) == []


def test_not_equal(balls: Clients) -> None:
    """What has the property, with another value; in the order of the property."""
    assert things(balls, ("size", "!=", 2)) == ["a", "c", "d"]


def test_in(balls: Clients) -> None:
    """In the order of keys."""
    assert things(balls, ("color", "IN", ["green", "blue"])) == ["b", "d", "e"]


def test_not_in(balls: Clients) -> None:
    """What has the property, with none of the values; in the order of the property."""
    assert things(balls, ("color", "NOT_IN", ["green", "blue"])) == ["a", "c"]


def test_or(balls: Clients) -> None:
    """Each entity once."""
    either = Or([PropertyFilter("size", "=", 1), PropertyFilter("color", "=", "blue")])
    assert things(balls, either) == ["a", "b", "e"]
    both = And([either, PropertyFilter("color", "=", "red")])
    assert things(balls, both) == ["a"]


def test_too_many_disjunctions(balls: Clients) -> None:
    """Thirty, multiplied out."""
    assert len(things(balls, ("size", "IN", list(range(30))))) == 4
    with pytest.raises(exceptions.InvalidArgument):
        things(balls, ("size", "IN", list(range(31))))
    with pytest.raises(exceptions.InvalidArgument):
        things(balls, ("size", "IN", list(range(6))), ("color", "IN", [str(number) for number in range(6)]))


def test_order(balls: Clients) -> None:
    """By a property, then by key; an entity without the property is not in it."""
    assert things(balls, order=["-size"]) == ["d", "c", "b", "a"]
    assert things(balls, order=["color"]) == ["b", "e", "d", "a", "c"]
    assert things(balls, ("color", "=", "red"), order=["-size"]) == ["c", "a"]
    balls.put("Thing", "f", color="white", size=1)
    assert things(balls, order=["size", "-color"]) == ["f", "a", "b", "c", "d"]


def test_two_inequalities(balls: Clients) -> None:
    """On two properties."""
    balls.fill("Thing", {"f": {"size": 2, "weight": 9}, "g": {"size": 3, "weight": 1}})
    assert things(balls, ("size", ">", 1), ("weight", ">", 5), order=["size", "weight"]) == ["f"]


def test_order_of_keys(clients: Clients) -> None:
    """Ids by number before names by bytes; a child after its parent."""
    keys = [("Thing", 10), ("Thing", 9), ("Thing", "b"), ("Thing", "B"), ("Thing", "a"), ("Thing", "a", "Thing", 1)]
    for path in keys:
        clients.client.put(datastore.Entity(clients.client.key(*path)))
    assert things(clients) == [9, 10, "B", "a", 1, "b"]
    start = clients.client.key("Thing", "a")
    assert things(clients, ("__key__", ">", start)) == [1, "b"]
    assert things(clients, ("__key__", "=", start)) == ["a"]


def test_order_of_types(clients: Clients) -> None:
    """https://cloud.google.com/datastore/docs/concepts/entities#value_type_ordering."""
    values: list[Any] = [
        None, -5, 3, datetime(2013, 1, 1, tzinfo=UTC), False, True, b"a", "a", "b", float("-inf"), -0.5, 2.5,
        GeoPoint(1, 1), GeoPoint(1, 2), clients.client.key("Thing", 1),
    ]  # fmt: skip
    for number, value in reversed(list(enumerate(values, 1))):
        clients.put("Thing", number, value=value)
    assert things(clients, order=["value"]) == list(range(1, len(values) + 1))


def test_an_inequality_over_types(clients: Clients) -> None:
    """Goes on into the types that are ordered after its own."""
    for number, value in enumerate([None, 1, 5, "text", 2.5, True], 1):
        clients.put("Thing", number, value=value)
    assert things(clients, ("value", ">", 1)) == [3, 6, 4, 5]
    assert things(clients, ("value", "<", 2)) == [1, 2]


def test_arrays(clients: Clients) -> None:
    """An entity is found by each of its values, once; two inequalities must hold for one of them."""
    clients.fill("Thing", {"a": {"tags": [1, 9]}, "b": {"tags": [4, 5]}})
    assert things(clients, ("tags", "=", 9)) == ["a"]
    assert things(clients, ("tags", ">", 0)) == ["a", "b"]
    assert things(clients, ("tags", ">", 3), ("tags", "<", 6)) == ["b"]
    assert things(clients, ("tags", "=", 1), ("tags", "=", 9)) == ["a"]
    assert things(clients, order=["-tags"]) == ["a", "b"]


def test_what_is_not_indexed(clients: Clients) -> None:
    """Is not found."""
    clients.put("Thing", "a", unindexed=["size"], size=1)
    assert things(clients, ("size", "=", 1)) == []
    assert things(clients, order=["size"]) == []
    assert things(clients) == ["a"]


def test_properties_of_embedded_entities(clients: Clients) -> None:
    """Are found by their path."""
    inner = datastore.Entity()
    inner.update({"city": "Oslo"})
    clients.put("Thing", "a", home=inner)
    assert things(clients, ("home.city", "=", "Oslo")) == ["a"]


def test_limit_and_offset(balls: Clients) -> None:
    """Of the ordered results; the answer tells whether there are more."""
    query = balls.client.query(kind="Thing", order=["-size"])
    assert names(query.fetch(limit=2, offset=1)) == ["c", "b"]
    assert names(query.fetch(offset=3)) == ["a"]
    assert names(query.fetch(limit=0)) == []
    more = types.QueryResultBatch.MoreResultsType
    batch = balls.query(kind=[{"name": "Thing"}], limit=2)
    assert (len(batch.entity_results), batch.more_results) == (2, more.MORE_RESULTS_AFTER_LIMIT)
    batch = balls.query(kind=[{"name": "Thing"}], limit=6)
    assert (len(batch.entity_results), batch.more_results) == (5, more.NO_MORE_RESULTS)


@pytest.mark.parametrize("order", [[], ["color"], ["-color"]])
def test_cursors(balls: Clients, order: list[str]) -> None:
    """Page by page, each entity once, whatever is written before the cursor in the meantime."""
    everything = things(balls, order=order)
    query = balls.client.query(kind="Thing", order=order)
    seen: list[str | int] = []
    cursor = None
    for _ in range(6):
        pages = query.fetch(limit=2, start_cursor=cursor)
        seen += names(next(pages.pages, []))
        cursor = pages.next_page_token
        balls.client.put(datastore.Entity(balls.client.key("Thing", f"0{len(seen)}")))  # sorts before all others
        if cursor is None:
            break
    assert seen == everything


def test_end_cursor(balls: Clients) -> None:
    """The query ends there."""
    query = balls.client.query(kind="Thing", order=["size"])
    pages = query.fetch(limit=3)
    assert names(next(pages.pages)) == ["a", "b", "c"]
    assert names(query.fetch(end_cursor=pages.next_page_token)) == ["a", "b", "c"]


def test_keys_only(balls: Clients) -> None:
    """No properties."""
    query = balls.client.query(kind="Thing")
    query.keys_only()
    found = list(query.fetch())
    assert names(found) == ["a", "b", "c", "d", "e"]
    assert all(not entity for entity in found)


def test_projection(balls: Clients) -> None:
    """The named properties of the entities that have them all."""
    query = balls.client.query(kind="Thing", projection=["size", "color"], order=["size", "-color"])
    assert [dict(entity) for entity in query.fetch(limit=2)] == [
        {"size": 1, "color": "red"},
        {"size": 2, "color": "blue"},
    ]


def test_projection_of_times(clients: Clients) -> None:
    """Comes as it stands in the index: microseconds."""
    clients.put("Thing", "a", when=datetime(2013, 1, 1, tzinfo=UTC))
    query = clients.client.query(kind="Thing", projection=["when"])
    assert [entity["when"] for entity in query.fetch()] == [1356998400000000]


def test_projection_of_what_is_known(balls: Clients) -> None:
    """Is refused: a property cannot be projected and compared for equality."""
    query = balls.client.query(kind="Thing", projection=["size"])
    query.add_filter(filter=PropertyFilter("size", "=", 1))
    with pytest.raises(exceptions.InvalidArgument, match="equality"):
        list(query.fetch())


def test_without_a_kind(balls: Clients) -> None:
    """All kinds, ordered and filtered by key only."""
    balls.put("Other", "x")
    assert names(balls.client.query().fetch(limit=2)) == ["x", "a"]
    for query in (balls.client.query(order=["size"]), balls.client.query(order=["-__key__"])):
        with pytest.raises(exceptions.InvalidArgument, match="kind is required"):
            list(query.fetch())


def test_projection_of_arrays(clients: Clients) -> None:
    """One result for each value."""
    clients.fill("Thing", {"a": {"tags": [2, 1]}, "b": {"tags": [3]}})
    query = clients.client.query(kind="Thing", projection=["tags"])
    assert [(entity.key.name, entity["tags"]) for entity in query.fetch()] == [("a", 1), ("a", 2), ("b", 3)]


def test_ancestor(clients: Clients) -> None:
    """The entity itself and all below it."""
    top = clients.client.key("Family", "a")
    for key in (top, clients.client.key("Thing", 1, parent=top), clients.client.key("Thing", 2)):
        clients.client.put(datastore.Entity(key))
    assert names(clients.client.query(kind="Thing", ancestor=top).fetch()) == [1]
    assert names(clients.client.query(ancestor=top).fetch()) == ["a", 1]


def test_composite_index(balls: Clients) -> None:
    """A query that needs one which is not there is refused, and told which."""
    needy: list[tuple[list[Any], list[str]]] = [
        ([("color", "=", "red")], ["weight"]),
        ([("color", "=", "red"), ("weight", ">", 1)], []),
        ([], ["weight", "size"]),
        ([], ["-__key__"]),
    ]
    for filters, order in needy:
        with pytest.raises(exceptions.FailedPrecondition, match="index"):
            things(balls, *filters, order=order)


def test_composite_index_within_an_ancestor(balls: Clients) -> None:
    """Is another one than without."""
    top = balls.client.key("Family", "a")
    with pytest.raises(exceptions.FailedPrecondition, match="index"):
        things(balls, ancestor=top, order=["size"])


def test_queries_without_a_composite_index(balls: Clients) -> None:
    """Equalities are answered from the built-in indexes, also with keys and ancestors."""
    key = balls.client.key("Thing", "a")
    assert things(balls, ("color", "=", "red"), ("size", "=", 3), ("__key__", ">", key)) == ["c"]
    assert things(balls, ("color", "=", "red"), ("size", "=", 1), ancestor=key) == ["a"]


# --- aggregations


def test_aggregations(balls: Clients) -> None:
    """Count, sum, average; a sum leaves only the entities that have its property to all of them."""
    query = balls.client.query(kind="Thing")
    (results,) = list(balls.client.aggregation_query(query).count("all").fetch())
    assert [one.value for one in results] == [5]
    count = balls.client.aggregation_query(query).count("all").sum("size", "sum").avg("size", "avg")
    (results,) = list(count.fetch())
    assert {one.alias: one.value for one in results} == {"all": 4, "sum": 10, "avg": 2.5}


def test_aggregations_of_a_filter(balls: Clients) -> None:
    """Of what matches."""
    query = balls.client.query(kind="Thing")
    query.add_filter(filter=PropertyFilter("color", "=", "red"))
    (results,) = list(balls.client.aggregation_query(query).count("red").fetch())
    assert [one.value for one in results] == [2]
    (results,) = list(balls.client.aggregation_query(query).count("red").sum("size", "sum").fetch())
    assert {one.alias: one.value for one in results} == {"red": 2, "sum": 4}


def test_average_of_nothing(clients: Clients) -> None:
    """Is null; the sum is zero."""
    aggregations = [{"avg": {"property": {"name": "size"}}}, {"sum": {"property": {"name": "size"}}}]
    query = {"nested_query": {"kind": [{"name": "Thing"}]}, "aggregations": aggregations}
    request = {"project_id": clients.project, "aggregation_query": query}
    (result,) = clients.api.run_aggregation_query(request=request).batch.aggregation_results
    found = types.AggregationResult.pb(result).aggregate_properties
    assert found["property_1"].WhichOneof("value_type") == "null_value"
    assert found["property_2"].integer_value == 0


def test_count_up_to(balls: Clients) -> None:
    """A ceiling; names for those that have none."""
    query = {"nested_query": {"kind": [{"name": "Thing"}]}, "aggregations": [{"count": {"up_to": 3}}, {"count": {}}]}
    request = {"project_id": balls.project, "aggregation_query": query}
    (result,) = balls.api.run_aggregation_query(request=request).batch.aggregation_results
    found = {name: value.integer_value for name, value in result.aggregate_properties.items()}
    assert found == {"property_1": 3, "property_2": 5}


# --- limits


def test_entity_of_a_mebibyte(clients: Clients) -> None:
    """Is refused; one just below is taken."""
    clients.put("Thing", "a", unindexed=["blob"], blob=b"x" * 1_048_400)
    with pytest.raises(exceptions.InvalidArgument):
        clients.put("Thing", "b", unindexed=["blob"], blob=b"x" * 1_048_600)


def test_indexed_string_of_1500_bytes(clients: Clients) -> None:
    """Is taken; a longer one only if it is not indexed."""
    clients.put("Thing", "a", text="é" * 750)
    with pytest.raises(exceptions.InvalidArgument, match="1500 bytes"):
        clients.put("Thing", "b", text="é" * 751)
    with pytest.raises(exceptions.InvalidArgument, match="1500 bytes"):
        clients.put("Thing", "c", text=["x" * 1501])
    clients.put("Thing", "d", unindexed=["text"], text="é" * 751)


def test_strings_in_embedded_entities(clients: Clients) -> None:
    """Have the same limit, each by its own exclusion, not by that of the entity they are in."""
    inner = datastore.Entity(exclude_from_indexes=("text",))
    inner["text"] = "x" * 1501
    clients.put("Thing", "a", inner=inner)
    inner.exclude_from_indexes.clear()
    with pytest.raises(exceptions.InvalidArgument, match="1500 bytes"):
        clients.put("Thing", "b", unindexed=["inner"], inner=inner)


@pytest.mark.parametrize("name", ["", "x" * 1501, "__reserved__"])
def test_bad_key_name(clients: Clients, name: str) -> None:
    """Refused: empty, too long, reserved."""
    with pytest.raises(exceptions.InvalidArgument):
        clients.commit({"upsert": clients.raw("Thing", name)})


def test_bad_kind(clients: Clients) -> None:
    """Refused: reserved."""
    with pytest.raises(exceptions.InvalidArgument):
        clients.commit({"upsert": clients.raw("__Thing__", "a")})


def test_bad_property_name(clients: Clients) -> None:
    """Refused: reserved."""
    with pytest.raises(exceptions.InvalidArgument):
        clients.commit({"upsert": clients.raw("Thing", "a", __size__={"integer_value": 1})})


def test_lookup_of_1001_keys(clients: Clients) -> None:
    """Refused."""
    assert len(clients.lookup(*[clients.key("Thing", str(number)) for number in range(1000)]).missing) == 1000
    with pytest.raises(exceptions.InvalidArgument):
        clients.lookup(*[clients.key("Thing", str(number)) for number in range(1001)])


def test_commit_of_1000_entities(clients: Clients) -> None:
    """Is taken: what is limited is its bytes."""
    clients.commit(*[{"upsert": clients.raw("Thing", str(number))} for number in range(1000)])
    assert len(things(clients)) == 1000


# --- REST


def rest(address: tuple[str, str], project: str, method: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """One REST call, as a workflow makes it; answers the status and the body."""
    response = requests.post(f"{address[1]}/v1/projects/{project}:{method}", json=body, timeout=10)
    return response.status_code, response.json()


def test_rest(clients: Clients, address: tuple[str, str]) -> None:
    """Insert, lookup and compare-and-set as ``retrain.yaml`` sends them."""
    key = {"partitionId": {"projectId": clients.project}, "path": [{"kind": "ModelPointer", "name": "flights"}]}
    entity = {"key": key, "properties": {"generation": {"integerValue": "1"}, "model": {"stringValue": "a"}}}
    insert = {"mode": "NON_TRANSACTIONAL", "mutations": [{"insert": entity}]}
    status, body = rest(address, clients.project, "commit", insert)
    assert status == 200
    version = body["mutationResults"][0]["version"]
    status, body = rest(address, clients.project, "commit", insert)
    assert (status, body["error"]["status"]) == (409, "ALREADY_EXISTS")
    status, body = rest(address, clients.project, "lookup", {"keys": [key]})
    assert body["found"][0]["version"] == version
    assert body["found"][0]["entity"]["properties"] == entity["properties"]
    changed = {**entity, "properties": {"generation": {"integerValue": "2"}}}
    move = {"update": changed, "baseVersion": version, "conflictResolutionStrategy": "FAIL"}
    request = {"mode": "TRANSACTIONAL", "singleUseTransaction": {"readWrite": {}}, "mutations": [move]}
    assert rest(address, clients.project, "commit", request)[0] == 200
    status, body = rest(address, clients.project, "commit", request)
    assert (status, body["error"]["status"]) == (400, "FAILED_PRECONDITION")


def test_a_foreign_project(clients: Clients) -> None:
    """A key of another project than the request's is refused."""
    key = clients.key("Thing", "a")
    key["partition_id"]["project_id"] = "another-project"
    with pytest.raises(exceptions.InvalidArgument, match="mismatched"):
        clients.lookup(key)


def test_rest_of_a_missing_entity(clients: Clients, address: tuple[str, str]) -> None:
    """Is told as missing, not as an error."""
    key = {"path": [{"kind": "ModelPointer", "name": "none"}]}
    status, body = rest(address, clients.project, "lookup", {"keys": [key]})
    assert (status, "found" in body) == (200, False)
    assert body["missing"][0]["entity"]["key"]["path"] == key["path"]


def test_rest_that_makes_no_sense(clients: Clients, address: tuple[str, str]) -> None:
    """400, with a reason."""
    status, body = rest(address, clients.project, "commit", {"mode": "NON_TRANSACTIONAL", "mutation": []})
    assert (status, body["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert body["error"]["message"]
