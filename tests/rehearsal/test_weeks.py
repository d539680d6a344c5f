"""What happens by itself after days is found: in a project where an earlier deployment was, and under a running job."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from google.api_core import exceptions
from google.cloud.dataflow_v1beta3 import types as dataflow
from google.iam.v1 import iam_policy_pb2

from lunation.clients import Clients
from lunation.deploy.accounts import ServiceAccount
from lunation.deploy.resource import Resource, if_found
from lunation.deploy.storage import Bucket
from rehearsal import weeks
from rehearsal.project import DAY, Project
from rehearsal.recorder import Call
from rehearsal.revisions import refused
from rehearsal.rewrites import Rewrites
from rehearsal.stage import Stage
from tests.rehearsal_support import PROJECT, clients_of
from tests.support import ServerProcess

SCHEMA = 'syntax = "proto3";\n\nmessage Record {\n  string record_id = 1;\n  optional double temp = 2;\n}\n'


@pytest.fixture
def project() -> Project:
    """An empty one."""
    return Project(PROJECT)


@pytest.fixture
def clients(project: Project, tmp_path: Path) -> Iterator[Clients]:
    """Behind reads as Google gives them."""
    with Stage(project, judges=[Rewrites(project)]) as stage:
        yield clients_of(stage, tmp_path, ("iam", "resourcemanager", "pubsub-schemas"))


@pytest.mark.parametrize(
    ("condition", "name", "days", "gone"),
    [
        ({"age": 7, "matchesPrefix": ["dataflow/staging/"]}, "dataflow/staging/j/pipeline.pb", 7, True),
        ({"age": 7, "matchesPrefix": ["dataflow/staging/"]}, "dataflow/staging/j/pipeline.pb", 6, False),
        ({"age": 7, "matchesPrefix": ["dataflow/temp/"]}, "dataflow/staging/j/pipeline.pb", 30, False),
        ({"age": 7, "matchesSuffix": [".tmp"]}, "dataflow/staging/j/pipeline.pb", 30, False),
        ({"daysSinceNoncurrentTime": 30}, "models/1", 3650, False),
        ({"age": 1, "isLive": False}, "models/1", 3650, False),
        ({}, "models/1", 0, True),
    ],
)
def test_a_rule_deletes_what_fits_all_its_conditions(
    condition: dict[str, Any], name: str, days: int, gone: bool
) -> None:
    """By age and by the ends of a name, and nothing that is live if it is about what is not."""
    assert weeks.deletes({"action": {"type": "Delete"}, "condition": condition}, name, days) is gone
    assert not weeks.deletes({"action": {"type": "SetStorageClass"}, "condition": condition}, name, days)


def launched(staging: str) -> Call:
    """The launch of a job that stages there."""
    request = dataflow.LaunchFlexTemplateRequest(
        launch_parameter={"job_name": "j", "environment": {"staging_location": staging}}
    )
    return Call(
        "deployer", "google.dataflow.v1beta3.FlexTemplatesService.LaunchFlexTemplate", type(request).pb(request)
    )


@pytest.mark.parametrize(
    ("scratch", "words"),
    [
        ((), []),
        (("dataflow/temp/",), []),
        (("dataflow/staging/",), ["job j: gs://a-bucket/dataflow/staging/j/pipeline.pb is deleted on day 7"]),
        (("models/",), ["gs://a-bucket/models/2013-01-01/run/manifest.json is deleted on day 7"]),
    ],
)
def test_what_a_running_job_staged_must_last(
    scratch: tuple[str, ...], words: list[str], serve: Callable[..., ServerProcess], project: Project, tmp_path: Path
) -> None:
    """And so must what is kept for good; a rule over what nobody needs is in order."""
    server = serve("storage")
    with Stage(project, {"storage": {"http": server.http, "grpc": ""}}) as stage:
        clients = clients_of(stage, tmp_path, ("storage",))
        bucket = Bucket("a-bucket", versioned=True)
        bucket.create(clients)
        made = clients.storage.get_bucket("a-bucket")
        rules = [{"action": {"type": "Delete"}, "condition": {"age": 7, "matchesPrefix": list(scratch)}}]
        made.lifecycle_rules = rules if scratch else []
        made.patch()
        found = weeks.of_a_running_job([bucket], clients, [launched("gs://a-bucket/dataflow/staging")])
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))


class _Row(Resource):
    """A row that knows nothing of what happens by itself."""

    about = api = managed_with = ""

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Make it as it should be."""
        self.create(clients)


