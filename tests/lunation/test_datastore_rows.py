"""The rows of Datastore: a database of another kind, and what is still being built or could not be."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore_admin_v1 import types
from google.cloud.firestore_admin_v1 import types as firestore
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from laptop.surface import Rpc
from lunation.deploy.datastore import CompositeIndex, Database, TimeToLive
from lunation.deploy.plan import ApplyError, compare, plan
from lunation.deploy.settling import UNDER_WAY, NotYetError
from rehearsal.project import done
from tests.lunation.google import PROJECT, Google, Indexes, google

State = types.Index.State
INDEX = CompositeIndex("Classification", "label", "-classified_at")
TTL = TimeToLive("Record", "expire_at")
FIELD = f"projects/{PROJECT}/databases/(default)/collectionGroups/Record/fields/expire_at"
DATABASE = f"projects/{PROJECT}/databases/(default)"


@pytest.fixture
def indexes() -> Indexes:
    """What answers."""
    return Indexes()


@pytest.fixture
def cloud(indexes: Indexes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """An empty project."""
    with google(tmp_path, monkeypatch, instead={"datastore": indexes.answer}) as made:
        yield made


# --- the database


def test_a_database_in_native_mode_stops_the_plan_and_says_what_to_do(cloud: Google) -> None:
    """Before anything is made: nothing of ours can live in it, and only an empty one can be changed."""
    native = firestore.Database.pb()(name=DATABASE, type_=1, location_id="us-central1")
    cloud.project.put(DATABASE, native)
    with pytest.raises(ApplyError) as told:
        plan([Database("(default)")], cloud.clients)
    assert str(told.value) == (
        "database/(default): the project's default database is of the kind FIRESTORE_NATIVE, and Lunation's entities "
        "need DATASTORE_MODE. If it is empty: gcloud firestore databases update --type=datastore-mode "
        f"--project={PROJECT}; if it holds somebody's data, take a project of its own"
    )
    assert [call for call in cloud.stage.notes.calls if not call.method.rsplit(".", 1)[1].startswith("Get")] == []


def test_a_database_in_another_place_stops_the_plan(cloud: Google) -> None:
    """It never moves."""
    cloud.project.put(DATABASE, firestore.Database.pb()(name=DATABASE, type_=2, location_id="eur3"))
    with pytest.raises(ApplyError, match=r"is in eur3, and the target's region is us-central1; .* `region` .*delete"):
        plan([Database("(default)")], cloud.clients)


def test_a_database_of_ours_is_changed_by_its_mask_alone(cloud: Google) -> None:
    """Protection that somebody lifted is put back; mode and place are sent with it, and are not in the mask."""
    row = Database("(default)")
    row.create(cloud.clients)
    cloud.project.things[DATABASE].delete_protection_state = 1
    assert [path for path, _, _ in compare(row, cloud.clients).fields] == ["delete_protection_state"]
    row.update(cloud.clients, ["delete_protection_state"])
    (request,) = cloud.asked("UpdateDatabase")
    assert list(request.update_mask.paths) == ["delete_protection_state"]
    assert request.database.etag
    assert compare(row, cloud.clients).action == "unchanged"


# --- indexes


def test_an_index_that_is_being_built_is_waited_for_and_not_made_twice(cloud: Google, indexes: Indexes) -> None:
    """As the run that was killed left it."""
    indexes.state = State.CREATING
    with pytest.raises(NotYetError, match="the index is CREATING"):  # its operation is over a little before
        INDEX.create(cloud.clients)
    change = compare(INDEX, cloud.clients)
    assert (change.action, change.fields) == ("change", [("state", "CREATING", "READY")])
    with pytest.raises(NotYetError, match="the index is CREATING") as told:
        INDEX.update(cloud.clients, ["state"])
    assert told.value.awaits is UNDER_WAY
    assert indexes.states == ["CREATING"]
    next(iter(indexes.kept.values())).state = State.READY
    assert compare(INDEX, cloud.clients).action == "unchanged"


def test_an_index_that_was_built_since_it_was_compared_is_left_alone(cloud: Google, indexes: Indexes) -> None:
    """It was CREATING when the run looked at the row, and READY a moment later: built anew, it would be missing for
    minutes."""
    INDEX.create(cloud.clients)
    (built,) = indexes.kept.values()
    built.state = State.CREATING
    assert compare(INDEX, cloud.clients).action == "change"
    built.state = State.READY
    INDEX.update(cloud.clients, ["state"])
    assert len(cloud.asked("CreateIndex")) == 1
    assert cloud.asked("DeleteIndex") == []


def test_an_index_that_could_not_be_built_is_built_again(cloud: Google, indexes: Indexes) -> None:
    """Datastore leaves it in the state ERROR, and no query uses it."""
    INDEX.create(cloud.clients)
    next(iter(indexes.kept.values())).state = State.ERROR
    assert compare(INDEX, cloud.clients).fields == [("state", "ERROR", "READY")]
    INDEX.update(cloud.clients, ["state"])
    assert indexes.states == ["READY"]
    assert len(cloud.asked("DeleteIndex")) == 1
    assert all(request.index.state == 0 for request in cloud.asked("CreateIndex"))


def test_an_index_that_is_being_deleted_is_not_there_and_goes_first(cloud: Google, indexes: Indexes) -> None:
    """It is in the list until it is gone."""
    INDEX.create(cloud.clients)
    next(iter(indexes.kept.values())).state = State.DELETING
    assert compare(INDEX, cloud.clients).action == "create"
    with pytest.raises(NotYetError, match="the index is DELETING"):
        INDEX.create(cloud.clients)
    INDEX.delete(cloud.clients)
    assert cloud.asked("DeleteIndex") == []


# --- time to live


@pytest.mark.parametrize(("state", "number"), [("CREATING", 1), ("NEEDS_REPAIR", 3)])
def test_a_time_to_live_that_is_not_active_is_a_change(cloud: Google, state: str, number: int) -> None:
    """While it is created, entities are left that never go; where it needs repair, they stay."""
    TTL.create(cloud.clients)
    assert compare(TTL, cloud.clients).action == "unchanged"
    cloud.project.things[FIELD].ttl_config.state = number
    assert compare(TTL, cloud.clients).fields == [("state", state, "ACTIVE")]


def test_a_time_to_live_under_way_is_waited_for(cloud: Google) -> None:
    """It is not switched on twice."""
    TTL.create(cloud.clients)
    cloud.project.things[FIELD].ttl_config.state = 1
    with pytest.raises(NotYetError, match="the time to live is CREATING"):
        TTL.update(cloud.clients, ["state"])
    assert len(cloud.asked("UpdateField")) == 1


def test_a_time_to_live_that_needs_repair_is_switched_off_and_on(cloud: Google) -> None:
    """No state is sent with either."""
    TTL.create(cloud.clients)
    cloud.project.things[FIELD].ttl_config.state = 3
    TTL.update(cloud.clients, ["state"])
    _, off, on = cloud.asked("UpdateField")
    assert not off.field.HasField("ttl_config")
    assert on.field.HasField("ttl_config")
    assert on.field.ttl_config.state == 0
    assert compare(TTL, cloud.clients).action == "unchanged"


def test_a_change_of_a_field_is_over_before_the_next_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Datastore refuses an index while a time to live is being set: its operation is awaited."""
    looks: list[str] = []

    async def answer(rpc: Rpc, request: Any) -> Message:
        if rpc.name == "UpdateField":
            return operations_pb2.Operation(name=f"{DATABASE}/operations/1")
        assert rpc.name == "GetOperation", rpc.name
        looks.append(request.name)
        field = firestore.Field.pb()(name=FIELD)
        return done(field) if len(looks) > 1 else operations_pb2.Operation(name=request.name)

    with google(tmp_path, monkeypatch, instead={"firestore": answer}) as cloud:
        TTL.create(cloud.clients)
    assert looks == [f"{DATABASE}/operations/1"] * 2


def test_a_time_to_live_that_is_on_since_it_was_compared_is_left_alone(cloud: Google) -> None:
    """It was CREATING when the run looked at the row, and ACTIVE a moment later: switched off and on again, it would
    begin anew over every entity."""
    TTL.create(cloud.clients)
    (field,) = [one for name, one in cloud.project.things.items() if name.endswith("/fields/expire_at")]
    asked = len(cloud.asked("UpdateField"))
    field.ttl_config.state = 1  # CREATING
    assert compare(TTL, cloud.clients).action == "change"
    field.ttl_config.state = 2  # ACTIVE
    TTL.update(cloud.clients, ["state"])
    assert len(cloud.asked("UpdateField")) == asked