class _Role(_Row):
    """A role of one id, which is deleted with all else."""

    kind: ClassVar[str] = "role"
    service: ClassVar[str] = "iam"
    path = f"projects/{PROJECT}/roles/x"

    def desired(self, clients: Clients) -> dict[str, Any]:
        return {"title": "x"}

    def read(self, clients: Clients) -> dict[str, Any] | None:
        found = if_found(lambda: clients.iam.get_role(request={"name": self.path}))
        return None if found is None or found.deleted else {"title": found.title}

    def create(self, clients: Clients) -> None:
        found = if_found(lambda: clients.iam.get_role(request={"name": self.path}))
        if found is not None:
            clients.iam.undelete_role(request={"name": self.path})
            return
        request = {"parent": f"projects/{PROJECT}", "role_id": "x", "role": {"title": "x"}}
        clients.iam.create_role(request=request)

    def delete(self, clients: Clients) -> None:
        clients.iam.delete_role(request={"name": self.path})


class _LastingRole(_Role):
    """One that is not deleted."""

    stays = "its id would be taken for weeks"


class _Grant(_Row):
    """Adds a member to the project's policy, whoever is in it."""

    kind: ClassVar[str] = "access"
    service: ClassVar[str] = "resourcemanager"
    member = f"serviceAccount:lunation-push@{PROJECT}.iam.gserviceaccount.com"

    def desired(self, clients: Clients) -> dict[str, Any]:
        return {"members": [self.member]}

    def read(self, clients: Clients) -> dict[str, Any] | None:
        policy = clients.projects.get_iam_policy(request={"resource": f"projects/{PROJECT}"})
        members = [member for binding in policy.bindings for member in binding.members]
        return {"members": [self.member]} if self.member in members else None

    def create(self, clients: Clients) -> None:
        policy = clients.projects.get_iam_policy(request={"resource": f"projects/{PROJECT}"})
        policy.bindings.add(role="roles/viewer", members=[self.member])
        request = iam_policy_pb2.SetIamPolicyRequest(resource=f"projects/{PROJECT}", policy=policy)
        clients.projects.set_iam_policy(request=request)

    def delete(self, clients: Clients) -> None:
        policy = clients.projects.get_iam_policy(request={"resource": f"projects/{PROJECT}"})
        del policy.bindings[:]
        request = iam_policy_pb2.SetIamPolicyRequest(resource=f"projects/{PROJECT}", policy=policy)
        clients.projects.set_iam_policy(request=request)


class _Schema(_Row):
    """A schema that gets a revision whenever it changes."""

    kind: ClassVar[str] = "schema"
    service: ClassVar[str] = "pubsub-schemas"

    def __init__(self, name: str, definition: str) -> None:
        super().__init__(name)
        self._definition = definition
        self._path = f"projects/{PROJECT}/schemas/{name}"

    def desired(self, clients: Clients) -> dict[str, Any]:
        return {"definition": self._definition}

    def read(self, clients: Clients) -> dict[str, Any] | None:
        found = if_found(lambda: clients.pubsub_schemas.get_schema(name=self._path))
        return None if found is None else {"definition": found.definition}

    def create(self, clients: Clients) -> None:
        schema = {"name": self._path, "type_": "PROTOCOL_BUFFER", "definition": self._definition}
        clients.pubsub_schemas.create_schema(parent=f"projects/{PROJECT}", schema=schema, schema_id=self.name)

    def update(self, clients: Clients, changed: list[str]) -> None:
        schema = {"name": self._path, "type_": "PROTOCOL_BUFFER", "definition": self._definition}
        clients.pubsub_schemas.commit_schema(name=self._path, schema=schema)

    def delete(self, clients: Clients) -> None:
        clients.pubsub_schemas.delete_schema(name=self._path)


def test_a_roles_id_stays_taken_after_it_can_no_longer_be_had_back(project: Project, clients: Clients) -> None:
    """Undeleted within a week; then neither that nor made anew, until day 37."""
    role, name = _Role("x"), _Role.path
    role.create(clients)
    role.delete(clients)
    project.clock.sleep(6.9 * DAY)
    clients.iam.undelete_role(request={"name": name})
    role.delete(clients)
    project.clock.sleep(7 * DAY)
    with pytest.raises(exceptions.NotFound):
        clients.iam.get_role(request={"name": name})
    with pytest.raises(exceptions.NotFound):
        clients.iam.undelete_role(request={"name": name})
    for days in (0, 29.9):
        project.clock.sleep(days * DAY)
        with pytest.raises(exceptions.FailedPrecondition, match="marked for deletion"):
            role.create(clients)
    project.clock.sleep(0.2 * DAY)
    role.create(clients)


def test_a_deleted_account_can_be_had_back_for_a_month(project: Project, clients: Clients) -> None:
    """By its id, while nobody else has its address; the one made anew has another id."""
    account = ServiceAccount("push", "pushes")
    email = f"lunation-push@{PROJECT}.iam.gserviceaccount.com"
    account.create(clients)
    first = project.uid(email)
    account.delete(clients)
    account.create(clients)
    assert project.uid(email) != first
    account.delete(clients)
    project.clock.sleep(29 * DAY)
    clients.iam.undelete_service_account(request={"name": f"projects/{PROJECT}/serviceAccounts/{first}"})
    assert project.uid(email) == first
    account.delete(clients)
    project.clock.sleep(30 * DAY)
    with pytest.raises(exceptions.NotFound):
        clients.iam.undelete_service_account(request={"name": f"projects/{PROJECT}/serviceAccounts/{first}"})


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (SCHEMA, ""),
        (SCHEMA.replace("  optional double temp = 2;\n", ""), ""),
        (SCHEMA.replace("}", "  optional double humid = 3;\n}"), ""),
        (SCHEMA.replace("}", "  double humid = 3;\n}"), "Record.humid is not optional, and so cannot be added"),
        (SCHEMA.replace("  string record_id = 1;\n", ""), "Record.record_id is not optional"),
        (SCHEMA.replace("double temp", "string temp"), "Record.temp cannot be changed"),
        (SCHEMA.replace("temp = 2", "temp = 3"), "Record.temp cannot be changed"),
    ],
)
def test_a_schema_is_revised_by_optional_fields_only(after: str, words: str) -> None:
    """Added or taken away; nothing else, and no field becomes another."""
    found = refused(SCHEMA, after)
    assert words in found
    assert bool(words) == bool(found)


def test_a_schema_has_twenty_revisions_at_most(clients: Clients) -> None:
    """The next is refused until an old one is deleted; the newest is what the schema is."""
    definition = SCHEMA
    _Schema("lunation-record", definition).create(clients)
    name = f"projects/{PROJECT}/schemas/lunation-record"
    for number in range(3, 22):
        definition = definition.replace("}", f"  optional double field_{number} = {number};\n}}")
        _Schema("lunation-record", definition).update(clients, ["definition"])
    row = _Schema("lunation-record", definition.replace("}", "  optional double last = 99;\n}"))
    with pytest.raises(exceptions.FailedPrecondition, match="at most 20 revisions"):
        row.update(clients, ["definition"])
    revisions = list(clients.pubsub_schemas.list_schema_revisions(name=name))
    assert len(revisions) == 20
    oldest = min(revision.revision_id for revision in revisions)
    clients.pubsub_schemas.delete_schema_revision(name=f"{name}@{oldest}")
    row.update(clients, ["definition"])
    read = row.read(clients)
    assert read is not None
    assert "last" in read["definition"]
    assert [schema.name for schema in clients.pubsub_schemas.list_schemas(parent=f"projects/{PROJECT}")] == [name]


@pytest.mark.parametrize(("kind", "lines"), [(_Role, 1), (_LastingRole, 0)])
def test_a_deployment_that_finds_its_roles_deleted_is_told(
    kind: type[_Role], lines: int, project: Project, clients: Clients
) -> None:
    """Ten days after a destruction; roles that stay are no trouble, nor are one and forty days."""
    found = weeks.of_a_destroyed_project([kind("x")], clients, project)
    assert len(found) == lines
    assert all("10 days after it was destroyed: role/x" in line for line in found)


def test_an_account_that_was_deleted_by_hand_leaves_grants_that_are_nobodys(project: Project, clients: Clients) -> None:
    """A row that does not take them away fails for them."""
    rows: list[Resource] = [ServiceAccount("push", "pushes"), _Grant("project")]
    (found,) = weeks.of_a_destroyed_project(rows, clients, project)
    assert "shares its name with deleted:" in found


def test_a_schema_that_grows_is_told(project: Project, clients: Clients) -> None:
    """Of which a field changes, and which has a revision too many."""
    found = weeks.of_a_destroyed_project([_Schema("lunation-record", SCHEMA)], clients, project)
    assert len(found) == 2
    assert "another type" in found[0]
    assert "revision 21" in found[1]
